"""The passes, in order, and `optimize`, which runs them."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from sardonyx.passes.base import Pass, Trace, run
from sardonyx.passes.dead_code import DEAD_CODE
from sardonyx.passes.eliminate_identity import ELIMINATE_IDENTITY
from sardonyx.passes.fold_batchnorm import FOLD_BATCHNORM
from sardonyx.passes.fold_constants import FOLD_CONSTANTS
from sardonyx.passes.fold_pads import FOLD_PADS
from sardonyx.passes.merge_duplicates import MERGE_DUPLICATES
from sardonyx.passes.normalize import normalized
from sardonyx.passes.verify import Debug

Level = Literal["off", "basic", "all"]

PASSES: tuple[Pass, ...] = (
    FOLD_CONSTANTS,
    ELIMINATE_IDENTITY,
    MERGE_DUPLICATES,
    FOLD_PADS,
    FOLD_BATCHNORM,
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


def optimize(
    model: ir.Model,
    *,
    level: Level = "all",
    trace: Trace | None = None,
    limit: int | None = None,
    debug: Debug | None = None,
) -> ir.Model:
    """A model that computes the same with less, in standard ONNX; `model` itself when `level` is "off".

    `model` must be valid and stays as it is; the result shares its weights, of which only those that are
    folded are read. Names, order and types of inputs and outputs stay. Shapes known on values are used, none
    are inferred. `trace` hears of every rewrite and of every near miss with its reason; `limit` stops after
    that many rewrites; `debug` verifies after each pass and raises CompileError when one broke something.
    """
    passes = passes_of(level)
    if not passes:
        return model
    return run(normalized(model), passes, limit=limit, trace=trace, debug=debug).model
