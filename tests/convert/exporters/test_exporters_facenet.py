"""facenet-pytorch 2.6.0: MTCNN's three networks with their weights, and InceptionResnetV1 with seeded ones."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch`")
pytest.importorskip("onnxscript", reason="the extra `torch`")

from exporter_cases import agrees  # noqa: E402

import sardonyx  # noqa: E402
from sardonyx.convert.base import Options, Source  # noqa: E402
from sardonyx.convert.exporters import pytorch  # noqa: E402
from sardonyx.convert.exporters.torch_weights import read_weights  # noqa: E402
from sardonyx.zoo.entries import Entry  # noqa: E402
from sardonyx.zoo.fetch import fetch  # noqa: E402

pytestmark = pytest.mark.network

FILES = {
    "data/pnet.pt": ("a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f", 28_570),
    "data/rnet.pt": ("bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86", 403_147),
    "data/onet.pt": ("165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d", 1_559_269),
    "models/mtcnn.py": ("29a965963337313068ab335cbc48f4a4facc2e5857756ef7b9ab11e5c1d6b620", 21148),
    "models/inception_resnet_v1.py": ("ed9ad5168bb45da68850a4e84667eb665226068a95ec9fdd03fb554850d7b749", 11054),
}


def _fetched(file):
    entry = Entry(
        f"facenet-{file.replace('/', '-')}",
        "facenet-pytorch",
        "2.6.0",
        f"facenet_pytorch/{file}",
        *FILES[file],
        "MIT",
        "",
    )
    return fetch(entry)


@pytest.fixture
def module(monkeypatch):
    """Loads a module of the package, in which what it needs of others for its downloads and boxes is empty."""

    def load(name):
        package = types.ModuleType("facenet_published")
        package.__path__ = []
        monkeypatch.setitem(sys.modules, "facenet_published", package)
        for path, names in {"utils": (), "utils.detect_face": ("detect_face", "extract_face"),
                            "utils.download": ("download_url_to_file",)}.items():  # fmt: skip
            stub = types.ModuleType(f"facenet_published.{path}")
            stub.__path__ = []
            for each in names:
                setattr(stub, each, None)
            monkeypatch.setitem(sys.modules, stub.__name__, stub)
        for each in ("requests", "requests.adapters"):
            stub = types.ModuleType(each)
            stub.HTTPAdapter = None
            monkeypatch.setitem(sys.modules, each, stub)
        source = _fetched(f"models/{name}.py")
        spec = importlib.util.spec_from_file_location(f"facenet_published.{name}", source)
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made

    return load


@pytest.mark.parametrize(("name", "side"), [("PNet", 60), ("RNet", 24), ("ONet", 48)])
def test_mtcnn_with_its_weights(module, name, side):
    net = getattr(module("mtcnn"), name)(pretrained=False).eval()
    weights = read_weights(_fetched(f"data/{name.lower()}.pt"))
    net.load_state_dict({key: torch.from_numpy(np.array(array)) for key, array in weights.items()})
    converted = pytorch.read(Source(object=net), Options(example=(torch.zeros(1, 3, side, side),)))
    x = np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        expected = [value.numpy() for value in net(torch.from_numpy(x))]
    names = [value.name for value in converted.model.graph.outputs]
    agrees(converted, {converted.model.graph.inputs[0].name: x}, dict(zip(names, expected, strict=True)))


def test_inception_resnet(module, tmp_path):
    torch.manual_seed(0)
    net = module("inception_resnet_v1").InceptionResnetV1(pretrained=None, classify=False).eval()
    example = (np.random.default_rng(0).normal(size=(1, 3, 160, 160)).astype(np.float32),)
    done = sardonyx.convert(net, tmp_path / "faces.onnx", example=example)
    assert done.report.verdict == "verified"
    assert max(one.relative for one in done.report.comparisons) < 1e-5
