"""PyTorch modules, programs and archives become ONNX that computes what they compute."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch`")
pytest.importorskip("onnxscript", reason="the extra `torch`")

from torch import nn  # noqa: E402

from sardonyx.convert.api import convert, read  # noqa: E402
from sardonyx.convert.base import Options  # noqa: E402
from sardonyx.convert.exporters import pytorch, pytorch_export  # noqa: E402
from sardonyx.errors import ConversionError, MissingExtraError, ParityError  # noqa: E402
from tests.convert.exporters.exporter_cases import agrees, dims  # noqa: E402


class Network(nn.Module):
    """Convolution, normalisation and dropout; a second result only with `scale`."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(4, 5)

    def forward(self, x, scale=None):
        y = self.last(self.drop(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))
        return y if scale is None else {"scaled": y * scale, "rest": (y, [x.flatten(1)])}


class Tagger(nn.Module):
    """Indices of any number, and an LSTM."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(17, 8)
        self.lstm = nn.LSTM(8, 4, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(8, 3)

    def forward(self, ids, mask):
        return self.tags(self.lstm(self.words(ids))[0]).masked_fill(mask[:, :, None], -1)


class Attending(nn.Module):
    """Attention after an LSTM: torch.export (2.13) keeps the example's length in between."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(17, 8)
        self.lstm = nn.LSTM(8, 4, bidirectional=True, batch_first=True)
        self.attend = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids, mask):
        return self.attend(self.lstm(self.words(ids))[0], src_key_padding_mask=mask)


class Pairs(nn.Module):
    def forward(self, pairs, *rest):
        return [pairs[0]["a"] + pairs[1], rest[0] * 2]


class One(nn.Module):
    """Goes through its rows, so is traced for their number alone."""

    def forward(self, x):
        return torch.stack([row * i for i, row in enumerate(x)])


class Doubling(nn.Module):
    def forward(self, x):
        return x * 2


