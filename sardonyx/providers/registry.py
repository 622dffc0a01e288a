"""Which providers there are, found through entry points, and what a session's `providers` argument means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sardonyx import config
from sardonyx.errors import ProviderError
from sardonyx.providers.base import Availability, Provider

GROUP = "sardonyx.providers"

# The built-in ones are listed here too, so that a source tree without installed metadata works. Their names
# cannot be taken over by another distribution.
_BUILT_IN = {
    "cpu": "sardonyx.providers.cpu:CPUProvider",
    "host": "sardonyx.providers.host:HostProvider",
    "reference": "sardonyx.providers.reference:ReferenceProvider",
}

# Every valid model runs on the key: what it cannot lower runs as host steps on the values, in this order.
_HOST = {"cpu": ("host", "reference")}
_HELPERS = frozenset({"host"})  # which run no whole models


@dataclass(frozen=True)
class Choice:
    """A provider of a session with the options given for it; `implied` when the user did not name it."""

    provider: Provider
    options: Mapping[str, str] = field(default_factory=dict)
    implied: bool = False


@cache
def _entries() -> dict[str, EntryPoint]:
    """Entry points by name, built-in ones first, then in order of name."""
    built_in = {name: EntryPoint(name, value, GROUP) for name, value in _BUILT_IN.items()}
    found = {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}
    return {**built_in, **{name: entry for name, entry in found.items() if name not in built_in}}


@cache
def _load(entry: EntryPoint) -> Provider:
    # Code of other distributions runs here; whatever ordinary exception it raises means that it is broken.
    try:
        provider = entry.load()()
    except (ImportError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ProviderError(
            f"the provider {entry.name!r} cannot be loaded from {entry.value}: {error}",
            fix="reinstall or remove the package that brings it",
        ) from error
    if not isinstance(provider, Provider):
        raise ProviderError(
            f"{entry.value} is not a provider", expected="the protocol sardonyx.providers.base.Provider"
        )
    return provider


def names() -> tuple[str, ...]:
    """Short names of all installed providers, whether they can run here or not."""
    return tuple(_entries())


def availability() -> dict[str, Availability]:
    """For every installed provider: whether it can run here, else why not and what to do."""
    found = {}
    for name, entry in _entries().items():
        try:
            found[name] = _load(entry).availability()
        except ProviderError as error:
            found[name] = Availability(False, error.what, error.fix or "")
    return found


def whole() -> tuple[str, ...]:
    """Names of the installed providers that run whole models, alone or with those implied."""
    return tuple(name for name in names() if name not in _HELPERS)


def implied() -> frozenset[str]:
    """Names of the providers that host steps of others run on without being asked for."""
    return frozenset(name for hosts in _HOST.values() for name in hosts)


def available() -> list[str]:
    """Short names of the providers that can run here, as `providers=` takes them."""
    return [name for name, state in availability().items() if state.available]


def get(name: str) -> Provider:
    """The provider called `name`, a short name or an alias; ProviderError when there is none."""
    entries = _entries()
    if name in entries:
        return _load(entries[name])
    known: list[str] = []
    for entry in entries.values():
        known.append(entry.name)
        try:
            provider = _load(entry)
        except ProviderError:
            continue  # A broken plug-in must not hide the others; asked for by name, it says so.
        if name in provider.aliases:
            return provider
        known.extend(provider.aliases)
    close = difflib.get_close_matches(name, known, 1)
    raise ProviderError(
        f"unknown provider {name!r}",
        expected=f"one of {', '.join(known)}",
        fix=f"did you mean {close[0]!r}?" if close else "install the package that brings it",
    )


def resolve(
    providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None,
    provider_options: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[Choice, ...]:
    """The providers of a session, in order of preference, from onnxruntime's two arguments.

    `providers` holds names or (name, options) pairs; `provider_options` holds one mapping for each when they
    are names only. None or nothing means the knob `providers` (`cpu` unless set). A provider that cannot run
    here is a ProviderError with what is missing. After a provider whose host steps run on others, those
    are added at the end, `implied`, unless they are there.
    """
    pairs = _pairs(providers, provider_options)
    choices: dict[str, Choice] = {}
    for name, options in pairs:
        provider = get(name)
        if provider.name in choices:
            raise ProviderError(f"the provider {provider.name!r} is named twice", fix="name it once")
        state = provider.availability()
        if not state.available:
            raise ProviderError(f"the provider {name!r} cannot run here: {state.reason}", fix=state.fix or None)
        choices[provider.name] = Choice(provider, options)
    for name in [host for choice in choices for host in _HOST.get(choice, ())]:
        choices.setdefault(name, Choice(get(name), implied=True))
    return tuple(choices.values())


def _pairs(
    providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None,
    provider_options: Sequence[Mapping[str, Any]] | None,
) -> list[tuple[str, dict[str, str]]]:
    if isinstance(providers, str) or not isinstance(providers, Sequence | None):
        raise ProviderError(
            "providers must be a list",
            expected="names or (name, options) pairs, as in ['cpu']",
            got=repr(providers),
        )
    asked = list(providers or config.PROVIDERS.get())
    extra: list[Mapping[str, Any]] = [{} for _ in asked]
    if provider_options:
        if len(provider_options) != len(asked) or not all(isinstance(name, str) for name in asked):
            raise ProviderError(
                "provider_options must hold one mapping for each name in providers",
                expected=f"{len(asked)} mappings and plain names",
                got=f"{len(provider_options)} mappings for {asked!r}",
                fix="or give (name, options) pairs in providers",
            )
        extra = list(provider_options)
    return [_pair(item, options) for item, options in zip(asked, extra, strict=True)]


def _pair(item: Any, options: Any) -> tuple[str, dict[str, str]]:
    name = item
    if isinstance(item, tuple | list) and len(item) == 2:
        name, options = item
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise ProviderError(
            "an entry of providers cannot be read",
            expected="a name or a (name, options) pair",
            got=repr(item),
        )
    return name, {str(key): str(value) for key, value in options.items()}
