"""Files that cannot be converted: all reasons in one error, of a fitting kind, in bounded time, running nothing."""

from __future__ import annotations

import random

import h5py
import numpy as np
import pytest
from keras_cases import DATA, convert, image, layer, network, write

from sardonyx.convert.base import Source
from sardonyx.convert.keras import reader, recognises
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError

DENSE = {"d": {"d/kernel:0": np.ones((3, 2), np.float32), "d/bias:0": np.ones(2, np.float32)}}


def dense(source="x", **options):
    return layer("Dense", "d", [source], **{"units": 2, **options})


def error_of(path, kind=ConversionError):
    with pytest.raises(kind) as caught:
        convert(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_layer_that_cannot_be_converted_is_listed(tmp_path):
    config = network(
        image(8, 8, 3),
        layer("Lambda", "code", ["x"], function=["4wEAAAA=", None, None], function_type="lambda"),
        layer("Conv2D", "odd", ["code"], filters=2, kernel_size=[3, 3], padding="reflect"),
        layer("ConvLSTM2D", "memory", ["odd"], filters=3),
        layer("ReLU", "new", ["memory"], colour="red"),
        layer("Dense", "half", ["new"], units=2, dtype="float16"),
        layer("Activation", "act", ["half"], activation="my_own"),
        layer("UpSampling2D", "up", ["act"], interpolation="bicubic"),
        layer("BatchNormalization", "norm", ["up"], renorm=True),
        layer("Flatten", "fine", ["norm"]),
    )
    text = error_of(write(tmp_path / "m.h5", config))
    assert "8 layers cannot be converted" in text
    for part in (
        "'code' (Lambda): it holds Python code",
        "'odd' (Conv2D): the option padding = 'reflect'",
        "'memory' (ConvLSTM2D): convolutions over time",
        "'new' (ReLU): the option colour = 'red'",
        "'half' (Dense): it computes in 'float16'",
        "'act' (Activation): the activation 'my_own'",
        "'up' (UpSampling2D): the option interpolation = 'bicubic'",
        "'norm' (BatchNormalization): the option renorm = True",
    ):
        assert part in text
    assert "'fine'" not in text


def test_each_layer_is_listed_once(tmp_path):
    """An operation of TensorFlow as a layer, called in a way of its own."""
    added = layer("TFOpLambda", "tf.math.betainc", function="math.betainc")
    added["inbound_nodes"] = [["x", 0, 0, {"y": 3.0, "name": None}]]
    text = error_of(write(tmp_path / "m.h5", network(image(3), added, dense("tf.math.betainc")), DENSE))
    assert "a layer cannot be converted: 'tf.math.betainc' (tf.math.betainc)" in text


def test_layers_within_models_are_named_by_their_path(tmp_path):
    inner = network(image(3, name="i"), layer("ConvLSTM2D", "deep", ["i"]))
    inner |= {"name": "inner", "inbound_nodes": [[["x", 0, 0, {}]]]}
    inner["config"]["name"] = "inner"
    text = error_of(write(tmp_path / "m.h5", network(image(3), inner)))
    assert "'inner/deep' (ConvLSTM2D)" in text


BAD_OPTIONS = [
    ("Conv2D", {"filters": 0, "kernel_size": 3}, "filters = 0"),
    ("Conv2D", {"kernel_size": 3}, "filters is missing"),
    ("Conv2D", {"filters": 2, "kernel_size": [3]}, "kernel_size"),
    ("Conv2D", {"filters": 2, "kernel_size": 10**30}, "kernel_size"),
    ("Conv2D", {"filters": True, "kernel_size": 3}, "filters = True"),
    ("Conv2D", {"filters": 2, "kernel_size": 3, "data_format": "channels_middle"}, "data_format"),
    ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2, "output_padding": [2, 2]}, "output_padding"),
    ("MaxPooling2D", {"pool_size": [2, -1]}, "pool_size"),
    ("Reshape", {"target_shape": [-1, -1]}, "target_shape"),
    ("Reshape", {"target_shape": [7, 7]}, "cannot be reshaped"),
    ("Permute", {"dims": [1, 2]}, "dims"),
    ("Concatenate", {"axis": 7}, "axis 7 is out of range"),
    ("Softmax", {"axis": "last"}, "axis"),
    ("Softmax", {"axis": 9}, "axis 9"),
    ("LeakyReLU", {"alpha": float("nan")}, "finite"),
    ("LeakyReLU", {"alpha": [[]]}, "alpha"),
    ("Rescaling", {"scale": [1, 2]}, "scale has shape [2]"),
    ("Rescaling", {"scale": "big"}, "scale"),
    ("ZeroPadding2D", {"padding": [[1, 2], [3]]}, "padding"),
    ("Cropping2D", {"cropping": 4}, "output would have the shape"),
    ("UpSampling2D", {"size": 2**31 - 1}, "output would have the shape"),
    ("RepeatVector", {"n": 3}, "expected 2 dimensions"),
    ("Conv1D", {"filters": 2, "kernel_size": 3}, "4 dimensions"),
    ("BatchNormalization", {"axis": 0}, "the batch"),
    ("BatchNormalization", {"epsilon": -0.5}, "epsilon = -0.5 is not a number of zero or more"),
    ("LayerNormalization", {"epsilon": -1e-3}, "epsilon = -0.001"),
    ("GroupNormalization", {"epsilon": -1e-3}, "epsilon = -0.001"),
    ("RMSNormalization", {"epsilon": -1e-3}, "epsilon = -0.001"),
    ("Resizing", {"height": 4, "width": 4, "interpolation": "bicubic"}, "interpolation"),
    ("Resizing", {"height": 4, "width": 4, "antialias": True}, "antialias"),
    ("Resizing", {"height": 4, "width": 4, "crop_to_aspect_ratio": True}, "crop_to_aspect_ratio"),
    ("CenterCrop", {"height": 9, "width": 4}, "smaller than what it crops to"),
    ("AdaptiveMaxPooling2D", {"output_size": [9, 4]}, "pooling 8 elements to 9"),
    ("Discretization", {"bin_boundaries": [2.0, 1.0]}, "in order"),
    ("Discretization", {"bin_boundaries": [2.0], "output_mode": "count"}, "output_mode"),
    ("Add", {}, "it has 1 inputs"),
    ("Activation", {"activation": {"class_name": "PReLU", "config": {}}}, "activation"),
    ("Activation", {"activation": {"class_name": ["x"]}}, "activation"),
]


