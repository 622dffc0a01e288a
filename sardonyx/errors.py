"""Every error a user can meet: what went wrong, where, what was expected and how to fix it."""

from __future__ import annotations

from typing import Any, ClassVar


class SardonyxError(Exception):
    """Base of all errors raised on purpose.

    The message is one line, `[code] where: what; expected ..., got ...; fix`, built from the fields so that a
    machine can read them one by one (`as_dict`).
    """

    code: ClassVar[str] = "error"

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.got, self.fix = what, where, expected, got, fix
        super().__init__(self._message())

    def _message(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if self.got is not None:
            text += f"{',' if self.expected is not None else ';'} got {self.got}"
        if self.fix:
            text += f"; {self.fix}"
        return f"[{self.code}] {text}"

    def as_dict(self) -> dict[str, str]:
        """The fields that are set, by name, for `--json`."""
        fields: dict[str, Any] = {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "fix": self.fix,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.as_dict()))


def _rebuild(kind: type[SardonyxError], fields: dict[str, str]) -> SardonyxError:
    fields = dict(fields)
    fields.pop("code")
    return kind(fields.pop("what"), **fields)


class ModelFileError(SardonyxError):
    """A file cannot be read as a model: missing, truncated, not ONNX, or with data outside its bounds."""

    code = "model-file"


class InvalidModelError(SardonyxError):
    """The model was read but breaks the ONNX standard."""

    code = "invalid-model"


class UnsupportedOperatorError(SardonyxError):
    """No provider of the session can run a node."""

    code = "unsupported-operator"


class InvalidInputError(SardonyxError, ValueError):
    """An input or output given to `run` does not fit the model: name, type, rank or dimension."""

    code = "invalid-input"


class ProviderError(SardonyxError):
    """A provider is unknown or cannot run on this machine."""

    code = "provider"


class CompileError(SardonyxError):
    """The compiler broke one of its own rules; always a defect of Sardonyx."""

    code = "compile"


class ExecutionError(SardonyxError):
    """A node failed on the values it was given."""

    code = "execution"


class ConfigError(SardonyxError, ValueError):
    """An environment variable of Sardonyx holds something that cannot be read."""

    code = "config"


class DownloadError(SardonyxError):
    """A zoo entry could not be fetched, or what came is not what its hash says."""

    code = "download"


class ConversionError(SardonyxError):
    """A source model cannot be converted; every reason is listed."""

    code = "conversion"


class ParityError(ConversionError):
    """A converted model computes something else than its source. `report` (a `Parity`) has every comparison."""

    code = "parity"
    report: Any = None

    @classmethod
    def of(cls, report: Any, where: str) -> ParityError:
        """The error for a report whose verdict is "different"."""
        worst = report.worst()
        bad = [one for one in report.comparisons if not one.same]
        what = f"{len(bad)} of {len(report.comparisons)} comparisons" if bad else "; ".join(report.notes[-1:])
        layer = f", first at layer {report.diverging!r}" if report.diverging else ""
        error = cls(
            f"the result differs from the source: {what}{layer}",
            where=where,
            expected=f"a relative difference of at most {worst.tolerance:g} from {report.oracle}" if worst else None,
            got=f"{worst.relative:.3g} at output {worst.output!r} ({worst.sample})" if worst else None,
            fix="this is a defect of the conversion, please report it; nothing was written",
        )
        error.report = report
        return error


class MissingExtraError(SardonyxError, ImportError):
    """An optional package is needed; the fix names the extra that brings it."""

    code = "missing-extra"

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtraError:
        """The error for `package`, which `pip install 'sardonyx[extra]'` brings."""
        return cls(f"{purpose} needs the package {package!r}", fix=f"pip install 'sardonyx[{extra}]'")
