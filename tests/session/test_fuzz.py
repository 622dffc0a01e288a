"""Damaged models: whatever the bytes, the only exception is a SardonyxError, and soon."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from small_models import CONV, TWO_INPUTS, model

import sardonyx

CONTROL = model(
    """g (float[N] x, int64 trips) => (float[N] y, float[M, N] steps) <bool go = {1}>
    { y, steps = Loop(trips, go, x) <body = b (int64 i, bool c, float[N] s)
        => (bool d, float[N] t, float[N] u)
        { d = Identity(c)  t = Add(s, x)  u = Mul(t, s) }> }"""
)

MODELS = {
    "conv": (CONV, {"image": np.ones((2, 1, 6, 6), np.float32)}),
    "two": (TWO_INPUTS, {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)}),
    "control": (CONTROL, {"x": np.ones(2, np.float32), "trips": np.int64(3)}),
}


def mutated(source: bytes, rng: random.Random) -> bytes:
    data = bytearray(source)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        where = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[where] ^= 1 << rng.randrange(8)
            case 1:
                data[where] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                del data[where : where + rng.randrange(1, 8)]
            case 3:
                data[where:where] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 8)))
            case 4:
                other = rng.randrange(len(data))
                data[where : where + 6] = data[other : other + 6]
        if not data:
            break
    return bytes(data)


def rewired(source: bytes, rng: random.Random) -> bytes:
    """A well-formed file that says something else: other names, operators, types, sizes, attributes."""
    proto = onnx.load_from_string(source)
    graph = proto.graph
    for _ in range(rng.choice([1, 1, 2, 3])):
        node = rng.choice(graph.node) if graph.node else onnx.NodeProto()
        names = [value.name for value in graph.input] + [name for other in graph.node for name in other.output] + [""]
        number = rng.choice([-(2**63), -1, 0, 1, 2, 3, 7, 10**6, 2**31, 2**63 - 1])
        match rng.randrange(10):
            case 0 if node.input and node.op_type != "Loop":  # Without its trip count it may never end.
                node.input[rng.randrange(len(node.input))] = rng.choice(names)
            case 1 if node.output:
                node.output[rng.randrange(len(node.output))] = rng.choice(names)
            case 2:
                node.op_type = rng.choice(["Add", "Conv", "Reshape", "Loop", "Gather", "Pad", "Concat", "Gemm", "LSTM"])
            case 3 if node.attribute:
                attribute = rng.choice(node.attribute)
                attribute.i = number
                attribute.ints.append(number)
            case 4 if node.attribute:
                del node.attribute[rng.randrange(len(node.attribute))]
            case 5 if graph.initializer:
                tensor = rng.choice(graph.initializer)
                tensor.data_type = rng.randrange(30)
            case 6 if graph.initializer:
                tensor = rng.choice(graph.initializer)
                if tensor.int64_data:
                    tensor.int64_data[rng.randrange(len(tensor.int64_data))] = number
                else:
                    tensor.dims.append(rng.choice([0, 1, 2]))
            case 7:
                value = rng.choice([*graph.input, *graph.output])
                value.type.tensor_type.elem_type = rng.randrange(30)
            case 8:
                value = rng.choice([*graph.input, *graph.output])
                if value.type.tensor_type.shape.dim:
                    rng.choice(value.type.tensor_type.shape.dim).dim_value = rng.choice([-1, 0, 1, 2, 1000])
            case 9 if graph.node:
                graph.node.remove(node)
    return proto.SerializeToString()


def check(name: str, damage: Callable[[bytes, random.Random], bytes], seed: int) -> None:
    source, feed = MODELS[name]
    data = damage(source, random.Random(seed))
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            sardonyx.InferenceSession(data, providers=["reference"]).run(None, feed)
        except sardonyx.SardonyxError:
            pass
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {name}, seed {seed}: {error}") from error
    assert time.perf_counter() - start < 10, f"{name}, seed {seed}"


@pytest.mark.parametrize("damage", [mutated, rewired])
@pytest.mark.parametrize("name", list(MODELS))
def test_damaged_models(name, damage):
    for seed in range(60):
        check(name, damage, seed)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [mutated, rewired])
@pytest.mark.parametrize("name", list(MODELS))
def test_damaged_models_at_length(name, damage):
    for seed in range(100, 3000):
        check(name, damage, seed)
