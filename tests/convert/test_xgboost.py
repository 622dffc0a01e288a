"""XGBoost models, trained here with the installed version or recorded with others (`scripts/record_xgboost.py`)."""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import sardonyx.convert
from sardonyx.convert.api import read
from sardonyx.convert.names_trees import convert_xgboost
from sardonyx.convert.xgboost import ubjson
from sardonyx.errors import ConversionError, ModelFileError
from tests.convert.tree_cases import assert_right, assert_says, assert_survives, sessions

xgboost = pytest.importorskip("xgboost")
DATA = Path(__file__).parent / "data/xgboost"


def objectives() -> list[str]:
    """All that the installed XGBoost has, which it lists when asked for one that there is not."""
    try:
        xgboost.train({"objective": "no such"}, xgboost.DMatrix(np.zeros((4, 1)), label=np.zeros(4)), 1)
    except xgboost.core.XGBoostError as error:
        return sorted(re.findall(r"Objective candidate: (\S+)", str(error)))
    raise AssertionError("XGBoost takes any objective")


OBJECTIVES = objectives()
FEW = ("reg:squarederror", "reg:logistic", "reg:quantileerror", "binary:logitraw", "multi:softprob", "rank:ndcg")


def rows(seed: int = 0, count: int = 150) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 12, count)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


X = rows()
SCORE = np.nan_to_num(X[:, 0] + np.sin(2 * X[:, 3]))


def train(rounds: int = 4, x: Any = X, y: Any = SCORE, kinds: Any = None, **parameters: Any) -> Any:
    data = xgboost.DMatrix(x, label=y, feature_types=kinds, enable_categorical=kinds is not None)
    return xgboost.train({"max_depth": 3, "nthread": 1, **parameters}, data, rounds)


def objective(name: str, booster: str, seed: int = 0) -> Any:
    y = (SCORE > 0.2).astype(float)
    parameters: dict[str, Any] = {"objective": name, "booster": booster, "max_depth": 3, "nthread": 1}
    if name.startswith("multi"):
        y, parameters["num_class"] = np.digitize(SCORE, [-0.5, 0.5]), 3
    if name in ("reg:gamma", "reg:squarederror"):
        y = SCORE**2 + 0.1
    if name == "reg:quantileerror":
        parameters["quantile_alpha"] = [0.2, 0.7]
    if booster == "dart":
        parameters |= {"rate_drop": 0.5, "seed": seed}
    data = xgboost.DMatrix(X, label=y)
    if name == "survival:aft":
        data.set_float_info("label_lower_bound", y + 1)
        data.set_float_info("label_upper_bound", y + 2)
    if name.startswith("rank"):
        data.set_group([50, 50, 50])
    return xgboost.train(parameters, data, 4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "booster"),
    [
        *((name, "gbtree") for name in OBJECTIVES),
        *((name, kind) for name in FEW for kind in ("dart", "gblinear")),
    ],
)
def test_objectives(name: str, booster: str, tmp_path: Path) -> None:
    model = objective(name, booster)
    path = tmp_path / f"model.{'json' if booster == 'dart' else 'ubj'}"
    model.save_model(path)
    converted = assert_right(path)
    assert converted.metadata["objective"] == {"reg:linear": "reg:squarederror"}.get(name, name)
    outputs = [value.name for value in converted.model.graph.outputs]
    assert outputs == (["label", "probabilities"] if name[0] in "bm" else ["variable"])


def test_xgboost_says_its_objectives() -> None:
    assert {"reg:squarederror", "survival:aft", "rank:map", "multi:softmax"} < set(OBJECTIVES)
    assert len(OBJECTIVES) >= 20


