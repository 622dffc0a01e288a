"""`sardonyx.convert` for every format: the report, what is left of a wrong result, changes asked for, the command."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from typer.testing import CliRunner

import sardonyx
from sardonyx.cli.main import app
from sardonyx.convert import formats
from sardonyx.convert.base import Converted, Options, Sample
from sardonyx.convert.finish import Preprocessing
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.parity import SIZES
from sardonyx.errors import ConfigError, ConversionError, MissingExtraError, ModelFileError, ParityError, SardonyxError

WEIGHT = np.float32([[1, -2], [0.5, 3], [2, 1]])


@dataclass
class Toy:
    """A format of its own: files of one line. A channels-last picture times a matrix, then Relu, then a mean."""

    wrong: float = 0.0
    oracle: bool = True
    layers: bool = True
    name: str = "toy evaluation"
    dims: tuple = ("batch", 4, 5, 3)

    def recognises(self, source):
        return source.head.startswith(b"TOY") or "test_door" in source.frameworks

    def operators(self):
        return ["matmul", "relu"]

    def read(self, source, options):
        g = GraphBuilder("toy")
        x = g.input("picture", ir.DataType.FLOAT, self.dims)
        product = g.node("MatMul", [x, g.initializer("weight", WEIGHT)], name="product")
        relu = g.node("Relu", [product], name="relu")
        relu = (
            g.node("Add", [relu, g.initializer("wrong", np.float32(self.wrong))], name="after") if self.wrong else relu
        )
        model = g.model([("map", relu)])
        return Converted(
            model, "Toy 1", oracles=[lambda: self if self.oracle else None],
            layers={"product": "layer one", "map": "layer two"} if self.layers else {},
            metadata={"classes": "cat,dog"}, notes=["a toy"], channels_last=frozenset({"picture", "map"}),
        )  # fmt: skip

    def run(self, inputs):
        product = inputs["picture"].astype(np.float64) @ WEIGHT
        return {"map": np.maximum(product, 0), "layer one": product, "layer two": np.maximum(product, 0)}


@pytest.fixture
def toy(monkeypatch):
    made = Toy()
    entry = formats.Format("toy", "toys", "toy_reader")
    monkeypatch.setattr(formats, "FORMATS", (entry,))
    import sys

    monkeypatch.setitem(sys.modules, "toy_reader", made)
    return made


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "net.toy"
    path.write_bytes(b"TOY 1\n")
    return path


def run(model, **inputs):
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, inputs)[0]


def picture(batch=2):
    return np.random.default_rng(1).standard_normal((batch, 4, 5, 3)).astype(np.float32)


def test_a_right_result_is_written_with_its_report(toy, source, tmp_path):
    out = tmp_path / "net.onnx"
    done = sardonyx.convert(source, out)
    report = json.loads((tmp_path / "net.parity.json").read_text())
    assert done.report.verdict == report["verdict"] == "verified"
    assert report["oracle"] == "toy evaluation"
    assert {one["sample"] for one in report["comparisons"]} >= {"made up, batch 1, seed 0", "made up, batch 3, seed 1"}
    assert all(one["relative"] < 1e-6 and one["tolerance"] == 1e-5 for one in report["comparisons"])
    stored = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert stored["classes"] == "cat,dog"
    assert stored["sardonyx.source_sha256"] == report["source_sha256"]
    assert len(stored["sardonyx.source_sha256"]) == 64
    assert json.loads(stored["sardonyx.parity"])["verdict"] == "verified"
    np.testing.assert_allclose(run(done.model, picture=picture()), np.maximum(picture() @ WEIGHT, 0), rtol=1e-5)


def test_a_wrong_result_leaves_no_file_and_names_the_layer(toy, source, tmp_path):
    toy.wrong = 0.5
    out = tmp_path / "net.onnx"
    out.write_bytes(b"an older one")
    with pytest.raises(ParityError, match="first at layer 'layer two'") as caught:
        sardonyx.convert(source, out)
    assert not out.exists()
    assert isinstance(caught.value, ConversionError)
    report = json.loads((tmp_path / "net.parity.json").read_text())
    assert (report["verdict"], report["diverging"]) == ("different", "layer two")


def test_differences_within_a_tolerance_that_is_given_are_rounding(toy, source):
    toy.wrong = 1e-4
    with pytest.raises(ParityError):
        sardonyx.convert(source)
    assert sardonyx.convert(source, tolerance=1e-3).report.verdict == "verified"


def test_without_an_oracle_it_is_unverified_and_says_so(toy, source):
    toy.oracle = False
    assert sardonyx.convert(source).report.verdict == "unverified"
    toy.oracle, toy.run = True, lambda inputs: 1 / 0
    report = sardonyx.convert(source).report
    assert report.verdict == "unverified"
    assert any("division by zero" in note for note in report.notes)


def test_a_missing_framework_is_a_note_and_the_next_oracle_is_asked(toy, source, monkeypatch):
    plain = toy.read

    def missing():
        raise MissingExtraError.of("toyflow", "toys", "the comparison")

    monkeypatch.setattr(toy, "read", lambda *a: replace(plain(*a), oracles=[missing, lambda: toy]))
    report = sardonyx.convert(source).report
    assert (report.verdict, report.oracle) == ("verified", "toy evaluation")
    assert "sardonyx[toys]" in report.notes[0]


def test_outputs_of_another_shape_are_different(toy, source, monkeypatch):
    monkeypatch.setattr(toy, "run", lambda inputs: {"map": np.zeros((1, 2))})
    with pytest.raises(ParityError):
        sardonyx.convert(source)


def test_nothing_compared_is_not_verified(toy, source, monkeypatch):
    monkeypatch.setattr(toy, "run", lambda inputs: {"something": np.zeros((1, 2))})
    with pytest.raises(ParityError):
        sardonyx.convert(source)


def test_recorded_values_beside_the_source_are_compared(toy, source, tmp_path):
    toy.oracle = False
    x = picture()
    np.savez(tmp_path / "net.samples.npz", **{"inputs/picture": x, "outputs/map": np.maximum(x @ WEIGHT, 0)})
    report = sardonyx.convert(source).report
    assert (report.verdict, report.oracle) == ("verified", "recorded outputs")
    np.savez(tmp_path / "net.samples.npz", **{"inputs/picture": x, "outputs/map": x[..., :2]})
    with pytest.raises(ParityError, match=r"net\.samples\.npz"):
        sardonyx.convert(source)


def test_given_inputs_are_compared(toy, source, tmp_path):
    np.savez(tmp_path / "mine.npz", picture=picture(5))
    report = sardonyx.convert(source, data=[tmp_path / "mine.npz", {"picture": picture(7)}]).report
    assert {(one.sample, one.shape[0]) for one in report.comparisons} >= {("mine.npz", 5), ("given", 7)}


def test_open_dims_are_tried_in_two_sizes(toy, source, monkeypatch):
    toy.dims = ("batch", "h", "w", 3)
    refused, plain = SIZES[0], toy.run

    def picky(inputs):
        if inputs["picture"].shape[1] == refused:
            raise ValueError("too small")
        return plain(inputs)

    monkeypatch.setattr(toy, "run", picky)
    shapes = {one.shape[1] for one in sardonyx.convert(source).report.comparisons}
    assert shapes == {SIZES[1], SIZES[2]}


def test_made_up_inputs_of_the_reader_are_taken(toy, source, monkeypatch):
    plain = toy.read
    make = lambda batch, rng: {"picture": rng.uniform(5, 6, (batch, 4, 5, 3)).astype(np.float32)}  # noqa: E731
    monkeypatch.setattr(toy, "read", lambda *a: replace(plain(*a), make_inputs=make))
    seen = []
    inner = toy.run
    monkeypatch.setattr(toy, "run", lambda inputs: seen.append(inputs["picture"].min()) or inner(inputs))
    sardonyx.convert(source)
    assert min(seen) >= 5


def test_samples_of_the_reader_are_compared(toy, source, monkeypatch):
    plain = toy.read
    sample = Sample({"picture": picture()}, {"map": np.maximum(picture() @ WEIGHT, 0)}, "of the model")
    monkeypatch.setattr(toy, "read", lambda *a: replace(plain(*a), samples=[sample], oracles=[]))
    assert [one.sample for one in sardonyx.convert(source).report.comparisons] == ["of the model"]


def test_pictures_as_nchw(toy, source):
    done = sardonyx.convert(source, inputs_as_nchw=True, outputs_as_nchw=["map"])
    assert done.report.verdict == "verified"
    shape = done.model.graph.inputs[0].shape
    assert list(shape)[1:] == [3, 4, 5]
    moved = np.ascontiguousarray(picture().transpose(0, 3, 1, 2))
    want = np.maximum(picture() @ WEIGHT, 0).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(done.model, picture=moved), want, rtol=1e-5)
    with pytest.raises(ConversionError, match="'nothing'"):
        sardonyx.convert(source, inputs_as_nchw=["nothing"])


@pytest.mark.parametrize("nchw", [False, True])
def test_preprocessing_in_the_graph(toy, source, nchw):
    how = Preprocessing(mean=(10, 20, 30), scale=(0.5,), swap=True, bytes_=True)
    done = sardonyx.convert(source, preprocessing=how, inputs_as_nchw=nchw)
    assert done.report.verdict == "verified"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    want = np.maximum(((pixels[..., ::-1] - np.float64([10, 20, 30])) * 0.5) @ WEIGHT, 0)
    fed = pixels.transpose(0, 3, 1, 2) if nchw else pixels
    np.testing.assert_allclose(run(done.model, picture=np.ascontiguousarray(fed)), want, rtol=1e-5)
    with pytest.raises(ConversionError, match="2 numbers for 3 channels"):
        sardonyx.convert(source, preprocessing=Preprocessing(mean=(1, 2)))


def test_a_preprocessing_that_is_wrong_would_be_found(toy, source, monkeypatch):
    from sardonyx.convert import finish

    right = finish._Front.preprocess

    def forgetful(self, how):
        right(self, how)
        self._nodes.pop()

    monkeypatch.setattr(finish._Front, "preprocess", forgetful)
    with pytest.raises(ParityError):
        sardonyx.convert(source, preprocessing=Preprocessing(scale=(0.5,)))


def test_names_shapes_and_opset(toy, source):
    done = sardonyx.convert(
        source, rename_inputs=["x"], rename_outputs=["y"], shapes={"picture": (1, 4, 5, 3)}, opset=13
    )
    assert done.report.verdict == "verified"
    assert [value.name for value in done.model.graph.inputs] == ["x"]
    assert [value.name for value in done.model.graph.outputs] == ["y"]
    assert list(done.model.graph.inputs[0].shape) == [1, 4, 5, 3]
    assert done.model.graph.opset_imports[""] == 13
    assert done.model.ir_version <= 8
    for wrong in ({"picture": (1, 4, 6, 3)}, {"picture": (1,)}, {"none": (1,)}):
        with pytest.raises(ConversionError):
            sardonyx.convert(source, shapes=wrong)
    with pytest.raises(ConversionError):
        sardonyx.convert(source, rename_inputs=["a", "b"])


def test_a_live_object_is_recognised_by_its_class(toy):
    assert sardonyx.convert(toy).report.verdict == "verified"
    with pytest.raises(ConversionError, match="object of numpy"):
        sardonyx.convert(np.zeros(3))


def test_unknown_sources_say_what_is_known(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        sardonyx.convert(tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ConversionError, match="empty"):
        sardonyx.convert(empty)
    other = tmp_path / "other"
    other.write_bytes(b"\x01\x02something")
    with pytest.raises(ConversionError, match="keras"):
        sardonyx.convert(other)
    with pytest.raises(ConversionError, match="no such format"):
        sardonyx.convert(other, kind="pytorch9")


def command(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_the_command_tells_the_verdict(toy, source, tmp_path):
    out = tmp_path / "net.onnx"
    result = command(source, "-o", out)
    assert result.exit_code == 0
    assert "verified" in result.output
    assert "toy evaluation" in result.output
    facts = json.loads(command(source, "-o", out, "--json").stdout)
    assert facts["parity"]["verdict"] == "verified"


def test_unverified_is_exit_3_under_strict(toy, source, tmp_path):
    toy.oracle = False
    out = tmp_path / "net.onnx"
    plain, strict = command(source, "-o", out), command(source, "-o", out, "--strict")
    assert (plain.exit_code, strict.exit_code) == (0, 3)
    assert "UNVERIFIED" in plain.output
    assert command(source, "-o", out, "--strict", "--no-verify").exit_code == 3
    assert not (tmp_path / "net.parity.json").exists()


def test_a_difference_is_exit_1_with_the_table(toy, source, tmp_path):
    toy.wrong = 1.0
    result = command(source, "-o", tmp_path / "net.onnx")
    assert result.exit_code == 1
    assert "DIFFERENT" in result.output
    assert "layer two" in result.output
    assert not (tmp_path / "net.onnx").exists()


def test_options_of_the_command_reach_the_graph(toy, source, tmp_path):
    out = tmp_path / "net.onnx"
    result = command(
        source, "-o", out, "--from", "toy", "--mean", "1,2,3", "--scale", "2", "--swap-channels", "--bytes",
        "--inputs-as-nchw", "--rename-inputs", "x", "--shape", "picture=n,4,5,3", "--opset", "17",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    model = onnx.load(out)
    (given,) = model.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
    assert (given.name, given.type.tensor_type.elem_type, dims) == ("x", onnx.TensorProto.UINT8, ["n", 3, 4, 5])
    assert model.opset_import[0].version == 17
    for wrong in (["--shape", "x"], ["--mean", "a"]):
        assert command(source, "-o", out, *wrong).exit_code == 1


def test_formats_and_operators_are_listed(toy):
    assert "toys" in command("--formats").output
    assert json.loads(command("--formats", "--json").stdout) == {"toy": "toys"}
    assert command("--list-ops", "toy").output.split() == ["matmul", "relu"]
    assert command().exit_code == 2


def test_samples_that_are_no_arrays(toy, source, tmp_path):
    bad = tmp_path / "bad.npz"
    for content in (b"", b"PK\x03\x04 nothing", b"\x93NUMPY"):
        bad.write_bytes(content)
        with pytest.raises(SardonyxError, match="NumPy arrays"):
            sardonyx.convert(source, data=[bad])
    np.savez(bad, picture=np.array([{}], object))
    with pytest.raises(SardonyxError, match="NumPy arrays"):
        sardonyx.convert(source, data=[bad])


def test_options_are_told_to_the_reader(toy, source, monkeypatch):
    plain, seen = toy.read, []
    monkeypatch.setattr(toy, "read", lambda source, options: seen.append(options) or plain(source, options))
    sardonyx.convert(source, options=Options(tag="serve"), example=(1, 2))
    assert (seen[0].tag, seen[0].example) == ("serve", (1, 2))
    assert ConfigError.code == "config"


@pytest.mark.parametrize(("side", "batches"), [(5, [1, 3, 64]), (500, [1, 3])])
def test_made_up_pictures_are_few(toy, source, monkeypatch, side, batches):
    """Rows are tried 64 at a time; as many pictures would take gigabytes of the evaluation."""
    plain = toy.read
    toy.dims = ("batch", side, side, 3)

    def make(count, random):
        return {"picture": random.standard_normal((count, side, side, 3)).astype(np.float32)}

    monkeypatch.setattr(toy, "read", lambda *a: replace(plain(*a), make_inputs=make))
    done = sardonyx.convert(source)
    assert [one.sample for one in done.report.comparisons] == [f"made up, batch {size}" for size in batches]
