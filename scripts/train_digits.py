"""Train the digits net and write it, with a few held-out digits, to `sardonyx/zoo/data/`.

    pip install torch==2.13.0 scikit-learn onnx
    python scripts/train_digits.py

The data are scikit-learn's digits: 1,797 grey pictures of 8x8 pixels with values 0 to 16, here divided by 16.
A fifth of them, drawn by class, is held out and never trained on. The net is written node by node with
`onnx.helper`, as an exporter in evaluation mode would, with its BatchNormalization nodes kept: they give the
graph passes work.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

DATA = Path(__file__).resolve().parent.parent / "sardonyx" / "zoo" / "data"
SEED = 7
EPOCHS = 120
BATCH = 64
SHIPPED = 32
OPSET, IR_VERSION = 21, 10  # read by every runtime of the last years


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU; "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.conv(x)))


class DigitsNet(nn.Module):
    """Two full convolutions, a pool, two depthwise-pointwise pairs, a global pool and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBlock(1, 16, 3), ConvBlock(16, 32, 3))
        self.body = nn.Sequential(
            ConvBlock(32, 32, 3, groups=32),
            ConvBlock(32, 64, 1),
            ConvBlock(64, 64, 3, groups=64),
            ConvBlock(64, 64, 1),
        )
        self.hidden = nn.Linear(64, 32)
        self.scores = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.stem(x), 2)
        x = self.body(x).mean(dim=(2, 3))
        return self.scores(functional.dropout(functional.relu(self.hidden(x)), 0.2, self.training))


def augment(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Every picture turned, scaled and shifted by a little of its own."""
    count = len(images)
    angle, grow = (0.3 * (torch.rand(2, count, generator=random) - 0.5)).unbind()
    shift = 0.3 * (torch.rand(count, 2, generator=random) - 0.5)
    cos, sin = (1 + grow) * angle.cos(), (1 + grow) * angle.sin()
    affine = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: torch.Tensor, labels: torch.Tensor) -> DigitsNet:
    random = torch.Generator().manual_seed(SEED)
    net = DigitsNet()
    steps = -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs=EPOCHS, steps_per_epoch=steps)
    for _ in range(EPOCHS):
        for picked in torch.randperm(len(images), generator=random).split(BATCH):
            loss = functional.cross_entropy(net(augment(images[picked], random)), labels[picked], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


class Writer:
    """Collects nodes and weights of a chain; `tip` is the name of its newest value."""

    def __init__(self, tip: str) -> None:
        self.tip = tip
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(
        self,
        op: str,
        name: str,
        *,
        weights: dict[str, torch.Tensor] | None = None,
        output: str = "",
        **attributes: object,
    ) -> None:
        inputs = [self.tip]
        for part, value in (weights or {}).items():
            self.weights.append(numpy_helper.from_array(value.detach().numpy(), f"{name}.{part}"))
            inputs.append(f"{name}.{part}")
        self.tip = output or f"{name}.out"
        self.nodes.append(helper.make_node(op, inputs, [self.tip], name=name, **attributes))

    def conv_block(self, block: ConvBlock, name: str) -> None:
        conv, norm = block.conv, block.norm
        pads = [conv.padding[0]] * 4
        self.add(
            "Conv", f"{name}.conv", weights={"weight": conv.weight},
            kernel_shape=list(conv.kernel_size), pads=pads, group=conv.groups,
        )  # fmt: skip
        statistics = {
            "scale": norm.weight, "bias": norm.bias, "mean": norm.running_mean, "var": norm.running_var
        }  # fmt: skip
        self.add("BatchNormalization", f"{name}.norm", weights=statistics, epsilon=norm.eps)
        self.add("Relu", f"{name}.relu")


def to_onnx(net: DigitsNet) -> onnx.ModelProto:
    graph = Writer("image")
    for i, block in enumerate(net.stem):
        graph.conv_block(block, f"stem.{i}")
    graph.add("MaxPool", "pool", kernel_shape=[2, 2], strides=[2, 2])
    for i, block in enumerate(net.body):
        graph.conv_block(block, f"body.{i}")
    graph.add("GlobalAveragePool", "mean")
    graph.add("Flatten", "flatten", axis=1)
    hidden, scores = net.hidden, net.scores
    graph.add("Gemm", "hidden", weights={"weight": hidden.weight, "bias": hidden.bias}, transB=1)
    graph.add("Relu", "hidden.relu")
    graph.add("Gemm", "scores", weights={"weight": scores.weight, "bias": scores.bias}, transB=1)
    graph.add("Softmax", "softmax", axis=1, output="probabilities")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "digits",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sardonyx",
        doc_string="Hand-written digits, 8x8 pixels in [0, 1]; trained by scripts/train_digits.py.",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in one order on every machine with the same instructions
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    train_x, held_x, train_y, held_y = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=SEED
    )
    net = train(torch.from_numpy(train_x), torch.from_numpy(train_y))
    with torch.no_grad():
        guesses = net(torch.from_numpy(held_x)).argmax(1).numpy()
    print(f"held-out accuracy: {np.mean(guesses == held_y):.2%} of {len(held_y)}")

    model = to_onnx(net)
    DATA.mkdir(exist_ok=True)
    onnx.save(model, DATA / "digits.onnx")
    with torch.no_grad():
        expected = functional.softmax(net(torch.from_numpy(held_x[:SHIPPED])), 1).numpy()
    np.savez_compressed(
        DATA / "digits.npz",
        images=held_x[:SHIPPED],
        labels=held_y[:SHIPPED].astype(np.int64),
        probabilities=expected,  # as PyTorch computes them, for tests
    )
    for name in ("digits.onnx", "digits.npz"):
        print(f"{DATA / name}: {(DATA / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
