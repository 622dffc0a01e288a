"""Record what CNTK computes for tests/convert/cntk: the small networks below, saved, with inputs and outputs.

Run once with cntk 2.7, which is for Python 3.6: `python scripts/record_cntk.py tests/convert/data/cntk`. Its libraries
ask for Open MPI 1.10 (libmpi.so.12, libmpi_cxx.so.1), which a single process never calls.
"""

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import cntk as C  # noqa: E402, N812
import numpy as np  # noqa: E402

OUT = Path(sys.argv[1])
ONLY = sys.argv[2:]
CASES = {}


def case(function):  # noqa: ANN001, ANN201
    """A network: a function that gives it, and the shapes of its inputs or their values."""
    CASES[function.__name__] = function
    return function


def rng(seed=7):  # noqa: ANN001, ANN201
    return np.random.RandomState(seed)


def weights(*shape):  # noqa: ANN002, ANN201
    return rng(sum(shape)).normal(0, 0.5, shape).astype(np.float32)


def image(*shape, **more):  # noqa: ANN002, ANN003, ANN201
    return C.input_variable(shape, **more)


def named(functions):  # noqa: ANN001, ANN201
    """All of these as outputs, each with its name."""
    return C.combine([C.alias(function, name) for name, function in sorted(functions.items())])


@case
def dense():  # noqa: ANN201
    x = image(2, 3, name="x")
    hidden = C.layers.Dense(5, activation=C.relu, name="hidden")(x)
    hidden = C.layers.Dropout(0.4)(hidden)
    wide = C.layers.Dense((2, 4), activation=C.tanh, bias=False)(hidden)
    return named({"scores": C.softmax(C.layers.Dense(4)(wide)), "wide": wide})


@case
def unary():  # noqa: ANN201
    x = image(3, 4, name="x")
    half = 0.9 * C.tanh(x)
    more = C.abs(x) + 1
    names = "negate sigmoid tanh relu exp floor ceil round abs sin cos tan atan sinh cosh asinh softplus elu selu"
    made = {name: getattr(C, name)(x) for name in [*names.split(), "softsign"]}
    made["hard_sigmoid"] = C.hard_sigmoid(x, 0.3, 0.4)
    made.update({name: getattr(C, name)(half) for name in ("asin", "acos", "atanh")})
    made.update({name: getattr(C, name)(more) for name in ("log", "sqrt", "reciprocal", "square")})
    made["leaky_relu"] = C.leaky_relu(x, 0.2)
    made["param_relu"] = C.param_relu(C.parameter((4,), init=weights(4)), x)
    made["log_softmax"] = C.log_softmax(x)
    made["log_softmax_0"] = C.log_softmax(x, axis=0)
    made["softmax_0"] = C.softmax(x, axis=0)
    made["softmax_1"] = C.softmax(x, axis=1)
    made["hardmax"] = C.hardmax(x)
    made["log_of_less"], made["sqrt_of_less"], made["reciprocal_of_zero"] = C.log(x), C.sqrt(x), C.reciprocal(C.relu(x))
    made["filled"], made["cast"] = C.ones_like(x), C.cast(x, np.float32)
    made["clip"] = C.clip(x, -0.5, 0.75)
    made["stopped"] = C.stop_gradient(x)
    made["flat"] = C.flatten(x)
    made["elu_2"] = C.elu(x, 0.5)
    return named(made)


@case
def binary():  # noqa: ANN201
    x, y = image(3, 4, name="x"), image(4, name="y")
    c = C.constant(weights(2, 3, 4))
    positive = C.abs(x) + 0.5
    made = {
        "plus": x + y,
        "minus": x - y,
        "times": x * y,
        "divide": x / (C.abs(y) + 1),
        "pow": C.pow(positive, y),
        "log_add": C.log_add_exp(x, y),
        "maximum": C.element_max(x, y),
        "minimum": C.element_min(x, y),
        "less": C.less(x, y),
        "less_equal": C.less_equal(x, y),
        "equal": C.equal(x, y),
        "more": C.greater(x, y),
        "greater_equal": C.greater_equal(x, y),
        "not_equal": C.not_equal(x, y),
        "select": C.element_select(C.greater(x, 0), x, y),
        "higher": x + c,
        "scalar": 2 - x,
        "cube": c * y,
        "cos_distance": C.cosine_distance(y, y * y + 1),
        "logical": C.element_and(C.greater(x, 0), C.less(x, 1)),
        "either": C.element_or(C.greater(x, 1), C.less(x, 0)),
        "not": C.element_not(C.greater(x, 0)),
        "xor": C.element_xor(C.greater(x, 0), C.greater(y, 0)),
        "mean": C.mean([x, x * 2, y]),
        "sum": C.sum([x, y, y]),
    }
    return named(made)


