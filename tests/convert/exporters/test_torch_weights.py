"""Weights that PyTorch saved, read without it; pickles that want to run something are refused."""

from __future__ import annotations

import collections
import functools
import io
import os
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

from sardonyx.convert.api import read
from sardonyx.convert.exporters.torch_weights import LEGACY, Weights, read_weights, run
from sardonyx.convert.reading.cursor import Cursor
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError

torch = pytest.importorskip("torch", reason="the extra `torch`")


def state():
    torch.manual_seed(0)
    shared = torch.randn(4, 6)
    return collections.OrderedDict(
        {
            "layer.weight": torch.randn(3, 4),
            "turned": shared.t(),
            "part": shared[1:3, ::2],
            "parameter": torch.nn.Parameter(torch.ones(2)),
            "half": torch.randn(3).half(),
            "brain": torch.randn(3).bfloat16(),
            "count": torch.tensor(7),
            "flags": torch.tensor([True, False]),
            "empty": torch.zeros(0, 3),
            "complex": torch.randn(2, dtype=torch.complex64),
        }
    )


def save(path, content, *, legacy=False):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_same_elements(tmp_path, legacy):
    content = state()
    found = read_weights(save(tmp_path / "w", content, legacy=legacy))
    assert list(found) == list(content)
    for name, tensor in content.items():
        assert found[name].shape == tuple(tensor.shape)
        assert found[name].dtype.name == str(tensor.dtype).partition(".")[2]
        np.testing.assert_array_equal(found[name].astype(complex), tensor.detach().to(torch.complex64).numpy())


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_with_more_than_weights(tmp_path, legacy):
    content = {"epoch": 3, "model": state(), "rates": [0.1, None], "size": torch.Size([2]), 5: torch.ones(1)}
    content["long"] = 1 << 70
    found = Weights(save(tmp_path / "w", content, legacy=legacy))
    assert set(found) == {f"model.{name}" for name in state()} | {"5"}
    assert found.content["long"] == 1 << 70
    assert found.content["size"] == (2,)


def test_a_module_with_its_state(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    found = read_weights(save(tmp_path / "w", module.state_dict()))
    assert set(found) == set(module.state_dict())


def test_weights_alone_are_no_network_and_are_listed(tmp_path):
    for legacy in (False, True):
        with pytest.raises(ConversionError, match=r"weights alone.*layer\.weight float32\[3, 4\].*load_state_dict"):
            read(save(tmp_path / "w.pth", state(), legacy=legacy))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_modules_are_refused_by_name(tmp_path, legacy):
    path = save(tmp_path / "m.pt", torch.nn.Linear(2, 2), legacy=legacy)
    with pytest.raises(ConversionError, match=r"runs code: it asks for torch\.nn\.modules\.linear\.Linear.*convert"):
        read(path)


class Payload:
    def __init__(self, make):
        self.make = make

    def __reduce__(self):
        return self.make()


def attacks(sign):
    command = f"touch {sign}"
    return {
        "system": lambda: (os.system, (command,)),
        "eval": lambda: (eval, (f"__import__('os').system({command!r})",)),
        "partial": lambda: (functools.partial(os.system, command), ()),
        "getattr": lambda: (getattr, (os, "system")),
        "state": lambda: (collections.OrderedDict, (), {"__setstate__": os.system}),
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("attack", ["system", "eval", "partial", "getattr", "state"])
def test_hostile_pickles_are_not_executed(tmp_path, attack, protocol):
    sign = tmp_path / "executed"
    data = (
        pickle.dumps({"w": Payload(attacks(sign)[attack])}, protocol=protocol)
        if attack != "getattr"
        else (b"\x80\x02c__builtin__\ngetattr\ncos\nsystem\n\x86R.")
    )
    archive = tmp_path / "a.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/data.pkl", data)
    stream = tmp_path / "s.pt"
    number = b"\x80\x02M\xe9\x03."
    stream.write_bytes(LEGACY + number + b"\x80\x02}." + data)
    for path in (archive, stream):
        with pytest.raises(SardonyxError):
            read(path)
    assert not sign.exists()


def test_the_attacks_are_attacks(tmp_path):
    sign = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(attacks(sign)["system"])))
    assert sign.exists()


