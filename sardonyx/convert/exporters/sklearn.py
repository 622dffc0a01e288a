"""scikit-learn estimators and pipelines through skl2onnx, with its wrong answers repaired or refused.

Only live estimators: what scikit-learn saves are pickles, which run code when they are loaded, so files of them are
refused by `recognises` saying what they are. Probabilities come as a matrix (no ZipMap).
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.convert.base import Array, Converted, Options, Source, Values
from sardonyx.convert.exporters import base
from sardonyx.errors import ConversionError

if TYPE_CHECKING:
    import onnx_ir as ir

PACKAGES = ("scikit-learn", "skl2onnx")
_OTHERS = {"xgboost", "lightgbm", "catboost", "pyspark", "h2o"}  # have readers of their own
_OPSET = 21  # of all functions that skl2onnx 1.20 writes
_patching = threading.Lock()


def recognises(source: Source) -> bool:
    """Estimators of scikit-learn; files of pickles, to say why they are not read."""
    if source.path is None:
        return "sklearn" in source.frameworks and not source.frameworks & _OTHERS
    return source.head[:1] == b"\x80" and source.head[1:2] in b"\x02\x03\x04\x05" and len(source.head) > 2


def read(source: Source, options: Options) -> Converted:
    """The estimator as ONNX; `options.example` are rows as it is given them (an array or a data frame).

    Raises ConversionError for files, estimators that are not fitted, and what skl2onnx cannot write or writes wrongly;
    MissingExtraError without skl2onnx.
    """
    if source.path is not None:
        raise ConversionError(
            "a pickle, which is not loaded since that runs code", where=source.where,
            fix="load it yourself, if you trust it, and convert the estimator: sardonyx.convert(estimator)",
        )  # fmt: skip
    found = base.require(PACKAGES, "sklearn", "converting scikit-learn estimators")
    estimator = _chosen(source.object)
    _require_right(estimator, source)
    columns = _columns(estimator, options, source)
    model = _exported(estimator, columns, source)
    model.graph.name = source.stem
    for value in model.graph.inputs:
        if value.shape is not None:
            value.shape = _with_batch(value.shape, options.batch)
    base.repaired(model)
    # The object as it was given answers, not what was taken out of it.
    oracle = _Estimator(f"scikit-learn {found['scikit-learn']}", source.object, columns, _ranks(model))
    oracle = _declared(model, oracle, options.batch, source)
    left_out = [name for name in oracle.ranks if name not in {value.name for value in model.graph.outputs}]
    return Converted(
        model,
        format=f"scikit-learn {type(estimator).__name__} ({found['scikit-learn']})",
        route=f"wrapped exporter ({base.described(found)})",
        oracles=(lambda: oracle,),
        metadata=_classes(estimator),
        channels_last=frozenset(),
        make_inputs=oracle.columns.make,
        notes=tuple(f"{name!r} is left out: the estimator has nothing to compare it with" for name in left_out),
    )


def _chosen(estimator: Any) -> Any:
    """What answers for objects that only wrap it: the winner of a search, the frozen estimator."""
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection._search import BaseSearchCV

    while isinstance(estimator, BaseSearchCV | FrozenEstimator):
        inner = getattr(estimator, "best_estimator_" if isinstance(estimator, BaseSearchCV) else "estimator", None)
        if inner is None:
            break
        estimator = inner
    return estimator


def _with_batch(shape: Any, batch: int | str) -> ir.Shape:
    import onnx_ir as ir

    return ir.Shape([batch, *(dim if isinstance(dim, int) else dim.value for dim in list(shape)[1:])])


def _declared(model: ir.Model, oracle: _Estimator, batch: int | str, source: Source) -> _Estimator:
    """Shapes of results, which inference cannot tell of trees and the like, as the estimator's own answers have.

    Results that the estimator does not give, which skl2onnx makes up (probabilities where voting is hard), are taken
    out. Gives the oracle back, with rows just as in the examples where the estimator takes no others.
    """
    rows = batch if isinstance(batch, int) else 3
    try:
        answers = oracle.run(oracle.columns.make(rows, np.random.default_rng(0)))
    except Exception:  # Encoders refuse values that they have not seen.
        oracle = replace(oracle, columns=replace(oracle.columns, moved=False))
        try:
            answers = oracle.run(oracle.columns.make(rows, np.random.default_rng(0)))
        except Exception as error:
            text = " ".join(str(error).split())[:400]
            raise ConversionError(
                "the estimator does not take the example rows", where=source.where,
                got=f"{type(error).__name__}: {text}", fix="give rows as it takes them: example=(rows,)",
            ) from error  # fmt: skip
    kept = [value for value in model.graph.outputs if value.name in answers]
    if not kept:
        raise ConversionError(
            "the estimator gives no result", where=source.where, expected="predict or transform",
            got=", ".join(oracle.ranks),
        )  # fmt: skip
    model.graph.outputs[:] = kept
    for value in kept:
        answer = answers[value.name or ""]
        if answer.shape[:1] == (rows,):
            value.shape = _with_batch(answer.shape, batch)
    return oracle


def _ranks(model: ir.Model) -> dict[str, int | None]:
    return {v.name or "": len(v.shape) if v.shape is not None else None for v in model.graph.outputs}


def _classes(estimator: Any) -> dict[str, str]:
    classes = getattr(estimator, "classes_", None)
    return {"classes": "\n".join(map(str, classes))} if isinstance(classes, np.ndarray) and classes.ndim == 1 else {}


@dataclass(frozen=True)
class Columns:
    """What an estimator takes: one matrix, or a data frame with an input a column. `rows` are examples."""

    rows: Any
    name: str | None
    """The matrix's; None for data frames."""
    moved: bool = True
    """Whether made-up rows are others than the examples."""

    @property
    def types(self) -> list[tuple[str, Any]]:
        """Names and types as skl2onnx takes them."""
        from skl2onnx.common import data_types as kinds

        by_kind = {"f": kinds.FloatTensorType, "i": kinds.Int64TensorType, "u": kinds.Int64TensorType,
                   "b": kinds.BooleanTensorType}  # fmt: skip

        def kind(dtype: Any, width: int) -> Any:
            made = by_kind.get(getattr(dtype, "kind", "O"), kinds.StringTensorType)
            wide = made is kinds.FloatTensorType and dtype.itemsize > 4
            return (kinds.DoubleTensorType if wide else made)([None, width])

        if self.name is not None:
            return [(self.name, kind(self.rows.dtype, self.rows.shape[1]))]
        return [(str(name), kind(self.rows[name].dtype, 1)) for name in self.rows.columns]

    def source_rows(self, inputs: Values) -> Any:
        """What the estimator is given for these inputs."""
        if self.name is not None:
            return np.asarray(inputs[self.name])
        import pandas as pd

        columns = {name: np.asarray(inputs[str(name)])[:, 0] for name in self.rows.columns}
        return pd.DataFrame(columns).astype(dict(self.rows.dtypes))

    def make(self, batch: int, random: np.random.Generator) -> Values:
        """Rows like the examples: some of them, numbers moved a little."""
        picks = random.integers(0, len(self.rows), batch)
        if self.name is not None:
            return {self.name: self._drawn(self.rows, picks, random)}
        found = {}
        for name in self.rows.columns:
            column = self.rows[name].to_numpy()
            found[str(name)] = self._drawn(column, picks, random)[:, None]
        return found

    def _drawn(self, all_rows: Array, picks: Array, random: np.random.Generator) -> Array:
        rows = all_rows[picks]
        if rows.dtype.kind in "iu":
            return rows.astype(np.int64)
        return _moved(all_rows, rows, random) if self.moved and rows.dtype.kind == "f" else rows


