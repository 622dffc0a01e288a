"""Estimators and pipelines of scikit-learn and the boosting libraries, fitted on small data: the table of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROWS, FEATURES, TESTED = 120, 5, 60


@dataclass(frozen=True)
class Fitted:
    """A model as ONNX, what it is fed, and the estimator's own answers by output position (None: not compared)."""

    onnx: bytes
    feed: dict[str, Any]
    expected: list[Any]


@dataclass(frozen=True)
class Model:
    """A row of the table: how to make the estimator, what kind of data it is fitted on, options of the conversion.

    `own` says that the estimator's own answers are compared too: not where skl2onnx computes something else.
    """

    name: str
    make: Callable[[], Any]
    data: str = "classes"
    options: dict[str, Any] = field(default_factory=dict)
    own: bool = True


@cache
def data(kind: str) -> tuple[Array, Array]:
    """Features and targets."""
    random = np.random.default_rng(5)
    x = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    weights = random.normal(size=(FEATURES, 3))
    scores = x @ weights + random.normal(size=(ROWS, 3)) / 2
    if kind == "values":
        return x, scores[:, 0]
    if kind == "positive":
        return np.abs(x), scores.argmax(1)
    if kind == "targets":
        return x, scores[:, :2]
    if kind == "multilabel":
        return x, (scores > 0).astype(np.int64)
    if kind == "two":
        return x, (scores[:, 0] > 0).astype(np.int64)
    if kind == "texts":
        return x, np.array(["red", "green", "blue"])[scores.argmax(1)]
    if kind == "missing":
        holes = x.copy()
        holes[random.random(x.shape) < 0.15] = np.nan
        return holes, scores.argmax(1)
    if kind == "counts":
        return np.floor(np.abs(x) * 3), scores.argmax(1)
    return x, scores.argmax(1) + 2


def fitted(model: Model) -> Fitted:
    """Fit and convert."""
    if model.data == "frame":
        return _of_frame(model)
    x, y = data(model.data)
    estimator = model.make()
    estimator.fit(x, y)
    tested = x[:TESTED]
    return Fitted(_converted(estimator, model), {"X": tested}, _answers(estimator, tested) if model.own else [])


def _converted(estimator: Any, model: Model) -> bytes:
    kind = type(estimator).__module__.split(".")[0]
    if kind == "catboost":
        return _catboost(estimator)
    if kind in ("xgboost", "lightgbm"):
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        convert = getattr(onnxmltools, f"convert_{kind}")
        made = convert(estimator, initial_types=[("X", FloatTensorType([None, FEATURES]))], target_opset=15)
        return bytes(made.SerializeToString())
    from skl2onnx import to_onnx

    options = {id(estimator): model.options} if model.options else None
    made = to_onnx(estimator, data(model.data)[0][:1], options=options, target_opset={"": 21, "ai.onnx.ml": 3})
    return bytes(made.SerializeToString())


def _catboost(estimator: Any) -> bytes:
    """CatBoost writes ONNX itself, to a file."""
    import tempfile
    from pathlib import Path

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        estimator.save_model(str(path), format="onnx")
        made = onnx.load(path)
    made.graph.input[0].name = "X"
    for node in made.graph.node:
        node.input[:] = ["X" if name == "features" else name for name in node.input]
    return bytes(made.SerializeToString())


def _answers(estimator: Any, x: Any) -> list[Any]:
    """What the estimator says: labels and probabilities, predictions, or transformed features."""
    if hasattr(estimator, "predict_proba"):
        return [estimator.predict(x), estimator.predict_proba(x)]
    if hasattr(estimator, "predict"):
        return [estimator.predict(x)]
    made = estimator.transform(x)
    return [made.toarray() if hasattr(made, "toarray") else made]


