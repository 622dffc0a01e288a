"""LightGBM models, trained here with the installed version."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sardonyx.convert
from sardonyx.convert.api import read
from sardonyx.convert.names_trees import convert_lightgbm
from sardonyx.errors import ConversionError, ModelFileError
from tests.convert.tree_cases import assert_right, assert_says, assert_survives, sessions

lightgbm = pytest.importorskip("lightgbm")
OBJECTIVES = (
    "regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie", "binary",
    "multiclass", "multiclassova", "cross_entropy", "cross_entropy_lambda", "lambdarank", "rank_xendcg",
)  # fmt: skip
SMALL = {
    "num_leaves": 6, "verbosity": -1, "min_data_in_leaf": 5, "min_data_per_group": 1, "cat_smooth": 1, "cat_l2": 1,
    "num_threads": 1, "seed": 3,
}  # fmt: skip


def rows(seed: int = 0, count: int = 300) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5))
    x[:, 3] = rng.integers(0, 40, count)
    x[:, 4] = rng.integers(-1, 2, count)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


X = rows()
SCORE = np.nan_to_num(X[:, 0] + np.sin(X[:, 3]) + 0.5 * X[:, 4])


def train(rounds: int = 4, y: Any = SCORE, group: Any = None, **parameters: Any) -> Any:
    data = lightgbm.Dataset(X, y, categorical_feature=[3], group=group)
    return lightgbm.train({**SMALL, **parameters}, data, rounds)


def objective(name: str, **more: Any) -> Any:
    y, group = (SCORE > 0.2).astype(float), None
    if name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "gamma"):
        y = SCORE**2 + 0.1
    if name in ("binary", "multiclassova"):
        more["sigmoid"] = 1.7
    if name.startswith("multi"):
        y, more["num_class"] = np.digitize(SCORE, [-0.5, 0.5]), 3
    if "rank" in name:
        group = [100, 100, 100]
    return train(y=y, group=group, objective=name, **more)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    objective(name).save_model(path)
    converted = assert_right(path)
    assert converted.metadata["objective"] == name
    outputs = [value.name for value in converted.model.graph.outputs]
    assert outputs == (["label", "probabilities"] if name in OBJECTIVES[9:12] else ["variable"])


def test_every_objective_of_lightgbm_is_known() -> None:
    """LightGBM does not list them: of all words in its library, those that it takes for objectives. Aliases are saved
    as what they stand for, `custom` and `none` as nothing; each must be among those that are tested."""
    library = next(Path(lightgbm.__file__).parent.rglob("*lib_lightgbm.*"))
    words = sorted({word.decode() for word in re.findall(rb"[a-z][a-z0-9_]{2,30}", library.read_bytes())})
    ones, quiet = np.ones(len(X)), {"verbosity": -1, "num_threads": 1}
    plain = lightgbm.Dataset(X, ones, params=quiet).construct()
    grouped = lightgbm.Dataset(X, ones, group=[len(X)], params=quiet).construct()
    taken = {}
    for word in words:
        for data, more in ((plain, {}), (plain, {"num_class": 2}), (grouped, {})):  # what some objectives want
            try:
                text = lightgbm.Booster({"objective": word, **quiet, **more}, data).model_to_string()
            except lightgbm.basic.LightGBMError:
                continue
            saved = re.search(r"^objective=(\w+)", text, re.MULTILINE)
            taken[word] = saved[1] if saved else "none"
    assert set(taken.values()) == {*OBJECTIVES, "none"}
    assert len(taken) > 25  # aliases too


KNOWN_WRONG = {
    "linear_tree": "onnxmltools 1.16 leaves the linear models of leaves out, and is off by 0.94",
    "rf": "it adds the trees of a random forest up",
    "lambdarank": "no converter for rankers",
}


@pytest.mark.parametrize("case", sorted(KNOWN_WRONG))
def test_known_wrong_answer_lightgbm(case: str, tmp_path: Path) -> None:
    """What other converters get wrong is what LightGBM itself predicts, and the report says so."""
    if case == "lambdarank":
        model = objective(case)
    else:
        forest = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
        model = objective("regression", **(forest if case == "rf" else {"linear_tree": True}))
    x = rows(9).astype(np.float32)
    path = tmp_path / "model.txt"
    model.save_model(path)
    done = sardonyx.convert(path, tmp_path / "model.onnx")
    assert done.report is not None
    assert (done.report.verdict, done.report.oracle) == ("verified", f"lightgbm {lightgbm.__version__}")
    assert_says(done.model, {"X": x}, {"variable": model.predict(x)[:, None]})


@pytest.mark.parametrize("boosting", ["gbdt", "rf"])
def test_some_iterations(boosting: str, tmp_path: Path) -> None:
    """Files of iterations from the middle: the model that LightGBM makes of them."""
    more = {"bagging_freq": 1, "bagging_fraction": 0.6} if boosting == "rf" else {}
    model = objective("multiclass", boosting=boosting, rounds=8, **more)
    path = tmp_path / "model.txt"
    model.save_model(path, num_iteration=3, start_iteration=2)
    part = lightgbm.Booster(model_file=path)
    assert part.num_trees() == 9
    x = rows(9).astype(np.float32)
    converted = read(path)
    want = part.predict(x)
    assert_says(converted.model, {"X": x}, {"label": want.argmax(axis=1), "probabilities": want})
    assert_right(path)


@pytest.mark.parametrize("name", ["regression", "binary", "multiclass", "multiclassova", "poisson"])
def test_random_forests_are_averages(name: str) -> None:
    model = objective(name, boosting="rf", bagging_freq=1, bagging_fraction=0.6)
    assert "average_output" in model.model_to_string()
    assert_right(model)


def test_dart_and_square_roots() -> None:
    assert_right(objective("regression", boosting="dart", drop_rate=0.5))
    for name in ("regression", "regression_l1", "fair", "quantile", "mape", "huber", "poisson"):
        model = objective(name, reg_sqrt=True)
        assert (" sqrt" in model.model_to_string().split("\nfeature_names")[0]) == (name not in ("huber", "poisson"))
        assert_right(model)


@pytest.mark.parametrize("how", [{}, {"zero_as_missing": True}, {"use_missing": False}])
def test_missing_values(how: dict[str, Any]) -> None:
    """NaN, zeros and numbers that LightGBM takes for zero, in columns with thresholds of all kinds."""
    some = rows(7)
    some[:, :3] *= np.random.default_rng(8).integers(0, 2, (300, 3))  # zeros, between which and others it splits
    y = np.nan_to_num((some[:, 0] == 0) + 2 * (some[:, 1] > 0) + (some[:, 2] < 0) + 0.3 * some[:, 3])
    model = lightgbm.train({**SMALL, **how}, lightgbm.Dataset(some, y, categorical_feature=[3]), 8)
    assert "e-35" in model.model_to_string().partition("end of trees")[0]
    converted = assert_right(model)
    assert any(node.name == "zeros/as_missing" for node in converted.model.graph) == ("zero_as_missing" in how)
    rng = np.random.default_rng(1)
    tiny = np.array([0.0, -0.0, 1e-35, -1e-35, 9e-36, 1.1e-35, -1.1e-35, 1e-30, -1e-30, np.nan], np.float32)
    x = np.where(rng.random((200, 5)) < 0.7, rng.choice(tiny, (200, 5)), some[:200].astype(np.float32))
    want = model.predict(x)[:, None]
    assert len(np.unique(want)) > 5
    assert_says(converted.model, {"X": x}, {"variable": want})


def test_thresholds_are_exact() -> None:
    """The float32 numbers around each threshold of float64 take LightGBM's branch."""
    model = train(rounds=10)
    table = model.trees_to_dataframe()
    inner = table[(table.decision_type == "<=")]
    feature = inner.split_feature.str.removeprefix("Column_").astype(int).to_numpy()
    split = inner.threshold.astype(float).to_numpy()
    x = np.repeat(rows(1, len(split)).astype(np.float32), 3, axis=0)
    for i, (f, s) in enumerate(zip(feature, split, strict=True)):
        near = np.float32(s)
        x[3 * i : 3 * i + 3, f] = [np.nextafter(near, np.float32(-1e9)), near, np.nextafter(near, np.float32(1e9))]
    assert (x[1::3][np.arange(len(split)), feature].astype(float) > split).any()  # where rounding to nearest is wrong
    assert_says(read(model).model, {"X": x}, {"variable": model.predict(x)[:, None]})


