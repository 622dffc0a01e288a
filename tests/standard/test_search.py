"""GreedySearch and BeamSearch around a small decoder, against onnxruntime's."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx

WORDS, HEADS, SIZE = 12, 2, 8
WIDTH = HEADS * SIZE
_RANDOM = np.random.default_rng(5)


def _decoder(sharpness: float) -> onnx.GraphProto:
    """Embeddings, attention with a cache, and a product with the words: a GPT of one layer."""
    i32, f32 = TensorProto.INT32, TensorProto.FLOAT
    weights = {
        "words": _RANDOM.standard_normal((WORDS, WIDTH)),
        "places": _RANDOM.standard_normal((40, WIDTH)),
        "w": _RANDOM.standard_normal((WIDTH, 3 * WIDTH)) * 0.4,
        "b": np.zeros(3 * WIDTH),
        "out": _RANDOM.standard_normal((WIDTH, WORDS)) * sharpness,
    }
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["e"]),
        helper.make_node("Gather", ["places", "position_ids"], ["p"]),
        helper.make_node("Add", ["e", "p"], ["x"]),
        helper.make_node(
            "Attention",
            ["x", "w", "b", "attention_mask", "past_0"],
            ["a", "present_0"],
            domain="com.microsoft",
            num_heads=HEADS,
            unidirectional=1,
        ),
        helper.make_node("Add", ["a", "x"], ["h"]),
        helper.make_node("MatMul", ["h", "out"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info("input_ids", i32, ["B", "S"]),
        helper.make_tensor_value_info("position_ids", i32, ["B", "S"]),
        helper.make_tensor_value_info("attention_mask", i32, ["B", "T"]),
        helper.make_tensor_value_info("past_0", f32, [2, "B", HEADS, "P", SIZE]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", f32, ["B", "S", WORDS]),
        helper.make_tensor_value_info("present_0", f32, [2, "B", HEADS, "T", SIZE]),
    ]
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    return helper.make_graph(nodes, "decoder", inputs, outputs, initializers)


def _model(op: str, numbers: dict[str, Any], inputs: str, sharpness: float = 1.0, **attributes: Any) -> bytes:
    names = [name.strip("_") for name in inputs.split()]
    results = ["sequences"] if op == "GreedySearch" else ["sequences", "totals"]
    kinds = [TensorProto.INT32, TensorProto.FLOAT]
    node = helper.make_node(
        op,
        names,
        results,
        domain="com.microsoft",
        decoder=_decoder(sharpness),
        model_type=0,
        eos_token_id=1,
        pad_token_id=0,
        **attributes,
    )
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    ranks = (2,) if op == "GreedySearch" else (3, 2)
    made = [
        helper.make_tensor_value_info(name, kind, [f"{name}{at}" for at in range(rank)])
        for name, kind, rank in zip(results, kinds, ranks, strict=False)
    ]
    given = [helper.make_tensor_value_info("ids", TensorProto.INT32, ["B", "S"])]
    graph = helper.make_graph([node], "search", given, made, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def _compare(model: bytes) -> None:
    session = sardonyx.InferenceSession(model)
    assert {one.provider for one in session.explain()} == {"cpu"}
    for ids in ([[3, 4, 5], [0, 6, 2]], [[7]], [[2, 3], [4, 5], [6, 7]]):
        feeds = {"ids": np.array(ids, np.int32)}
        want = onnxruntime.InferenceSession(model).run(None, feeds)
        got = session.run(None, feeds)
        # What comes when all rows have ended is not written by onnxruntime's GreedySearch.
        length = 1 + np.flatnonzero((got[0] != 0).reshape(-1, got[0].shape[-1]).any(axis=0)).max()
        np.testing.assert_array_equal(got[0][..., :length], want[0][..., :length])
        assert got[0].dtype == want[0].dtype
        for mine, theirs in zip(got[1:], want[1:], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4)


NUMBERS = {"length": np.array([12], np.int32), "least": np.array([6], np.int32), "penalty": np.array([1.3], np.float32)}


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [("ids length", {}), ("ids length least penalty", {}), ("ids length", {"no_repeat_ngram_size": 2})],
)
@pytest.mark.parametrize("sharpness", [0.1, 1.0])
def test_greedy(inputs: str, attributes: dict[str, Any], sharpness: float) -> None:
    _compare(_model("GreedySearch", NUMBERS, inputs, sharpness, **attributes))


BEAMS = {"beams": np.array([3], np.int32), "results": np.array([2], np.int32), "power": np.array([0.8], np.float32)}


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ("ids length least beams results power", {}),
        ("ids length least beams results power penalty", {}),
        ("ids length least beams results power", {"early_stopping": 1, "no_repeat_ngram_size": 2}),
    ],
)
@pytest.mark.parametrize("sharpness", [0.1, 1.0])
def test_beams(inputs: str, attributes: dict[str, Any], sharpness: float) -> None:
    _compare(_model("BeamSearch", NUMBERS | BEAMS, inputs, sharpness, **attributes))
