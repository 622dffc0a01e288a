"""A framework as an oracle, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sardonyx.convert.base import Values
from sardonyx.convert.process import call


@dataclass(frozen=True)
class SubprocessOracle:
    """Values from a module run as `python -P -m MODULE`, which ends in `process.serve(function)`.

    `function(arguments, inputs)` gets the arguments here and the inputs by name, and gives `(None, outputs)`: values by
    the ONNX model's names, and by layer. `framework` tells which knob names its Python (`SARDONYX_TENSORFLOW_PYTHON`
    for "tensorflow"); None is this one. Use `process.versions(["tensorflow"], "tensorflow")` to find out whether, and
    in which version, a framework is there before making one, and for its `name`.
    """

    name: str
    module: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 600.0
    framework: str | None = None

    def run(self, inputs: Values) -> Values:
        """Values by name. Raises ConversionError when the process fails or takes more than `timeout` seconds."""
        return call(
            self.module, self.arguments, inputs, timeout=self.timeout, framework=self.framework, doing=self.name
        )[1]