@pytest.mark.parametrize(("class_name", "options", "reason"), BAD_OPTIONS)
def test_wrong_options_are_refused(tmp_path, class_name, options, reason):
    weights = {
        "Conv2D": {"y/kernel:0": np.ones((3, 3, 3, 2)), "y/bias:0": np.ones(2)},
        "Conv1D": {"y/kernel:0": np.ones((3, 3, 2)), "y/bias:0": np.ones(2)},
        "BatchNormalization": {
            f"y/{name}:0": np.ones(3) for name in ("gamma", "beta", "moving_mean", "moving_variance")
        },
    }.get(class_name)
    config = network(image(8, 8, 3), layer(class_name, "y", ["x"], **options))
    text = error_of(write(tmp_path / "m.h5", config, weights and {"y": weights}))
    assert f"'y' ({class_name})" in text
    assert reason in text


def test_weights_that_do_not_fit(tmp_path):
    config = network(image(3), dense())
    wrong = {"d": {"d/kernel:0": np.ones((4, 2)), "d/bias:0": np.ones(2)}}
    assert "has shape [4, 2], expected [3, 2]" in error_of(write(tmp_path / "shape.h5", config, wrong))
    assert "holds 0 weights for it, expected 2" in error_of(write(tmp_path / "none.h5", config))
    wrong = {"d": {"d/bias:0": np.ones(2), "d/kernel:0": np.ones((3, 2))}}
    assert "expected the weight 'kernel', got 'd/bias:0'" in error_of(write(tmp_path / "order.h5", config, wrong))
    wrong = {"d": {"d/kernel:0": np.array([[b"a", b"b"]] * 3), "d/bias:0": np.ones(2)}}
    assert "not numbers" in error_of(write(tmp_path / "text.h5", config, wrong))


