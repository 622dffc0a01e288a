"""What a LibSVM model says, from its text: `svm_save_model` in svm.cpp, up to version 3.37.

Lines of `key values`, then `SV`, then a line for each support vector: its coefficients, and `index:value` of what is
not zero, indices from 1 on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from sardonyx.convert.base import Array, Source
from sardonyx.convert.trees import MOST_FEATURES
from sardonyx.errors import ConversionError, ModelFileError

TYPES = ("c_svc", "nu_svc", "one_class", "epsilon_svr", "nu_svr")
KERNELS = ("linear", "polynomial", "rbf", "sigmoid", "precomputed")
MOST_ELEMENTS = 1 << 26
"""Of the support vectors, written out with their zeros."""
MARKS = 10
"""Of the decision values of a one-class model that has probabilities."""


@dataclass(frozen=True, eq=False)
class Machine:
    """A model. `vectors` are the support vectors, float64 [vectors, features], those of a class next to each other.

    `coefficients` are [classes - 1, vectors]: row j - 1 is used against class j by classes before it, row i against
    class i by those behind it. For regression and one class there is one row. `rho` is one a pair of classes, as are
    `prob_a` and `prob_b`, if there are. Of a precomputed kernel `vectors` picks columns of the input.
    """

    kind: str
    kernel: str
    degree: int
    gamma: float
    coef0: float
    labels: tuple[int, ...]
    counts: tuple[int, ...]
    rho: Array
    prob_a: Array | None
    prob_b: Array | None
    marks: Array | None
    coefficients: Array
    vectors: Array

    @property
    def is_classifier(self) -> bool:
        """Whether it tells classes from each other."""
        return self.kind in ("c_svc", "nu_svc")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of classes, in the order of `rho`."""
        count = len(self.labels)
        return [(i, j) for i in range(count) for j in range(i + 1, count)]


def load(source: Source) -> Machine:
    """The model of a file, or of an `svm_model` in memory.

    Raises ModelFileError for damaged files, ConversionError for what is not supported.
    """
    if source.path is None:
        with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
            path = Path(folder) / "model"
            import_module("libsvm.svm").libsvm.svm_save_model(str(path).encode(), source.object)
            return _Parser(source.where).machine(path.read_text())
    try:
        text = source.file().read_bytes().decode()
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=source.where, got=error.strerror) from error
    except UnicodeDecodeError as error:
        raise ModelFileError("the text is not UTF-8", where=source.where, got=str(error)[:80]) from error
    return _Parser(source.where).machine(text)


