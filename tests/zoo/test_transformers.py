"""Networks for sequences and vision transformers: their published sizes, and answers held to float64."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import sardonyx
from bench.float64 import evaluate
from sardonyx.errors import SardonyxError
from sardonyx.measure.inputs import random_inputs, specs
from sardonyx.model.info import describe
from sardonyx.zoo.architectures import build

pytestmark = pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")  # T5's bucket of 0

LENGTHS = {"batch": 1, "sequence": 128, "past": 800, "targets": 16}
SYMBOLS = {  # the open dims of each, as `build` takes them
    "bert-base": ("batch", "sequence"),
    "minilm": ("batch", "sequence"),
    "gpt2": ("batch", "sequence"),
    "gpt2-cache": ("batch", "sequence", "past"),
    "llama-small": ("batch", "sequence", "past"),
    "t5-small-stack": ("batch", "sequence", "targets"),
    "vit-b16": ("batch",),
    "vit-s16": ("batch",),
    "whisper-base-encoder": ("batch",),
    "bilstm-tagger": ("batch", "sequence"),
}


def products(tokens, layers, width, inner, keys, *, projections=4):
    """Multiply-adds of a stack: dense layers on `tokens`, and scores and values over `keys`."""
    return layers * tokens * (projections * width**2 + 2 * width * inner + 2 * keys * width)


def lstm(inputs, hidden):
    """Products of both directions of a layer on one word."""
    return 2 * 4 * hidden * (inputs + hidden)


PUBLISHED = {  # multiply-adds / 1e9 at LENGTHS, parameters / 1e6
    # Half the GFLOPs of table 4 of "MobileBERT"; transformers counts 109,482,240 parameters.
    "bert-base": (22.5 / 2, 109.48),
    # Six layers and the pooler; the checkpoint has 90.9 MB of float32.
    "minilm": ((products(128, 6, 384, 1536, 128) + 384**2) / 1e9, 22.71),
    # OpenAI says 124 M; the logits take a product with all of the vocabulary.
    "gpt2": ((products(128, 12, 768, 3072, 128) + 128 * 768 * 50257) / 1e9, 124.44),
    "gpt2-cache": ((products(128, 12, 768, 3072, 928) + 128 * 768 * 50257) / 1e9, 124.44),
    # Two of eight heads for keys and values: half of a projection in place of two; the gate is a third dense layer.
    "llama-small": (
        (products(128, 8, 512, 1376, 928, projections=2.5) + 128 * 512 * (8 * 1376 + 32000) + 32 * 128) / 1e9,
        (2 * 32000 * 512 + 8 * (2.5 * 512**2 + 3 * 512 * 1376 + 2 * 512) + 512) / 1e6,
    ),
    # 60.5 M as transformers counts them. The decoder has two attentions; keys and values of the second come from
    # the encoder.
    "t5-small-stack": (
        (
            products(128, 6, 512, 2048, 128)
            + products(16, 6, 512, 2048, 16)
            + 6 * (2 * 16 * 512**2 + 2 * 128 * 512**2 + 2 * 16 * 128 * 512)
            + 16 * 512 * 32128
        )
        / 1e9,
        60.51,
    ),
    "vit-b16": (17.56, 86.57),  # torchvision's documentation of the weights
    "vit-s16": (4.61, 22.05),  # timm's table of results
    # Six of the layers of the paper's table 1; the whole network has 74 M.
    "whisper-base-encoder": (
        (products(1500, 6, 512, 2048, 1500) + 3 * 512 * (3000 * 80 + 1500 * 512)) / 1e9,
        (6 * (4 * 512**2 + 2 * 512 * 2048 + 10 * 512 - 512 + 2048) + 3 * 512 * 592 + 1024 + 1500 * 512 + 1024) / 1e6,
    ),
    "bilstm-tagger": (
        128 * (lstm(100, 256) + lstm(512, 256) + 512 * 45) / 1e9,
        (20000 * 100 + lstm(100, 256) + lstm(512, 256) + 4 * 8 * 256 + 513 * 45) / 1e6,
    ),
}


def parameters(model):
    """As papers count them; what is shared is counted once."""
    counted = [value for value in model.graph.initializers.values() if value.name.endswith((".weight", ".bias"))]
    return sum(math.prod(value.shape) for value in counted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name):
    macs, count = PUBLISHED[name]
    assert parameters(build(name)) / 1e6 == pytest.approx(count, rel=0.0005)
    fixed = build(name, **{symbol: LENGTHS[symbol] for symbol in SYMBOLS[name]})
    info = describe(fixed)
    assert not info.uncounted
    assert info.macs / 1e9 == pytest.approx(macs, rel=0.01)
    open_ = describe(build(name), {symbol: LENGTHS[symbol] for symbol in SYMBOLS[name] if name[:3] != "vit"})
    assert open_.macs == info.macs


def small(name, **dims):
    options = {"layers": 2, "width": 0.25}
    if name.startswith("vit"):
        options |= {"image": 64, "classes": 10, "batch": "batch"}
    elif name != "whisper-base-encoder":
        options |= {"vocabulary": 200}
    return build(name, **(options | dims))


def made_inputs(model, **sizes):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session, random_inputs(specs(session.get_inputs(), sizes, model))


def off(got, want):
    return np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want)


@pytest.mark.parametrize("name", SYMBOLS)
def test_answers_agree_with_float64(name):
    """Of one model at two choices of its open dims."""
    model = small(name)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    ours = sardonyx.InferenceSession(model)
    for sizes in (
        {"batch": 2, "sequence": 7, "past": 5, "targets": 6},
        {"batch": 1, "sequence": 1, "past": 9, "targets": 3},
    ):
        given = {symbol: sizes[symbol] for symbol in SYMBOLS[name]}
        peer, inputs = made_inputs(model, **given)
        want = evaluate(ir.to_proto(model), inputs)
        for runtime in (ours, peer):
            for declared, got, exact in zip(model.graph.outputs, runtime.run(None, inputs), want, strict=True):
                assert got.dtype == np.float32
                assert got.shape == exact.shape
                assert off(got, exact) < 1e-5, declared.name
                sums = {**given, "past + sequence": given.get("past", 0) + given.get("sequence", 0)}
                dims = [dim if isinstance(dim, int) else sums[str(dim)] for dim in declared.shape]
                assert list(got.shape) == dims


@pytest.mark.parametrize("name", SYMBOLS)
def test_fixed_dims_say_the_same(name):
    """A network exported for fixed lengths has fewer nodes and the same answers."""
    sizes = {symbol: {"batch": 2, "sequence": 6, "past": 4, "targets": 5}[symbol] for symbol in SYMBOLS[name]}
    open_, fixed = small(name), small(name, **sizes)
    assert not any(isinstance(dim, ir.SymbolicDim) for value in fixed.graph.inputs for dim in value.shape)
    assert len(fixed.graph) < len(open_.graph) or name == "bilstm-tagger"
    session, inputs = made_inputs(open_, **sizes)
    again, _ = made_inputs(fixed)
    # Weights go by the names PyTorch gives them, so they are the same in both.
    for one, other in zip(session.run(None, inputs), again.run(None, inputs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SYMBOLS if name != "bilstm-tagger"])
def test_activations_are_in_a_normal_range(name):
    """Every result behind a dense layer; and no attention that sees only one key, or all of them alike."""
    model = small(name, layers=6)
    proto = ir.to_proto(model)
    dense = [node.output[0] for node in proto.graph.node if node.op_type in ("MatMul", "Gemm")]
    shares = [node.output[0] for node in proto.graph.node if node.op_type == "Softmax"]
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=value) for value in (*dense, *shares) if value not in known)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    sizes = {symbol: {"batch": 2, "sequence": 24, "past": 8, "targets": 20}[symbol] for symbol in SYMBOLS[name]}
    _, inputs = made_inputs(model, **sizes)
    results = dict(zip([*dense, *shares], session.run([*dense, *shares], inputs), strict=True))
    for value in dense:
        assert 0.05 < results[value].std() < 50, value
    for value in shares:
        assert 0.05 < results[value].max(-1).mean() < 0.9 or results[value].shape[-1] > 1000, value


def test_a_cache_continues_where_it_ended():
    """Three tokens at once, or two and then one with what is left of them."""
    ids = np.array([[3, 14, 15]])
    whole, parts = (sardonyx.InferenceSession(small(name)) for name in ("gpt2", "gpt2-cache"))
    (want,) = whole.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    names = [value.name for value in parts.get_inputs() if value.name.startswith("past")]
    state = {name: np.zeros((1, 3, 0, 64), np.float32) for name in names}
    for start, stop in ((0, 2), (2, 3)):
        feed = {
            "input_ids": ids[:, start:stop],
            "attention_mask": np.ones((1, stop), np.int64),
            "position_ids": np.arange(start, stop)[None],
        }
        logits, *presents = parts.run(None, feed | state)
        state = dict(zip(names, presents, strict=True))
    np.testing.assert_allclose(logits[:, -1], want[:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["bert-base", "gpt2", "t5-small-stack"])
def test_what_is_masked_is_not_seen(name):
    model = small(name)
    session, inputs = made_inputs(model, **{symbol: LENGTHS[symbol] for symbol in SYMBOLS[name]} | {"sequence": 9})
    inputs["attention_mask"][:, 6:] = 0
    inputs["input_ids"][:, 6:] = 7
    (one, *_), ours = session.run(None, inputs), sardonyx.InferenceSession(model).run(None, inputs)[0]
    inputs["input_ids"][:, 6:] = 8
    other, *_ = session.run(None, inputs)
    seen = slice(None) if name.startswith("t5") else slice(6)
    np.testing.assert_allclose(one[:, seen], other[:, seen], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours[:, seen], one[:, seen], rtol=1e-4, atol=1e-4)


WRONG = [
    ("bert-base", {"past": 3}, "bert-base has no past"),
    ("bert-base", {"sequence": 513}, "sequence is too long for bert-base; expected at most 512, got 513"),
    ("gpt2-cache", {"sequence": 2, "past": 1023}, r"past \+ sequence is too long for gpt2-cache"),
    ("gpt2", {"layers": 0}, "layers is too small; expected at least 1, got 0"),
    ("vit-b16", {"image": 100}, "an image of 100 pixels is not made of patches; expected a multiple of 16"),
    ("vit-b16", {"sequence": 4}, "vit-b16 has no sequence"),
    ("resnet18", {"vocabulary": 4}, "resnet18 has no vocabulary"),
    ("whisper-base-encoder", {"sequence": 4}, "whisper-base-encoder has no sequence"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_options_a_network_cannot_have(name, options, message):
    with pytest.raises(SardonyxError, match=message):
        build(name, **options)
