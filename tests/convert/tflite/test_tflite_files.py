"""TFLite files by hand: what exporters rarely write, custom operators, what is refused, damage."""

from __future__ import annotations

import random
import struct
import time

import numpy as np
import pytest
from tflite_cases import DATA, NAMES, assert_close, by_sardonyx, flatbuffer, model, operator, recorded, tensor

from sardonyx.convert.base import Options, Source
from sardonyx.convert.reading.flatbuffer import FlatBuffer, schema
from sardonyx.convert.tflite import file, flexbuffer, read
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError


def written(tmp_path, data):
    path = tmp_path / "made.tflite"
    path.write_bytes(data)
    return Source(path)


def converted(tmp_path, data, **options):
    return read(written(tmp_path, data), Options(**options))


def floats(seed, *shape):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


# Constants


def added(kind, *shape, buffer, **more):
    """x + w, where w is what is tested."""
    tensors = {
        "x": tensor("FLOAT32", *shape),
        "w": tensor(kind, *shape, buffer=1, **more),
        "r": tensor("FLOAT32", *shape),
        "y": tensor("FLOAT32", *shape),
    }
    dense = "sparsity" in more
    operators = [operator("DENSIFY" if dense else "DEQUANTIZE", [1], [2]), operator("ADD", [0, 2], [3], "Add")]
    return model(tensors, operators, [0], [3], [buffer])


def test_nibbles_are_unpacked_from_the_low_bits(tmp_path):
    values = np.int8([-8, 7, 3, -1, 0, 5, -4])
    packed = np.uint8(
        [(int(a) & 15) | (int(b) & 15) << 4 for a, b in zip(values[::2], [*values[1::2], 0], strict=True)]
    )
    made = converted(tmp_path, added("INT4", 7, buffer=packed, scale=[0.5], zero=[0]))
    got = by_sardonyx(made.model, {"x": np.zeros(7, np.float32)})
    np.testing.assert_array_equal(got["y"], values * np.float32(0.5))


def test_each_channel_may_have_its_scale(tmp_path):
    values = np.int8([[10, -20, 30], [1, 2, 3]])
    made = converted(tmp_path, added("INT8", 2, 3, buffer=values, scale=[0.5, 0.25], zero=[0, 1]))
    got = by_sardonyx(made.model, {"x": np.zeros((2, 3), np.float32)})
    np.testing.assert_array_equal(got["y"], np.float32([[5, -10, 15], [0, 0.25, 0.5]]))


@pytest.mark.parametrize("scales", [[0.5, 0.25, 2], [0.5]])
def test_dequantised_constants_move_with_their_scales(tmp_path, scales):
    values = np.int8([[10, -20, 30], [1, 2, 3], [4, 5, 6]])
    tensors = {
        "x": tensor("FLOAT32", 3, 3), "w": tensor("INT8", 3, 3, buffer=1, scale=scales, zero=[1]),
        "r": tensor("FLOAT32", 3, 3), "order": tensor("INT32", 2, buffer=2), "t": tensor("FLOAT32", 3, 3),
        "y": tensor("FLOAT32", 3, 3), "z": tensor("FLOAT32", 3, 3),
    }  # fmt: skip
    operators = [
        operator("DEQUANTIZE", [1], [2]), operator("TRANSPOSE", [2, 3], [4]), operator("ADD", [0, 4], [5], "Add"),
        operator("FULLY_CONNECTED", [5, 2], [6], "FullyConnected"),
    ]  # fmt: skip
    made = converted(tmp_path, model(tensors, operators, [0], [6], [values, np.int32([1, 0])]))
    assert not made.notes  # TFLite's kernel gets floats
    assert "w" in {value.name for value in made.model.graph.initializers.values()}
    real = (values.astype(np.float32) - 1) * np.float32(scales)[:, None]
    x = floats(5, 3, 3)
    assert_close(by_sardonyx(made.model, {"x": x}), {"z": (x + real.T) @ real.T})


