"""ONNX's backend interface, as `onnx.backend.test` and code written for other runtimes' backends use it.

import sardonyx.backend
outputs = sardonyx.backend.prepare(model).run(inputs)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from sardonyx.errors import InvalidInputError
from sardonyx.session import InferenceSession

_DEVICES = ("CPU",)


class SardonyxBackendRep(BackendRep):  # type: ignore[misc]
    """A model ready to run."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """All outputs in the model's order. `inputs` are values by name, or in the order of the model's inputs, or
        one value alone; a value is an array, a number, a list for an ONNX sequence, or a TensorProto.

        InvalidInputError for values that the model does not take, ExecutionError when the run fails.
        """
        if isinstance(inputs, Mapping):
            feed = {name: _value(value) for name, value in inputs.items()}
        else:
            given = inputs if isinstance(inputs, list | tuple) else [inputs]
            names = [argument.name for argument in self.session.get_inputs()]
            if len(given) > len(names):
                names += [argument.name for argument in self.session.get_overridable_initializers()]
            if len(given) > len(names):
                raise InvalidInputError("more values than inputs", expected=str(len(names)), got=str(len(given)))
            feed = {name: _value(value) for name, value in zip(names, given, strict=False)}
        return tuple(self.session.run(None, feed))


class SardonyxBackend(Backend):  # type: ignore[misc]
    """Runs models through `sardonyx.InferenceSession`; keyword arguments are those of its constructor."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether it can be prepared: as every valid model, on a device that there is."""
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> SardonyxBackendRep:
        """Compile a ModelProto, the bytes of a file or the path to one.

        Raises what `InferenceSession` does, and InvalidInputError for a device that is not supported.
        """
        if not cls.supports_device(device):
            raise InvalidInputError("no such device", expected=" or ".join(_DEVICES), got=repr(device))
        source = model if isinstance(model, onnx.ModelProto | bytes) else os.fspath(model)
        return SardonyxBackendRep(InferenceSession(source, **kwargs))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """`prepare` and one `run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Sequence[Any] | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """The outputs of one NodeProto. `inputs` are as for `run`, by the names or in the order of the node's inputs;
        `outputs_info` gives type and dims of each output (else they are inferred); `opset_version` the standard's
        version (else the newest).
        """
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        names = list(dict.fromkeys(name for name in node.input if name))
        if isinstance(inputs, Mapping):
            values = {name: _value(value) for name, value in inputs.items()}
        else:
            given = inputs if isinstance(inputs, list | tuple) else [inputs]
            values = {name: _value(value) for name, value in zip(names, given, strict=True)}
        opsets = [onnx.helper.make_opsetid("", version)]
        if node.domain not in ("", "ai.onnx"):
            newest = kwargs.pop("domain_version", _newest(node.domain))
            opsets.append(onnx.helper.make_opsetid(node.domain, newest))
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [onnx.helper.make_value_info(name, _type(values[name])) for name in names],
            _outputs(node, outputs_info),
        )
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        return cls.run_model(model, values, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is the CPU."""
        return device.partition(":")[0].upper() in _DEVICES


def _newest(domain: str) -> int:
    """The newest version of a domain that onnx knows, 1 where it knows none."""
    return max((s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.domain == domain), default=1)


def _outputs(node: Any, infos: Sequence[Any] | None) -> list[Any]:
    names = [name for name in node.output if name]
    if infos is None:
        return [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    return [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, (dtype, shape) in zip(names, infos, strict=True)
    ]


def _value(data: Any) -> Any:
    """What a session takes."""
    if isinstance(data, onnx.TensorProto):
        return onnx.numpy_helper.to_array(data)
    return np.asarray(data) if isinstance(data, np.generic) else data


def _type(value: Any) -> Any:
    """The TypeProto of a value."""
    if value is None:
        raise InvalidInputError("a node's input without a value", expected="an array, a number or a list")
    if isinstance(value, list):
        if not value:
            raise InvalidInputError("an empty sequence does not tell its type", fix="run a model that declares it")
        return onnx.helper.make_sequence_type_proto(_type(value[0]))
    array = np.asarray(value)
    kind = onnx.TensorProto.STRING if array.dtype.kind in "OUST" else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_type_proto(kind, array.shape)


is_compatible = SardonyxBackend.is_compatible
prepare = SardonyxBackend.prepare
run_model = SardonyxBackend.run_model
run_node = SardonyxBackend.run_node
supports_device = SardonyxBackend.supports_device
