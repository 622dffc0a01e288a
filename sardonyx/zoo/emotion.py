"""A face for the emotion model: cut out of the astronaut's photograph, prepared as the model expects it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sardonyx.errors import MissingExtraError
from sardonyx.zoo.fetch import Progress, fetch

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""What the model's seven outputs stand for, in their order."""

BOX = (154, 44, 294, 184)
"""The face in the photograph: left, top, right, bottom in pixels."""

SIDE = 64
"""Height and width of the model's input in pixels."""


def face(*, progress: Progress | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The model's input: float32 [1, 64, 64, 1], grey from -1 (black) to 1 (white).

    The crop is turned grey (ITU-R 601 luma), resized bilinearly and scaled as the model was trained:
    `(x / 255 - 0.5) * 2`. Raises DownloadError and MissingExtraError (Pillow).
    """
    import numpy as np

    crop = _crop(progress)
    from PIL.Image import Resampling

    grey = crop.convert("L").resize((SIDE, SIDE), Resampling.BILINEAR)
    pixels = np.asarray(grey, np.float32) / np.float32(255)
    return ((pixels - np.float32(0.5)) * np.float32(2)).reshape(1, SIDE, SIDE, 1)


def picture(*, progress: Progress | None = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The crop for display: uint8 [140, 140, 3], RGB. Raises DownloadError and MissingExtraError (Pillow)."""
    import numpy as np

    return np.asarray(_crop(progress), np.uint8)


def _crop(progress: Progress | None) -> Image.Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError.of("pillow", "images", "reading the photograph") from error
    with Image.open(fetch("astronaut", progress=progress)) as photograph:
        return photograph.convert("RGB").crop(BOX)
