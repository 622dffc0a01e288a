"""Whole networks with random weights: every node native, the result that of onnxruntime."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import sardonyx
from sardonyx.zoo import architectures


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("resnet18", 64),
        ("resnet50", 64),
        ("mobilenetv2", 96),
        ("efficientnet-b0", 96),
        ("efficientnet-lite0", 64),
        ("vgg16", 32),
        ("squeezenet1.1", 64),
        ("ferplus", 64),
    ],
)
def test_network(name: str, image: int) -> None:
    blob = ir.to_proto(architectures.build(name, image=image, batch=2, classes=100)).SerializeToString()
    session = sardonyx.InferenceSession(blob)
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    peer = onnxruntime.InferenceSession(blob)
    (info,) = peer.get_inputs()
    x = np.random.default_rng(0).standard_normal(info.shape).astype(np.float32)
    (got,), (want,) = session.run(None, {info.name: x}), peer.run(None, {info.name: x})
    assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want)


def test_symbolic_batch() -> None:
    blob = ir.to_proto(architectures.build("mobilenetv2", image=64, batch="n", classes=10)).SerializeToString()
    session, peer = sardonyx.InferenceSession(blob), onnxruntime.InferenceSession(blob)
    name = session.get_inputs()[0].name
    for batch in (1, 3, 2, 1):
        x = np.random.default_rng(batch).standard_normal((batch, 3, 64, 64)).astype(np.float32)
        (got,), (want,) = session.run(None, {name: x}), peer.run(None, {name: x})
        assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want)