@case
def reductions():  # noqa: ANN201
    x = image(2, 3, 4, name="x")
    made = {}
    for name in ("sum", "mean", "max", "min", "prod", "log_sum_exp", "l1", "l2", "sum_square"):
        reduce = getattr(C, "reduce_" + name)
        made[name + "_last"] = reduce(x, axis=2)
        made[name + "_first"] = reduce(x, axis=0)
        if name not in ("l1", "l2", "sum_square"):
            made[name + "_all"] = reduce(x, axis=C.Axis.all_static_axes())
            made[name + "_two"] = reduce(x, axis=(0, 2))
            made[name + "_dropped"] = reduce(x, axis=1, keepdims=False)
            made[name + "_negative"] = reduce(x, axis=-1)
    made["argmax"] = C.argmax(x, axis=1)
    made["argmin"] = C.argmin(x, axis=-1)
    return named(made)


@case
def shapes():  # noqa: ANN201
    x = image(2, 3, 4, name="x")
    y = image(2, 1, 4, name="y")
    made = {
        "reshape": C.reshape(x, (4, 6)),
        "inferred": C.reshape(x, (-1, 2)),
        "partly": C.reshape(x, (6,), begin_axis=0, end_axis=2),
        "inner": C.reshape(x, (2, 2, 3), begin_axis=1),
        "inserted": C.reshape(x, (1,), begin_axis=1, end_axis=1),
        "dropped": C.squeeze(y),
        "squeeze_1": C.squeeze(y, 1),
        "expanded": C.expand_dims(x, 1),
        "transpose": C.transpose(x, (2, 0, 1)),
        "swap": C.swapaxes(x, 0, 2),
        "slice": C.slice(x, 2, 1, 3),
        "slice_end": C.slice(x, 1, -2, 0),
        "slice_two": C.slice(x, [0, 2], [1, 0], [2, -1]),
        "strided": C.slice(x, 2, 0, 4, 2),
        "index": x[1, :, 2:],
        "splice": C.splice(x, y, axis=1),
        "splice_new": C.splice(y, y + 1, axis=-4),
        "splice_last": C.splice(x, C.constant(weights(2, 3, 2))),
        "pad": C.pad(x, [(0, 0), (1, 2), (0, 1)], mode=0, constant_value=0.5),
        "reflect": C.pad(x, [(1, 1), (2, 0), (0, 1)], mode=1),
        "symmetric": C.pad(x, [(1, 1), (2, 0), (0, 1)], mode=2),
        "flat": C.flatten(x, 1),
        "flat2": C.flatten(x, 2),
        "crop": C.crop_manual(x, image(2, 2, 2, name="z"), 1, 0),
        "swap_2": C.transpose(x, (0, 2, 1)),
    }
    return named(made)


@case
def products():  # noqa: ANN201
    x, y = image(3, name="x"), image(2, 3, name="y")
    p = C.parameter((3, 4), init=weights(3, 4))
    q = C.parameter((2, 3, 4, 5), init=weights(2, 3, 4, 5))
    r = C.parameter((4, 3), init=weights(4, 3))
    made = {
        "vector": C.times(x, p),
        "matrix": C.times(y, p),
        "both": C.times(y, q, output_rank=2),
        "outer": C.times(C.reshape(x, (3, 1)), C.reshape(x, (1, 3))),
        "turned": C.times_transpose(x, r),
        "live": C.times(y, C.reshape(x, (3, 1))),
        "left": C.times(r, C.reshape(x, (3, 1))),
        "turned_live": C.times_transpose(y, C.reshape(x, (1, 3))),
    }
    return named(made)


@case
def convolutions():  # noqa: ANN201
    x = image(3, 9, 8, name="x")
    K = C.layers.Convolution2D
    made = {
        "valid": K(3, 4, pad=False)(x),
        "same": K((3, 2), 4, pad=True)(x),
        "even": K(4, 4, pad=True, strides=2)(x),
        "same_strided": K(3, 2, pad=True, strides=(2, 3), bias=False)(x),
        "mixed": K(3, 4, pad=(True, False))(x),
        "grouped": C.convolution(
            C.parameter((6, 1, 3, 3), init=weights(6, 1, 3, 3)), x, groups=3, auto_padding=[False, True, True]
        ),
        "relu": K(1, 5, activation=C.relu)(x),
        "asked": C.convolution(
            C.parameter((4, 3, 3, 3), init=weights(4, 3, 3, 3)), x, auto_padding=[False, True, True]
        ),
        "no_channels": K(3, 4, reduction_rank=0, pad=True)(image(9, 8, name="g")),
        "even_even": K(2, 4, pad=True)(x),
        "five": K(5, 4, pad=True, strides=3)(x),
        "sparse": K(1, 2, pad=True, strides=(4, 3))(x),
    }
    return named(made)


