"""The provider `host`: strings, sequences, maps, optionals, and operators that the user registers."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.backend.test.case.node import collect_testcases

import sardonyx
from sardonyx.errors import InvalidInputError
from sardonyx.providers.host_ops import HOST

ML = "ai.onnx.ml"
STRING, FLOAT, INT64 = TensorProto.STRING, TensorProto.FLOAT, TensorProto.INT64


def strings(*items):
    return np.array(items, object)


def model_of(nodes, feeds, outputs, opset=21, ml=3, domains=()):
    """Outputs: (name, element type or a TypeProto)."""
    nodes = nodes if isinstance(nodes, list) else [nodes]

    def kind(array):
        return STRING if array.dtype == object else helper.np_dtype_to_tensor_dtype(array.dtype)

    inputs = [helper.make_tensor_value_info(name, kind(array), array.shape) for name, array in feeds.items()]
    results = [
        helper.make_tensor_value_info(name, of, None) if isinstance(of, int) else helper.make_value_info(name, of)
        for name, of in outputs
    ]
    opsets = [("", opset), (ML, ml), *((domain, 1) for domain in domains)]
    graph = helper.make_graph(nodes, "g", inputs, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*one) for one in opsets], ir_version=10)


def ours(model, feeds, provider="host"):
    session = sardonyx.InferenceSession(model)
    assert {placement.provider for placement in session.explain()} == {provider}, session.explain()
    return session.run(None, feeds)


def theirs(model, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


# ---- the standard's own cases ----------------------------------------------------------------------------------------


def _value(proto):
    readers = {
        onnx.TensorProto: numpy_helper.to_array,
        onnx.SequenceProto: numpy_helper.to_list,
        onnx.OptionalProto: numpy_helper.to_optional,
    }
    read = readers.get(type(proto))
    return proto if read is None else read(proto)


def _is_hosted(case):
    moves = ("Split", "Concat", "Identity", "Cast", "Gather", "Unique", "Reshape")
    nodes = case.model.graph.node
    return "expanded" not in case.name and any(
        (node.domain, node.op_type) in HOST and (node.domain or node.op_type not in moves) for node in nodes
    )


STANDARD = [case for case in collect_testcases(None) if _is_hosted(case)]
BODIES = [
    case
    for case in collect_testcases(None)
    if case.name.startswith(("test_sequence_map", "test_if_seq", "test_if_opt", "test_loop13_seq", "test_loop16_seq"))
]
TEXTS = [case for case in collect_testcases(None) if "string" in case.name.lower() and case not in STANDARD]


def _same(found, expected):
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _same(one, other)
    elif expected is None:
        assert found is None
    else:
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.shape == expected.shape
        if expected.dtype.kind in "OSUT":
            assert [str(item) for item in found.flat] == [
                item.decode() if isinstance(item, bytes) else str(item) for item in expected.flat
            ]
        else:
            np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", [*STANDARD, *BODIES, *TEXTS], ids=lambda case: case.name)
def test_the_standards_cases(case):
    session = sardonyx.InferenceSession(case.model)
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        feeds = {name: _value(proto) for name, proto in zip(names, inputs, strict=False)}
        for found, expected in zip(session.run(None, feeds), outputs, strict=True):
            _same(found, _value(expected))


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
def test_bodies_with_sequences_run_here(case):
    assert {placement.provider for placement in sardonyx.InferenceSession(case.model).explain()} <= {"cpu", "host"}


def test_sequences_of_different_lengths():
    text = """
        <ir_version: 10, opset_import: ["": 21]>
        agraph (seq(float[N]) a, seq(float[N]) b) => (seq(float[N]) c)
        { c = SequenceMap <body = add (float[N] x, float[N] y) => (float[N] z) { z = Add(x, y) }> (a, b) }
    """
    session = sardonyx.InferenceSession(parser.parse_model(text))
    items = [np.ones(3, np.float32), np.ones(1, np.float32)]
    assert [item.tolist() for item in session.run(None, {"a": items, "b": items})[0]] == [[2, 2, 2], [2]]
    with pytest.raises(sardonyx.ExecutionError, match="different lengths"):
        session.run(None, {"a": items, "b": items[:1]})


def test_those_cases_are_many():
    assert len(STANDARD) > 60
    assert len(BODIES) >= 10
    assert {"StringSplit", "SequenceInsert", "TfIdfVectorizer", "OptionalGetElement"} <= {
        node.op_type for case in STANDARD for node in case.model.graph.node
    }


# ---- against onnxruntime ---------------------------------------------------------------------------------------------

WORDS = strings("red", "green", "blue", "red", "")
MAP = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, None))
MAPS = helper.make_sequence_type_proto(MAP)
ROWS = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
PEER = {
    "LabelEncoder": (
        helper.make_node(
            "LabelEncoder", ["x"], ["y"], domain=ML, keys_strings=["red", "blue", "red"], values_int64s=[4, 5, 6]
        ),
        WORDS,
        INT64,
    ),
    "LabelEncoder-back": (
        helper.make_node("LabelEncoder", ["x"], ["y"], domain=ML, keys_int64s=[4, 5], values_strings=["red", "blue"]),
        np.array([5, 4, 9]),
        STRING,
    ),
    "CategoryMapper": (
        helper.make_node("CategoryMapper", ["x"], ["y"], domain=ML, cats_int64s=[4, 5], cats_strings=["red", "blue"]),
        WORDS,
        INT64,
    ),
    "CategoryMapper-back": (
        helper.make_node("CategoryMapper", ["x"], ["y"], domain=ML, cats_int64s=[4, 5], cats_strings=["red", "blue"]),
        np.array([[5, 4], [0, 4]]),
        STRING,
    ),
    "OneHotEncoder": (
        helper.make_node("OneHotEncoder", ["x"], ["y"], domain=ML, cats_strings=["red", "green", "red"]),
        WORDS,
        FLOAT,
    ),
    "ArrayFeatureExtractor": (
        [
            helper.make_node("Constant", [], ["i"], value=numpy_helper.from_array(np.array([2, 0]))),
            helper.make_node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain=ML),
        ],
        WORDS[:4].reshape(1, 4),
        STRING,
    ),
    "ZipMap": (helper.make_node("ZipMap", ["x"], ["y"], domain=ML, classlabels_int64s=[7, 9]), ROWS, MAPS),
    "Cast-from-text": (
        helper.make_node("Cast", ["x"], ["y"], to=FLOAT),
        strings("1", "-2.5e3", "inf", "-INF", "nan", "7e-42"),
        FLOAT,
    ),
    "Cast-to-int": (helper.make_node("Cast", ["x"], ["y"], to=INT64), strings("12", "-7"), INT64),
    "Cast-to-text": (helper.make_node("Cast", ["x"], ["y"], to=STRING), np.array([3, -4]), STRING),
    "Cast-floats": (
        helper.make_node("Cast", ["x"], ["y"], to=STRING),
        np.array([1, 0.1, -1.5e-7, 1e20, 16777216, 3.14159274, np.nan, np.inf, -np.inf], np.float32),
        STRING,
    ),
    "Equal": (helper.make_node("Equal", ["x", "x"], ["y"]), WORDS, TensorProto.BOOL),
    "Concat": (helper.make_node("Concat", ["x", "x"], ["y"], axis=0), WORDS, STRING),
    "StringConcat": (helper.make_node("StringConcat", ["x", "x"], ["y"]), WORDS, STRING),
    "RegexFullMatch": (
        helper.make_node("RegexFullMatch", ["x"], ["y"], pattern="[[:alpha:]]+d?"),
        WORDS,
        TensorProto.BOOL,
    ),
    "TfIdfVectorizer": (
        helper.make_node(
            "TfIdfVectorizer",
            ["x"],
            ["y"],
            mode="TFIDF",
            min_gram_length=1,
            max_gram_length=2,
            max_skip_count=2,
            ngram_counts=[0, 3],
            ngram_indexes=[0, 3, 1, 2, 4],
            pool_strings=["red", "green", "blue", "red", "blue", "green", "red"],
            weights=[1.0, 2.0, 0.5, 3.0, 4.0],
        ),
        WORDS,
        FLOAT,
    ),
}


@pytest.mark.parametrize("name", PEER)
def test_as_onnxruntime(name):
    nodes, x, kind = PEER[name]
    model, feeds = model_of(nodes, {"x": x}, [("y", kind)]), {"x": x}
    session = sardonyx.InferenceSession(model)
    assert session.explain()[-1].provider == "host"
    (found,), (expected,) = session.run(None, feeds), theirs(model, feeds)
    if isinstance(expected, list):
        assert found == expected
    else:
        _same(found, expected)


def test_many_rows_of_maps():
    x = np.random.default_rng(0).random((1000, 3), np.float32)
    node = helper.make_node("ZipMap", ["x"], ["y"], domain=ML, classlabels_strings=["a", "b", "c"])
    of = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, None))
    (rows,) = ours(model_of(node, {"x": x}, [("y", helper.make_sequence_type_proto(of))]), {"x": x})
    assert rows == [dict(zip("abc", row, strict=True)) for row in x.tolist()]
    rows[0]["a"] = 5.0
    assert rows[1]["a"] == x[1, 0]


def test_maps_are_vectors():
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain=ML, string_vocabulary=["a", "b", "c"])
    kind = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, None))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, 3)]
    graph = helper.make_graph(
        [node], "g", [helper.make_value_info("x", kind)], [helper.make_tensor_value_info("y", FLOAT, None)]
    )
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    feeds = {"x": {"c": 2.0, "a": 1.5, "z": 9.0}}
    _same(ours(model, feeds)[0], theirs(model, feeds)[0])


@pytest.mark.parametrize("form", ["DENSE", "SPARSE"])
@pytest.mark.parametrize("to", ["TO_FLOAT", "TO_INT64", "TO_STRING"])
def test_maps_are_cast(form, to):
    node = helper.make_node("CastMap", ["x"], ["y"], domain=ML, cast_to=to, map_form=form, max_map=4)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(ML, 3)]
    kind = {"TO_FLOAT": FLOAT, "TO_INT64": INT64, "TO_STRING": STRING}[to]
    graph = helper.make_graph(
        [node], "g", [helper.make_value_info("x", MAP)], [helper.make_tensor_value_info("y", kind, None)]
    )
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    feeds = {"x": {3: 2.0, 1: 5.0}}
    _same(ours(model, feeds)[0], theirs(model, feeds)[0])


# ---- errors, and whose memory it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "x", "message"),
    [
        (helper.make_node("Cast", ["x"], ["y"], "here", to=FLOAT), strings("one"), "one"),
        (helper.make_node("Cast", ["x"], ["y"], "here", to=TensorProto.INT8), strings("300"), "int8"),
        (helper.make_node("Reshape", ["x", "x0"], ["y"], "here"), strings("a"), "reshape"),
        (
            helper.make_node("OneHotEncoder", ["x"], ["y"], "here", domain=ML, cats_strings=["b"], zeros=0),
            strings("a"),
            "categories",
        ),
    ],
)
def test_values_that_do_not_fit(node, x, message):
    feeds = {"x": x, "x0": np.array([7])} if len(node.input) > 1 else {"x": x}
    kind = FLOAT if node.op_type == "OneHotEncoder" else node.attribute[0].i if node.attribute else STRING
    with pytest.raises(sardonyx.ExecutionError, match=message) as caught:
        ours(model_of(node, feeds, [("y", kind)]), feeds)
    assert "here" in caught.value.where


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "a++", "(", "(?<!x)y"])
def test_patterns_that_are_not_re2s(pattern):
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], "here", pattern=pattern)
    with pytest.raises(sardonyx.InvalidModelError, match="here"):
        ours(model_of(node, {"x": WORDS}, [("y", TensorProto.BOOL)]), {"x": WORDS})


def test_patterns_take_time_linear_in_the_text():
    words = np.array(["a" * 5000], dtype=object)
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern="(a+)+b")
    (found,) = ours(model_of(node, {"x": words}, [("y", TensorProto.BOOL)]), {"x": words})
    assert not found[0]


def test_results_are_no_ones_else():
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Reshape", ["x", "s"], ["b"]),
        helper.make_node("SequenceConstruct", ["x", "x"], ["c"]),
    ]
    feeds = {"x": WORDS.copy(), "s": np.array([5, 1])}
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(STRING, None))
    a, b, c = ours(model_of(nodes, feeds, [("a", STRING), ("b", STRING), ("c", kind)]), feeds)
    for array in (a, b, *c):
        array.reshape(-1)[0] = "changed"
    assert feeds["x"][0] == "red"
    assert a[1] == b[1, 0] == "green"


def test_texts_and_numbers_in_one_model():
    text = """
        <ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 3]>
        agraph (string[N] city, float[N, 2] x) => (float[N, 1] y, string[N] back)
        {
            code = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"], values_floats = [1.0, 2.0]> (city)
            axis = Constant <value_ints = [1]> ()
            column = Unsqueeze (code, axis)
            joined = Concat <axis = 1> (x, column)
            y = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 10.0, 100.0], intercepts = [0.5]> (joined)
            back = Cast <to = 8> (code)
        }
    """
    session = sardonyx.InferenceSession(parser.parse_model(text))
    providers = {placement.op: placement.provider for placement in session.explain()}
    assert providers["ai.onnx.ml::LinearRegressor"] == "cpu"
    y, back = session.run(None, {"city": strings("b", "a"), "x": np.array([[1, 2], [3, 4]], np.float32)})
    assert y.tolist() == [[221.5], [143.5]]
    assert back.tolist() == ["2", "1"]


# ---- operators of the user's -----------------------------------------------------------------------------------------


@pytest.fixture
def scaled():
    def fn(x, weights=None, *, factor=1.0, names=(), table=None):
        made = x * np.float32(factor)
        return (made if weights is None else made * weights), np.array(
            len(names) + (0 if table is None else table.sum())
        )

    def shape(x, weights=None, **attributes):
        return [(x.dtype, x.dims), (np.int64, ())]

    sardonyx.register_op("com.acme", "Scaled", fn, shape)
    yield
    sardonyx.unregister_op("com.acme", "Scaled")


def _acme(outputs=(("y", FLOAT),), **attributes):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Scaled", ["r"], ["s", "n"], "mine", domain="com.acme", **attributes),
        helper.make_node("Exp", ["s"], ["y"]),
    ]
    return model_of(nodes, {"x": np.zeros((300, 4), np.float32)}, outputs, domains=["com.acme"])


X = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)


@pytest.mark.usefixtures("scaled")
def test_a_function_is_an_operator():
    table = numpy_helper.from_array(np.array([2, 3]))
    model = _acme([("y", FLOAT), ("n", INT64)], factor=0.5, names=["a", "b"], table=table)
    session = sardonyx.InferenceSession(model)
    assert [p.provider for p in session.explain()] == ["cpu", "host", "cpu"], "with a shape rule what follows is native"
    y, n = session.run(None, {"x": X})
    np.testing.assert_allclose(y, np.exp(np.maximum(X, 0) * 0.5), rtol=1e-6)
    assert n == 7


@pytest.mark.usefixtures("scaled")
def test_many_threads_may_call_it():
    session = sardonyx.InferenceSession(_acme(factor=2.0))
    expected = session.run(None, {"x": X})[0]
    found = []

    def call():
        found.extend(session.run(None, {"x": X})[0] for _ in range(20))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(np.array_equal(one, expected) for one in found)


def test_without_a_shape_rule():
    sardonyx.register_op("com.acme", "Scaled", lambda x, **attributes: (x * 2, np.array(1)))
    try:
        session = sardonyx.InferenceSession(_acme())
        np.testing.assert_allclose(session.run(None, {"x": X})[0], np.exp(np.maximum(X, 0) * 2), rtol=1e-6)
    finally:
        sardonyx.unregister_op("com.acme", "Scaled")
    with pytest.raises(sardonyx.UnsupportedOperatorError, match=r"com\.acme"):
        sardonyx.InferenceSession(_acme())


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: x, "fewer outputs"),
        (lambda x: (x.astype(np.float64), np.array(1)), "float32 is declared"),
        (lambda x: (x[0], np.array(1)), "2 dimensions are declared"),
        (lambda x: (None, np.array(1)), "nothing where float32"),
    ],
)
def test_a_function_that_fails_is_named(fn, message):
    sardonyx.register_op("com.acme", "Scaled", fn, lambda x: [(x.dtype, x.dims), (np.int64, ())])
    try:
        with pytest.raises(sardonyx.ExecutionError, match=message) as caught:
            sardonyx.InferenceSession(_acme()).run(None, {"x": X})
        assert "mine" in caught.value.where
    finally:
        sardonyx.unregister_op("com.acme", "Scaled")


def test_a_shape_rule_that_fails_is_named():
    sardonyx.register_op("com.acme", "Scaled", lambda x: (x, x), lambda x: [(x.dtype, x.nothing)])
    try:
        with pytest.raises(InvalidInputError, match=r"shape rule of com\.acme::Scaled"):
            sardonyx.InferenceSession(_acme())
    finally:
        sardonyx.unregister_op("com.acme", "Scaled")


@pytest.mark.parametrize(
    ("domain", "name", "fn"),
    [
        ("", "Mine", abs),
        ("ai.onnx", "Relu", abs),
        ("com acme", "Mine", abs),
        ("com.acme", "", abs),
        ("com.acme", "1st", abs),
        (None, "Mine", abs),
        ("com.acme", "Mine", 7),
    ],
)
def test_what_cannot_be_registered(domain, name, fn):
    with pytest.raises(InvalidInputError):
        sardonyx.register_op(domain, name, fn)


def test_names_are_taken_once():
    sardonyx.register_op("com.acme", "Once", abs)
    with pytest.raises(InvalidInputError, match="registered"):
        sardonyx.register_op("com.acme", "Once", abs)
    sardonyx.unregister_op("com.acme", "Once")
    with pytest.raises(InvalidInputError, match="no such operator"):
        sardonyx.unregister_op("com.acme", "Once")
