"""The text in scikit-image's picture `page`, by rapidocr."""

import json

import numpy as np
import skimage.data
from rapidocr import RapidOCR

page = skimage.data.page()
result = RapidOCR()(np.stack([page] * 3, axis=-1))
print(
    json.dumps(
        {
            "texts": list(result.txts),
            "scores": [float(score) for score in result.scores],
            "boxes": np.asarray(result.boxes).tolist(),
        }
    )
)