def test_categories() -> None:
    """Sets with bits of several words; numbers between, negative, too large and missing."""
    model = train(rounds=6, max_cat_to_onehot=1)
    assert "cat_threshold=" in model.model_to_string()
    x = np.repeat(rows(2, 12).astype(np.float32), 60, axis=0)
    special = [
        -1,
        -0.9999999,
        -0.5,
        -0.0,
        0.5,
        39.7,
        40,
        63,
        64,
        1e9,
        2e9,
        3e9,
        -3e9,
        1e20,
        -1e20,
        np.nan,
        np.inf,
        -np.inf,
    ]
    x[:, 3] = np.tile(np.array([*range(42), *special], np.float32), 12)
    assert_says(read(model).model, {"X": x}, {"variable": model.predict(x)[:, None]})


@pytest.mark.parametrize("name", ["regression", "binary", "multiclass"])
def test_linear_trees(name: str) -> None:
    model = objective(name, linear_tree=True)
    assert "is_linear=1" in model.model_to_string()
    assert_right(model)
    x = rows(5).astype(np.float32)
    if name == "regression":
        x[::3, 1] = np.nan
        assert_says(read(model).model, {"X": x}, {"variable": model.predict(x)[:, None]})


def test_the_first_of_certain_classes() -> None:
    """Scores of 40 and 60 are both probabilities of 1."""
    # Without the sizes by which LightGBM finds trees whose text has not changed.
    text = re.sub(r"^tree_sizes=.*\n", "", objective("multiclassova").model_to_string(), flags=re.MULTILINE)
    for value, tree in ((40, 0), (60, 1), (-1, 2)):
        part = text.index(f"Tree={tree}\n")
        at = text.index("leaf_value=", part)
        end = text.index("\n", at)
        text = text[:at] + "leaf_value=" + " ".join([str(value)] * len(text[at:end].split())) + text[end:]
    model = lightgbm.Booster(model_str=text)
    want = model.predict(X)
    assert (want[:, :2] == 1).all()
    converted = read(model)
    assert_says(converted.model, {"X": X.astype(np.float32)}, {"label": want.argmax(axis=1), "probabilities": want})