KNOWN_WRONG = {
    "multi_output_tree": "onnxmltools 1.16 is off by 9.5",
    "one_output_per_tree": "the same with a tree for each output",
    "reg:logistic": "off by 2.0: the base score is a probability, the result a sigmoid",
    "binary:logitraw": "off by 2.4: the result is the margin itself",
    "rank:pairwise": "no converter for rankers",
    "rank:ndcg": "no converter for rankers",
    "rank:map": "no converter for rankers",
    "dart": "the weights of dropped trees are lost",
    "gblinear": "a booster without trees",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", sorted(KNOWN_WRONG))
def test_known_wrong_answer_xgboost(case: str, tmp_path: Path) -> None:
    """What other converters get wrong is what XGBoost itself predicts, and the report says so."""
    if "output" in case:
        model = train(y=np.stack([SCORE, 10 * SCORE**2 + 5], 1), multi_strategy=case, tree_method="hist")
    elif case in ("dart", "gblinear"):
        model = objective("reg:squarederror", case)
    else:
        model = objective(case, "gbtree")
    x = rows(9)
    want = model.predict(xgboost.DMatrix(x)).reshape(len(x), -1)
    path = tmp_path / "model.json"
    model.save_model(path)
    done = sardonyx.convert(path, tmp_path / "model.onnx")
    assert done.report is not None
    assert (done.report.verdict, done.report.oracle) == ("verified", f"xgboost {xgboost.__version__}")
    for session in sessions(done.model):
        got = session.run(None, {"X": x})[-1]
        np.testing.assert_allclose(got[:, -want.shape[1] :], want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_dart_drops_trees() -> None:
    """Only then its weights are tested."""
    model = json.loads(objective("reg:squarederror", "dart").save_raw("json"))
    assert len(set(model["learner"]["gradient_booster"]["weight_drop"])) > 1


@pytest.mark.parametrize("one_hot", [1, 4, 100])
def test_categories(one_hot: int) -> None:
    """Sets, and single categories; also those out of range, between whole numbers, negative and missing."""
    model = train(kinds=["q", "q", "q", "c"], max_cat_to_onehot=one_hot)
    converted = assert_right(model)
    special = np.tile(np.array([0.2, -0.1, 0.5, 0], np.float32), (16, 1))
    special[:, 0] = np.linspace(-2, 2, 16)
    special[:, 3] = [-1, -0.5, -0.0, 0, 0.5, 0.99, 1, 3.7, 11, 12, 13, 1e9, -1e9, 1e30, -1e30, np.nan]
    for make in converted.oracles:
        oracle = make()
        assert oracle is not None
        assert_says(converted.model, {"X": special}, oracle.run({"X": special}))
    assert any(node.name == "categories" for node in converted.model.graph)


def test_thresholds_are_exact() -> None:
    """At each threshold, and one number beside it, the same branch."""
    model = train(y=SCORE, max_depth=4)
    table = model.trees_to_dataframe()
    inner = table[table.Feature != "Leaf"]
    feature, split = inner.Feature.str[1:].astype(int).to_numpy(), inner.Split.to_numpy(np.float32)
    x = np.repeat(rows(1, len(split)), 3, axis=0)
    for i, (f, s) in enumerate(zip(feature, split, strict=True)):
        x[3 * i : 3 * i + 3, f] = [np.nextafter(s, np.float32(-np.inf)), s, np.nextafter(s, np.float32(np.inf))]
    want = model.predict(xgboost.DMatrix(x))[:, None]
    assert_says(read(model).model, {"X": x}, {"variable": want})


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_several_outputs(strategy: str) -> None:
    targets = np.stack([SCORE, 10 * SCORE**2, -SCORE + 3], 1)
    model = train(y=targets, multi_strategy=strategy, tree_method="hist")
    x = rows(2)
    assert_right(model)
    assert_says(read(model).model, {"X": x}, {"variable": model.predict(xgboost.DMatrix(x))})


def test_wrappers_and_best_iteration(tmp_path: Path) -> None:
    """Wrappers predict with rounds up to the best, a Booster with all."""
    x, noise = rows(3), np.random.default_rng(0).integers(0, 2, 150)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3, early_stopping_rounds=3, n_jobs=1)
    model.fit(X, SCORE > 0, eval_set=[(x, noise)], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    want = {"label": model.predict(x), "probabilities": model.predict_proba(x)}
    path = tmp_path / "model.json"
    model.save_model(path)
    for source in (model, path):
        converted = read(source)
        assert "training stopped early" in converted.notes[0]
        assert_says(converted.model, {"X": x}, want)
        assert_right(source)
    booster = model.get_booster()
    positive = booster.predict(xgboost.DMatrix(x))
    assert np.abs(positive - want["probabilities"][:, 1]).max() > 1e-3
    converted = read(booster)
    assert "all are used" in converted.notes[0]
    want = {"label": positive > 0.5, "probabilities": np.stack([1 - positive, positive], 1)}
    assert_says(converted.model, {"X": x}, want)


def test_more_wrappers() -> None:
    x = rows(4)
    several = np.stack([SCORE > 0, SCORE < 1, X[:, 1] > 0], 1)
    kwargs = {"n_estimators": 3, "max_depth": 3, "n_jobs": 1}
    labels = xgboost.XGBClassifier(**kwargs).fit(X, several)
    assert_says(read(labels).model, {"X": x}, {"label": labels.predict(x), "probabilities": labels.predict_proba(x)})
    for model in (xgboost.XGBClassifier(**kwargs), xgboost.XGBRFClassifier(**kwargs)):
        model.fit(X, np.digitize(SCORE, [-0.5, 0.5]))
        assert_says(read(model).model, {"X": x}, {"label": model.predict(x), "probabilities": model.predict_proba(x)})
    for model in (xgboost.XGBRegressor(**kwargs), xgboost.XGBRFRegressor(**kwargs)):
        model.fit(X, SCORE)
        assert_says(read(model).model, {"X": x}, {"variable": model.predict(x)[:, None]})
    regressor = xgboost.XGBRegressor(objective="binary:logistic", **kwargs).fit(X, SCORE > 0)
    assert_says(read(regressor).model, {"X": x}, {"variable": regressor.predict(x)[:, None]})
    ranker = xgboost.XGBRanker(**kwargs).fit(X, SCORE > 0, group=[50, 50, 50])
    assert_says(read(ranker).model, {"X": x}, {"variable": ranker.predict(x)[:, None]})


def test_a_number_may_stand_for_missing_values() -> None:
    x = np.where(np.isnan(X), -9, X)
    model = xgboost.XGBRegressor(n_estimators=4, max_depth=3, n_jobs=1, missing=-9).fit(x, SCORE)
    x = np.where(np.isnan(rows(5)), np.float32(-9), rows(5))
    x[::5, 0] = np.nan
    assert_says(read(model).model, {"X": x}, {"variable": model.predict(x)[:, None]})
    assert_right(model)


def test_no_trees_and_single_leaves() -> None:
    assert_right(train(rounds=0))
    assert_right(train(gamma=1e9))
    assert_right(train(y=np.zeros(len(X)), objective="binary:logistic"))


def test_several_trees_a_round() -> None:
    assert_right(train(num_parallel_tree=3, subsample=0.5, objective="multi:softprob", num_class=3, y=SCORE > 0))


@pytest.mark.parametrize("path", sorted([*DATA.glob("*.json"), *DATA.glob("*.ubj")]), ids=lambda path: path.stem)
def test_other_versions(path: Path) -> None:
    with np.load(path.with_suffix(".npz")) as stored:
        x, prediction = stored["x"], stored["prediction"]
    converted = read(path)
    name = "probabilities" if "label" in [value.name for value in converted.model.graph.outputs] else "variable"
    if prediction.ndim == 1:
        one = prediction[:, None]
        prediction = one if name == "variable" else np.concatenate([1 - one, one], axis=1)
    label = prediction.argmax(axis=1) if prediction.shape[1] > 2 else (prediction[:, -1] > 0.5)
    assert_says(converted.model, {"X": x}, {name: prediction, "label": label.astype(np.int64)})
    evaluated = converted.oracles[1]()
    assert evaluated is not None
    found = np.asarray(evaluated.run({"X": x})[name])
    np.testing.assert_allclose(found, prediction, rtol=0, atol=1e-6 * np.abs(prediction).max())


# ---- refused and damaged ---------------------------------------------------------------------------------------------


def edited(change: Any, **parameters: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(train(**parameters).save_raw("json"))
    change(document["learner"])
    return document


def first_tree(learner: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = learner["gradient_booster"]["model"]["trees"][0]
    return tree


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda m: m["objective"].update(name="reg:other"), ConversionError, "objective is not known.*reg:other"),
        (lambda m: m["gradient_booster"].update(name="gbforest"), ConversionError, "unknown booster"),
        (lambda m: first_tree(m)["left_children"].__setitem__(1, 0), ModelFileError, "meet again"),
        (lambda m: first_tree(m)["left_children"].__setitem__(0, 2), ModelFileError, "meet again"),
        (lambda m: first_tree(m)["right_children"].__setitem__(0, 9999), ModelFileError, "leads nowhere"),
        (lambda m: first_tree(m)["split_indices"].__setitem__(0, 4), ModelFileError, "feature that there is not"),
        (lambda m: first_tree(m)["split_indices"].__setitem__(0, 0.5), ModelFileError, "no list of numbers"),
        (lambda m: first_tree(m)["split_conditions"].pop(), ModelFileError, "different lengths"),
        (lambda m: first_tree(m).pop("default_left"), ModelFileError, "there is no 'default_left'"),
        (lambda m: m["learner_model_param"].update(base_score="[1,2]"), ModelFileError, "base_score"),
        (lambda m: m["learner_model_param"].update(num_feature="99999999999"), ModelFileError, "cannot be"),
        (lambda m: m["learner_model_param"].update(num_class="99999999"), ModelFileError, "cannot be"),
        (lambda m: first_tree(m)["split_conditions"].__setitem__(0, float("nan")), ModelFileError, "split is NaN"),
        (lambda m: first_tree(m)["split_conditions"].__setitem__(-1, float("inf")), ModelFileError, "not finite"),
        (lambda m: first_tree(m)["split_indices"].__setitem__(0, 10**40), ModelFileError, "no list of numbers"),
        (lambda m: first_tree(m)["left_children"].__setitem__(0, -7), ModelFileError, "leads nowhere"),
        (lambda m: m["gradient_booster"]["model"].update(trees=[1]), ModelFileError, "do not fit each other"),
        (lambda m: m["gradient_booster"]["model"]["tree_info"].__setitem__(0, 7), ModelFileError, "that there is not"),
    ],
)
def test_wrong_documents(change: Any, error: type[Exception], words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(edited(change)))
    with pytest.raises(error, match=words):
        read(path)


def test_old_binary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    head = b"binf" + struct.pack("<fIi", 0.5, 4, 0) + bytes(124) + struct.pack("<Q", 10) + b"reg:linear"
    for data in (head, head[4:]):
        path.write_bytes(data)
        with pytest.raises(ConversionError, match=r"binary format.*save_model\('model.json'\)"):
            read(path)


def test_logitraw_before_1_7_is_refused(tmp_path: Path) -> None:
    document = edited(lambda m: None, objective="binary:logitraw", y=SCORE > 0)
    document["version"] = [1, 6, 2]
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConversionError, match=r"changed before XGBoost 1\.7"):
        read(path)


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_damaged_files(form: str, tmp_path: Path) -> None:
    model = train(kinds=["q", "q", "q", "c"], max_cat_to_onehot=1, rounds=2)
    assert_survives(bytes(model.save_raw(form)), tmp_path / "model", "xgboost", count=150)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000, b"{" + b"U\x01a{" * 100_000, b"[$l#L\x7f" + b"\xff" * 7, b"[$Z#L\x7f" + b"\xff" * 7 + b"Z",
        b"[#l\x7f\xff\xff\xff", b"S" + b"L\x7f" + b"\xff" * 7, b"[$d", b"{U\x01a", b"x", b"", b"N" * 1000,
    ],
)  # fmt: skip
def test_hostile_ubjson(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        ubjson.parse(data, "here")


def test_hostile_json(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"learner": {"a": ' + "[" * 100_000)
    with pytest.raises(ModelFileError, match="JSON is damaged"):
        read(path)


# ---- names that people know ------------------------------------------------------------------------------------------


def test_convert_xgboost() -> None:
    types = pytest.importorskip("onnxmltools.convert.common.data_types")
    model = train()
    proto = convert_xgboost(model, "boosted", [("rows", types.FloatTensorType([None, 4]))], "told", target_opset=21)
    assert (proto.graph.name, proto.doc_string, proto.graph.input[0].name) == ("boosted", "told", "rows")
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == 21
    assert_says(ir.from_proto(proto), {"rows": X}, {"variable": model.predict(xgboost.DMatrix(X))[:, None]})
    with pytest.raises(ConversionError, match=r"ai\.onnx\.ml"):
        convert_xgboost(model, target_opset={"": 18, "ai.onnx.ml": 3})
    with pytest.raises(ConversionError, match="of the user's own"):
        convert_xgboost(model, custom_conversion_functions={"a": 1})


def test_reading_needs_no_xgboost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ubj"
    train().save_model(path)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    sessions(read(path).model)