@case
def convolutions_other():  # noqa: ANN201
    line, cube = image(3, 11, name="line"), image(2, 5, 6, 7, name="cube")
    x = image(3, 5, 4, name="x")
    T = C.layers.ConvolutionTranspose2D
    made = {
        "line_same": C.layers.Convolution1D(3, 4, pad=True)(line),
        "cube_same": C.layers.Convolution3D((2, 3, 3), 4, pad=True)(cube),
        "line_strided": C.layers.Convolution1D(4, 4, strides=2, pad=True)(line),
        "up": T(3, 4, strides=2, pad=True)(x),
        "up_valid": T(3, 4, strides=2)(x),
        "up_even": T(4, 4, strides=2, pad=True)(x),
        "up_sized": T(3, 4, strides=2, pad=True, output_shape=(10, 8))(x),
        "up_one": T((2, 3), 4)(x),
        "cube_strided": C.layers.Convolution3D(3, 2, strides=2, pad=False)(cube),
    }
    return named(made)


@case
def poolings():  # noqa: ANN201
    x = image(3, 9, 8, name="x")
    M, A = C.layers.MaxPooling, C.layers.AveragePooling
    made = {
        "max": M((3, 3), strides=2)(x),
        "max_same": M((3, 3), strides=2, pad=True)(x),
        "max_even": M((2, 2), 2, pad=True)(x),
        "average": A((3, 3), strides=2)(x),
        "average_same": A((3, 3), strides=2, pad=True)(x),
        "average_even": A((4, 4), 3, pad=True)(x),
        "global": C.layers.GlobalAveragePooling()(x),
        "global_max": C.layers.GlobalMaxPooling()(x),
        "ceil": C.pooling(x, C.MAX_POOLING, (2, 3), (2, 2), ceil_out_dim=True),
        "ceil_average": C.pooling(x, C.AVG_POOLING, (2, 3), (2, 2), ceil_out_dim=True),
        "included": C.pooling(x, C.AVG_POOLING, (3, 3), (2, 2), auto_padding=[True, True], include_pad=True),
        "included_even": C.pooling(x, C.AVG_POOLING, (4, 2), (3, 2), auto_padding=[True, True], include_pad=True),
        "channels": C.pooling(x, C.MAX_POOLING, (1, 3, 3), (1, 2, 2), auto_padding=[False, True, True]),
    }
    return named(made)


@case
def normalizations():  # noqa: ANN201
    x, y = image(3, 5, 4, name="x"), image(6, name="y")

    def statistics(size):  # noqa: ANN001, ANN202
        mean, scale = C.parameter(size, init=weights(size)), C.parameter(size, init=weights(size + 1)[:size])
        return scale, C.parameter(size, init=weights(size + 2)[:size]), C.constant(weights(size + 3)[:size]), mean

    scale, bias, mean, _ = statistics(3)
    variance = C.constant(np.abs(weights(4)[:3]) + 0.2)
    scale2, bias2, mean2, _ = statistics(6)
    variance2 = C.constant(np.abs(weights(16)[:6]) + 0.2)
    count = C.constant(np.zeros((), np.float32))
    made = {
        "spatial": C.batch_normalization(
            x, scale, bias, mean, variance, spatial=True, running_count=count, epsilon=0.01
        ),
        "vector": C.batch_normalization(y, scale2, bias2, mean2, variance2, spatial=False, running_count=count),
        "layer": C.layers.LayerNormalization()(y),
        "layer_norm_block": C.layers.BatchNormalization(map_rank=1)(x),
        "block_vector": C.layers.BatchNormalization()(y),
        "mvn": C.mean_variance_normalization(x, use_stats_across_channels=False),
        "mvn_all": C.mean_variance_normalization(x, use_stats_across_channels=True, do_variance_scaling=False),
        "lrn": C.local_response_normalization(x, 1, 2.0, 0.3, 0.75),
        "instance": C.layers.BatchNormalization(map_rank=1, disable_regularization=True)(x * 2),
    }
    return named(made)


