"""Write the table of onnxruntime's names into docs/compat.md: `python scripts/record_compat.py`."""

from __future__ import annotations

from pathlib import Path

from sardonyx.compat.surface import table

PAGE = Path(__file__).parent.parent / "docs" / "compat.md"
START, END = "<!-- names: written by scripts/record_compat.py -->\n", "<!-- end of names -->\n"


def main() -> None:
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + START + table() + END + after)


if __name__ == "__main__":
    main()
