"""Which cases of onnx's backend suite run natively as a whole, and what keeps the others from it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sardonyx.providers.partition import Placement

PAGE = Path(__file__).parents[1] / "standard" / "native_share.md"
GOAL = 0.95
Reasons = tuple[tuple[str, str], ...]
"""(operator and who runs it, why) of each node that is not native."""


def reasons(placements: Sequence[Placement]) -> Reasons:
    """What is not native, or not in all of its body, without the names of values."""
    found: dict[tuple[str, str], None] = {}
    for placement in placements:
        partly = placement.reason.startswith("native bodies, but for")
        if placement.provider != "cpu" or partly:
            why = re.sub(r"cpu: |; host: .*|; reference: .*", "", placement.reason)
            why = re.sub(r" of '[^']*'$", "", re.sub(r"'[^']*' is", "a value is", why))
            found[f"{placement.op} ({placement.provider})", re.sub(r"of \d+ elements", "of few elements", why)] = None
    return tuple(sorted(found))


def page(cases: Mapping[str, Reasons]) -> str:
    """The list as it is kept in `PAGE`."""
    native = sum(not found for found in cases.values())
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, found in sorted(cases.items()):
        for key in found:
            groups[key].append(name)
    lines = [
        "# Native share",
        "",
        f"Of {len(cases)} tests of onnx's backend suite {native} run natively as a whole ({native / len(cases):.1%}).",
        "Written by `python -m scripts.native_share`; a test holds it. A test can be listed more than once.",
    ]
    for (operator, why), names in sorted(groups.items()):
        lines += ["", f"## {operator}: {why}", "", *(f"- {name}" for name in names)]
    return "\n".join(lines) + "\n"
