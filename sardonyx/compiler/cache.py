"""Object code on disk, addressed by content and safe under concurrent processes.

An entry's name is a hash of everything that shaped it (the caller's key); its file is a header, a checksum of the
payload and the payload. Writers make a temporary file and rename it, so readers see whole entries or none; an
entry that is damaged is removed and made anew.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import xxhash

_MAGIC = b"SRDX1\n"


class ObjectCache:
    """A folder of byte strings by key. Failing to write (a full or read-only disk) is not an error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        name = xxhash.xxh3_128_hexdigest(key.encode())
        return self.folder / name[:2] / name[2:]

    def get(self, key: str) -> bytes | None:
        """The payload of `key`, or None when it is absent or damaged."""
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        digest, payload = raw[len(_MAGIC) : len(_MAGIC) + 16], raw[len(_MAGIC) + 16 :]
        if raw.startswith(_MAGIC) and digest == xxhash.xxh3_128_digest(payload):
            return payload
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def put(self, key: str, payload: bytes) -> None:
        """Keep `payload` under `key`."""
        path = self._path(key)
        temporary: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + xxhash.xxh3_128_digest(payload) + payload)
            Path(temporary).replace(path)
        except OSError:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
