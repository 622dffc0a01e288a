"""Write the table of docs/converters.md: each format of `sardonyx.convert`, its route, what it was verified against.

python scripts/record_converters.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sardonyx.convert.formats import FORMATS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "converters.md"
START, END = "<!-- formats -->\n", "<!-- /formats -->\n"


@dataclass(frozen=True)
class Verified:
    """Versions of the framework whose files were converted, the route, and what tests compare results with."""

    versions: str
    route: str
    against: str


FACTS = {
    "tensorflow": Verified("1.x files, 2.21", "own reader", "values recorded from TensorFlow 2.21"),
    "caffe": Verified("1 (BVLC)", "own reader", "OpenCV 4.x (values recorded), a float64 evaluation of the network"),
    "darknet": Verified(
        "YOLO v2 to v4 networks", "own reader", "OpenCV 4.x (values recorded), a float64 evaluation of the network"
    ),
    "keras": Verified("2.x, tf_keras 2.21, 3", "own reader", "values recorded from Keras 2 and 3 on TensorFlow"),
    "torch": Verified("2.13", "PyTorch's exporters, checked at other sizes", "the module itself, in tests"),
    "tflite": Verified("TensorFlow 2.21's converter", "own reader", "values recorded from TensorFlow's interpreter"),
    "tfjs": Verified("TensorFlow 2.21", "own reader", "values recorded from TensorFlow 2.21 with the same weights"),
    "xgboost": Verified("1.7.6, 2.1.4, 3.2", "own reader", "XGBoost itself, in tests and recorded"),
    "lightgbm": Verified("4.7", "own reader", "LightGBM itself, in tests"),
    "libsvm": Verified("3.37", "own reader", "values recorded from LibSVM"),
    "catboost": Verified("1.2.10", "CatBoost's own writer, in a process of its own", "CatBoost itself, in tests"),
    "sklearn": Verified("1.9.1", "skl2onnx 1.20, repaired, with refusals", "the estimator itself, in tests"),
    "coreml": Verified(
        "coremltools 9",
        "own reader",
        "values recorded from the frameworks coremltools converted; a float64 evaluation of networks' layers",
    ),
    "chainer": Verified("7.8.1", "own reader", "values recorded from Chainer"),
    "mxnet": Verified("1.9.1", "own reader", "values recorded from MXNet"),
    "cntk": Verified("2.7", "own reader", "values recorded from CNTK 2.7, a float64 evaluation of the function"),
    "paddle": Verified(
        "3.3.1", "paddle2onnx 2.1, in a process of its own",
        "values recorded from Paddle; Paddle itself where installed",
    ),
    "spark": Verified(
        "4.3.0", "onnxmltools 1.16, in a process of its own", "values recorded from Spark; Spark itself where installed"
    ),
    "h2o": Verified(
        "3.46", "onnxmltools 1.16, in a process of its own",
        "nothing yet: the open edition of h2o 3.46.0.12 saves no MOJO; conversions compare with H2O's own scoring",
    ),
    "jax": Verified("0.10 with Flax 0.12, Equinox 0.13", "jax2onnx 0.17", "the function itself, in tests"),
}  # fmt: skip


def table() -> str:
    """The page's table, a row a format in the order they are asked."""
    rows = ["| name | sources | versions tried | route | verified against |", "|---|---|---|---|---|"]
    for entry in FORMATS:
        facts = FACTS[entry.name]
        sources = entry.sources.replace("|", "\\|")
        rows.append(f"| `{entry.name}` | {sources} | {facts.versions} | {facts.route} | {facts.against} |")
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """The page with its table as it is now."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