def test_lstms_of_quantised_weights_are_told(tmp_path):
    kernel = np.random.default_rng(1).integers(-90, 90, (2, 3)).astype(np.int8)
    square = np.random.default_rng(2).integers(-90, 90, (2, 2)).astype(np.int8)
    tensors = {
        "x": tensor("FLOAT32", 1, 4, 3), "w": tensor("INT8", 2, 3, buffer=1, scale=[0.01], zero=[0]),
        "r": tensor("INT8", 2, 2, buffer=2, scale=[0.01], zero=[0]), "b": tensor("FLOAT32", 2, buffer=3),
        "h": tensor("FLOAT32", 1, 2, is_variable=True), "c": tensor("FLOAT32", 1, 2, is_variable=True),
        "y": tensor("FLOAT32", 1, 4, 2),
    }  # fmt: skip
    takes = [0, *[1] * 4, *[2] * 4, -1, -1, -1, *[3] * 4, -1, -1, 4, 5]
    lstm = operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", takes, [6], "UnidirectionalSequenceLSTM", fused_activation_function=4
    )
    made = converted(tmp_path, model(tensors, [lstm], [0], [6], [kernel, square, np.zeros(2, np.float32)]))
    assert any("only the weights are quantised" in note for note in made.notes)
    x = {"x": floats(3, 1, 4, 3)}
    evaluated = made.oracles[0]().run(x)
    assert_close(by_sardonyx(made.model, x), {"y": evaluated["y"].astype(np.float32)})


def test_blocks_of_sparse_tensors(tmp_path):
    """4 x 6 in blocks of 2 x 3: rows of blocks are dense, columns of blocks are listed, blocks are whole."""
    stored = np.arange(1, 19, dtype=np.float32)
    levels = [
        {"format": 0, "dense_size": 2},
        {
            "format": 1, "array_segments_type": 3, "array_segments": ("Uint8Vector", {"values": [0, 1, 3]}),
            "array_indices_type": 1, "array_indices": ("Int32Vector", {"values": [1, 0, 1]}),
        },
        {"format": 0, "dense_size": 2}, {"format": 0, "dense_size": 3},
    ]  # fmt: skip
    sparsity = {"traversal_order": [0, 1, 2, 3], "block_map": [0, 1], "dim_metadata": levels}
    made = converted(tmp_path, added("FLOAT32", 4, 6, buffer=stored, sparsity=sparsity))
    dense = np.zeros((4, 6), np.float32)
    for (row, column), block in zip([(0, 1), (1, 0), (1, 1)], stored.reshape(3, 2, 3), strict=True):
        dense[row * 2 : row * 2 + 2, column * 3 : column * 3 + 3] = block
    got = by_sardonyx(made.model, {"x": np.zeros((4, 6), np.float32)})
    np.testing.assert_array_equal(got["y"], dense)


@pytest.mark.parametrize(
    ("segments", "indices", "order"),
    [
        ([0, 1, 9], [1, 0, 1], [0, 1]),
        ([0, 1, 3], [1, 0, 7], [0, 1]),
        ([2, 1, 3], [1, 0, 1], [0, 1]),
        ([0, 3], [0, 1, 0], [0, 1]),
        ([0, 1, 3], [1, 0, 1], [0, 5]),
    ],
)
def test_damaged_sparsity_is_refused(tmp_path, segments, indices, order):
    levels = [
        {"format": 0, "dense_size": 2},
        {
            "format": 1, "array_segments_type": 1, "array_segments": ("Int32Vector", {"values": segments}),
            "array_indices_type": 1, "array_indices": ("Int32Vector", {"values": indices}),
        },
    ]  # fmt: skip
    sparsity = {"traversal_order": order, "block_map": [], "dim_metadata": levels}
    data = added("FLOAT32", 2, 4, buffer=np.float32([1, 2, 3]), sparsity=sparsity)
    with pytest.raises(ModelFileError, match="spars"):
        converted(tmp_path, data)


def test_huge_sparse_tensors_are_refused(tmp_path):
    levels = [{"format": 0, "dense_size": 2**30}]
    sparsity = {"traversal_order": [0], "block_map": [], "dim_metadata": levels}
    data = added("FLOAT32", 2**30, buffer=np.float32([1]), sparsity=sparsity)
    with pytest.raises(ModelFileError, match="not supported"):
        converted(tmp_path, data)