class _Parser:
    def __init__(self, where: str) -> None:
        self._where = where

    def machine(self, text: str) -> Machine:
        head, found, body = text.partition("\nSV\n") if "\nSV\n" in text else text.partition("\nSV\r\n")
        if not found:
            raise self._wrong("there are no support vectors", fix="fetch or save the file again: a part is missing")
        header = {key: values for key, _, values in (line.strip().partition(" ") for line in head.splitlines())}
        kind, kernel = header.get("svm_type", ""), header.get("kernel_type", "")
        if kind not in TYPES or kernel not in KERNELS:
            raise ConversionError(
                "an unknown type of model or kernel", where=self._where,
                expected=f"{', '.join(TYPES)}; {', '.join(KERNELS)}", got=f"{kind[:40]} {kernel[:40]}",
            )  # fmt: skip
        is_classifier = kind in ("c_svc", "nu_svc")
        classes, total = self._whole(header, "nr_class", 1)[0], self._whole(header, "total_sv", 1)[0]
        if classes < 1 or total < 0 or (not is_classifier and classes != 2) or total > len(body):
            raise self._wrong(f"{classes} classes, {total} support vectors")
        if is_classifier and classes == 1:
            raise ConversionError(
                "the model knows a single class, and every row is of it", where=self._where,
                fix="train it with data of two classes or more",
            )  # fmt: skip
        pairs = classes * (classes - 1) // 2
        labels = self._whole(header, "label", classes) if is_classifier else ()
        counts = self._whole(header, "nr_sv", classes) if is_classifier else (total,)
        if sum(counts) != total or min(counts) < 0:
            raise self._wrong("nr_sv does not add up to total_sv")
        rows = classes - 1 if is_classifier else 1
        if rows * total > len(body):
            raise self._wrong(f"{total:,} support vectors have not {rows:,} coefficients each")
        coefficients, vectors = self._vectors(body, total, rows, kernel)
        degree = self._whole(header, "degree", 1)[0] if kernel == "polynomial" else 0
        if degree < 0:
            raise self._wrong("the degree is negative")
        gamma = self._reals(header, "gamma", 1) if kernel in ("polynomial", "rbf", "sigmoid") else np.zeros(1)
        coef0 = self._reals(header, "coef0", 1) if kernel in ("polynomial", "sigmoid") else np.zeros(1)
        return Machine(
            kind, kernel, degree, float(gamma[0]), float(coef0[0]),
            labels, counts, self._reals(header, "rho", pairs if is_classifier else 1),
            self._reals(header, "probA", pairs) if "probA" in header and is_classifier else None,
            self._reals(header, "probB", pairs) if "probB" in header and is_classifier else None,
            self._marks(header) if "prob_density_marks" in header else None,
            coefficients, vectors,
        )  # fmt: skip

    def _vectors(self, body: str, total: int, rows: int, kernel: str) -> tuple[Array, Array]:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) != total:
            raise self._wrong(f"it says {total:,} support vectors and has {len(lines):,}")
        coefficients = np.zeros((rows, total))
        at: list[tuple[int, int, float]] = []
        try:
            for number, line in enumerate(lines):
                words = line.split()
                coefficients[:, number] = [float(word) for word in words[:rows]]
                for word in words[rows:]:
                    index, _, value = word.partition(":")
                    at.append((number, int(index), float(value)))
            where = np.array([entry[:2] for entry in at], np.int64).reshape(-1, 2)
        except (ValueError, OverflowError) as error:
            raise self._wrong(f"a support vector is damaged: {str(error)[:80]}") from None
        if ((np.diff(where[:, 0]) == 0) & (np.diff(where[:, 1]) <= 0)).any():  # LibSVM walks two rows side by side
            raise self._wrong("a support vector's indices do not ascend")
        values = np.array([entry[2] for entry in at], np.float64)
        if not (np.isfinite(values).all() and np.isfinite(coefficients).all()):
            raise self._wrong("a support vector has values that are not finite")
        if kernel == "precomputed":  # 0:n is the n-th of the training set, whose kernel value is the n-th column
            where, values = where[where[:, 1] == 0], values[where[:, 1] == 0]
            if len(values) != total or (values < 1).any() or (values != np.trunc(values)).any():
                raise self._wrong("a support vector of a precomputed kernel does not say which it is")
            where[:, 1], values = np.minimum(values, MOST_FEATURES + 1), np.ones(total)
        low, features = (int(where[:, 1].min()), int(where[:, 1].max())) if len(where) else (1, 1)
        if low < 1 or features > MOST_FEATURES or total * features > MOST_ELEMENTS:
            raise self._wrong(f"{total:,} support vectors with features {low:,} to {features:,}")
        vectors = np.zeros((total, features))
        vectors[where[:, 0], where[:, 1] - 1] = values
        return coefficients, vectors

    def _whole(self, header: Mapping[str, str], name: str, count: int) -> tuple[int, ...]:
        try:
            values = tuple(int(word) for word in header.get(name, "").split())
        except ValueError:
            values = ()
        if len(values) != count or any(abs(value) > 1 << 31 for value in values):
            raise self._wrong(f"{name!r} has not {count} whole numbers")
        return values

    def _reals(self, header: Mapping[str, str], name: str, count: int) -> Array:
        try:
            values = np.array([float(word) for word in header.get(name, "").split()])
        except ValueError:
            values = np.zeros(0)
        if len(values) != count or not np.isfinite(values).all():
            raise self._wrong(f"{name!r} has not {count} numbers")
        return values

    def _marks(self, header: Mapping[str, str]) -> Array:
        marks = self._reals(header, "prob_density_marks", MARKS)
        if (np.diff(marks) < 0).any():
            raise self._wrong("'prob_density_marks' do not ascend")
        return marks

    def _wrong(self, what: str, fix: str = "save it again with svm_save_model") -> ModelFileError:
        return ModelFileError(f"this is no model as LibSVM writes it: {what}", where=self._where, fix=fix)