class Deciding(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x - 1


@torch.jit.script
def decide(x):
    if bool(x.sum() > 0):
        y = x * 2
    else:
        y = x - 1
    return y


class Holding(nn.Module):
    """A scripted part, which torch.export does not trace."""

    def forward(self, x):
        return decide(x) + 1


def seeded(make):
    torch.manual_seed(3)
    return make()


def expected(converted, inputs):
    """By the source itself, through the converted model's first oracle."""
    found = converted.oracles[0]().run(inputs)
    return {value.name: found[value.name] for value in converted.model.graph.outputs}


def floats(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_batch_is_open_though_the_example_has_one_row():
    module = seeded(Network)
    converted = read(module, Options(example=(torch.zeros(1, 3, 8, 8),)))
    assert dims(converted.model.graph.inputs) == {"x": ["batch", 3, 8, 8]}
    assert dims(converted.model.graph.outputs) == {"output": ["batch", 5]}
    x = floats(3, 3, 8, 8)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(x)).numpy()
    agrees(converted, {"x": x}, {"output": wanted})
    assert converted.notes == ()


def test_the_module_stays_as_it_was():
    module = seeded(Network)
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    converted = read(module, Options(example=(torch.ones(2, 3, 8, 8),)))
    expected(converted, {"x": floats(2, 3, 8, 8)})
    assert module.training
    assert module.drop.training
    assert not module.norm.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    # And the result does not follow it.
    wanted = expected(converted, {"x": floats(2, 3, 8, 8)})
    with torch.no_grad():
        module.last.weight.zero_()
    agrees(converted, {"x": floats(2, 3, 8, 8)}, wanted)


def test_results_are_named_by_keys_and_arguments_by_parameters():
    converted = read(seeded(Network), Options(example=(torch.zeros(1, 3, 8, 8), {"scale": torch.tensor(2.0)})))
    assert dims(converted.model.graph.inputs) == {"x": ["batch", 3, 8, 8], "scale": []}
    assert dims(converted.model.graph.outputs) == {
        "scaled": ["batch", 5],
        "rest_0": ["batch", 5],
        "rest_1_0": ["batch", 192],
    }
    inputs = {"x": floats(3, 3, 8, 8), "scale": np.array(0.5, np.float32)}
    agrees(converted, inputs, expected(converted, inputs))


def test_nested_arguments():
    example = ([{"a": torch.zeros(2, 3)}, torch.zeros(2, 3)], torch.zeros(5))
    converted = read(Pairs(), Options(example=example))
    shapes = dims(converted.model.graph.inputs)
    assert shapes == {"pairs_0_a": ["batch", 3], "pairs_1": ["batch", 3], "rest_0": ["rest_0_0"]}
    inputs = {"pairs_0_a": floats(4, 3), "pairs_1": floats(4, 3), "rest_0": floats(7)}
    agrees(converted, inputs, expected(converted, inputs))


def test_lengths_are_open_where_shapes_name_them():
    module = seeded(Tagger)
    example = (torch.randint(0, 17, (2, 5)), torch.zeros(2, 5, dtype=torch.bool))
    shapes = {"ids": ("batch", "length"), "mask": ("batch", "length")}
    converted = read(module, Options(example=example, shapes=shapes))
    assert dims(converted.model.graph.inputs) == {"ids": ["batch", "length"], "mask": ["batch", "length"]}
    random = np.random.default_rng(2)
    for batch, length in ((1, 3), (3, 9)):
        mask = np.zeros((batch, length), bool)
        mask[0, 2:] = True
        inputs = {"ids": random.integers(0, 17, (batch, length)), "mask": mask}
        agrees(converted, inputs, expected(converted, inputs))


def test_files_that_are_wrong_for_other_sizes_are_not_taken():
    module = seeded(Attending)
    example = (torch.randint(0, 17, (2, 5)), torch.zeros(2, 5, dtype=torch.bool))
    shapes = {"ids": ("batch", "length"), "mask": ("batch", "length")}
    # The file fails, or the exporter itself says that it keeps the length: which of both hangs on what it did before.
    with pytest.raises(ConversionError, match=r"fails for other sizes than the example's|inferred a static shape of 5"):
        read(module, Options(example=example, shapes=shapes))
    # With the length left as it is there is nothing wrong.
    converted = read(module, Options(example=example))
    inputs = {"ids": np.arange(15).reshape(3, 5), "mask": np.zeros((3, 5), bool)}
    agrees(converted, inputs, expected(converted, inputs))


def test_a_wrong_file_of_the_exporter_is_refused(monkeypatch, tmp_path):
    """Whatever an exporter writes is compared: here it writes another module, the same but for one layer."""
    right, wrong = seeded(Network), seeded(Network)
    with torch.no_grad():
        wrong.last.weight[0] += 1
    keep = pytorch_export.export
    monkeypatch.setattr(
        pytorch_export,
        "export",
        lambda module, *rest, **asked: keep(wrong, *rest, **{**asked, "accept": lambda _: None}),
    )
    with pytest.raises(ParityError, match=r"layer 'last'|output 'output'") as caught:
        convert(right, tmp_path / "out.onnx", example=(torch.zeros(1, 3, 8, 8),))
    assert "last" in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


def test_files_that_compute_something_else_for_other_sizes_are_not_taken(monkeypatch):
    """The example's own size is right, so only a run at another tells."""
    keep = pytorch_export._save_dynamo

    class Frozen(nn.Module):
        def forward(self, x):
            return x * 2 + (x.shape[0] - 2)

    def wrong(module, *rest):
        return keep(Frozen(), *rest)

    monkeypatch.setattr(pytorch_export, "_save_dynamo", wrong)
    monkeypatch.setattr(pytorch_export, "_script", lambda *_: (_ for _ in ()).throw(RuntimeError("not today")))
    with pytest.raises(ConversionError, match="something else for other sizes"):
        read(Doubling(), Options(example=(torch.zeros(2, 3),), shapes={"x": (None, 3)}))


def test_parity_compares_several_batch_sizes():
    report = convert(seeded(Network), example=(torch.zeros(1, 3, 8, 8),)).report
    assert report is not None
    assert {one.shape[0] for one in report.comparisons} >= {1, 3}


def test_output_names_as_asked():
    converted = read(Pairs(), Options(example=([{"a": torch.zeros(2)}, torch.zeros(2)], torch.zeros(2)),
                                      outputs=("sum", "twice")))  # fmt: skip
    assert list(dims(converted.model.graph.outputs)) == ["sum", "twice"]
    inputs = {"pairs_0_a": floats(2), "pairs_1": floats(2), "rest_0": floats(2)}
    agrees(converted, inputs, expected(converted, inputs))
    with pytest.raises(ConversionError, match="2 of them"):
        read(Pairs(), Options(example=([{"a": torch.zeros(2)}, torch.zeros(2)], torch.zeros(2)), outputs=("sum",)))


def test_what_works_for_one_size_alone_is_fixed_and_told():
    converted = read(One(), Options(example=(torch.zeros(2, 3),)))
    assert dims(converted.model.graph.inputs) == {"x": [2, 3]}
    assert "dim 0 of 'x'" in converted.notes[0]
    agrees(converted, {"x": floats(2, 3)}, expected(converted, {"x": floats(2, 3)}))
    with pytest.raises(ConversionError, match="no exporter"):
        read(One(), Options(example=(torch.zeros(2, 3),), shapes={"x": ("rows", 3)}))


def test_decisions_on_values_are_refused():
    with pytest.raises(ConversionError, match="would keep what the example gave") as caught:
        read(Deciding(), Options(example=(torch.ones(2, 3),)))
    assert "dynamo exporter" in str(caught.value)


def test_the_older_exporter_where_the_newer_cannot():
    converted = read(Holding(), Options(example=(torch.ones(2, 3),)))
    assert "the TorchScript exporter wrote it" in converted.notes[0]
    assert "TorchScript" in converted.route
    for sign in (1, -1):  # Both branches are there.
        x = np.abs(floats(4, 3)) * sign
        agrees(converted, {"x": x}, {"output": x * 2 + 1 if sign > 0 else x})


def test_a_fixed_batch():
    converted = read(seeded(Network), Options(example=(torch.zeros(1, 3, 8, 8),), batch=1))
    assert dims(converted.model.graph.inputs) == {"x": [1, 3, 8, 8]}


def test_live_programs():
    program = torch.export.export(Pairs(), ([{"a": torch.zeros(2)}, torch.zeros(2)], torch.zeros(2)))
    converted = read(program)
    inputs = {value.name: floats(2) for value in converted.model.graph.inputs}
    agrees(converted, inputs, expected(converted, inputs))


def test_compared_with_the_module_layer_by_layer():
    result = convert(seeded(Tagger), example=(torch.randint(0, 17, (2, 5)), torch.zeros(2, 5, dtype=torch.bool)))
    assert result.report is not None
    assert result.report.verdict == "verified"
    assert "torch 2" in (result.report.oracle or "")
    converted = read(seeded(Network), Options(example=(torch.zeros(1, 3, 8, 8),)))
    assert converted.layers["output"] == "last"
    assert "last" in converted.oracles[0]().run({"x": floats(1, 3, 8, 8)})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(), "example arguments"),
        (Options(example=(3,)), "no tensor"),
        (Options(example=(torch.zeros(1, 3),), shapes={"y": (None, 3)}), "no input 'y'"),
        (Options(example=(torch.zeros(1, 3),), shapes={"x": (None, 4)}), "dim"),
    ],
)
def test_what_is_missing_is_told(options, said):
    with pytest.raises(ConversionError, match=said):
        read(One(), options)