def test_datasets_that_are_not_there(tmp_path):
    path = write(tmp_path / "m.h5", network(image(3), dense()), DENSE)
    with h5py.File(path, "r+") as file:
        del file["model_weights/d/d/kernel:0"]
    assert "'d/kernel:0' is missing" in error_of(path)


def test_datasets_outside_the_file_are_not_followed(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["kernel"] = np.ones((3, 2), np.float32)
    (tmp_path / "raw").write_bytes(np.ones((3, 2), np.float32).tobytes())
    for kind in ("link", "raw", "virtual"):
        path = write(tmp_path / f"{kind}.h5", network(image(3), dense()), DENSE)
        with h5py.File(path, "r+") as file:
            group = file["model_weights/d/d"]
            del group["kernel:0"]
            if kind == "link":
                group["kernel:0"] = h5py.ExternalLink(str(other), "kernel")
            elif kind == "raw":
                group.create_dataset("kernel:0", (3, 2), "f4", external=[(str(tmp_path / "raw"), 0, 24)])
            else:
                layout = h5py.VirtualLayout((3, 2), "f4")
                layout[:] = h5py.VirtualSource(str(other), "kernel", (3, 2))
                group.create_virtual_dataset("kernel:0", layout)
        assert "not followed" in error_of(path)


def test_declared_sizes_are_bounded_by_the_file(tmp_path, probed):
    """A terabyte of weights that were never written, and one dataset that is a thousand weights."""
    path = write(tmp_path / "m.h5", network(image(2**20), dense(units=2**18)), {"d": {}})
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d"]
        group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
        group.create_dataset("kernel:0", (2**20, 2**18), "f4")
        group.create_dataset("bias:0", (2**18,), "f4")
    assert "more than the file can hold" in error_of(path)

    chain = [image(64)] + [
        layer("Dense", f"d{i}", [f"d{i - 1}" if i else "x"], units=64, use_bias=False) for i in range(50)
    ]
    path = write(tmp_path / "many.h5", network(*chain))
    with h5py.File(path, "r+") as file:
        groups = file["model_weights"]
        one = groups.create_dataset("one", data=np.ones((64, 64), np.float32))
        for i in range(50):
            group = groups.create_group(f"d{i}")
            group.attrs["weight_names"] = [b"kernel:0"]
            group["kernel:0"] = one
    assert "more than the file can hold" in error_of(path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "no JSON object"),
        ({"class_name": "MyModel", "config": {}}, "the model's class is 'MyModel'"),
        ({"class_name": "Sequential", "config": {}}, "no list of layers"),
        ({"class_name": "Sequential", "config": []}, "has no layers"),
        ({"class_name": "Model", "config": {"layers": [3]}}, "no object with a class_name"),
        ({"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {}}]}, "has no name"),
        ({"class_name": "Sequential", "config": [layer("Dense", "d", units=2)]}, "its shape None is not known"),
        (network(image(3), dense(), dense()), "the same name"),
        (network(image(3), dense("nobody")), "call 0 of 'nobody'"),
        (network(image(3), dense(), outputs=[["d", 4, 0]]), "the output 'd' (call 4)"),
        (network(image(3), dense(), outputs=[["d", 0, 1]]), "there is no output 1 of 'd'"),
        (network(image(3), dense(), outputs=[["d"]]), "not made of [layer, node, tensor]"),
        (network(image(3), dense(), outputs="d"), "is no list"),
        (network(image(-3), dense()), "positive whole numbers"),
        (network(image(2**40), dense()), "positive whole numbers"),
        (network(dense()), "no inputs or no outputs"),
        (
            network(image(3), layer("Add", "a", ["x", "b"]), layer("Add", "b", ["x", "a"])),
            "in a ring: 'a', 'b'",
        ),
        (network(image(3), layer("Add", "a", ["a", "x"])), "in a ring: 'a'"),
    ],
)
def test_malformed_configurations(tmp_path, config, reason):
    assert reason in error_of(write(tmp_path / "m.h5", config, DENSE))


def test_calls_with_arguments_are_refused(tmp_path):
    called = dense()
    called["inbound_nodes"] = [[["x", 0, 0, {"training": True}]]]
    assert "'training'" in error_of(write(tmp_path / "m.h5", network(image(3), called), DENSE))


def test_models_that_multiply_themselves_are_bounded(tmp_path, monkeypatch):
    """Each level calls the one below ten times: ten to the eighth layers in a few kilobytes."""
    monkeypatch.setattr(reader, "MAX_CALLS", 500)

    def level(depth):
        inside = [layer("ReLU", "r", ["i"])] if depth == 0 else [level(depth - 1)]
        made = network(image(3, name="i"), *inside)
        name = inside[0]["name"]
        if depth:
            inside[0]["inbound_nodes"] = [[["i", 0, 0, {}]]] + [[[name, n, 0, {}]] for n in range(9)]
            made["config"]["output_layers"] = [[name, 9, 0]]
        made["name"] = made["config"]["name"] = f"level{depth}"
        return made

    assert "more than 500 applications" in error_of(write(tmp_path / "m.h5", level(8)))


def test_deep_nesting_is_bounded(tmp_path):
    made = network(image(3, name="i"), layer("ReLU", "r", ["i"]))
    for depth in range(40):
        made |= {"name": f"m{depth}", "inbound_nodes": [[["i", 0, 0, {}]]]}
        made = network(image(3, name="i"), made)
    assert "more than 32 deep" in error_of(write(tmp_path / "m.h5", made))


@pytest.mark.parametrize(
    ("version", "reason"), [("1.2.2", "Keras 1"), ("4.0.1", "not known"), (None, "version 1"), ("two", "version 1")]
)
def test_other_versions_of_keras(tmp_path, version, reason):
    assert reason in error_of(write(tmp_path / "m.h5", network(image(3), dense()), DENSE, version=version))


def test_other_backends(tmp_path):
    path = write(tmp_path / "m.h5", network(image(3), dense()), DENSE, backend="theano")
    assert "'theano'" in error_of(path)


def test_weights_alone_and_other_files(tmp_path):
    assert "weights alone" in error_of(write(tmp_path / "weights.h5", None, DENSE))
    other = tmp_path / "model.h5"
    for content in (b"", b"PK\x03\x04....", b"\x08\x09abc"):
        other.write_bytes(content)
        assert not recognises(Source(other))
    with pytest.raises(ModelFileError):
        recognises(Source(tmp_path / "missing.h5"))


def test_recognised_by_content(tmp_path):
    path = tmp_path / "no_ending"
    path.write_bytes((DATA / "edges.h5").read_bytes())
    assert [value.name for value in convert(path).graph.inputs] == ["x"]


def test_a_file_that_makes_the_library_loop_ends(tmp_path, probed):
    """A wrong length in the heap of strings sends HDF5 1.14 round for ever (or is found out by a later one)."""
    data = bytearray((DATA / "edges.h5").read_bytes())
    at = data.rindex((10).to_bytes(8, "little") + b"tensorflow")
    data[at] = 255
    path = tmp_path / "loop.h5"
    path.write_bytes(data)
    error_of(path, ModelFileError)


def test_damaged_files_are_errors_or_work(tmp_path, probed):
    """Bytes changed or cut off: never another exception. Short; it was run for thousands of files."""
    rng = random.Random(7)
    path, refused = tmp_path / "m.h5", 0
    source = (DATA / "edges.h5").read_bytes()
    for number in range(16):
        data = bytearray(source)
        if number % 4 == 0:
            data = data[: rng.randrange(len(data))]
        else:
            for _ in range(8):
                data[rng.randrange(min(len(data), 6000))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            convert(path)
        except SardonyxError:
            refused += 1
    assert refused > 4