def test_buffers_after_the_tables(tmp_path):
    """Files of more than 2 GB have them there."""
    values = floats(1, 5)
    tensors = {"x": tensor("FLOAT32", 5), "w": tensor("FLOAT32", 5, buffer=1), "y": tensor("FLOAT32", 5)}
    data = b""
    for _ in range(2):  # the second time its length is known
        offset = {"offset": max(len(data), 2), "size": 20}
        code = {"deprecated_builtin_code": 0}
        ops = [{"opcode_index": 0, "inputs": [0, 1], "outputs": [2]}]
        graph = {
            "name": "main",
            "tensors": [{**t, "name": n} for n, t in tensors.items()],
            "operators": ops,
            "inputs": [0],
            "outputs": [2],
        }
        data = flatbuffer({"version": 3, "operator_codes": [code], "subgraphs": [graph], "buffers": [{}, offset]})
    made = converted(tmp_path, data + values.tobytes())
    x = floats(2, 5)
    np.testing.assert_array_equal(by_sardonyx(made.model, {"x": x})["y"], x + values)
    with pytest.raises(ModelFileError, match="leads out of the file"):
        converted(tmp_path, data + values.tobytes()[:-1])


# Custom operators: as MediaPipe's kernels compute them, element by element


def assert_all_agree(made, inputs, wanted):
    """The model and the evaluation of the source give what is wanted."""
    assert_close(by_sardonyx(made.model, inputs), wanted)
    values = next(o for make in made.oracles if (o := make()) is not None and "float64" in o.name).run(inputs)
    assert_close({key: values[key].astype(np.float32) for key in wanted}, wanted)


def custom(name, options, x, *consts, outputs=1, more=()):
    inputs = {
        "x": tensor("FLOAT32", *x.shape),
        **{f"in{i}": tensor("FLOAT32", *item.shape) for i, item in enumerate(more)},
    }
    held = {f"c{i}": tensor("FLOAT32", *item.shape, buffer=i + 1) for i, item in enumerate(consts)}
    made = {f"y{i}": tensor("FLOAT32", -1, shape_signature=[]) for i in range(outputs)}
    for item in made.values():
        item["shape"], item["has_rank"] = [], False
    tensors = {**inputs, **held, **made}
    count = len(inputs) + len(held)
    results = range(count, count + outputs)
    return model(tensors, [operator(name, range(count), results, custom=options)], range(len(inputs)), results, consts)


@pytest.mark.parametrize("same", [True, False])
def test_transposed_convolution_with_bias(tmp_path, same):
    x, w, bias = floats(1, 2, 4, 3, 3), floats(2, 2, 3, 2, 3), floats(3, 2)
    made = converted(
        tmp_path, custom("Convolution2DTransposeBias", struct.pack("<3i", 1 if same else 2, 2, 2), x, w, bias)
    )
    cut = [max(0, k - (n - 1) % 2 - 1) if same else 0 for n, k in ((4, 3), (3, 2))]
    sizes = [2 * (n - 1) + k - c for n, k, c in zip((4, 3), (3, 2), cut, strict=True)]
    want = np.zeros((2, *sizes, 2)) + bias
    for y, column, tap_y, tap_x in np.ndindex(4, 3, 3, 2):
        at = 2 * y - cut[0] // 2 + tap_y, 2 * column - cut[1] // 2 + tap_x
        if 0 <= at[0] < sizes[0] and 0 <= at[1] < sizes[1]:
            want[:, at[0], at[1]] += x[:, y, column] @ w[:, tap_y, tap_x].T
    assert_all_agree(made, {"x": x}, {"y0": want.astype(np.float32)})


@pytest.mark.parametrize("padding", [1, 2])
def test_pooling_that_tells_where(tmp_path, padding):
    x = np.round(floats(1, 1, 5, 6, 2))  # with ties, of which the first counts
    made = converted(tmp_path, custom("MaxPoolingWithArgmax2D", struct.pack("<5i", padding, 2, 2, 2, 2), x, outputs=2))
    sizes = (3, 3) if padding == 1 else (2, 3)
    largest, where = np.zeros((1, *sizes, 2), np.float32), np.zeros((1, *sizes, 2), np.float32)
    for y, column, c in np.ndindex(*sizes, 2):
        window = x[0, 2 * y : 2 * y + 2, 2 * column : 2 * column + 2, c]
        at = np.unravel_index(window.argmax(), window.shape)
        largest[0, y, column, c] = window.max()
        where[0, y, column, c] = at[0] * 2 + at[1] + np.float32(0.1)
    assert_all_agree(made, {"x": x}, {"y0": largest, "y1": where})


