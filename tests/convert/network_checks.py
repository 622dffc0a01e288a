"""What every converted network must pass: onnx's full check, onnxruntime, and Sardonyx with all nodes on `cpu`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import sardonyx
from sardonyx.convert.base import Converted, Values
from sardonyx.errors import SardonyxError

Array = np.ndarray[Any, Any]


def computed(
    model: ir.Model, inputs: Mapping[str, Array], *, elsewhere: frozenset[str] = frozenset()
) -> dict[str, Array]:
    """The outputs by onnxruntime, which Sardonyx's must equal. `elsewhere` are operators that need not run on cpu."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    data = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    given = {value.name: inputs[value.name] for value in proto.graph.input}
    expected = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, given)
    session = sardonyx.InferenceSession(data)
    assert not {place.op for place in session.explain() if place.provider != "cpu"} - elsewhere
    names = [value.name for value in proto.graph.output]
    close(dict(zip(names, session.run(None, given), strict=True)), dict(zip(names, expected, strict=True)))
    return dict(zip(names, expected, strict=True))


def close(actual: Values, expected: Values, tolerance: float = 1e-5) -> None:
    """Of the same shapes, and within `tolerance` of each output's largest element."""
    for name, want in expected.items():
        got = actual[name]
        assert got.shape == want.shape, (name, got.shape, want.shape)
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(float(np.abs(want).max(initial=0)), 1e-30))


def agrees(converted: Converted, inputs: Mapping[str, Array], **options: Any) -> dict[str, Array]:
    """The outputs; they must be those of the evaluation of the source, the last oracle."""
    outputs = computed(converted.model, inputs, **options)
    evaluation = converted.oracles[-1]()
    assert evaluation is not None
    values = evaluation.run(inputs)
    close(outputs, {name: values[name] for name in outputs})
    return outputs


def mutations(data: bytes, count: int, seed: int) -> list[bytes]:
    """Cut and corrupted versions of a file."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        changed = bytearray(data)
        if rng.random() < 0.3:
            del changed[rng.randrange(len(changed)) :]
        for _ in range(rng.choice((0, 1, 1, 3, 20))):
            if changed:
                changed[rng.randrange(len(changed))] = rng.choice((0, 255, 128, rng.randrange(256)))
        made.append(bytes(changed))
    return made


def survives(
    path: Path, data: bytes, count: int, read: Callable[[], Any], *, seed: int = 0, limit: float = 5.0
) -> None:
    """Whatever a damaged file holds, reading it ends in a model or in one of our errors, in time."""
    refused = 0
    for changed in mutations(data, count, seed):
        path.write_bytes(changed)
        start = time.monotonic()
        try:
            read()
        except SardonyxError:
            refused += 1
        assert time.monotonic() - start < limit
    assert refused > count // 10


def refusal(read: Callable[[], Any], kind: type[SardonyxError] = SardonyxError) -> str:
    """The message of the error that reading ends in."""
    with pytest.raises(kind) as caught:
        read()
    return str(caught.value)