def test_wrappers() -> None:
    kwargs = {"n_estimators": 4, "verbosity": -1, "n_jobs": 1, "num_leaves": 5}
    x = rows(3)
    x32 = x.astype(np.float32)
    for labels in ((7, -2), (0, 1), (5, 3, 9)):
        y = np.array(labels)[np.digitize(SCORE, [-0.5, 0.5][: len(labels) - 1])]
        model = lightgbm.LGBMClassifier(**kwargs).fit(X, y)
        want = {"label": model.predict(x32), "probabilities": model.predict_proba(x32)}
        assert_says(read(model).model, {"X": x32}, want)
    names = lightgbm.LGBMClassifier(**kwargs).fit(X, np.array(["b", "a", "zz"])[np.digitize(SCORE, [-0.5, 0.5])])
    want = {"label": names.predict(x32), "probabilities": names.predict_proba(x32)}
    assert_says(read(names).model, {"X": x32}, want, native=False)  # strings
    entropy = lightgbm.LGBMClassifier(objective="cross_entropy", **kwargs).fit(X, SCORE > 0)
    want = {"label": entropy.predict(x32), "probabilities": entropy.predict_proba(x32)}
    assert_says(read(entropy).model, {"X": x32}, want)
    regressor = lightgbm.LGBMRegressor(**kwargs).fit(X, SCORE)
    assert_says(read(regressor).model, {"X": x32}, {"variable": regressor.predict(x32)[:, None]})


def test_best_iteration_and_own_objective(tmp_path: Path) -> None:
    noise = lightgbm.Dataset(rows(4), np.random.default_rng(0).normal(size=300), categorical_feature=[3])
    data = lightgbm.Dataset(X, SCORE, categorical_feature=[3])
    stop = lightgbm.early_stopping(3, verbose=False)
    model = lightgbm.train(SMALL, data, 30, valid_sets=[noise], callbacks=[stop], keep_training_booster=True)
    assert 0 < model.best_iteration < model.current_iteration()
    x = rows(5).astype(np.float32)
    assert_says(read(model).model, {"X": x}, {"variable": model.predict(x)[:, None]})
    own = train(objective=lambda guess, given: (guess - given.get_label(), np.ones(len(guess))))
    path = tmp_path / "own.txt"
    own.save_model(path)
    assert "\nobjective=" not in path.read_text()
    assert_says(read(path).model, {"X": x}, {"variable": own.predict(x)[:, None]})


def test_single_leaves() -> None:
    assert_right(train(y=np.ones(300)))
    assert_right(train(y=np.ones(300), linear_tree=True))


# ---- refused and damaged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("version=v4", "version=v5", ConversionError, "version of LightGBM's text"),
        ("objective=regression", "objective=other", ConversionError, "objective are not known|objective are"),
        ("objective=regression", "objective=regression steep:3", ConversionError, "parameters of the objective"),
        ("objective=regression", "objective=binary sigmoid:-1", ConversionError, "sigmoid must be above 0"),
        ("end of trees", "", ModelFileError, "it has no end"),
        ("\nTree=3\n", "\n", ModelFileError, "are not as many as it says"),
        ("\nleft_child=", "\nleft_child=7", ModelFileError, "leads nowhere|meet again"),
        ("\nsplit_feature=", "\nsplit_feature=9", ModelFileError, "feature that there is not"),
        ("\nthreshold=", "\nthreshold=1_", ModelFileError, "no list of numbers"),
        ("\nleaf_value=", "\nleaf_value=1 ", ModelFileError, "says 6 leaves and has 7"),
        ("max_feature_idx=4", "max_feature_idx=999999999", ModelFileError, "features"),
    ],
)
def test_wrong_text(old: str, new: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    text = train().model_to_string()
    assert old in text
    path = tmp_path / "model.txt"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(error, match=words):
        read(path)


def test_damaged_files(tmp_path: Path) -> None:
    text = train(rounds=2, linear_tree=True).model_to_string().partition("\nparameters")[0]
    assert_survives(text.encode(), tmp_path / "model.txt", "lightgbm", count=200)


def test_convert_lightgbm() -> None:
    import onnx_ir as ir

    types = pytest.importorskip("onnxmltools.convert.common.data_types")
    model = train()
    proto = convert_lightgbm(model, "boosted", [("rows", types.FloatTensorType([None, 5]))], target_opset=20)
    assert proto.graph.name == "boosted"
    x = rows(6).astype(np.float32)
    assert_says(ir.from_proto(proto), {"rows": x}, {"variable": model.predict(x)[:, None]})


def test_reading_needs_no_lightgbm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.txt"
    train().save_model(path)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    sessions(read(path).model)
