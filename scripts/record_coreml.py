"""Record CoreML models for tests/convert/coreml: torch and scikit-learn models that coremltools converted.

CoreML runs on Apple's systems only, so what the source frameworks compute is recorded. Run once in an environment with
coremltools 9, torch (CPU) and scikit-learn 1.5.1: `python scripts/record_coreml.py tests/convert/data/coreml`
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import coremltools as ct
import coremltools.optimize.coreml as opt
import numpy as np
import torch
from coremltools.converters import sklearn as from_sklearn
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder, quantization_utils
from sklearn import ensemble, linear_model, pipeline, preprocessing, svm, tree
from torch import nn

OUT = Path(sys.argv[1])
RECORDED: dict[str, np.ndarray] = {}


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.point = nn.Conv2d(8, 12, 1, bias=False)
        self.up = nn.ConvTranspose2d(12, 6, 3, stride=2, padding=1, output_padding=1)
        self.last = nn.Linear(6, 5)
        self.slopes = nn.PReLU(12, init=0.2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(self.norm(self.first(x)))
        y = nn.functional.max_pool2d(y, 3, 2, 1) + nn.functional.avg_pool2d(y, 3, 2, 1, count_include_pad=False)
        y = self.slopes(self.point(nn.functional.hardtanh(self.depth(y))))
        up = nn.functional.interpolate(self.up(y), scale_factor=2, mode="bilinear", align_corners=False)
        near = nn.functional.interpolate(up, scale_factor=2, mode="nearest")
        return torch.softmax(self.last(nn.functional.leaky_relu(near).mean((2, 3))), -1), torch.sigmoid(up)


class Shapes(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b, c = torch.split(x, [2, 1, 3], 1)
        y = torch.cat([a.permute(0, 2, 3, 1).reshape(1, 8, -1), b.expand(1, 6, 4, 6).reshape(1, 8, -1)[:, :, :6]], 2)
        values, indices = torch.topk(c.flatten(2), 3, dim=-1)
        picked = torch.gather(c, 3, torch.argsort(c, dim=3)[..., :2])
        padded = nn.functional.pad(c, (1, 2, 2, 1), mode="reflect")
        low = torch.tril(c[0]) + torch.triu(c[0], 1) * 2
        parts = torch.stack([x.amax((2, 3)), x.std((2, 3), unbiased=False), torch.logsumexp(x, (2, 3))], 1)
        mask = torch.where(x > 0.2, x.abs().clamp(0.1, 0.9), torch.floor(x * 3) / 2)
        return y, values, indices.float(), picked, padded, low, parts, mask, x[:, ::2, 1:-1, -3:].cumsum(1)


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(12, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, (h, c) = self.lstm(self.embed(x.long()))
        z = self.norm(self.second(y)[0])
        scores = self.query(z) @ self.key(z).transpose(1, 2) / 8**0.5
        return nn.functional.gelu(torch.softmax(scores, -1) @ self.value(z)), torch.cat([h, c], -1)


class Elements(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        half = x.abs() * 0.9 / (1 + x.abs())
        parts = [
            torch.exp(x), torch.log(y.abs() + 1), torch.sqrt(y.abs()), torch.rsqrt(y.abs() + 0.5), torch.tanh(x),
            torch.erf(x), torch.sin(x), torch.cos(y), torch.tan(half), torch.asin(half), torch.acos(half),
            torch.atan(x), torch.sinh(half), torch.cosh(half), torch.atanh(half), torch.round(x * 4), torch.ceil(x),
            torch.sign(x), x**2, y.abs() ** 1.5, torch.maximum(x, y), torch.minimum(x, y), torch.remainder(x, 0.7),
            torch.floor_divide(y.abs(), 0.7), nn.functional.elu(x), nn.functional.silu(x), nn.functional.softplus(x),
            nn.functional.hardsigmoid(x), nn.functional.hardswish(x), nn.functional.relu6(x * 4),
            nn.functional.gelu(x, approximate="tanh"), nn.functional.softsign(x), x / (y.abs() + 0.3),
            nn.functional.normalize(x, dim=1), (x > y).float(), torch.einsum("ij,kj->ik", x, y),
        ]  # fmt: skip
        return torch.cat(parts, 1)


def keep(name: str, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    for kind, arrays in (("in", inputs), ("out", outputs)):
        for key, value in arrays.items():
            RECORDED[f"{name}/{kind}/{key}"] = np.asarray(value)


def save(model: ct.models.MLModel, name: str) -> None:
    package = model.get_spec().WhichOneof("Type") == "mlProgram"
    path = OUT / f"{name}{'.mlpackage' if package else '.mlmodel'}"
    shutil.rmtree(path, ignore_errors=True)
    model.save(str(path))


def torch_model(
    name: str, module: nn.Module, examples: dict[str, torch.Tensor], **options: object
) -> ct.models.MLModel:
    module = module.eval()
    for buffer in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(buffer.running_mean)
        nn.init.uniform_(buffer.running_var, 0.5, 2)
    given = tuple(examples.values())
    outputs = module(*given)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    traced = torch.jit.trace(module, given)
    types = [ct.TensorType(key, tuple(value.shape)) for key, value in examples.items()]
    names = [ct.TensorType(f"out_{i}") for i in range(len(outputs))]
    model = ct.convert(traced, inputs=types, outputs=names, skip_model_load=True, **options)
    keep(
        name,
        {key: value.numpy().astype(np.float32) for key, value in examples.items()},
        {f"out_{i}": value.detach().numpy() for i, value in enumerate(outputs)},
    )
    return model


def record_torch() -> None:
    full = {"convert_to": "mlprogram", "compute_precision": ct.precision.FLOAT32}
    image = torch.randn(1, 3, 24, 20)
    save(torch_model("convolutions", Convolutions(), {"x": image}, **full), "convolutions")
    save(torch_model("half", Convolutions(), {"x": image}, convert_to="mlprogram"), "half")
    save(torch_model("convolutions_nn", Convolutions(), {"x": image}, convert_to="neuralnetwork"), "convolutions_nn")
    shapes = {"x": torch.randn(1, 6, 4, 6)}
    for suffix, options in (("", full), ("_nn", {"convert_to": "neuralnetwork"})):
        tokens = {"x": torch.randint(0, 20, (1, 7)).float()}
        save(torch_model(f"sequence{suffix}", Sequence(), tokens, **options), f"sequence{suffix}")
        save(torch_model(f"shapes{suffix}", Shapes(), shapes, **options), f"shapes{suffix}")
        pair = {"x": torch.randn(4, 6), "y": torch.randn(4, 6)}
        save(torch_model(f"elements{suffix}", Elements(), pair, **options), f"elements{suffix}")


def record_compressed() -> None:
    """Compressed weights change the function: what is recorded is torch with the weights as they were restored."""
    configs = {
        "lut": lambda m: opt.palettize_weights(m, opt.OptimizationConfig(opt.OpPalettizerConfig(nbits=4))),
        "linear8": lambda m: opt.linear_quantize_weights(m, opt.OptimizationConfig(opt.OpLinearQuantizerConfig())),
        "sparse": lambda m: opt.prune_weights(
            m, opt.OptimizationConfig(opt.OpMagnitudePrunerConfig(target_sparsity=0.6))
        ),
    }
    for name, compress in configs.items():
        torch.manual_seed(5)
        module = nn.Sequential(nn.Conv2d(4, 16, 5), nn.ReLU(), nn.Conv2d(16, 8, 5)).eval()
        x = torch.randn(1, 4, 12, 12)
        options = {"convert_to": "mlprogram", "compute_precision": ct.precision.FLOAT32}
        options |= {"minimum_deployment_target": ct.target.iOS16}
        model = compress(torch_model(name, module, {"x": x}, **options))
        save(model, name)
        plain = opt.decompress_weights(model)
        arrays = [op.outputs[0].val for op in plain._mil_program.functions["main"].find_ops(op_type="const")]
        for layer in (module[0], module[2]):
            shape = tuple(layer.weight.shape)
            layer.weight.data = torch.from_numpy(next(a for a in arrays if a is not None and a.shape == shape).copy())
        keep(name, {"x": x.numpy()}, {"out_0": module(x).detach().numpy()})


def legacy_network() -> None:
    """A network of rank-5 arrays by the builder, with a picture, labels and what converters of old wrote."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    builder = NeuralNetworkBuilder(
        [("image", datatypes.Array(3, 16, 18))], [("scores", datatypes.Array(4))], mode="classifier"
    )
    conv, deep, dense = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=4), nn.Linear(8 * 2 * 2, 4)
    up = nn.ConvTranspose2d(8, 8, 2, 2)
    w = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
    builder.add_convolution(
        "conv", 3, 8, 3, 3, 1, 1, "same", 1, w, conv.bias.detach().numpy(), True, input_name="image", output_name="conv"
    )
    gamma, beta, mean, variance = (rng.uniform(0.5, 1.5, 8).astype(np.float32) for _ in range(4))
    builder.add_batchnorm("bn", 8, gamma, beta, mean, variance, "conv", "bn", epsilon=1e-3)
    builder.add_activation("relu", "LEAKYRELU", "bn", "relu", [0.2])
    builder.add_pooling(
        "pool",
        3,
        3,
        2,
        2,
        "MAX",
        "INCLUDE_LAST_PIXEL",
        "relu",
        "pool",
        padding_top=1,
        padding_bottom=1,
        padding_left=1,
        padding_right=1,
    )
    w = deep.weight.detach().numpy().transpose(2, 3, 1, 0)
    builder.add_convolution(
        "deep", 2, 8, 3, 3, 1, 1, "valid", 4, w, deep.bias.detach().numpy(), True, input_name="pool", output_name="deep"
    )
    builder.add_lrn("lrn", "deep", "lrn", 0.5, 0.75, 5, 2.0)
    builder.add_upsample("near", 2, 2, "lrn", "near")
    builder.add_pooling("avg", 2, 2, 2, 2, "AVERAGE", "VALID", "near", "avg")
    w = up.weight.detach().numpy().transpose(2, 3, 0, 1)
    builder.add_convolution(
        "up",
        8,
        8,
        2,
        2,
        2,
        2,
        "valid",
        1,
        w,
        up.bias.detach().numpy(),
        True,
        is_deconv=True,
        input_name="avg",
        output_name="up",
    )
    builder.add_padding("pad", left=1, right=0, top=2, bottom=1, value=0.5, input_name="up", output_name="pad")
    builder.add_elementwise("sum", ["pad", "pad"], "sum", "ADD")
    builder.add_unary("unary", "sum", "unary", "power", alpha=2.0, shift=0.25, scale=0.5)
    builder.add_reduce("reduce", "unary", "reduced", "HW", "avg")
    builder.add_elementwise("excite", ["unary", "reduced"], "excited", "MULTIPLY")
    builder.add_pooling("pool7", 7, 7, 6, 6, "AVERAGE", "VALID", "excited", "pooled", exclude_pad_area=True)
    builder.add_flatten("flat", 1, "pooled", "flat")
    builder.add_inner_product(
        "dense", dense.weight.detach().numpy(), dense.bias.detach().numpy(), 32, 4, True, "flat", "dense"
    )
    builder.add_softmax("softmax", "dense", "scores")
    builder.set_class_labels(["ant", "bee", "cat", "dog"], prediction_blob="scores")
    builder.set_pre_processing_parameters(
        image_input_names=["image"], is_bgr=True, red_bias=-0.3, green_bias=0.1, blue_bias=0.2, image_scale=1 / 128.0
    )
    spec = builder.spec
    spec.description.input[0].type.imageType.colorSpace = 30
    ct.models.MLModel(spec, skip_model_load=True).save(str(OUT / "legacy.mlmodel"))
    x = torch.from_numpy(rng.integers(0, 256, (3, 3, 16, 18)).astype(np.float32))
    with torch.no_grad():
        y = conv(x / 128 + torch.tensor([0.2, 0.1, -0.3]).reshape(3, 1, 1))
        stats = [torch.from_numpy(v) for v in (mean, variance, gamma, beta)]
        y = nn.functional.leaky_relu(nn.functional.batch_norm(y, *stats, eps=1e-3), 0.2)
        y = deep(nn.functional.max_pool2d(y, 3, 2, 1, ceil_mode=True))
        y = nn.functional.local_response_norm(y, 5, 0.5, 0.75, 2.0)
        y = up(nn.functional.avg_pool2d(nn.functional.interpolate(y, scale_factor=2), 2))
        y = 2 * nn.functional.pad(y, (1, 0, 2, 1), value=0.5)
        y = (0.5 * y + 0.25) ** 2
        y = nn.functional.avg_pool2d(y * y.mean((2, 3), keepdim=True), 7, 6)
        scores = torch.softmax(dense(y.permute(0, 2, 3, 1).flatten(1)), 1).numpy()
    keep(
        "legacy",
        {"image": x.numpy()},
        {"scores": scores, "classLabel": np.array(["ant", "bee", "cat", "dog"])[scores.argmax(1)]},
    )
    quantization_utils._optimize_nn = lambda layers: None  # it fuses, and fails with numpy 2
    for bits, mode in ((8, "linear"), (4, "linear_lut"), (5, "linear")):
        small = quantization_utils.quantize_weights(ct.models.MLModel(spec, skip_model_load=True), bits, mode)
        small = small if hasattr(small, "save") else ct.models.MLModel(small, skip_model_load=True)
        small.save(str(OUT / f"legacy_{mode}{bits}.mlmodel"))