def test_a_missing_exporter_names_the_extra(monkeypatch):
    monkeypatch.setattr("sardonyx.convert.exporters.base.versions", lambda packages, framework: {"torch": "2"})
    with pytest.raises(MissingExtraError, match=r"onnxscript.*sardonyx\[torch\]"):
        read(One(), Options(example=(torch.zeros(1, 6),)))


# Files, in processes of their own.


def test_program_files(tmp_path):
    program = torch.export.export(
        seeded(Network).eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    # The file says nothing by its name.
    torch.export.save(program, tmp_path / "model.pt2")
    path = (tmp_path / "model.pt2").rename(tmp_path / "program")
    converted = read(path)
    assert converted.format.startswith("torch.export program")
    assert dims(converted.model.graph.inputs) == {"x": ["batch", 3, 8, 8]}
    inputs = {"x": floats(3, 3, 8, 8)}
    found = expected(converted, inputs)
    with torch.no_grad():
        wanted = program.module()(torch.from_numpy(inputs["x"])).numpy()
    np.testing.assert_array_equal(found["output"], wanted)
    agrees(converted, inputs, found)


def test_torchscript_files(tmp_path):
    module = seeded(Network).eval()
    path = tmp_path / "traced.pt"
    torch.jit.trace(module, torch.zeros(2, 3, 8, 8)).save(path)
    converted = read(path)
    assert dims(converted.model.graph.inputs) == {"x": ["batch", 3, 8, 8]}
    inputs = {"x": floats(3, 3, 8, 8)}
    agrees(converted, inputs, expected(converted, inputs))


def test_scripted_files_need_shapes(tmp_path):
    path = tmp_path / "scripted.pt"
    torch.jit.script(Deciding()).save(path)
    with pytest.raises(ConversionError, match="shapes="):
        read(path)
    converted = read(path, Options(shapes={"x": (None, 3)}))
    for sign in (1, -1):
        x = np.abs(floats(4, 3)) * sign
        agrees(converted, {"x": x}, {"output": x * 2 if sign > 0 else x - 1})


# Hostile files.


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def hostile(sound, path, where, sign):
    """The program with a pickle that runs a command, in one of the places that PyTorch reads pickles from."""
    buffer = io.BytesIO()
    torch.save(Payload(sign), buffer)
    config = {"weight": "model_weights_config.json", "object": "model_constants_config.json", "example": "no/such"}[
        where
    ]
    kind = "weight_0" if where == "weight" else "opaque_obj_0"
    entry = {"path_name": kind, "is_param": True, "use_pickle": True, "tensor_meta": None}
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if where == "example" and "sample_inputs" in name:
                data = buffer.getvalue()
            if name.endswith(config):
                data = json.dumps({"config": {"w": entry}})
                place = f"{name.rpartition('/')[0]}/{kind}"
                new.writestr(place, buffer.getvalue() if where == "weight" else pickle.dumps(Payload(sign)))
            new.writestr(name, data)
    return path


def loading(paths, load):
    """What a process of its own says of loading these programs."""
    code = (
        f"import json, sys\nfor path in json.loads(sys.argv[1]):\n    try: {load}\n    except Exception as e: print(e)"
    )
    command = [sys.executable, "-c", code, json.dumps(list(map(str, paths)))]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()


def test_pickles_in_programs_are_not_executed(tmp_path):
    sound = tmp_path / "sound.pt2"
    torch.export.save(torch.export.export(Pairs(), ([{"a": torch.ones(2)}, torch.ones(2)], torch.ones(2))), sound)
    places = ("weight", "example", "object")
    signs = [tmp_path / f"{where}.executed" for where in places]
    paths = [hostile(sound, tmp_path / where, where, sign) for where, sign in zip(places, signs, strict=True)]
    job = "work({'path': path, 'kind': 'program', 'examples': 0, 'do': 'run'}, {})"
    said = loading(paths, f"from sardonyx.convert.exporters.pytorch_driver import work; {job}; print('loaded')")
    assert len(said) == 3
    assert all("PyTorch does not load this file" in line or "pickled Python objects" in line for line in said), said
    assert not [sign for sign in signs if sign.exists()]
    # They are attacks: PyTorch's own loader executes them.
    loading(paths, "import torch; torch.export.load(path)")
    assert [sign for sign in signs if sign.exists()] == signs


def test_damaged_archives(tmp_path):
    path = tmp_path / "traced.pt"
    torch.jit.trace(One(), torch.zeros(2, 3)).save(path)
    data = bytearray(path.read_bytes())
    start = data.find(b"torch")
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(ConversionError):
        read(path)


def test_recognised_by_content(tmp_path):
    from sardonyx.convert.base import Source

    other = tmp_path / "model.pt"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a/config.json", "{}")
    assert not pytorch.recognises(Source(path=other))
    other.write_bytes(b"PK\x03\x04 and no more")
    assert not pytorch.recognises(Source(path=other))
    assert not pytorch.recognises(Source(path=tmp_path))
    assert not pytorch.recognises(Source(object=3))
    assert pytorch.recognises(Source(object=One()))


def test_open_axes_of_inputs_with_other_first_dims():
    call = pytorch_export.call_of(Pairs().forward, ([{"a": torch.zeros(2, 3)}, torch.zeros(4)], torch.tensor(1.0)))
    assert pytorch_export.open_axes(call, {}, "n") == [{0: "n"}, {0: "pairs_1_0"}, {}]
    assert pytorch_export.open_axes(call, {}, 2) == [{}, {}, {}]
