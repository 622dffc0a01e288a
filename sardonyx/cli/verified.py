"""Whether a changed model computes what the given file does, and how that is told."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.errors import ExecutionError

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.measure.equivalence import Equivalence


def verified(before: Path, model: ir.Model, dims: dict[str, int], seed: int, fix: str) -> Equivalence | str:
    """The verdict, or the reason when nothing can run the given model; `fix` is what to do about a difference.

    Raises:
        ExecutionError: outputs differ.
    """
    from sardonyx.measure.equivalence import compare
    from sardonyx.model.file import save

    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        after = Path(folder) / "changed.onnx"
        save(model, after)
        found = compare(before, after, dims, seed)
    if not isinstance(found, str) and not found.same:
        raise ExecutionError(
            f"output {found.output!r} of the changed model differs: nothing was written",
            where=str(before),
            got=f"a relative L2 difference of {found.difference:.3g} on {found.evaluator}",
            fix=fix,
        )
    return found


def verdict_line(verdict: Equivalence | str) -> str:
    """The verdict in a line."""
    if isinstance(verdict, str):
        return f"no: {verdict}"
    dims = ", ".join(f"{name} = {size}" for name, size in verdict.dims.items())
    largest = f"largest relative difference {verdict.difference:.2g} on {verdict.evaluator}"
    return f"yes: {largest}" + (f" with {dims}" if dims else "")
