"""The digits net: a small convolution net of our own that ships with the package, so needs no network.

It was trained by `scripts/train_digits.py` on the data set "Optical Recognition of Handwritten Digits"
(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0) as scikit-learn packs it. Input
`image`: float32 [N, 1, 8, 8], ink from 0 to 1; output `probabilities`: float32 [N, 10].
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CLASSES = tuple("0123456789")
LICENSE = "Apache-2.0 (net), CC BY 4.0 (digits)"
SHOWN = 29  # the held-out digit that commands use when they are given no input
_DATA = Path(str(files("sardonyx.zoo").joinpath("data")))


@dataclass(frozen=True)
class HeldOut:
    """Digits the net was not trained on; it reads all of them right but the first, which is a hard one.

    `images`: float32 [32, 1, 8, 8]; `labels`: int64 [32]; `probabilities`: float32 [32, 10], recorded from
    the framework the net was trained in.
    """

    images: np.ndarray[Any, np.dtype[np.float32]]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    probabilities: np.ndarray[Any, np.dtype[np.float32]]


def model_path() -> Path:
    """The ONNX file of the net."""
    return _DATA / "digits.onnx"


def held_out() -> HeldOut:
    """The digits that ship with the net."""
    import numpy as np

    with np.load(_DATA / "digits.npz", allow_pickle=False) as stored:
        return HeldOut(stored["images"], stored["labels"], stored["probabilities"])
