"""CNTK's files become ONNX that computes what CNTK 2.7 computed; what cannot be converted is refused, all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from network_checks import close, computed

from sardonyx.convert import cntk, formats
from sardonyx.convert.base import Options, Source

DATA = Path(__file__).parent.parent / "data" / "cntk"
CASES = sorted(path.stem for path in DATA.glob("*.npz"))


@pytest.fixture
def saved(tmp_path):
    """A recorded network as a file, its inputs and CNTK's outputs."""

    def unpack(name):
        with np.load(DATA / f"{name}.npz") as stored:
            arrays = {key: stored[key] for key in stored.files}
        path = tmp_path / f"{name}.model"
        path.write_bytes(arrays.pop("model").tobytes())
        inputs = {key[3:]: value for key, value in arrays.items() if key.startswith("in/")}
        return path, inputs, {key[4:]: value for key, value in arrays.items() if key.startswith("out/")}

    return unpack


def read(path, **options):
    return cntk.read(Source(path), Options(**options))


@pytest.mark.parametrize("name", CASES)
def test_networks_compute_what_cntk_computed(name, saved):
    path, inputs, wanted = saved(name)
    assert formats.find(Source(path)).name == "cntk"
    converted = read(path)
    outputs = computed(converted.model, inputs)
    assert set(outputs) == set(wanted)
    close(outputs, wanted)
    evaluated = converted.oracles[0]().run(inputs)
    close({key: evaluated[key] for key in wanted}, wanted)


def test_all_operators_are_tried(saved):
    """Every operator of the list is in a recorded network, but for those that the tests below write."""
    seen = set()
    for name in CASES:
        network = cntk.file.open_network(saved(name)[0])
        seen |= {function.op for function in network.functions.values()}
    written = {"LogSoftmax", "Pass", "Sigmoid"}
    assert set(cntk.operators()) - seen == written | {"Block"}