def recurrent_network() -> None:
    """LSTM of both directions and a plain recurrence over [sequence, batch, features]."""
    torch.manual_seed(4)
    lstm, rnn = nn.LSTM(3, 5, bidirectional=True), nn.RNN(6, 4)

    def parts(matrix: torch.Tensor, order: list[int]) -> list[np.ndarray]:
        chunks = matrix.detach().chunk(len(order))
        return [chunks[i].numpy() for i in order]

    builder = NeuralNetworkBuilder([("x", datatypes.Array(3))], [("out", datatypes.Array(4))])
    args = []
    for s in ("", "_reverse"):
        order = [0, 1, 3, 2]  # the builder: input, forget, output, cell
        args.append([parts(getattr(lstm, f"weight_{k}_l0{s}"), order) for k in ("hh", "ih")])
        args[-1].append(parts(getattr(lstm, f"bias_ih_l0{s}") + getattr(lstm, f"bias_hh_l0{s}"), order))
    names = ["h", "c", "hb", "cb"]
    (f, b) = args
    builder.add_bidirlstm(
        "lstm",
        f[0],
        f[1],
        f[2],
        b[0],
        b[1],
        b[2],
        5,
        3,
        ["x", *names],
        ["y", *[f"{n}_out" for n in names]],
        output_all=True,
    )
    optional = []
    with torch.no_grad():
        x = torch.randn(6, 2, 3)
        y = lstm(x)[0]
    builder.add_simple_rnn(
        "rnn", rnn.weight_hh_l0.detach().numpy(), nn.Linear(10, 4).weight.detach().numpy(),
        (rnn.bias_ih_l0 + rnn.bias_hh_l0).detach().numpy(), 4, 10, "TANH", ["y", "r"], ["out", "r_out"],
        output_all=True,
    )  # fmt: skip
    layer = builder.nn_spec.layers[1].simpleRecurrent
    weight = torch.tensor(layer.weightMatrix.floatValue).reshape(4, 10)
    with torch.no_grad():
        h, steps = torch.zeros(2, 4), []
        for step in y:
            h = torch.tanh(step @ weight.T + h @ rnn.weight_hh_l0.T + rnn.bias_ih_l0 + rnn.bias_hh_l0)
            steps.append(h)
    for name in [*names, "r"]:
        optional.append(name)
        feature = builder.spec.description.input.add(name=name)
        feature.type.isOptional = True
        feature.type.multiArrayType.shape.append(4 if name == "r" else 5)
        feature.type.multiArrayType.dataType = 65600
    ct.models.MLModel(builder.spec, skip_model_load=True).save(str(OUT / "recurrent.mlmodel"))
    keep("recurrent", {"x": x.numpy()}, {"out": torch.stack(steps).numpy()})


