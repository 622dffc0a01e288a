"""Writes tests/standard/native_share.md: `python -m scripts.native_share`."""

from __future__ import annotations

import sardonyx
from tests.suites.native_share import PAGE, page, reasons
from tests.suites.onnx_backend import cases


def main() -> None:
    found = {name: reasons(sardonyx.InferenceSession(case.model).explain()) for name, case in cases().items()}
    PAGE.write_text(page(found))
    print(PAGE.read_text().splitlines()[2])


if __name__ == "__main__":
    main()