def test_unpooling(tmp_path):
    x, where = (
        floats(1, 1, 3, 2, 2),
        np.random.default_rng(4).integers(0, 4, (1, 3, 2, 2)).astype(np.float32) + np.float32(0.1),
    )
    made = converted(tmp_path, custom("MaxUnpooling2D", struct.pack("<5i", 1, 2, 2, 2, 2), x, more=[where]))
    want = np.zeros((1, 6, 4, 2), np.float32)
    for y, column, c in np.ndindex(3, 2, 2):
        tap = int(where[0, y, column, c])
        want[0, 2 * y + tap // 2, 2 * column + tap % 2, c] = x[0, y, column, c]
    assert_all_agree(made, {"x": x, "in0": where}, {"y0": want})


def test_options_of_custom_operators_are_checked(tmp_path):
    x = floats(1, 1, 4, 4, 1)
    for options in (b"", struct.pack("<5i", 7, 2, 2, 2, 2), struct.pack("<5i", 1, 0, 2, 2, 2)):
        with pytest.raises(ConversionError, match="options"):
            converted(tmp_path, custom("MaxPoolingWithArgmax2D", options, x, outputs=2))


def test_flexbuffers():
    from flatbuffers import flexbuffers

    values = {"one": 1, "big": 2**40, "minus": -3, "yes": True, "half": 0.5, "third": 1 / 3, "text": "left out"}
    data = bytes(flexbuffers.Dumps(values))
    assert flexbuffer.numbers(data) == pytest.approx(
        {key: float(value) for key, value in values.items() if key != "text"}
    )
    rng = random.Random(1)
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] = rng.randrange(256)
        try:
            flexbuffer.numbers(bytes(changed[: rng.randrange(1, len(data) + 1)]))
        except ModelFileError:
            continue


# Refusals


def test_all_that_is_not_supported_is_told_at_once(tmp_path):
    tensors = {name: tensor("FLOAT32", 2, 2) for name in "abcd"}
    operators = [
        operator("SVDF", [0], [1]),
        operator("Mystery", [1], [2]),
        operator("ADD", [0, 0], [3], "Add", fused_activation_function=5),
    ]
    with pytest.raises(ConversionError) as caught:
        converted(tmp_path, model(tensors, operators, [0], [2, 3]))
    for part in (
        "SVDF is not supported",
        "custom operator 'Mystery' is not supported",
        "fused activation 5",
        "'b'",
        "'c'",
        "'d'",
    ):
        assert part in str(caught.value)


def test_operands_that_do_not_fit_are_refused(tmp_path):
    tensors = {
        "x": tensor("FLOAT32", 1, 4, 4, 3),
        "w": tensor("FLOAT32", 2, 1, 1, 5, buffer=1),
        "y": tensor("FLOAT32", 1, 4, 4, 2),
    }
    conv = operator("CONV_2D", [0, 1], [2], "Conv2D", stride_h=1, stride_w=1)
    with pytest.raises(ConversionError, match="5 channels do not fit an input of 3"):
        converted(tmp_path, model(tensors, [conv], [0], [2], [floats(1, 2, 1, 1, 5)]))
    conv = operator("CONV_2D", [0, 1], [2], "Conv2D", stride_h=0, stride_w=1)
    tensors["w"] = tensor("FLOAT32", 2, 1, 1, 3, buffer=1)
    with pytest.raises(ConversionError, match="not positive"):
        converted(tmp_path, model(tensors, [conv], [0], [2], [floats(1, 2, 1, 1, 3)]))


def test_a_shape_that_does_not_follow_is_refused(tmp_path):
    tensors = {"x": tensor("FLOAT32", 2, 3), "y": tensor("FLOAT32", 2, 4), "z": tensor("FLOAT32", 2, 4)}
    operators = [operator("ABS", [0], [1]), operator("NEG", [1], [2])]
    with pytest.raises(ConversionError, match=r"'y', .*: it is declared as \[2, 4\] but comes out as \[2, 3\]"):
        converted(tmp_path, model(tensors, operators, [0], [2]))