def _moved(all_rows: Array, rows: Array, random: np.random.Generator) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns of NaN alone
        spread = np.nan_to_num(np.nanstd(all_rows, axis=0)) if len(all_rows) > 1 else 1.0
    return np.asarray(rows + random.normal(size=rows.shape) * spread / 4, rows.dtype)


def _columns(estimator: Any, options: Options, source: Source) -> Columns:
    name = options.inputs[0] if options.inputs else "X"
    if options.example:
        rows = options.example[0]
        if hasattr(rows, "columns"):
            return Columns(rows, None)
        rows = np.asarray(rows)
        if rows.ndim == 1:
            rows = rows[:, None]
        return Columns(rows, name)
    width = getattr(estimator, "n_features_in_", None)
    if width is None or (hasattr(estimator, "feature_names_in_") and _picks_columns(estimator)):
        raise ConversionError(
            "the estimator does not say of what type its columns are", where=source.where,
            fix="give some rows as it is given them: example=(rows,)",
        )  # fmt: skip
    # No rows are known: numbers as scaled data has them.
    return Columns(np.random.default_rng(0).normal(size=(64, int(width))).astype(np.float32), name)


def _last(estimator: Any) -> Any:
    """The last step of pipelines."""
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[-1][1]
    return estimator


def _picks_columns(estimator: Any) -> bool:
    return any(type(inner).__name__ == "ColumnTransformer" for inner in _inside(estimator))


