"""scikit-learn estimators become ONNX that answers as they do, labels exactly."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("skl2onnx", reason="the extra `sklearn`")
pd = pytest.importorskip("pandas", reason="the extra `classical`")

from sklearn.cluster import KMeans  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

from sardonyx.convert.api import convert, read  # noqa: E402
from sardonyx.convert.base import Options  # noqa: E402
from sardonyx.convert.exporters import sklearn as exporter  # noqa: E402
from sardonyx.errors import ConversionError  # noqa: E402
from tests.convert.exporters.exporter_cases import agrees, dims  # noqa: E402

ROWS = np.random.default_rng(5).normal(size=(300, 5)).astype(np.float32)
CLASSES = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 0.5).astype(int) + (ROWS[:, 2] > 1)
VALUES = ROWS @ np.arange(5) + ROWS[:, 0] ** 2
HOLES = np.where(np.random.default_rng(6).random(ROWS.shape) < 0.1, np.nan, ROWS).astype(np.float32)


def own(estimator, rows):
    """Labels and probabilities."""
    return {"label": estimator.predict(rows), "probabilities": estimator.predict_proba(rows)}


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(10, random_state=0),
        GradientBoostingClassifier(n_estimators=5, random_state=0),
        VotingClassifier(
            [("a", LogisticRegression()), ("b", RandomForestClassifier(5, random_state=1))],
            voting="soft",
            flatten_transform=False,
        ),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_classifiers(estimator):
    estimator.fit(ROWS, CLASSES)
    converted = read(estimator)
    assert dims(converted.model.graph.inputs) == {"X": ["batch", 5]}
    assert dims(converted.model.graph.outputs) == {"label": ["batch"], "probabilities": ["batch", 3]}
    assert converted.metadata["classes"] == "0\n1\n2"
    agrees(converted, {"X": ROWS}, own(estimator, ROWS))


@pytest.mark.parametrize("count", [2, 3])
def test_histogram_boosting_under_this_protobuf(count):
    estimator = HistGradientBoostingClassifier(max_iter=8).fit(HOLES, np.minimum(CLASSES, count - 1))
    assert np.isnan(HOLES).any()
    agrees(read(estimator), {"X": HOLES}, own(estimator, HOLES))


def test_histogram_boosting_of_values_at_thresholds():
    # float64 features: thresholds lie between float32 neighbours.
    rows = np.random.default_rng(7).normal(size=(200, 2))
    estimator = HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=2).fit(rows, rows[:, 0])
    thresholds = np.concatenate([
        tree[0].nodes["num_threshold"][tree[0].nodes["is_leaf"] == 0] for tree in estimator._predictors
    ])  # fmt: skip
    nearest = thresholds.astype(np.float32)
    assert (nearest > thresholds).any()
    x = np.stack([nearest, nearest], 1)
    agrees(read(estimator), {"X": x}, {"variable": estimator.predict(x)[:, None]})


def test_what_skl2onnx_writes_wrongly_is_refused():
    positive = HistGradientBoostingRegressor(loss="poisson", max_iter=3).fit(ROWS, np.exp(ROWS[:, 0]))
    with pytest.raises(ConversionError, match="HalfPoissonLoss"):
        read(make_pipeline(StandardScaler(), positive))
    rows = np.column_stack([np.arange(300) % 7, ROWS])
    categories = HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]).fit(rows, CLASSES)
    with pytest.raises(ConversionError, match="categorical"):
        read(categories)


def test_regressors_and_clusters():
    estimator = Ridge().fit(ROWS, VALUES)
    agrees(read(estimator), {"X": ROWS}, {"variable": estimator.predict(ROWS)[:, None]})
    clusters = KMeans(3, random_state=0, n_init=1).fit(ROWS)
    agrees(read(clusters), {"X": ROWS}, {"label": clusters.predict(ROWS), "scores": clusters.transform(ROWS)})


def frame():
    random = np.random.default_rng(8)
    return pd.DataFrame({
        "age": random.integers(18, 80, 80).astype(np.float32),
        "city": random.choice(["Oslo", "Bergen", "Tromsø"], 80).astype(object),
        "plan": random.integers(0, 4, 80),
    })  # fmt: skip


def test_data_frames_give_an_input_a_column():
    rows = frame()
    labels = np.where(rows["age"] + 10 * (rows["city"] == "Oslo") > 50, "yes", "no")
    columns = ColumnTransformer([
        ("numbers", StandardScaler(), ["age"]),
        ("words", OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
    ])  # fmt: skip
    estimator = make_pipeline(columns, LogisticRegression()).fit(rows, labels)
    with pytest.raises(ConversionError, match="example=\\(rows,\\)"):
        read(estimator)
    result = convert(estimator, options=Options(example=(rows,)))
    assert result.report is not None
    assert result.report.verdict == "verified"
    assert [value.name for value in result.model.graph.inputs] == ["age", "city", "plan"]


def test_compared_with_the_estimator():
    estimator = RandomForestClassifier(10, random_state=0).fit(ROWS, np.array(["a", "b", "c"])[CLASSES])
    result = convert(estimator)
    assert result.report is not None
    assert result.report.verdict == "verified"
    assert "scikit-learn" in (result.report.oracle or "")


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Ridge().fit(ROWS, VALUES)))
    with pytest.raises(ConversionError, match="runs code"):
        read(path)


def test_what_cannot_be_written_is_told():
    with pytest.raises(ConversionError, match="not fitted"):
        read(LogisticRegression(), Options(example=(ROWS,)))


def test_other_frameworks_estimators_are_not_taken():
    from sardonyx.convert.base import Source

    xgboost = pytest.importorskip("xgboost")
    assert not exporter.recognises(Source(object=xgboost.XGBClassifier()))
    assert exporter.recognises(Source(object=Ridge()))