def test_state_between_runs_is_refused(tmp_path):
    tensors = {"x": tensor("FLOAT32", 2), "h": tensor("RESOURCE"), "y": tensor("FLOAT32", 2)}
    operators = [
        operator("VAR_HANDLE", [], [1], "VarHandle", shared_name="v"),
        operator("ASSIGN_VARIABLE", [1, 0], []),
        operator("READ_VARIABLE", [1], [2]),
    ]
    with pytest.raises(ConversionError, match="changes variables for the next run"):
        converted(tmp_path, model(tensors, operators, [0], [2]))


def test_graphs_that_call_themselves_end(tmp_path):
    code = {"deprecated_builtin_code": 118, "builtin_code": 118}
    names = {"c": tensor("BOOL"), "x": tensor("FLOAT32", 2), "y": tensor("FLOAT32", 2)}
    step = {
        "opcode_index": 0,
        "inputs": [0, 1],
        "outputs": [2],
        "builtin_options_type": 92,
        "builtin_options": ("IfOptions", {"then_subgraph_index": 1, "else_subgraph_index": 1}),
    }
    tensors = [{**item, "name": name} for name, item in names.items()]
    main = {"name": "main", "tensors": tensors, "operators": [step], "inputs": [0, 1], "outputs": [2]}
    inner = {"name": "inner", "tensors": tensors, "operators": [step], "inputs": [1], "outputs": [2]}
    data = flatbuffer({"version": 3, "operator_codes": [code], "subgraphs": [main, inner], "buffers": [{}]})
    start = time.monotonic()
    with pytest.raises(ConversionError):
        converted(tmp_path, data)
    assert time.monotonic() - start < 5


# Damage


def test_tables_that_are_pointed_at_too_often_are_refused():
    tables = schema("Root: parts [Part]\nPart: parts [Part], n i32")
    # One vector of many offsets to one table, whose own vector is the same one.
    count = 4000
    data = bytearray(struct.pack("<I4xHHHxxiI", 16, 6, 8, 4, 8, 4) + struct.pack("<I", count))
    data += b"".join(struct.pack("<i", 16 - (28 + 4 * i)) for i in range(count))
    table = FlatBuffer(bytes(data), tables, "made").root("Root")
    with pytest.raises(ModelFileError):
        for first in table["parts"]:
            for second in first["parts"]:
                second["parts"]


def test_flatbuffers_keep_defaults_and_skip_what_is_unknown():
    small = schema("Model: version u32, more [i32], rate f32 = 1.5,\n  name str")
    data = flatbuffer({"version": 7, "description": "long"})
    table = FlatBuffer(data, small, "made").root("Model")
    assert (table["version"], table["rate"], table["more"].size, table["name"]) == (7, 1.5, 0, "long")
    assert table.unknown() == 0
    assert FlatBuffer(data, schema("Model: version u32"), "made").root("Model").unknown() == 1


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if n in ("controlled", "picture_int8", "moves", "layer_normal_lstm", "detections", "variables")],
)
def test_damaged_files_end_in_an_error_or_a_model(tmp_path, name):
    data, rng = (DATA / f"{name}.tflite").read_bytes(), random.Random(name)
    path = tmp_path / "damaged.tflite"
    refused = 0
    for _ in range(60):
        changed = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        for _ in range(rng.choice((1, 1, 3, 10))):
            at = rng.randrange(max(len(changed), 1))
            changed[at : at + 1] = bytes([rng.choice((0, 1, 127, 255, rng.randrange(256)))])
        path.write_bytes(changed)
        start = time.monotonic()
        try:
            read(Source(path), Options())
        except SardonyxError:
            refused += 1
        assert time.monotonic() - start < 3
    assert refused > 10


def test_what_is_no_tflite_file_is_told(tmp_path):
    with pytest.raises(ModelFileError, match="no TFLite model"):
        file.parse(b"\x1c\0\0\0TFL2" + bytes(40), "made")
    with pytest.raises(ModelFileError, match="cannot be read"):
        file.load(tmp_path / "missing.tflite")


def test_recorded_inputs_are_there():
    assert all(recorded(name)[0] and recorded(name)[1] for name in NAMES)