def _of_frame(model: Model) -> Fitted:
    """Columns of several types, one input each, as of a data frame."""
    import pandas as pd
    from skl2onnx import to_onnx

    random = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 80, ROWS).astype(np.float32),
            "income": np.where(random.random(ROWS) < 0.2, np.nan, random.normal(3, 1, ROWS)).astype(np.float32),
            "city": random.choice(["Oslo", "Bergen", "Troms\u00f8"], ROWS),
            "plan": random.integers(0, 4, ROWS),
        }
    )
    frame["city"] = frame["city"].astype(object)
    y = np.where(frame["age"] + 10 * (frame["city"] == "Oslo") > 50, "yes", "no")
    estimator = model.make()
    estimator.fit(frame, y)
    made = to_onnx(estimator, frame[:1], options={id(estimator): model.options} if model.options else None)
    kinds = {"age": np.float32, "income": np.float32, "city": object, "plan": np.int64}
    tested = frame[:TESTED]
    feed = {name: tested[[name]].to_numpy(kind) for name, kind in kinds.items()}
    return Fitted(bytes(made.SerializeToString()), feed, _answers(estimator, tested))


def _frame_pipeline(last: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        columns = ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
                ("categories", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                ("plan", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
            ]
        )
        return make_pipeline(columns, last())

    return make


def _pipeline(*names: str) -> Callable[[], Any]:
    """A pipeline of `module.Class` with default arguments but for those in JSON after a space."""

    def make() -> Any:
        from sklearn.pipeline import make_pipeline

        return make_pipeline(*(_of(name)() for name in names))

    return make


def _of(text: str) -> Callable[[], Any]:
    """`module.Class {...}`: arguments as JSON."""

    def make() -> Any:
        from importlib import import_module

        name, _, arguments = text.partition(" ")
        module, _, kind = name.rpartition(".")
        try:
            home = import_module(f"sklearn.{module}")
        except ModuleNotFoundError:
            home = import_module(module)
        return getattr(home, kind)(**json.loads(arguments or "{}"))

    return make


def _classifiers() -> list[Model]:
    plain = [
        "linear_model.LogisticRegression",
        'linear_model.RidgeClassifier {"alpha": 0.5}',
        'linear_model.SGDClassifier {"loss": "log_loss", "random_state": 0}',
        'linear_model.Perceptron {"random_state": 0}',
        "svm.LinearSVC",
        "naive_bayes.GaussianNB",
        "discriminant_analysis.LinearDiscriminantAnalysis",
        "discriminant_analysis.QuadraticDiscriminantAnalysis",
        "neighbors.KNeighborsClassifier",
        'tree.DecisionTreeClassifier {"max_depth": 5, "random_state": 0}',
        'ensemble.RandomForestClassifier {"n_estimators": 9, "max_depth": 5, "random_state": 0}',
        'ensemble.ExtraTreesClassifier {"n_estimators": 9, "max_depth": 5, "random_state": 0}',
        'ensemble.GradientBoostingClassifier {"n_estimators": 7, "random_state": 0}',
        'ensemble.AdaBoostClassifier {"n_estimators": 7, "random_state": 0}',
        'ensemble.BaggingClassifier {"n_estimators": 5, "random_state": 0}',
        'neural_network.MLPClassifier {"hidden_layer_sizes": [8], "max_iter": 60, "random_state": 0}',
        'svm.SVC {"kernel": "rbf"}',
        'svm.SVC {"kernel": "linear", "probability": true, "random_state": 0}',
        'svm.SVC {"kernel": "poly", "probability": true, "random_state": 0}',
        'svm.SVC {"kernel": "sigmoid"}',
        'svm.NuSVC {"probability": true, "random_state": 0}',
        "multiclass.OneVsRestClassifier",
    ]
    named = {"multiclass.OneVsRestClassifier": lambda: _of("multiclass.OneVsRestClassifier")}
    models = [
        Model(text, _of(text), options={} if "Ridge" in text or "LinearSVC" in text else {"zipmap": False})
        for text in plain
        if text not in named
    ]
    models += [
        Model("LogisticRegression two", _of("linear_model.LogisticRegression"), "two", {"zipmap": False}),
        Model("LogisticRegression texts", _of("linear_model.LogisticRegression"), "texts"),
        Model("LogisticRegression zipmap", _of("linear_model.LogisticRegression"), "two"),
        Model("SVC two", _of('svm.SVC {"probability": true, "random_state": 0}'), "two", {"zipmap": False}),
        Model("SVC texts", _of('svm.SVC {"probability": true, "random_state": 0}'), "texts"),
        Model("RandomForest texts", _of('ensemble.RandomForestClassifier {"n_estimators": 5}'), "texts"),
        Model("MultinomialNB", _of("naive_bayes.MultinomialNB"), "counts", {"zipmap": False}),
        Model("BernoulliNB", _of("naive_bayes.BernoulliNB"), "classes", {"zipmap": False}),
    ]
    return models


def _regressors() -> list[Model]:
    names = [
        "linear_model.LinearRegression",
        "linear_model.Ridge",
        'linear_model.Lasso {"alpha": 0.1}',
        'linear_model.ElasticNet {"alpha": 0.1}',
        "linear_model.BayesianRidge",
        "linear_model.HuberRegressor",
        "svm.SVR",
        'svm.SVR {"kernel": "poly"}',
        "svm.NuSVR",
        "svm.LinearSVR",
        "neighbors.KNeighborsRegressor",
        'tree.DecisionTreeRegressor {"max_depth": 5, "random_state": 0}',
        'ensemble.RandomForestRegressor {"n_estimators": 9, "max_depth": 5, "random_state": 0}',
        'ensemble.GradientBoostingRegressor {"n_estimators": 9, "random_state": 0}',
        'neural_network.MLPRegressor {"hidden_layer_sizes": [8], "max_iter": 60, "random_state": 0}',
    ]
    models = [Model(name, _of(name), "values") for name in names]
    models.append(Model("LinearRegression targets", _of("linear_model.LinearRegression"), "targets"))
    return models


def _transformers() -> list[Model]:
    names = [
        "preprocessing.StandardScaler",
        "preprocessing.MinMaxScaler",
        "preprocessing.MaxAbsScaler",
        "preprocessing.RobustScaler",
        'preprocessing.Normalizer {"norm": "l2"}',
        'preprocessing.Normalizer {"norm": "l1"}',
        'preprocessing.Binarizer {"threshold": 0.2}',
        "preprocessing.PolynomialFeatures",
        "preprocessing.PowerTransformer",
        'preprocessing.KBinsDiscretizer {"n_bins": 4, "encode": "ordinal"}',
        'decomposition.PCA {"n_components": 3}',
        'decomposition.TruncatedSVD {"n_components": 3}',
    ]
    return [
        *(Model(name, _of(name)) for name in names),
        Model("SimpleImputer", _of("impute.SimpleImputer"), "missing"),
        Model("KNNImputer", _of("impute.KNNImputer"), "missing"),
        Model("OneHotEncoder", _of('preprocessing.OneHotEncoder {"handle_unknown": "ignore"}'), "counts"),
        Model("OrdinalEncoder", _of("preprocessing.OrdinalEncoder"), "counts"),
    ]


def _pipelines() -> list[Model]:
    logistic = "linear_model.LogisticRegression"
    plain = {"zipmap": False}
    return [
        Model("scaler, logistic", _pipeline("preprocessing.StandardScaler", logistic), options=plain),
        Model("imputer, logistic", _pipeline("impute.SimpleImputer", logistic), "missing", plain),
        Model("pca, svc", _pipeline("decomposition.PCA", "svm.SVC"), options=plain),
        Model("polynomials, ridge", _pipeline("preprocessing.PolynomialFeatures", "linear_model.Ridge"), "values"),
        Model("frame, logistic", _frame_pipeline(_of(logistic)), "frame", plain),
        Model("frame, zipmap", _frame_pipeline(_of(logistic)), "frame"),
        Model(
            "frame, forest", _frame_pipeline(_of('ensemble.RandomForestClassifier {"n_estimators": 5}')), "frame", plain
        ),
    ]


def _boosters() -> list[Model]:
    xgboost = '{"n_estimators": 7, "max_depth": 3}'
    lightgbm = '{"n_estimators": 7, "verbose": -1, "n_jobs": 1}'
    catboost = '{"iterations": 7, "depth": 3, "verbose": false, "allow_writing_files": false, "thread_count": 1}'
    models = []
    for name, arguments in (("xgboost.XGB", xgboost), ("lightgbm.LGBM", lightgbm), ("catboost.CatBoost", catboost)):
        for kind, source in (("Classifier", "two"), ("Regressor", "values"), ("Classifier", "missing")):
            models.append(Model(f"{name}{kind} {source}", _of(f"{name}{kind} {arguments}"), source))
    return models


MODELS: tuple[Model, ...] = (*_classifiers(), *_regressors(), *_transformers(), *_pipelines(), *_boosters())