@case
def choices():  # noqa: ANN201
    x, k = image(5, name="x"), image(3, name="k")
    table = C.parameter((5, 2), init=weights(5, 2))
    made = {
        "gather": C.gather(table, k),
        "one_hot": C.one_hot(k, 5),
        "embedding": C.layers.Embedding(4)(x),
        "hot_embedding": C.times(C.one_hot(k, 5), table),
        "top": C.combine([C.top_k(x, 3)]).outputs[0],
        "gather_axis": C.gather(C.parameter((2, 5), init=weights(2, 5)), k, axis=1),
        "one_hot_first": C.one_hot(k, 5, axis=0),
    }
    return named(made)


@case
def classifier():  # noqa: ANN201
    """As it is trained: with its loss and its error beside."""
    x, label = image(3, 16, 16, name="features"), image(4, name="label")
    h = x
    for i, size in enumerate((8, 12)):
        h = C.layers.Convolution2D(3, size, pad=True, name=f"conv{i}")(h)
        h = C.relu(C.layers.BatchNormalization(map_rank=1)(h))
        h = C.layers.MaxPooling((3, 3), 2)(h)
    shortcut = h
    h = C.layers.Convolution2D(3, 12, pad=True, bias=False)(h) + shortcut
    h = C.layers.GlobalAveragePooling()(C.relu(h))
    z = C.layers.Dense(4, name="z")(h)
    return C.combine(
        [z, C.cross_entropy_with_softmax(z, label, name="loss"), C.classification_error(z, label, name="err")]
    )


def sequence(size):  # noqa: ANN001, ANN201
    return C.sequence.input_variable(size, name="x")


@case
def recurrence():  # noqa: ANN201
    x = sequence(3)
    R, L = C.layers.Recurrence, C.layers
    made = {
        "lstm": R(L.LSTM(4))(x),
        "gru": R(L.GRU(4))(x),
        "rnn": R(L.RNNStep(4))(x),
        "backward": R(L.LSTM(3), go_backwards=True)(x),
        "first": C.sequence.first(R(L.LSTM(3))(x)),
        "last": C.sequence.last(R(L.GRU(3))(x)),
        "lstm_peephole": R(L.LSTM(3, use_peepholes=True))(x),
        "stabilized": R(L.LSTM(3, enable_self_stabilization=True))(x),
        "initial": R(L.GRU(3), initial_state=0.3)(x),
    }
    return named(made)


@case
def sequences():  # noqa: ANN201
    x = sequence(3)
    made = {
        "past": C.sequence.past_value(x),
        "past_2": C.sequence.past_value(x, 0.5, 2),
        "future": C.sequence.future_value(x),
        "dense": C.layers.Dense(2)(x),
        "first": C.sequence.first(x),
        "last": C.sequence.last(x),
        "sum": C.sequence.reduce_sum(x),
        "max": C.sequence.reduce_max(x),
        "softmax": C.sequence.softmax(x),
        "slice": C.sequence.slice(x, 1, 3),
        "unpacked": C.sequence.unpack(x, 0, no_mask_output=True),
        "is_first": C.sequence.is_first(x),
        "is_last": C.sequence.is_last(x),
        "broadcast": C.sequence.broadcast_as(C.sequence.last(x), x) + x,
        "past_initial": C.sequence.past_value(x, C.constant(weights(3))),
    }
    return named(made)


@case
def tagger():  # noqa: ANN201
    x = sequence(6)
    h = C.layers.Embedding(4)(x)
    h = C.splice(C.layers.Recurrence(C.layers.LSTM(3))(h), C.layers.Recurrence(C.layers.LSTM(3), go_backwards=True)(h))
    return C.layers.Dense(3, name="tags")(h)


@case
def frames():  # noqa: ANN201
    """Windows over every step of a sequence."""
    x = sequence((2, 6, 5))
    made = {
        "convolution": C.layers.Convolution2D(3, 3, pad=True)(x),
        "pooling": C.layers.MaxPooling((2, 2), 2)(x),
        "norm": C.layers.BatchNormalization(map_rank=1)(x),
        "up": C.layers.ConvolutionTranspose2D(2, 3, strides=2)(x),
        "flat": C.layers.Dense(3)(x),
        "turned": C.swapaxes(x, 0, 2),
        "joined": C.splice(x, C.constant(weights(1, 6, 5)), axis=0),
        "mixed": x + C.constant(weights(2, 2, 6, 5)),
        "softmax": C.softmax(x, axis=0),
    }
    return named(made)


