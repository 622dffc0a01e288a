"""`python -m sardonyx.convert.tf2onnx`: the command line of tf2onnx, by Sardonyx's readers.

Options that only make sense for tf2onnx's way of working are taken with a warning. Other than there, the result is
compared with its source and nothing is written where both differ, and the newest opset is the default.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.errors import ConfigError, SardonyxError

if TYPE_CHECKING:
    from sardonyx.convert.api import Conversion

_SOURCES = {
    "graphdef": "tensorflow",
    "checkpoint": "tensorflow",
    "saved_model": "tensorflow",
    "keras": "keras",
    "tflite": "tflite",
    "tfjs": "tfjs",
}
_OBSOLETE = {
    "target": "there is one target: what the standard says",
    "continue_on_error": "a model that cannot be converted whole is not written",
    "fold_const": "constants are folded where that helps",
    "custom_ops": "operators without a conversion are refused, never passed through",
    "extra_opset": "only operators of the standard are written",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert as the arguments say; the exit status: 0, or 1 with the reason on standard error."""
    asked = parser().parse_args(arguments)
    for option, why in _OBSOLETE.items():
        if getattr(asked, option):
            _say(f"warning: --{option} has no effect: {why}")
    try:
        done = _convert(asked)
    except SardonyxError as error:
        _say(f"error: {error}")
        return 1
    for note in done.notes:
        _say(f"note: {note}")
    if done.report is None or done.report.verdict == "unverified":
        _say("warning: UNVERIFIED: there was nothing to compare the result with")
    else:
        _say(f"{done.report.verdict} against {done.report.oracle}")
    _say(f"written to {asked.output}")
    return 0


def parser() -> argparse.ArgumentParser:
    """tf2onnx's options."""
    parser = argparse.ArgumentParser("sardonyx.convert.tf2onnx", description="Convert TensorFlow models to ONNX.")
    add = parser.add_argument
    add("--input", help="a frozen graph, as --graphdef (obsolete)")
    add("--graphdef", help="a frozen graph")
    add("--checkpoint", help="a checkpoint's .meta file")
    add("--saved-model", "--saved_model", dest="saved_model", help="a SavedModel's folder")
    add("--keras", help="a Keras model")
    add("--tflite", help="a TensorFlow Lite model")
    add("--tfjs", help="a TensorFlow.js model.json")
    add("--output", required=True, help="the ONNX file to write")
    add("--inputs", help="names of inputs with commas between, each perhaps with its shape: x:0[1,28,28,3]")
    add("--outputs", help="names of outputs with commas between")
    add("--inputs-as-nchw", dest="inputs_as_nchw", help="inputs to take as N, C, H, W")
    add("--outputs-as-nchw", dest="outputs_as_nchw", help="outputs to give as N, C, H, W")
    add("--opset", type=int, help="the version of ai.onnx; the newest by default")
    add("--tag", help="the tag of a SavedModel")
    add("--signature_def", help="the signature of a SavedModel")
    add("--rename-inputs", dest="rename_inputs", help="new names of the inputs")
    add("--rename-outputs", dest="rename_outputs", help="new names of the outputs")
    add("--large_model", action="store_true", help="keep weights in a file beside the model")
    add("--dequantize", action="store_true", help="take quantisation out (TensorFlow Lite)")
    add("--verbose", "-v", action="count", default=0, help="tell what is done")
    add("--target", help=argparse.SUPPRESS)
    add("--continue_on_error", action="store_true", help=argparse.SUPPRESS)
    add("--fold_const", action="store_true", help=argparse.SUPPRESS)
    add("--custom-ops", dest="custom_ops", help=argparse.SUPPRESS)
    add("--extra_opset", help=argparse.SUPPRESS)
    return parser


def _convert(asked: argparse.Namespace) -> Conversion:
    from sardonyx.convert.api import convert, write_report
    from sardonyx.convert.base import Options
    from sardonyx.model.file import save

    source, kind = _source(asked)
    names, shapes = inputs_with_shapes(asked.inputs)
    options = Options(
        inputs=names, outputs=_names(asked.outputs), shapes=shapes, tag=asked.tag, signature=asked.signature_def,
        dequantize=asked.dequantize,
    )  # fmt: skip
    output = Path(asked.output)
    done = convert(
        source,
        None if asked.large_model else output,
        options=options,
        kind=kind,
        inputs_as_nchw=_names(asked.inputs_as_nchw) or False,
        outputs_as_nchw=_names(asked.outputs_as_nchw) or False,
        rename_inputs=_names(asked.rename_inputs),
        rename_outputs=_names(asked.rename_outputs),
        opset=asked.opset,
        tell=_say if asked.verbose else lambda _: None,
    )
    if asked.large_model:
        save(done.model, output, external_data=True)
        write_report(done.report, output)
        if output.with_name(f"{output.name}.data").exists():  # small tensors stay in the model
            _say(f"the weights lie in {output.name}.data beside the model (tf2onnx packs both into a zip archive)")
    return done


def _source(asked: argparse.Namespace) -> tuple[Path, str]:
    if asked.input and not asked.graphdef:
        _say("warning: --input is obsolete: use --graphdef")
        asked.graphdef = asked.input
    given = [name for name in _SOURCES if getattr(asked, name)]
    if len(given) != 1:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in _SOURCES)
        raise ConfigError("which model?", expected=f"one of {options}", got=", ".join(given) or "none")
    return Path(getattr(asked, given[0])), _SOURCES[given[0]]


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def inputs_with_shapes(text: str | None) -> tuple[tuple[str, ...], dict[str, tuple[int | None, ...]]]:
    """Names, and shapes where they stand in brackets: `a:0[1,-1],b:0` gives (a:0, b:0) and {a:0: (1, None)}.

    Raises ConfigError for anything else.
    """
    names: list[str] = []
    shapes: dict[str, tuple[int | None, ...]] = {}
    rest = (text or "").strip()
    while rest:
        found = re.match(r"\s*([^,\[\]]+?)\s*(?:\[([-\d,\s]*)\])?\s*(?:,|$)", rest)
        if found is None:
            raise ConfigError(
                "cannot read the inputs", where="--inputs", expected="name,name[1,28,28,3]", got=repr(rest)
            )
        names.append(found[1])
        if found[2] is not None:
            try:
                sizes = [int(size) for size in found[2].split(",") if size.strip()]
            except ValueError:
                raise ConfigError("cannot read a shape", where="--inputs", got=repr(found[2])) from None
            shapes[found[1]] = tuple(size if size >= 0 else None for size in sizes)
        rest = rest[found.end() :]
    return tuple(names), shapes


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