def _inside(value: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """The estimator and all estimators in it."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        inner: Sequence[Any] = list(value.values())
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        inner = list(np.asarray(value, dtype=object).ravel() if isinstance(value, np.ndarray) else value)
    elif hasattr(value, "get_params"):
        yield value
        inner = list(vars(value).values())
    else:
        return
    for one in inner:
        yield from _inside(one, seen)


# What skl2onnx 1.20 writes wrongly of whole classes.
_WRONG: Mapping[str, str] = {
    "QuadraticDiscriminantAnalysis": "whose labels would come as one row",
}


def _require_right(estimator: Any, source: Source) -> None:
    """What skl2onnx writes without a word, and wrongly."""
    problems = []
    for inner in _inside(estimator):
        kind = type(inner).__name__
        if kind in _WRONG:
            problems.append(f"{kind}, {_WRONG[kind]}")
        if kind.startswith("HistGradientBoosting"):
            categorical = getattr(inner, "is_categorical_", None)
            if categorical is not None and np.any(categorical):
                problems.append(f"{kind} with categorical features")
            loss = type(getattr(inner, "_loss", None)).__name__
            if loss in ("HalfPoissonLoss", "HalfGammaLoss"):
                problems.append(f"{kind} with the link of {loss}")
    if problems:
        raise ConversionError(
            f"skl2onnx would convert wrongly: {', '.join(problems)}", where=source.where,
            fix="encode categories before (OneHotEncoder), fit another loss, or take another estimator",
        )  # fmt: skip


def _exported(estimator: Any, columns: Columns, source: Source) -> ir.Model:
    import skl2onnx
    from sklearn.base import is_classifier
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    choices = {id(estimator): {"zipmap": False}} if is_classifier(_last(estimator)) else None

    def written(options: Any) -> Any:
        return skl2onnx.convert_sklearn(
            estimator, name=source.stem, initial_types=columns.types, options=options,
            target_opset={"": _OPSET, "ai.onnx.ml": 3},
        )  # fmt: skip

    try:
        check_is_fitted(estimator)
        with _repairs(estimator), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                proto = written(choices)
            except NameError as error:  # LinearSVC and others have no probabilities, so no such option.
                if choices is None or "zipmap" not in str(error):
                    raise
                proto = written(None)
    except NotFittedError as error:
        raise ConversionError("the estimator is not fitted", where=source.where, fix="fit it first") from error
    except Exception as error:
        raise _refusal(error, estimator, source) from error
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        path = Path(folder) / "exported.onnx"
        path.write_bytes(proto.SerializeToString())
        return base.loaded(path, source.where)


def _refusal(error: Exception, estimator: Any, source: Source) -> ConversionError:
    """skl2onnx stops at the first class that it has no converter for; all are listed."""
    from skl2onnx import supported_converters
    from skl2onnx._supported_operators import sklearn_operator_name_map as known
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    if isinstance(error, MissingConverter | MissingShapeCalculator):
        written = set(supported_converters(from_sklearn=True))
        kinds = {type(inner) for inner in _inside(estimator) if not hasattr(inner, "steps")}
        missing = sorted(kind.__name__ for kind in kinds if known.get(kind, "").removeprefix("Sklearn") not in written)
        return ConversionError(
            f"skl2onnx has no converter for {', '.join(missing) or str(error)[:200]}", where=source.where,
            fix="convert the other steps alone, or take estimators that it has",
        )  # fmt: skip
    text = " ".join(str(error).split())[:400]
    return ConversionError(
        "skl2onnx cannot write this estimator", where=source.where, got=f"{type(error).__name__}: {text}",
        fix="give rows as it takes them: example=(rows,)",
    )  # fmt: skip


@contextlib.contextmanager
def _repairs(estimator: Any) -> Iterator[None]:
    """skl2onnx 1.20 with its defects put right.

    HistGradientBoosting: it gives protobuf booleans where integers go, which protobuf 7 refuses, and rounds thresholds
    to the nearest float32, which moves values across them. Voting: it refuses an option that only says how `transform`
    lays out its result, which is not written anyway.
    """
    from skl2onnx.common import _container
    from skl2onnx.operator_converters import random_forest

    kind = _container.ModelComponentContainer
    add_node = kind.add_node
    add_tree = random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting

    def with_integers(self: Any, *args: Any, **attributes: Any) -> Any:
        return add_node(self, *args, **{key: _integers(value) for key, value in attributes.items()})

    def with_thresholds(*args: Any, **settings: Any) -> None:
        # The values are compared as float64 in scikit-learn, so only float32 needs another threshold.
        args = (*args[:7], settings.get("dtype") == np.float32)
        add_tree(*args, **settings)

    voting = [inner for inner in _inside(estimator) if getattr(inner, "flatten_transform", False) is True]
    with _patching:
        kind.add_node = with_integers
        random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting = with_thresholds
        for inner in voting:
            inner.flatten_transform = False
        try:
            yield
        finally:
            kind.add_node = add_node
            random_forest.add_tree_to_attribute_pairs_hist_gradient_boosting = add_tree
            for inner in voting:
                inner.flatten_transform = True


def _integers(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(item, bool | np.bool_ | np.integer) for item in value):
        return [int(item) if isinstance(item, bool | np.bool_ | np.integer) else item for item in value]
    return value


@dataclass(frozen=True)
class _Estimator:
    """The estimator itself."""

    name: str
    estimator: Any
    columns: Columns
    ranks: Mapping[str, int | None]

    def run(self, inputs: Values) -> Values:
        """What it says, by the names that skl2onnx gives to results."""
        rows = self.columns.source_rows(inputs)
        found: dict[str, Array] = {}
        for name, rank in self.ranks.items():
            answer = self._answer(name, rows)
            if answer is not None:
                found[name] = answer[:, None] if rank == 2 and answer.ndim == 1 else answer
        return found

    def _answer(self, name: str, rows: Any) -> Array | None:
        methods = _METHODS.get(name, ("predict", "transform") if len(self.ranks) == 1 else ())
        if hasattr(_last(self.estimator), "get_support"):  # Selectors pass `predict` on; skl2onnx writes `transform`.
            methods = ("transform",)
        for method in methods:
            ask: Callable[[Any], Any] | None = getattr(self.estimator, method, None)
            if ask is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answer = ask(rows)
                if not isinstance(answer, list):  # of several results, one a result
                    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
        return None


# Which method gives what skl2onnx calls so.
_METHODS: Mapping[str, tuple[str, ...]] = {
    "label": ("predict",),
    "output_label": ("predict",),
    "probabilities": ("predict_proba", "decision_function"),
    "output_probability": ("predict_proba", "decision_function"),
    "variable": ("predict", "transform"),
    "scores": ("decision_function", "transform"),
    "transformed_column": ("transform",),
}
