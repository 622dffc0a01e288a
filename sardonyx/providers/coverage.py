"""The table of operators: every one of the standard and com.microsoft's, their versions, and what runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

FOREIGN = "com.microsoft"
DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", FOREIGN)
DEFINED = "by definition"
"""Of operators that are replaced by others, which run natively where those do."""


@runtime_checkable
class Covers(Protocol):
    """A provider that says which operators it has, whatever the form of a node."""

    name: str

    def covers(self, domain: str, op: str, version: int) -> str | None:
        """The element types its first input may have, "" where there is no more to say; None: it has not got it."""
        ...

    def named(self, domain: str) -> list[str]:
        """The operators of a domain it has."""
        ...


@dataclass(frozen=True)
class Row:
    """An operator: the versions of its domain that changed it, who runs it, and in which types of its first input."""

    domain: str
    name: str
    versions: tuple[int, ...]
    deprecated: bool
    runs: str
    types: str


def table(providers: Sequence[object], domain: str | None = None, name: str | None = None) -> tuple[Row, ...]:
    """Rows in the order of the domains and names, of one domain or operator if asked for. The first of `providers` that
    has an operator counts; a definition counts for the first of them.
    """
    import onnx

    versions: dict[tuple[str, str], list[onnx.defs.OpSchema]] = {key: [] for key in _foreign(providers)}
    for schema in onnx.defs.get_all_schemas_with_history():
        versions.setdefault((schema.domain, schema.name), []).append(schema)
    wanted = None if domain is None else ("" if domain == "ai.onnx" else domain)
    return tuple(
        _row(key, sorted(versions[key], key=lambda schema: schema.since_version), providers)
        for key in sorted(versions, key=lambda key: (DOMAINS.index(key[0]) if key[0] in DOMAINS else 99, key[1]))
        if key[0] in DOMAINS and wanted in (None, key[0]) and name in (None, key[1])
    )


def _foreign(providers: Sequence[object]) -> Iterator[tuple[str, str]]:
    """Operators that have no schema here: those that are defined by others or that a provider has."""
    from sardonyx.model.foreign import DEFINITIONS

    names = [one for provider in providers if isinstance(provider, Covers) for one in provider.named(FOREIGN)]
    yield from ((FOREIGN, name) for name in names)
    yield from (key for key in DEFINITIONS if key[0] == FOREIGN)


def _row(key: tuple[str, str], schemas: Sequence[Any], providers: Sequence[object]) -> Row:
    from sardonyx.model.foreign import DEFINITIONS
    from sardonyx.model.standard import STANDARD

    numbers = tuple(schema.since_version for schema in schemas) or (1,)
    function = any(s.has_function or s.has_context_dependent_function for s in schemas)
    found = list(_found(key, numbers, providers))
    first = providers[0].name if providers and isinstance(providers[0], Covers) else ""
    if (key in STANDARD or key in DEFINITIONS or function) and not (found and found[0][0] == first):
        found.insert(0, (f"{first}, {DEFINED}", ""))
    runs, types = found[0] if found else ("-", "")
    return Row(*key, numbers, bool(schemas and schemas[-1].deprecated), runs, types)


def _found(key: tuple[str, str], versions: Sequence[int], providers: Sequence[object]) -> Iterator[tuple[str, str]]:
    """Who has the operator in its newest version or, if none has, an older one."""
    for version in reversed(versions):
        for provider in providers:
            types = provider.covers(*key, version) if isinstance(provider, Covers) else None
            if types is not None and isinstance(provider, Covers):
                yield provider.name, types


def markdown(rows: Sequence[Row]) -> str:
    """The table as a page of the documentation."""
    lines = [
        "# Operators",
        "",
        'Written by `sardonyx ops --markdown`. `cpu` is native code; "by definition" means that the operator is',
        "replaced by others that have native code, where it has none of its own for a node's form; `host` is NumPy,",
        "for strings, sequences, maps and optionals; `reference` is onnx.reference. Types are the first input's.",
        "What a model's nodes run on, and why, `InferenceSession.explain()` tells. Which of onnx's own tests do not",
        "run natively as a whole is in `tests/standard/native_share.md`.",
    ]
    for domain in DOMAINS:
        part = [row for row in rows if row.domain == domain]
        if part:
            lines += [
                "",
                f"## {domain or 'ai.onnx'}",
                "",
                "| operator | versions | runs on | types |",
                "|---|---|---|---|",
            ]
        for row in part:
            name = f"{row.name} (deprecated)" if row.deprecated else row.name
            lines.append(f"| {name} | {', '.join(map(str, row.versions))} | {row.runs} | {row.types} |")
    return "\n".join(lines) + "\n"