def record_sklearn() -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((120, 5)).astype(np.float32)
    two, three = (x[:, 0] + x[:, 1] ** 2 > 0.5).astype(int), np.digitize(x[:, 0] - x[:, 2], [-0.7, 0.7])
    value = x[:, 0] * 2 + np.sin(3 * x[:, 1])
    words = np.array(["red", "green", "blue"])[three]
    few = {"n_estimators": 5, "max_depth": 3, "random_state": 1}
    models = {
        "linear": linear_model.LinearRegression().fit(x, value),
        "logistic": linear_model.LogisticRegression(multi_class="ovr").fit(x, two),
        "tree": tree.DecisionTreeRegressor(max_depth=4).fit(x, value),
        "tree_classes": tree.DecisionTreeClassifier(max_depth=4).fit(x, words),
        "forest": ensemble.RandomForestRegressor(**few).fit(x, value),
        "forest_classes": ensemble.RandomForestClassifier(**few).fit(x, three),
        "svr": svm.SVR(C=2.0, gamma=0.3).fit(x, value),
        "svr_poly": svm.SVR(kernel="poly", degree=2, coef0=1.0, gamma=0.2).fit(x, value),
        "svc": svm.SVC(probability=True, random_state=2, gamma=0.5).fit(x, two),
        "svc_votes": svm.SVC(gamma=0.5).fit(x, words),
        "scaled": pipeline.Pipeline(
            [
                ("scale", preprocessing.StandardScaler()), ("norm", preprocessing.Normalizer()),
                ("line", linear_model.LinearRegression()),
            ]
        ).fit(x, value),
    }  # fmt: skip
    names = [f"f{i}" for i in range(5)]
    for name, model in models.items():
        converted = from_sklearn.convert(model, names, "out")
        try:
            converted.save(str(OUT / f"{name}.mlmodel"))
        except Exception as error:
            print(name, error)
            continue
        rows = rng.standard_normal((30, 5)).astype(np.float32)
        outputs = {"out": model.predict(rows)}
        if hasattr(model, "predict_proba") and name != "svc_votes":
            # coremltools adds the shares of a forest's trees, which scikit-learn averages.
            trees = len(model.estimators_) if name == "forest_classes" else 1
            outputs["classProbability"] = model.predict_proba(rows) * trees
        if name == "svc":
            # CoreML takes what LIBSVM fits; scikit-learn goes on from there.
            raw = -model.decision_function(rows)
            first = 1 / (1 + np.exp(model.probA_[0] * raw + model.probB_[0]))
            outputs = {"classProbability": np.stack([first, 1 - first], 1), "out": (first < 0.5).astype(np.int64)}
        keep(name, {f"f{i}": rows[:, i : i + 1] for i in range(5)}, outputs)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    for task in (record_torch, record_compressed, legacy_network, recurrent_network, record_sklearn):
        try:
            task()
        except Exception as error:
            import traceback

            traceback.print_exc()
            print("FAILED", task.__name__, error)
    arrays = {key: value if value.dtype.kind != "O" else value.astype(str) for key, value in RECORDED.items()}
    np.savez_compressed(OUT / "recorded.npz", **arrays)


if __name__ == "__main__":
    main()
