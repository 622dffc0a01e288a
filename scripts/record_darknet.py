"""Record what OpenCV (below 5) makes of the Darknet networks of tests/convert/darknet_cases.py.

    python scripts/record_darknet.py        with opencv-python-headless<5 installed

Networks with layers that OpenCV lacks or computes otherwise are left out. Writes
tests/convert/data/darknet/recorded.npz.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "convert"))

from darknet_cases import DATA, NETWORKS, values, write  # noqa: E402

from sardonyx.convert import opencv_oracle  # noqa: E402
from sardonyx.convert.base import Options, Source  # noqa: E402
from sardonyx.convert.darknet.files import open_files  # noqa: E402
from sardonyx.convert.darknet.opencv import agrees, text  # noqa: E402
from sardonyx.convert.darknet.reader import output_names  # noqa: E402


def main() -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cfg in NETWORKS.items():
            files = open_files(Source(write(Path(folder), cfg)), Options())
            # Of [region] the boxes and objectness are OpenCV's, and those scores that it does not suppress.
            kept = tuple(layer for layer in files.layers if layer.kind != "region" or "softmax" not in layer.values)
            if not agrees(replace(files, layers=kept)):
                print(name, "left out")
                continue
            arguments = {
                "kind": "darknet", "structure": text(files), "weights": str(files.binary),
                "outputs": dict.fromkeys(output_names(files), ""),
            }  # fmt: skip
            outputs = opencv_oracle.run(arguments, values(cfg))[1]
            print(name, {key: value.shape for key, value in outputs.items()})
            found |= {f"{name}/{key}": value for key, value in outputs.items()}
    DATA.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(DATA / "recorded.npz", **found)


if __name__ == "__main__":
    main()
