"""Keras models in memory: saved by their own `save`, so that one reader serves all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sardonyx.convert.base import Source
from sardonyx.errors import ConversionError


@contextmanager
def saved(source: Source) -> Iterator[Path]:
    """The source's file; of a model in memory one that is gone afterwards. Raises ConversionError."""
    if source.path is not None:
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        path = Path(folder) / "model.keras"
        try:
            source.object.save(path)
        except Exception as error:
            raise ConversionError(
                "the model cannot be saved, which its conversion starts with",
                where=source.where,
                got=f"{type(error).__name__}: {error}"[:300],
                fix="build it, as a Functional or Sequential model, and see that model.save('model.keras') works",
            ) from error
        yield path