def machine(*parts):
    return run(Cursor(b"\x80\x02" + b"".join(parts) + b".", "made"))


def test_what_grows_without_end_ends():
    start = time.monotonic()
    doubled = b")q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(5000))
    assert isinstance(machine(doubled), tuple)
    # As a key it would be hashed, and as arguments shown.
    for after in (b"N\x86\x85\x85R", b"R"):
        with pytest.raises(SardonyxError):
            machine(b"ccollections\nOrderedDict\n", doubled, after)
    with pytest.raises(ModelFileError):
        machine(b"(", b"X" + struct.pack("<I", 0xFFFFFFFF))
    with pytest.raises(ModelFileError):
        machine(b"Nj" + struct.pack("<I", 0xFFFFFFFF))
    machine(b"Nr" + struct.pack("<I", 0xFFFFFFFF))
    assert time.monotonic() - start < 5


def test_lists_that_hold_themselves_end(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", b"\x80\x02]q\x00h\x00ah\x00a.")
    assert dict(Weights(path)) == {}


def tensor(key=b"0", count=4, offset=0, shape=(2, 2), strides=(2, 1), kind=b"FloatStorage"):
    """A pickle of one tensor."""

    def number(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    storage = (b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX" + struct.pack("<I", len(key)) + key
               + b"X\x03\x00\x00\x00cpu" + number(count) + b"tQ")  # fmt: skip
    numbers = [b"(" + b"".join(map(number, values)) + b"t" for values in (shape, strides)]
    return (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + b"".join(numbers)
            + b"\x89}tR.")  # fmt: skip


def archive(path, data, elements=bytes(16)):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", data)
        file.writestr("a/data/0", elements)
    return path


def test_made_tensors_are_read(tmp_path):
    elements = np.arange(4, dtype=np.float32)
    found = read_weights(archive(tmp_path / "a", tensor(), elements.tobytes()))
    np.testing.assert_array_equal(found["tensor"], elements.reshape(2, 2))
    found = read_weights(archive(tmp_path / "b", tensor(strides=(0, 1), shape=(3, 2)), elements.tobytes()))
    np.testing.assert_array_equal(found["tensor"], [[0, 1]] * 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": 1},
        {"offset": -1},
        {"shape": (1 << 40,), "strides": (0,)},
        {"shape": (3, 2)},
        {"strides": (-1, 1)},
        {"shape": (2,)},
        {"count": 1 << 40},
        {"count": -1},
        {"key": b"../0"},
        {"kind": b"QInt8Storage"},
        {"kind": b"system"},
    ],
)
def test_tensors_outside_of_their_storage(tmp_path, wrong):
    path = archive(tmp_path / "a", tensor(**wrong))
    with pytest.raises(SardonyxError):
        read_weights(path)


def test_what_unpacks_to_more_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr("sardonyx.convert.exporters.torch_weights._PICKLE_LIMIT", 1 << 16)
    path = archive(tmp_path / "a", tensor(count=1 << 20, shape=(1 << 20,), strides=(1,)), bytes(1 << 22))
    with pytest.raises(ModelFileError, match="too large"):
        read_weights(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_cut_and_corrupted_files(tmp_path, legacy):
    sound = save(tmp_path / "w", state(), legacy=legacy).read_bytes()
    random = np.random.default_rng(4)
    path, ended = tmp_path / "broken", 0
    for _ in range(150):
        data = bytearray(sound)
        for _ in range(int(random.integers(1, 6))):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        if random.random() < 0.3:
            del data[int(random.integers(len(data))) :]
        path.write_bytes(data)
        start = time.monotonic()
        try:
            read_weights(path)
        except SardonyxError:
            ended += 1
        assert time.monotonic() - start < 5
    assert ended > 20


def test_big_endian_weights_are_refused(tmp_path):
    path = tmp_path / "a"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", tensor())
        file.writestr("a/data/0", bytes(16))
        file.writestr("a/byteorder", "big")
    with pytest.raises(ConversionError, match="little-endian"):
        read_weights(path)


def test_streams_say_where_storages_lie(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(3)}, buffer, _use_new_zipfile_serialization=False)
    path = tmp_path / "w"
    path.write_bytes(buffer.getvalue()[:-9])
    with pytest.raises(ModelFileError):
        read_weights(path)
