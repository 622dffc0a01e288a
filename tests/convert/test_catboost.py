"""CatBoost models, trained here with the installed version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sardonyx.convert.api import read
from sardonyx.convert.names_trees import convert_catboost
from sardonyx.errors import ConversionError, ModelFileError
from tests.convert.tree_cases import assert_right, assert_says

catboost = pytest.importorskip("catboost")
SMALL = {"iterations": 5, "depth": 3, "verbose": False, "allow_writing_files": False, "thread_count": 1}


def rows(seed: int = 0, *, missing: bool = False) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(150, 4)).astype(np.float32)
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    return x


X = rows()
SCORE = X[:, 0] + X[:, 1]


def test_classifiers(tmp_path: Path) -> None:
    """What the writer gets wrong are all but Logloss and MultiClass."""
    binary = catboost.CatBoostClassifier(boost_from_average=True, **SMALL).fit(X, (SCORE > 0.3).astype(int))
    path = tmp_path / "model.cbm"
    binary.save_model(str(path))
    converted = assert_right(path)
    x = rows(1)
    assert_says(converted.model, {"X": x}, {"label": binary.predict(x), "probabilities": binary.predict_proba(x)})
    names = np.array(["x", "y", "q"])[np.digitize(SCORE, [-0.5, 0.5])]
    several = np.stack([SCORE > 0, SCORE < 0.5, X[:, 2] > 0], 1).astype(int)
    for loss, y in (("MultiClass", names), ("MultiClassOneVsAll", names), ("MultiLogloss", several)):
        model = catboost.CatBoostClassifier(loss_function=loss, **SMALL).fit(X, y)
        label = model.predict(x)
        want = {
            "label": label if loss == "MultiLogloss" else label.reshape(-1),
            "probabilities": model.predict_proba(x),
        }
        assert_says(read(model).model, {"X": x}, want, native=loss == "MultiLogloss")  # the others have strings


@pytest.mark.parametrize(
    "loss", ["RMSE", "Poisson", "Tweedie:variance_power=1.5", "MultiQuantile:alpha=0.1,0.5", "MultiRMSE"]
)
def test_regressors(loss: str) -> None:
    y = np.stack([SCORE, SCORE**2], 1) if loss == "MultiRMSE" else np.abs(SCORE)
    model = catboost.CatBoostRegressor(loss_function=loss, **SMALL).fit(X, y)
    x = rows(1)
    assert_says(read(model).model, {"X": x}, {"variable": model.predict(x).reshape(150, -1)})


@pytest.mark.parametrize("mode", ["Min", "Max"])
def test_missing_values(mode: str) -> None:
    given = rows(2, missing=True)
    model = catboost.CatBoostRegressor(nan_mode=mode, **SMALL).fit(
        given, np.nan_to_num(given[:, 0]) + np.isnan(given[:, 1])
    )
    x = rows(3, missing=True)
    assert_says(read(model).model, {"X": x}, {"variable": model.predict(x)[:, None]})


def test_restrictions_are_told(tmp_path: Path) -> None:
    uneven = catboost.CatBoostRegressor(grow_policy="Lossguide", **SMALL).fit(X, SCORE)
    with pytest.raises(ConversionError, match=r"non symmetric.*numeric features alone"):
        read(uneven)
    frame = [[*row, str(int(row[0] > 0))] for row in X.tolist()]
    categorical = catboost.CatBoostRegressor(cat_features=[4], one_hot_max_size=1, **SMALL).fit(frame, SCORE)
    with pytest.raises(ConversionError, match=r"features that are no numbers.*categorical"):
        read(categorical)
    unsure = catboost.CatBoostRegressor(loss_function="RMSEWithUncertainty", **SMALL).fit(X, SCORE)
    with pytest.raises(ConversionError, match=r"not known what this loss function predicts.*RMSEWithUncertainty"):
        read(unsure)
    path = tmp_path / "model.cbm"
    path.write_bytes(b"CBM1 \x00\x00\x00" + bytes(16))
    with pytest.raises(ModelFileError, match="CatBoost cannot load"):
        read(path)


def test_damaged_files(tmp_path: Path) -> None:
    """Each in a process of its own, so few."""
    path = tmp_path / "model.cbm"
    catboost.CatBoostRegressor(**SMALL).fit(X, SCORE).save_model(str(path))
    data = path.read_bytes()
    for cut in (len(data) // 3, len(data) - 5):
        path.write_bytes(data[:cut])
        with pytest.raises((ModelFileError, ConversionError)):
            read(path)


def test_convert_catboost() -> None:
    import onnx_ir as ir

    model = catboost.CatBoostRegressor(**SMALL).fit(X, SCORE)
    proto = convert_catboost(model, "boosted", target_opset=20)
    assert proto.graph.name == "boosted"
    assert_says(ir.from_proto(proto), {"X": X}, {"variable": model.predict(X)[:, None]})
