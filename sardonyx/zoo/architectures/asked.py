"""What a caller asks of a network for sequences: its open dims, and shrinks for tests."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from sardonyx.errors import SardonyxError

Dim = int | str
"""A size, or the name of a symbol."""


@dataclass(frozen=True)
class Asked:
    """The options of `architectures.build` for one network, None for those not given."""

    name: str
    batch: Dim | None = None
    sequence: Dim | None = None
    past: Dim | None = None
    targets: Dim | None = None
    image: int | None = None
    classes: int | None = None
    vocabulary: int | None = None
    layers: int | None = None
    width: float | None = None
    fold_bn: bool | None = None

    def only(self, allowed: Collection[str]) -> Asked:
        """Itself; SardonyxError for an option that is not among `allowed`, or a count below 1 (past: below 0)."""
        given = {key: value for key, value in vars(self).items() if value is not None and key != "name"}
        for key, value in given.items():
            if key not in allowed:
                known = ", ".join(sorted(allowed))
                raise SardonyxError(
                    f"{self.name} has no {key}", where="zoo.architectures", expected=f"some of {known}",
                    fix=f"leave `{key}` out",
                )  # fmt: skip
            low = 0 if key == "past" else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < low and key != "image":
                raise SardonyxError(
                    f"{key} is too small", where="zoo.architectures", expected=f"at least {low}", got=str(value)
                )
        return self

    def dim(self, key: str, *, most: int | None = None) -> Dim:
        """The option `key` as a dim, by default a symbol of that name; SardonyxError for a size above `most`."""
        value: Dim | None = getattr(self, key)
        return key if value is None else value if most is None else self.fits(key, value, most)

    def fits(self, key: str, value: Dim, most: int) -> Dim:
        """`value`; SardonyxError if it is a size above `most`."""
        if isinstance(value, int) and value > most:
            raise SardonyxError(
                f"{key} is too long for {self.name}", where="zoo.architectures", expected=f"at most {most}",
                got=str(value),
            )  # fmt: skip
        return value


@dataclass(frozen=True)
class Sizes:
    """A transformer: `layers` of `heads` of `head` numbers each, and `inner` numbers inside the dense part.

    `shared` is the number of key and value heads, 0 for as many as `heads`; `vocabulary` and `positions` are
    rows of the embeddings.
    """

    layers: int
    heads: int
    head: int
    inner: int
    vocabulary: int = 0
    positions: int = 0
    shared: int = 0

    @property
    def width(self) -> int:
        """The numbers of a position."""
        return self.heads * self.head

    @property
    def kept(self) -> int:
        """Heads of keys and values."""
        return self.shared or self.heads

    def shrunk(self, asked: Asked) -> Sizes:
        """With the layers, vocabulary and width asked for; the width in whole heads (or groups of them)."""
        group = self.heads // self.kept
        heads = self.heads if asked.width is None else group * max(1, round(self.kept * asked.width))
        return replace(
            self,
            layers=self.layers if asked.layers is None else asked.layers,
            vocabulary=self.vocabulary if asked.vocabulary is None else asked.vocabulary,
            heads=heads,
            shared=heads // group if self.shared else 0,
            inner=max(1, self.inner * heads // self.heads),
        )


def total(first: Dim, second: Dim) -> Dim:
    """The sum of two dims, as exporters name one of symbols: `past + sequence`."""
    return first + second if isinstance(first, int) and isinstance(second, int) else f"{first} + {second}"
