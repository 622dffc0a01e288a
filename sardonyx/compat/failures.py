"""onnxruntime's exceptions, and which of ours becomes which."""

from __future__ import annotations

from typing import ClassVar

from sardonyx import errors


class StatusError(Exception):
    """Base of them; `of` puts the code before a text as onnxruntime does."""

    code: ClassVar[int]
    status: ClassVar[str]

    @classmethod
    def of(cls, text: str) -> StatusError:
        """The exception with onnxruntime's words before `text`."""
        return cls(f"[ONNXRuntimeError] : {cls.code} : {cls.status} : {text}")


def _kind(name: str, code: int, status: str, doc: str) -> type[StatusError]:
    module = "sardonyx.compat.onnxruntime.capi.onnxruntime_pybind11_state"
    return type(name, (StatusError,), {"code": code, "status": status, "__doc__": doc, "__module__": module})


Fail = _kind("Fail", 1, "FAIL", "A node failed, or a model cannot be used, for a reason that has no class of its own.")
InvalidArgument = _kind("InvalidArgument", 2, "INVALID_ARGUMENT", "What was given does not fit the model.")
NoSuchFile = _kind("NoSuchFile", 3, "NO_SUCHFILE", "No such file.")
NoModel = _kind("NoModel", 4, "NO_MODEL", "No model was loaded.")
EngineError = _kind("EngineError", 5, "ENGINE_ERROR", "Never raised here.")
RuntimeException = _kind("RuntimeException", 6, "RUNTIME_EXCEPTION", "A fault of the runtime itself.")
InvalidProtobuf = _kind("InvalidProtobuf", 7, "INVALID_PROTOBUF", "The bytes are not a model.")
ModelLoaded = _kind("ModelLoaded", 8, "MODEL_LOADED", "Never raised here.")
NotImplemented = _kind("NotImplemented", 9, "NOT_IMPLEMENTED", "No provider of the session can run a node.")  # noqa: A001
InvalidGraph = _kind("InvalidGraph", 10, "INVALID_GRAPH", "The model breaks the standard.")
EPFail = _kind("EPFail", 11, "EP_FAIL", "A provider failed.")
ModelLoadCanceled = _kind("ModelLoadCanceled", 12, "MODEL_LOAD_CANCELED", "Never raised here.")
ModelRequiresCompilation = _kind("ModelRequiresCompilation", 13, "MODEL_REQUIRES_COMPILATION", "Never raised here.")
NotFound = _kind("NotFound", 14, "NOT_FOUND", "Never raised here.")
DeviceReset = _kind("DeviceReset", 15, "DEVICE_RESET", "Never raised here.")

_KINDS: tuple[tuple[type[errors.SardonyxError], type[StatusError]], ...] = (
    (errors.InvalidModelError, InvalidGraph),
    (errors.UnsupportedOperatorError, NotImplemented),
    (errors.ModelFileError, InvalidProtobuf),
    (errors.InvalidInputError, InvalidArgument),
    (errors.ProviderError, EPFail),
    (errors.ExecutionError, Fail),
    (errors.CompileError, RuntimeException),
)


def failed(error: errors.SardonyxError) -> StatusError:
    """onnxruntime's exception for one of ours in a call: a model that turns out not to fit its inputs fails."""
    return Fail.of(str(error)) if isinstance(error, errors.InvalidModelError) else translated(error)


def translated(error: errors.SardonyxError) -> StatusError:
    """onnxruntime's exception for one of ours, with its words."""
    kind = next((theirs for ours, theirs in _KINDS if isinstance(error, ours)), Fail)
    return kind.of(str(error))
