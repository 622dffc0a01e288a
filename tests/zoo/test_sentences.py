"""The sentence encoder: its graph with made-up weights; and, from the network, what it says of sentences."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import sardonyx
from bench.float64 import evaluate
from sardonyx.errors import InvalidInputError, MissingExtraError, ModelFileError
from sardonyx.zoo import sentences
from sardonyx.zoo.architectures import bert
from sardonyx.zoo.architectures.asked import Sizes

RANDOM = np.random.default_rng(0)
TINY = Sizes(layers=1, heads=2, head=4, inner=16, vocabulary=30, positions=20)


def stored(path, leave_out=(), **others):
    """A checkpoint of TINY's sizes as PyTorch has it: weights of dense layers are [outputs, inputs]."""
    width, norm = TINY.width, (("weight", (TINY.width,)), ("bias", (TINY.width,)))
    shapes = {f"embeddings.LayerNorm.{key}": shape for key, shape in norm}
    rows = {"word": TINY.vocabulary, "token_type": 2, "position": TINY.positions}
    shapes |= {f"embeddings.{name}_embeddings.weight": (count, width) for name, count in rows.items()}
    layer = "encoder.layer.0"
    dense = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
    dense |= {"attention.output.dense": (width, width), "intermediate.dense": (TINY.inner, width)}
    dense |= {"output.dense": (width, TINY.inner)}
    for name, shape in dense.items():
        shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    for name in ("attention.output", "output"):
        shapes |= {f"{layer}.{name}.LayerNorm.{key}": shape for key, shape in norm}
    arrays = {name: RANDOM.standard_normal(shape, np.float32) for name, shape in shapes.items()} | others
    header, data = {}, b""
    for name in arrays.keys() - set(leave_out):
        array = arrays[name]
        place = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": f"F{8 * array.itemsize}", "shape": list(array.shape), "data_offsets": place}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return arrays


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setitem(bert.SIZES, "minilm", TINY)
    return tmp_path / "tiny.safetensors"


def test_the_graph_pools_what_is_not_masked(checkpoint):
    arrays = stored(checkpoint)
    model = sentences.build(checkpoint)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    weights = model.graph.initializers
    np.testing.assert_array_equal(
        weights["encoder.layer.0.output.dense.weight"].const_value.numpy(),
        arrays["encoder.layer.0.output.dense.weight"].T,
    )
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    inputs = {"input_ids": RANDOM.integers(0, 30, (2, 4)), "attention_mask": mask, "token_type_ids": 0 * mask}
    tokens, vectors = sardonyx.InferenceSession(model).run(None, inputs)
    mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    np.testing.assert_allclose(vectors, mean / np.linalg.norm(mean, axis=1, keepdims=True), rtol=1e-5, atol=1e-6)
    inputs["input_ids"][0, 3] += 1 if inputs["input_ids"][0, 3] < 29 else -1
    np.testing.assert_allclose(sardonyx.InferenceSession(model).run(None, inputs)[1][0], vectors[0], atol=1e-6)


NAME = "encoder.layer.0.intermediate.dense.weight"


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"leave_out": [NAME]}, "none"),
        ({NAME: np.zeros((8, 16), np.float32)}, r"float32 \[8, 16\]"),
        ({NAME: np.zeros((16, 8), np.float64)}, r"float64 \[16, 8\]"),
    ],
)
def test_a_checkpoint_of_another_network(checkpoint, change, got):
    stored(checkpoint, **change)
    with pytest.raises(ModelFileError, match=rf"{NAME}'.* expected float32 \[16, 8\], got {got}"):
        sentences.build(checkpoint)


def test_without_the_tokenizer_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"sardonyx\[text\]"):
        sentences.tokenizer()


# The trained network --------------------------------------------------------------------------------------------

RELATED = [
    ("How do I reset my password?", "I forgot my login and cannot get in."),
    ("The cat is asleep on the sofa.", "A kitten naps on the couch."),
    ("Shares fell after the company reported a loss.", "The stock market dropped on weak earnings."),
    ("A man is playing a guitar.", "Someone strums a musical instrument."),
]


@pytest.fixture(scope="module")
def trained():
    """The model, and its inputs for all sentences of RELATED."""
    return sentences.model(), sentences.tokens([one for pair in RELATED for one in pair], sentences.tokenizer())


@pytest.mark.network
def test_embeddings_agree_with_float64(trained):
    model, inputs = trained
    proto = ir.to_proto(model)
    peer = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = evaluate(proto, inputs)
    for got in (sardonyx.InferenceSession(model).run(None, inputs), peer.run(None, inputs)):
        for one, exact in zip(got, want, strict=True):
            assert np.linalg.norm(one - exact) < 1e-5 * np.linalg.norm(exact)


@pytest.mark.network
def test_paraphrases_rank_above_the_rest(trained):
    model, inputs = trained
    _, vectors = sardonyx.InferenceSession(model).run(None, inputs)
    assert vectors.shape == (2 * len(RELATED), sentences.WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    likeness = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert likeness.argmax(1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


@pytest.mark.network
def test_sentences_alone_and_among_longer_ones_mean_the_same(trained):
    model, inputs = trained
    tokenizer = sentences.tokenizer()
    session = sardonyx.InferenceSession(model)
    alone = sentences.tokens([RELATED[0][0]], tokenizer)
    assert alone["input_ids"].shape[1] < inputs["input_ids"].shape[1]
    (one,), (other, *_) = session.run(None, alone)[1], session.run(None, inputs)[1]
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert sentences.tokens(["word " * 5000], tokenizer)["input_ids"].shape == (1, sentences.LONGEST)
    assert sentences.tokens([""], tokenizer)["input_ids"].shape == (1, 2)
    with pytest.raises(InvalidInputError, match="at least one sentence"):
        sentences.tokens([], tokenizer)


def test_the_extra_is_in_the_tests_environment():
    assert find_spec("tokenizers"), "pip install -e '.[test]' brings it"
