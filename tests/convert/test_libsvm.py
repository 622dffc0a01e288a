"""LibSVM models, recorded from LibSVM 3.37 (`scripts/record_libsvm.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sardonyx.convert.api import read
from sardonyx.convert.base import Options
from sardonyx.convert.names_trees import convert_libsvm
from sardonyx.errors import ConversionError, ModelFileError
from tests.convert.tree_cases import assert_says, assert_survives, sessions

DATA = Path(__file__).parent / "data/libsvm"
MODELS = sorted(DATA.glob("*.model"))


def recorded(name: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(DATA / "recorded.npz") as stored:
        found = {key.partition("/")[2]: stored[key] for key in stored.files if key.startswith(f"{name}/")}
    found["scores"] = found["scores"].reshape(len(found["x"]), -1)
    found["variable"] = found["label"][:, None]
    return found


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_recorded(path: Path) -> None:
    said = recorded(path.stem)
    converted = read(path)
    width = converted.model.graph.inputs[0].shape
    assert width is not None
    x = said["x"][:, : int(width[1])]  # columns of a precomputed kernel that no support vector picks
    assert x.shape[1] == said["x"].shape[1] or "precomputed" in path.stem
    assert_says(converted.model, {"X": x}, said)
    outputs = {value.name for value in converted.model.graph.outputs}
    if "probabilities" in said:
        assert outputs == {"label", "probabilities"}
    else:
        assert outputs == ({"variable"} if "svr" in path.stem else {"label", "scores"})
    evaluation = converted.oracles[1]()
    assert evaluation is not None
    for name, value in evaluation.run({"X": x}).items():
        if name in said:
            scale = np.abs(said[name]).max()
            np.testing.assert_allclose(value, said[name], rtol=0, atol=1e-9 * scale, err_msg=name)


def test_all_types_and_kernels_are_recorded() -> None:
    names = " ".join(path.read_text().partition("\nSV")[0] for path in MODELS)
    from sardonyx.convert.libsvm import operators

    assert all(word in names for word in operators())


def test_rows_converge_each_for_itself() -> None:
    """The coupling stops early, and rows at different turns: a batch gives what its rows give one by one."""
    path = DATA / "c_svc_five.model"
    x = recorded("c_svc_five")["x"]
    for session in sessions(read(path).model):
        together = session.run(None, {"X": x})[1]
        alone = np.concatenate([session.run(None, {"X": row[None]})[1] for row in x])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-7)


def test_made_inputs_and_evaluation_agree() -> None:
    for name in ("c_svc_five", "nu_svc_rbf", "one_class_density"):
        converted = read(DATA / f"{name}.model")
        assert converted.make_inputs is not None
        inputs = converted.make_inputs(100, np.random.default_rng(0))
        evaluation = converted.oracles[1]()
        assert evaluation is not None
        assert_says(converted.model, inputs, evaluation.run(inputs))


def test_density_at_its_marks(tmp_path: Path) -> None:
    """Between marks, at them, and at the last, where LibSVM says 0: decision values are -rho alone."""
    text = (DATA / "one_class_density.model").read_text()
    head, _, body = text.partition("\nSV\n")
    lines = dict(line.split(" ", 1) for line in head.splitlines())
    marks = [float(word) for word in lines["prob_density_marks"].split()]
    path = tmp_path / "model"
    for value in (marks[0] - 1, marks[0], (marks[4] + marks[5]) / 2, marks[-1], marks[-1] + 1):
        lines["rho"] = repr(-value)
        flat = "\n".join(f"0 {line.partition(' ')[2]}" for line in body.splitlines())
        path.write_text("\n".join(f"{k} {v}" for k, v in lines.items()) + f"\nSV\n{flat}\n")
        passed = sum(value >= mark for mark in marks)
        want = 0.001 if passed == 0 else 0.999 if value > marks[-1] else 0.0 if passed == 10 else passed / 10
        converted = read(path)
        x = np.zeros((1, 5), np.float32)
        said = {"label": np.array([1 if value > 0 else -1]), "probabilities": np.array([[want, 1 - want]])}
        assert_says(converted.model, {"X": x}, said)


def test_more_features_than_support_vectors_have() -> None:
    """They count in the distance of rbf."""
    path = DATA / "nu_svr_rbf.model"
    x = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    converted = read(path, Options(shapes={"X": ("batch", 8)}))
    evaluation = converted.oracles[1]()
    assert evaluation is not None
    said = evaluation.run({"X": x})
    assert_says(converted.model, {"X": x}, said)
    less = read(path).oracles[1]()
    assert less is not None
    assert np.abs(np.asarray(less.run({"X": x[:, :5]})["variable"]) - said["variable"]).max() > 1e-3
    with pytest.raises(ConversionError, match="more features than asked for"):
        read(path, Options(shapes={"X": ("batch", 3)}))


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("c_svc", "d_svc", ConversionError, "unknown type"),
        ("kernel_type rbf", "kernel_type other", ConversionError, "unknown type"),
        ("\nSV\n", "\n", ModelFileError, "no support vectors"),
        ("nr_class 5", "nr_class 4", ModelFileError, "has not 4|does not add up"),
        ("total_sv ", "total_sv 9", ModelFileError, "support vectors|add up"),
        ("label 40", "label x", ModelFileError, "'label' has not 5"),
        ("rho ", "rho 1 ", ModelFileError, "'rho' has not 10"),
        (" 1:", " 0:", ModelFileError, "features 0"),
        (" 5:", " 99999999:", ModelFileError, "99,999,999"),
        (" 1:", " 1;", ModelFileError, "damaged"),
        (" 1:", f" {10**30}:", ModelFileError, "damaged"),
        (" 1:", " 3:", ModelFileError, "do not ascend"),
        ("gamma ", "gamma nan", ModelFileError, "'gamma'"),
    ],
)
def test_wrong_text(old: str, new: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    text = (DATA / "c_svc_five.model").read_text()
    assert old in text
    path = tmp_path / "model"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(error, match=words):
        read(path, kind="libsvm")


def test_marks_and_degrees_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for name, old, new, words in (
        ("one_class_density", "prob_density_marks ", "prob_density_marks 9 ", "has not 10"),
        ("c_svc_poly", "degree ", "degree -", "degree is negative"),
    ):
        text = (DATA / f"{name}.model").read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ModelFileError, match=words):
            read(path)
    head, _, rest = (DATA / "one_class_density.model").read_text().partition("prob_density_marks ")
    line, _, rest = rest.partition("\n")
    path.write_text(f"{head}prob_density_marks {' '.join(reversed(line.split()))}\n{rest}")
    with pytest.raises(ModelFileError, match="do not ascend"):
        read(path)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    """svm-train takes data of one class, and warns; there are no pairs to decide then."""
    path = tmp_path / "model"
    path.write_text("svm_type c_svc\nkernel_type linear\nnr_class 1\ntotal_sv 0\nrho\nlabel 7\nnr_sv 0\nSV\n")
    with pytest.raises(ConversionError, match="a single class"):
        read(path)


@pytest.mark.parametrize("name", ["c_svc_rbf", "nu_svc_linear", "c_svc_five"])
def test_known_wrong_answer_libsvm_labels(name: str) -> None:
    """onnxmltools 1.16 gives places of classes, or other classes, where LibSVM gives labels: they are 40, -3 and so on,
    in the order in which they came in training."""
    said, path = recorded(name), DATA / f"{name}.model"
    labels = [int(word) for word in path.read_text().partition("\nlabel ")[2].partition("\n")[0].split()]
    assert labels != list(range(len(labels)))
    assert set(said["label"].tolist()) == set(labels)
    for session in sessions(read(path).model):
        assert session.run(["label"], {"X": said["x"]})[0].tolist() == said["label"].tolist()


def test_live_models() -> None:
    """An `svm_model` in memory, and LibSVM itself as the oracle."""
    svmutil = pytest.importorskip("libsvm.svmutil")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = np.array([5, -2, 3])[np.digitize(x[:, 0], [-0.5, 0.5])]
    for arguments in (
        "-s 0 -t 2 -b 1 -q",
        "-s 1 -n 0.2 -t 0 -q",
        "-s 2 -t 2 -n 0.3 -q",
        "-s 3 -t 1 -d 2 -q",
        "-s 4 -q",
    ):
        model = svmutil.svm_train(y.astype(float).tolist(), x.tolist(), arguments)
        converted = read(model)
        inputs = {"X": x.astype(np.float32)}
        oracle = converted.oracles[0]()
        assert oracle is not None
        assert oracle.name == "libsvm"
        assert_says(converted.model, inputs, oracle.run(inputs))


def test_damaged_files(tmp_path: Path) -> None:
    assert_survives((DATA / "c_svc_poly.model").read_bytes(), tmp_path / "model", "libsvm", count=200)


def test_convert_libsvm() -> None:
    import onnx_ir as ir

    proto = convert_libsvm(DATA / "c_svc_linear.model", "machine", target_opset=20)
    assert proto.graph.name == "machine"
    said = recorded("c_svc_linear")
    assert_says(ir.from_proto(proto), {"X": said["x"]}, said)
