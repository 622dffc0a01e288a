"""What a converted Keras model is compared with: Keras, the model in memory, or our own evaluation in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sardonyx.convert.base import Array, Options, Oracle, Source, Values
from sardonyx.convert.keras import config as kc
from sardonyx.convert.keras.framework import Ends, evaluate

Arrays = Mapping[tuple[str, ...], Mapping[str, Array]]
"""Weights by key, by layer."""

BACKENDS = ("tensorflow", "torch", "jax")


@dataclass(frozen=True)
class Live:
    """The model in memory."""

    name: str
    model: Any
    ends: Ends

    def run(self, inputs: Values) -> Values:
        """Values by output."""
        return evaluate(self.model, dict(inputs), self.ends)


def oracles(
    source: Source,
    options: Options,
    network: kc.Network,
    outputs: Sequence[str],
    arrays: Arrays,
    version: tuple[int, int],
) -> list[Callable[[], Oracle | None]]:
    """Makers, the best first; `outputs` are the names of the ONNX model's."""
    names = [ref.layer for ref in network.inputs]
    ends = Ends(names, list(network.input_keys), list(outputs), list(network.output_keys))

    def live() -> Oracle | None:
        # Outputs other than the model's own are not what it gives.
        if source.object is None or options.outputs:
            return None
        package = "tf_keras" if "tf_keras" in source.frameworks else "keras"
        return Live(f"the model in memory ({package})", source.object, ends)

    def framework() -> Oracle | None:
        return _framework(source, options, ends, version)

    def evaluation() -> Oracle:
        from sardonyx.convert.keras.evaluate import Evaluation

        return Evaluation(network, arrays, version, tuple(outputs))

    return [live, framework, evaluation]


def _framework(source: Source, options: Options, ends: Ends, version: tuple[int, int]) -> Oracle | None:
    from sardonyx.convert.process import versions
    from sardonyx.convert.subprocess_oracle import SubprocessOracle

    found = versions(["keras", "tf_keras", *BACKENDS], "tensorflow")
    backend = next((name for name in BACKENDS if name in found), None)
    package = "tf_keras" if version[0] == 2 else "keras"
    # Each major version computes some things in its own way, so another one is no oracle.
    if package == "tf_keras" and package not in found and found.get("keras", "").startswith("2."):
        package = "keras"
    if source.path is None or options.outputs or backend is None or package not in found:
        return None
    if version[0] == 3 and found[package].split(".")[0] != "3":
        return None
    arguments = {"package": package, "path": str(source.path.absolute()), "ends": asdict(ends)}
    name = f"{package} {found[package]} on {backend} {found[backend]}"
    return SubprocessOracle(
        name, "sardonyx.convert.keras.framework", arguments, timeout=options.timeout, framework="tensorflow"
    )
