"""Record what MXNet makes of the cases of tests/convert/mxnet/mxnet_cases.py, and networks of its model zoo.

    python scripts/record_mxnet.py        with mxnet 1.9.1 and numpy < 2 installed

Writes tests/convert/data/mxnet/operators.npz and networks.npz. The networks are exported by MXNet with their numbers of
filters divided; their weights are seeded, so that only names and shapes are kept. A real file of parameters of
each kind is kept whole.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "convert" / "mxnet")]

from mxnet_cases import DATA, NETWORKS, OPERATORS, Array, Net, picture, seeded  # noqa: E402

from sardonyx.convert.mxnet.run import load, run  # noqa: E402

mx = load()
WIDTHS = ("num_filter", "num_hidden", "num_group")


def record(net: Net) -> dict[str, Array]:
    """The outputs by name."""
    with tempfile.TemporaryDirectory() as folder:
        symbol = net.write(Path(folder))
        outputs = mx.sym.load(str(symbol)).list_outputs()
        arguments = {"symbol": str(symbol), "params": str(symbol).replace("-symbol.json", "-0000.params")}
        found = run(arguments | {"outputs": outputs}, dict(net.inputs))[1]
        return {name: found[name] for name in outputs}


def narrowed(text: str, divisor: int) -> str:
    """A symbol with fewer filters; the last layer's ten classes stay, and groups that are as many as the filters."""
    if divisor == 1:
        return text
    graph = json.loads(text)
    for node in graph["nodes"]:
        if node["name"] != "data":
            node.get("attrs", {}).pop("__shape__", None)
        for key in WIDTHS:
            number = int(node.get("attrs", {}).get(key, 0))
            if number > 10:
                node["attrs"][key] = str(max(number // divisor, 4))
    return json.dumps(graph)


def exported(block: Any, shape: tuple[int, ...], divisor: int) -> tuple[str, dict[str, tuple[int, ...]]]:
    """A Gluon network's symbol, as `export` writes it, and the shapes of its parameters."""
    block.initialize(init=mx.init.Zero())
    block.hybridize()
    block(mx.nd.zeros(shape))
    with tempfile.TemporaryDirectory() as folder:
        block.export(f"{folder}/net")
        text = narrowed(Path(f"{folder}/net-symbol.json").read_text(), divisor)
    symbol = mx.sym.load_json(text)
    arguments, _, auxiliary = symbol.infer_shape(data=shape)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    shapes = dict(zip(names, arguments + auxiliary, strict=True))
    return text, {name: tuple(dims) for name, dims in shapes.items() if name != "data"}


def zoo() -> dict[str, tuple[Callable[[], Any], tuple[int, ...], int]]:
    """How each network is made, its input and what its widths are divided by."""
    vision, rnn, nn = mx.gluon.model_zoo.vision, mx.gluon.rnn, mx.gluon.nn

    def sequence(*layers: Any) -> Any:
        block = nn.HybridSequential(prefix="net_")
        block.add(*layers)
        return block

    return {
        "alexnet": (lambda: vision.alexnet(classes=10), (1, 3, 224, 224), 8),
        "resnet_v1": (lambda: vision.resnet18_v1(classes=10), (1, 3, 64, 64), 8),
        "resnet_v2": (lambda: vision.resnet50_v2(classes=10), (1, 3, 64, 64), 8),
        "mobilenet": (lambda: vision.mobilenet0_25(classes=10), (1, 3, 64, 64), 2),
        "mobilenet_v2": (lambda: vision.mobilenet_v2_0_25(classes=10), (1, 3, 64, 64), 1),
        "densenet": (lambda: vision.densenet121(classes=10), (1, 3, 224, 224), 4),
        "inception": (lambda: vision.inception_v3(classes=10), (1, 3, 299, 299), 8),
        "squeezenet": (lambda: vision.squeezenet1_1(classes=10), (1, 3, 224, 224), 4),
        "vgg": (lambda: vision.vgg11_bn(classes=10), (1, 3, 32, 32), 16),
        "lstm": (lambda: sequence(rnn.LSTM(6, 2, layout="NTC", bidirectional=True, input_size=5), nn.Dense(3)),
                 (2, 7, 5), 1),
        "gru": (lambda: sequence(rnn.GRU(6, layout="NTC", input_size=5), nn.Dense(3, flatten=False)), (2, 7, 5), 1),
    }  # fmt: skip


def main() -> None:
    found = {}
    for name, net in (OPERATORS | NETWORKS).items():
        try:
            outputs = record(net)
        except Exception as error:
            print(name, "failed:", str(error).strip().split("Error")[-1][:200])
            continue
        found |= {f"{name}/{key}": value for key, value in outputs.items()}
    DATA.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(DATA / "operators.npz", **found)
    found = {}
    for name, (make, shape, divisor) in zoo().items():
        text, shapes = exported(make(), shape, divisor)
        net = Net(text, seeded(shapes), {"data": picture(shape)})
        outputs = record(net)
        print(name, {key: (value.shape, float(np.abs(value).max())) for key, value in outputs.items()})
        found |= {f"{name}/{key}": value for key, value in outputs.items()}
        told = json.dumps({"symbol": text, "shapes": shapes, "input": shape})
        found[f"{name}/told"] = np.frombuffer(told.encode(), np.uint8)
    np.savez_compressed(DATA / "networks.npz", **found)
    stored = {"arg:a": np.arange(6).reshape(2, 3), "aux:b_moving_mean": np.arange(3)}
    kinds = {
        kind: mx.nd.array(stored["arg:a"], dtype=kind) for kind in ("float32", "float64", "float16", "int8", "uint8")
    }
    kinds |= {kind: mx.nd.array(stored["arg:a"], dtype=kind) for kind in ("int32", "int64")}
    mx.nd.save(str(DATA / "kinds.params"), kinds | {"aux:b_moving_mean": mx.nd.array(stored["aux:b_moving_mean"])})
    mx.nd.save(str(DATA / "sparse.params"), {"arg:a": mx.nd.array(stored["arg:a"]).tostype("row_sparse")})


if __name__ == "__main__":
    main()
