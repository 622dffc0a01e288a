"""Which stored weight belongs to which layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sardonyx.convert.keras import config as kc
from sardonyx.convert.keras.base import Plan, Weight
from sardonyx.convert.keras.file import StoredWeight, WeightError, Weights

Path = tuple[str, ...]
"""Layers' names, from the outermost model to a layer."""


@dataclass(frozen=True)
class Leaf:
    """A planned layer; `path` leads to it through models within models."""

    path: Path
    layer: kc.Layer
    plan: Plan

    @property
    def keys(self) -> tuple[str, ...]:
        """All weights, in the order of the layer's own."""
        return self.plan.weights + self.plan.state

    def stored_order(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The weights among the trainable ones of a model, and those among the others."""
        if self.layer.trainable:
            return self.plan.weights, self.plan.state
        return (), self.keys


_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}
"""Classes that are registered under another name than they have."""


def by_name(weights: Weights, layer: str, leaves: Sequence[Leaf]) -> Iterator[tuple[Leaf, Mapping[str, Weight]]]:
    """What an HDF5 model holds for a layer of the outermost network, for each layer in it. Raises WeightError."""
    for leaf, stored in _distribute(leaves, weights.named(layer)):
        yield leaf, _read(leaf.keys, stored)


def by_place(weights: Weights, place: str, leaf: Leaf) -> Mapping[str, Weight]:
    """What an archive holds for a layer. Raises WeightError."""
    groups: dict[str, list[str]] = {}
    for key in leaf.keys:
        groups.setdefault(key.rpartition("/")[0], []).append(key)
    found: dict[str, Weight] = {}
    for inside, keys in groups.items():
        home = f"{place}/{inside}" if inside else place
        stored = weights.numbered(home)
        if len(stored) != len(keys):
            raise WeightError(f"the file holds {len(stored)} weights at {home!r}, expected {len(keys)}")
        for key, weight in zip(keys, stored, strict=True):
            found[key] = Weight("/".join((*leaf.path, key)), weight.read())
    return found


def places(network: kc.Network, prefix: str = "layers", path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where an archive keeps the weights of each layer: by class, numbered, at the attributes that lead to it."""
    used: Counter[str] = Counter()
    for layer in network.layers.values():
        if layer.is_operation:
            continue
        name = snake(_CLASSES.get(layer.class_name, layer.class_name))
        place = f"{prefix}/{name}_{used[name]}" if used[name] else f"{prefix}/{name}"
        used[name] += 1
        yield from _places_within(layer, place, (*path, layer.name))


def _places_within(layer: kc.Layer, place: str, path: Path) -> Iterator[tuple[Path, str]]:
    yield path, place
    if layer.network is None:
        return
    if layer.class_name in kc.NETWORKS:
        yield from places(layer.network, f"{place}/layers", path)
        return
    for inner in layer.network.layers.values():
        if inner.class_name != "InputLayer":
            yield from _places_within(inner, f"{place}/layer", (*path, inner.name))


def snake(class_name: str) -> str:
    """`Conv2DTranspose` as `conv2d_transpose` (`keras.src.utils.naming.to_snake_case`)."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _distribute(leaves: Sequence[Leaf], stored: Sequence[StoredWeight]) -> list[tuple[Leaf, list[StoredWeight]]]:
    """Which weights of a layer of the outermost model belong to which layer within.

    Keras stores a model's trainable weights before all others and trusts the order. Names, where they say it
    without doubt, are safer: which weights were trainable is not always kept.
    """
    total = sum(len(leaf.keys) for leaf in leaves)
    if len(stored) != total:
        raise WeightError(f"the file holds {len(stored)} weights for it, expected {total}")
    scopes: dict[str, list[StoredWeight]] = {}
    for weight in stored:
        for scope in set(weight.name.split("/")[:-1]):
            scopes.setdefault(scope, []).append(weight)
    named = [scopes.get(leaf.layer.name, []) for leaf in leaves]
    fits = all(len(group) == len(leaf.keys) for group, leaf in zip(named, leaves, strict=True))
    if len(leaves) > 1 and fits and len({id(weight) for group in named for weight in group}) == total:
        return list(zip(leaves, named, strict=True))
    mine: dict[int, list[StoredWeight]] = {index: [] for index in range(len(leaves))}
    remaining = iter(stored)
    for part in (0, 1):
        for index, leaf in enumerate(leaves):
            mine[index] += [next(remaining) for _ in leaf.stored_order()[part]]
    return [(leaf, mine[i]) for i, leaf in enumerate(leaves)]


def _read(keys: Sequence[str], stored: Sequence[StoredWeight]) -> dict[str, Weight]:
    """The weights by their keys, with whose last part the names in the file must end."""
    weights: dict[str, Weight] = {}
    for key, weight in zip(keys, stored, strict=True):
        last = re.sub(r"(_\d+)?(:\d+)?$", "", weight.name.rpartition("/")[2])
        if last != key.rpartition("/")[2]:
            raise WeightError(f"expected the weight {key!r}, got {weight.name!r}")
        weights[key] = Weight(weight.name, weight.read())
    return weights
