"""Regular expressions, in the syntax that the standard names and in time linear in the text: RE2's."""

from __future__ import annotations

from typing import Any

from sardonyx.errors import ProviderError


def pattern(expression: str) -> Any:
    """The compiled expression, with `fullmatch` and `finditer` as in `re`.

    Raises:
        ValueError: it is not in RE2's syntax.
        ProviderError: google-re2 is not installed. Python's own `re` would take its place only where nobody minds that
            patterns such as (a+)+b can take for ever.
    """
    try:
        import re2
    except ImportError as error:
        raise ProviderError(
            "regular expressions need google-re2, which is not installed", fix="pip install 'sardonyx[strings]'"
        ) from error
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        raise ValueError(f"{expression!r} is not a pattern: {error}") from error