@case
def stacks():  # noqa: ANN201
    """Loops in loops' results, states that are given, and loops without blocks."""
    x, h = sequence(3), image(4, name="h")
    L, R = C.layers, C.layers.Recurrence
    placeholder = C.placeholder(name="before")
    w = C.parameter((3, 3), init=weights(3, 3))
    total = C.tanh(C.times(C.sequence.past_value(placeholder, 0.2), w) + x)
    running = C.placeholder(name="running")
    both = C.sequence.past_value(running) + x
    twice = R(L.GRU(3), go_backwards=True)(R(L.LSTM(4))(x))
    made = {
        "twice": twice,
        "fold": L.Fold(L.GRU(4))(x),
        "from": L.RecurrenceFrom(L.GRU(4))(h, x),
        "plain": total.replace_placeholders({placeholder: total.output}),
        "sum": both.replace_placeholders({running: both.output}),
        "delayed": C.sequence.past_value(x, C.times(h, C.parameter((4, 3), init=weights(4, 3)))),
        "lstm_pair": C.combine(R(L.LSTM(3), return_full_state=True)(x)).outputs[1],
    }
    return named(made)


@case
def attention():  # noqa: ANN201
    """Over one sequence, by the state after another."""
    source = C.sequence.input_variable(3, sequence_axis=C.Axis("source"), name="source")
    x = sequence(3)
    encoded = C.layers.Recurrence(C.layers.GRU(4))(source)
    query = C.layers.Dense(4)(C.sequence.last(C.layers.Recurrence(C.layers.LSTM(4))(x)))
    scores = C.reduce_sum(encoded * C.sequence.broadcast_as(query, encoded), axis=0)
    weighted = encoded * C.sequence.softmax(scores)
    return named({"context": C.sequence.reduce_sum(weighted), "query": query})


@case
def sequence_convolutions():  # noqa: ANN201
    x = sequence(3)
    S = C.layers.SequentialConvolution
    made = {
        "same": S(3, 4, pad=True, reduction_rank=1)(x),
        "even": S(2, 2, pad=True, reduction_rank=1)(x),
        "valid": S(3, 4, pad=False, reduction_rank=1)(x),
    }
    return named(made)


@case
def doubles():  # noqa: ANN201
    x = C.input_variable((2, 3), dtype=np.float64, name="x")
    w = C.parameter((3, 4), init=weights(3, 4).astype(np.float64), dtype=np.float64)
    return named({"y": C.times(x, w), "s": C.softmax(C.times(x, w)), "ls": C.log_softmax(C.flatten(x))})


@case
def packed():  # noqa: ANN201
    x = image(5, 3, name="x")
    steps = C.to_sequence(x)
    made = {
        "rnn": C.layers.Recurrence(C.layers.RNNStep(2))(steps),
        "last": C.sequence.last(steps),
        "sum": C.sequence.reduce_sum(steps),
        "ends": C.sequence.slice(steps, 1, -1),
        "tail": C.sequence.slice(steps, -2, 0),
    }
    return named(made)


VALUES = {"k": lambda rng, shape: rng.randint(0, 5, shape)}


def record(name):  # noqa: ANN001, ANN201
    """The saved network with what it computes for two rows, in one file."""
    function, rand = CASES[name](), rng()
    # Parameters that begin as zeros would tell nothing.
    for parameter in function.parameters:
        if not np.any(parameter.value):
            parameter.value = rand.normal(0, 0.5, parameter.shape).astype(np.float32)
    for constant in function.constants:
        if constant.name in ("aggregate_mean", "aggregate_variance"):
            constant.value = np.abs(rand.normal(0, 0.5, constant.shape)).astype(np.float32) + 0.1
    path = OUT / (name + ".model")
    function.save(str(path))
    arrays = {"model": np.fromfile(str(path), np.uint8)}
    path.unlink()
    for x in function.arguments:
        timed = (6 if x.name == "source" else 4) if len(x.dynamic_axes) > 1 else None
        shape = (2,) + ((timed,) if timed else ()) + x.shape
        made = VALUES[x.name](rand, shape) if x.name in VALUES else rand.normal(0, 1, shape)
        arrays["in/" + x.name] = made.astype(np.float32)
    values = function.eval({x: arrays["in/" + x.name].astype(x.dtype) for x in function.arguments})
    if len(function.outputs) == 1:
        values = {function.outputs[0]: values}
    for output, value in values.items():
        key = output.owner.name or output.name or output.uid
        arrays["out/" + key] = np.asarray(value, np.float32)
    np.savez_compressed(str(OUT / (name + ".npz")), **arrays)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for each in ONLY or sorted(CASES):
        record(each)
