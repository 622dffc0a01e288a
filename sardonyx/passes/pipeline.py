"""The passes, in order, and `optimize`, which runs them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import onnx_ir as ir

from sardonyx.passes.base import Pass, PassResult, Trace, run
from sardonyx.passes.dead_code import DEAD_CODE
from sardonyx.passes.eliminate_identity import ELIMINATE_IDENTITY
from sardonyx.passes.fold_batchnorm import FOLD_BATCHNORM
from sardonyx.passes.fold_constants import FOLD_CONSTANTS
from sardonyx.passes.fold_pads import FOLD_PADS
from sardonyx.passes.fold_scales import FOLD_SCALES
from sardonyx.passes.lower_einsum import LOWER_EINSUM
from sardonyx.passes.merge_duplicates import MERGE_DUPLICATES
from sardonyx.passes.normalize import normalized
from sardonyx.passes.query import allow_opset
from sardonyx.passes.recognise_activations import RECOGNISE_ACTIVATIONS
from sardonyx.passes.recognise_attention import RECOGNISE_ATTENTION
from sardonyx.passes.recognise_normalization import RECOGNISE_NORMALIZATION
from sardonyx.passes.recognise_rotary import RECOGNISE_ROTARY
from sardonyx.passes.simplify_shapes import SIMPLIFY_SHAPES
from sardonyx.passes.split_labels import SPLIT_LABELS
from sardonyx.passes.unflatten_gemm import UNFLATTEN_GEMM
from sardonyx.passes.verify import Debug

Level = Literal["off", "basic", "all"]

NEWEST_OPSET = 24
"""Of the operators that may be put into a model that is not written to a file."""

PASSES: tuple[Pass, ...] = (
    FOLD_CONSTANTS,
    ELIMINATE_IDENTITY,
    MERGE_DUPLICATES,
    LOWER_EINSUM,
    SPLIT_LABELS,
    SIMPLIFY_SHAPES,
    UNFLATTEN_GEMM,
    FOLD_PADS,
    FOLD_BATCHNORM,
    FOLD_SCALES,
    RECOGNISE_ACTIVATIONS,
    RECOGNISE_NORMALIZATION,
    RECOGNISE_ROTARY,
    RECOGNISE_ATTENTION,
    DEAD_CODE,
)
"""In the order they run; each says in `placed` why it stands there."""


def passes_of(level: Level) -> tuple[Pass, ...]:
    """The passes of a level: none, those that leave results bit for bit as they are, or all."""
    if level == "off":
        return ()
    if level == "basic":
        return tuple(step for step in PASSES if step.exact)
    if level == "all":
        return PASSES
    raise ValueError(f"level is {level!r}, not one of 'off', 'basic', 'all'")


def select(level: Level, only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[Pass, ...]:
    """The passes of a level by name: those in `only`, if there are any, but none in `skip`.

    Raises:
        ValueError: no pass has one of these names.
    """
    names = [step.name for step in PASSES]
    for name in (*only, *skip):
        if name not in names:
            raise ValueError(f"no pass is called {name!r}; there are {', '.join(names)}")
    return tuple(step for step in passes_of(level) if (not only or step.name in only) and step.name not in skip)


def optimize(
    model: ir.Model,
    *,
    level: Level = "all",
    opset_ceiling: int | None = None,
    trace: Trace | None = None,
    limit: int | None = None,
    debug: Debug | None = None,
) -> ir.Model:
    """A model that computes the same with less, in standard ONNX; `model` itself when `level` is "off".

    `model` must be valid and stays as it is; the result shares its weights, of which only those that are
    folded are read. Names, order and types of inputs and outputs stay. Shapes known on values are used; infer them
    before. `opset_ceiling` allows operators of ai.onnx newer than the model imports, up to that version: nodes then
    carry theirs, and the result is for a session, not for a file. `trace` hears of every rewrite and of every near
    miss with its reason; `limit` stops after that many rewrites; `debug` verifies after each pass and raises
    CompileError when one broke something.
    """
    passes = passes_of(level)
    if not passes:
        return model
    return apply(model, passes, opset_ceiling=opset_ceiling, limit=limit, trace=trace, debug=debug).model


def apply(
    model: ir.Model,
    passes: Sequence[Pass],
    *,
    opset_ceiling: int | None = None,
    trace: Trace | None = None,
    limit: int | None = None,
    debug: Debug | None = None,
) -> PassResult:
    """As `optimize`, with the passes given, and an account of what each did."""
    model = normalized(model)
    allow_opset(model, opset_ceiling)
    return run(model, passes, limit=limit, trace=trace, debug=debug)
