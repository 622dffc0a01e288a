"""IOBinding: inputs and memory for outputs, bound by name before a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compat.devices import OrtDevice, require_memory
from sardonyx.compat.elements import Array
from sardonyx.compat.inputs import buffer_type
from sardonyx.compat.values import OrtValue, OrtValueVector, memory_at
from sardonyx.runtime.given import fitting

if TYPE_CHECKING:
    from sardonyx.compat.session import InferenceSession


class IOBinding:
    """Inputs and outputs of one session's next runs. Outputs that are not bound are not returned."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, OrtValue | None] = {}
        self._results: dict[str, OrtValue] = {}

    def bind_cpu_input(self, name: str, arr_on_cpu: Array) -> None:
        """Feed this array, which is read where it is; the name must be an input's."""
        self._bind_input(name, arr_on_cpu)

    def bind_input(
        self,
        name: str,
        device_type: str | OrtDevice | Array,
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Feed the tensor of these dims at an address; or the array given in place of the device."""
        if isinstance(device_type, np.ndarray):
            self._bind_input(name, device_type)
            return
        require_memory(device_type, device_id)
        if shape is None or buffer_ptr is None:
            raise ValueError("`shape` and `buffer_ptr` are to be provided")
        self._bind_input(name, memory_at(buffer_ptr, shape, buffer_type(element_type)))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Feed this value, as it is when the session runs."""
        self._bind_input(name, ortvalue._get_c_value())

    def _bind_input(self, name: str, value: Any) -> None:
        if name not in self._session._input_names:
            raise RuntimeError(f"Failed to find NodeArg with name: {name} in the def list")
        self._inputs[name] = value

    def bind_output(
        self,
        name: str,
        device_type: str | OrtDevice = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for this output: in memory of its own, or at the address of a buffer of these dims."""
        require_memory(device_type, device_id)
        if buffer_ptr is None:
            self._outputs[name] = None
            return
        if element_type is None or shape is None:
            raise ValueError("`element_type` and `shape` are to be provided if pre-allocated memory is provided")
        self._outputs[name] = OrtValue.of(memory_at(buffer_ptr, shape, buffer_type(element_type)))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Ask for this output, in this value's memory."""
        self._outputs[name] = ortvalue._get_c_value()

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order in which they were bound."""
        return [self._results[name] for name in self._outputs if name in self._results]

    def get_outputs_as_ortvaluevector(self) -> OrtValueVector:
        """The same as a vector."""
        return OrtValueVector(self.get_outputs())

    def copy_outputs_to_cpu(self) -> list[Any]:
        """Copies of them, as `run` gives them."""
        return [value.numpy().copy() if value.is_tensor() else value._value for value in self.get_outputs()]

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forget the outputs."""
        self._outputs.clear()
        self._results.clear()

    def synchronize_inputs(self) -> None:
        """Accepted: memory is at hand."""

    def synchronize_outputs(self) -> None:
        """Accepted likewise."""

    def _memory(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """The memory bound for outputs: that which can be written while inputs are read, and that which inputs have."""
        fed = [value._value if isinstance(value, OrtValue) else value for value in self._inputs.values()]
        arrays = [value for value in fed if isinstance(value, np.ndarray)]
        apart: dict[str, Array] = {}
        shared: dict[str, Array] = {}
        for name, value in self._outputs.items():
            if value is not None:
                array = value.numpy()
                into = shared if any(np.may_share_memory(array, other) for other in arrays) else apart
                into[name] = array
        return apart, shared

    def _keep(self, results: dict[str, Any], shared: dict[str, Array]) -> None:
        """Note a run's results, and copy those whose memory is an input's to it."""
        for name, array in shared.items():
            np.copyto(fitting(array, results[name].shape, results[name].dtype, f"output {name!r}"), results[name])
        self._results = {name: self._outputs[name] or OrtValue.of(value) for name, value in results.items()}

    @property
    def _iobinding(self) -> IOBinding:
        return self
