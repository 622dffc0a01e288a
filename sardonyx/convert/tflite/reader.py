"""A TFLite file as ONNX, with what it can be compared with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sardonyx.convert.base import Converted, Options, Oracle, Source
from sardonyx.convert.tflite.conversion import Conversion, Interface, Result
from sardonyx.convert.tflite.emit import quantization_of
from sardonyx.convert.tflite.evaluate import Evaluation
from sardonyx.convert.tflite.file import Model, load

PACKAGES = ("ai-edge-litert", "tflite-runtime", "tensorflow", "tensorflow-cpu", "tf-nightly")
"""What brings an interpreter."""

STEPS = 4.0
"""Quantised results may be so many steps from TFLite's: each of its kernels rounds by an arithmetic of its own, within
a step of ours on the same integers, and the operators that follow scale these up and add them."""
SHARE = 0.02
"""The same for results that come out as floats, or where the comparison has no rounding: relative to their size."""


def read(source: Source, options: Options) -> Converted:
    """The TFLite model as ONNX: layout, types, quantisation and tensors' names as in the file.

    Inputs and outputs are called like the file's tensors, or as in the signature that `options.signature` names.
    Quantised tensors stay so (QuantizeLinear, DequantizeLinear), unless `options.dequantize`. Weights that alone are
    quantised are dequantised and all else is computed in floats, where TFLite's kernels also round the activations.

    Raises ModelFileError when the file is damaged, ConversionError with all that cannot be converted.
    """
    model = load(source.file())
    result = Conversion(model, options, source.where).run()
    quantised = _quantised(model, result.interface)
    notes = list(result.notes)
    if result.hybrid:
        notes.append(
            "only the weights are quantised: activations stay floats, which TFLite's kernels round to 8 bits on the way"
        )
    return Converted(
        result.model,
        format=f"TFLite schema {model.version}",
        oracles=_oracles(source, options, model, result),
        layers=result.layers,
        metadata=_metadata(model),
        notes=notes,
        tolerance=_tolerance(model, result.interface) if quantised else None,
        channels_last=_channels_last(model, result.interface),
    )


def _quantised(model: Model, sides: Interface) -> bool:
    """Whether any activation is."""
    graph = model.subgraphs[sides.subgraph]
    made = [graph.tensors[at] for operator in graph.operators for at in operator.outputs]
    return any(tensor.data is None and quantization_of(tensor) is not None for tensor in made)


def _tolerance(model: Model, sides: Interface) -> float:
    tensors = model.subgraphs[sides.subgraph].tensors
    return STEPS if all(quantization_of(tensors[at]) is not None for at in sides.outputs.values()) else SHARE


def _channels_last(model: Model, sides: Interface) -> frozenset[str]:
    tensors = model.subgraphs[sides.subgraph].tensors
    both = {**sides.inputs, **sides.outputs}
    return frozenset(name for name, at in both.items() if len(tensors[at].dims or ()) == 4)


def _metadata(model: Model) -> dict[str, str]:
    """The file's own words: its description, the least runtime, and how signatures call the tensors."""
    found = {"tflite_description": model.description} if model.description else {}
    least = model.metadata.get("min_runtime_version", b"").rstrip(b"\0").decode(errors="replace")
    if re.fullmatch(r"[\d.]+", least):
        found["tflite_min_runtime_version"] = least
    for signature in model.signatures:
        tensors = model.subgraphs[signature.subgraph].tensors
        sides = [
            ", ".join(f"{name}={tensors[at].name}" for name, at in side.items())
            for side in (signature.inputs, signature.outputs)
        ]
        found[f"tflite_signature_{signature.key}"] = " -> ".join(sides)
    return found


def _oracles(source: Source, options: Options, model: Model, result: Result) -> list[Callable[[], Oracle | None]]:
    """TFLite's interpreter where it is installed, and our evaluation; that one first where the interpreter rounds
    activations that the model has as floats."""
    sides = result.interface

    def evaluation() -> Oracle:
        return Evaluation(model, sides, options.dequantize)

    def framework() -> Oracle | None:
        return None if options.dequantize else _framework(source, options, model, sides, result.layers)

    return [evaluation, framework] if result.hybrid else [framework, evaluation]


def _framework(
    source: Source, options: Options, model: Model, sides: Interface, layers: Mapping[str, str]
) -> Oracle | None:
    from sardonyx.convert.process import versions
    from sardonyx.convert.subprocess_oracle import SubprocessOracle
    from sardonyx.convert.tflite.conversion import unique_names

    graph = model.subgraphs[sides.subgraph]
    found = versions(PACKAGES, "tensorflow")
    # The interpreter runs whole graphs, and takes nothing in their middle.
    if not found or sides.subgraph != 0 or set(sides.inputs.values()) != set(graph.inputs):
        return None
    names = unique_names(graph)
    wanted = {name: at for at, name in enumerate(names) if name in set(layers.values())}
    arguments = {
        "path": str(source.file().resolve()),
        "inputs": sides.inputs,
        "outputs": {**wanted, **sides.outputs},
    }
    package, version = next(iter(found.items()))
    return SubprocessOracle(
        f"TFLite interpreter of {package} {version}", "sardonyx.convert.tflite.framework", arguments, options.timeout,
        "tensorflow",
    )  # fmt: skip
