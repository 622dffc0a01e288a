"""Record small models of Paddle and Spark ML and what these frameworks compute with them.

    python scripts/record_exporters.py paddle     with paddlepaddle 3.3.1
    python scripts/record_exporters.py spark      with pyspark 4.3.0, pandas and Java 17

Each in an environment of its own. Writes tests/convert/data/exporters: `paddle/net.json` with `net.pdiparams`, the
folder `spark`, and `paddle.npz` and `spark.npz` with inputs as `in/NAME` and outputs as `out/NAME`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "tests" / "convert" / "data" / "exporters"
RANDOM = np.random.default_rng(11)


def paddle() -> None:
    import paddle as pd

    class Network(pd.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = pd.nn.Conv2D(3, 4, 3, padding=1, stride=2), pd.nn.BatchNorm2D(4)
            self.pool, self.last = pd.nn.AvgPool2D(2), pd.nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            y = self.pool(pd.nn.functional.hardswish(self.norm(self.conv(x)))).flatten(1)
            return pd.nn.functional.softmax(self.last(y)), y

    pd.seed(3)
    network = Network()
    for _ in range(3):  # statistics to normalise by
        network(pd.to_tensor(RANDOM.normal(1, 2, (8, 3, 8, 8)).astype(np.float32)))
    network.eval()
    folder = DATA / "paddle"
    folder.mkdir(parents=True, exist_ok=True)
    spec = [pd.static.InputSpec([None, 3, 8, 8], "float32", "image")]
    pd.jit.save(network, str(folder / "net"), input_spec=spec)
    x = RANDOM.normal(size=(3, 3, 8, 8)).astype(np.float32)
    results = [value.numpy() for value in network(pd.to_tensor(x))]
    np.savez(DATA / "paddle.npz", **{"in/image": x}, **{f"out/{i}": value for i, value in enumerate(results)})


def spark() -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import StandardScaler, VectorAssembler
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    rows = RANDOM.normal(size=(100, 3)).astype(np.float32)
    noise = RANDOM.normal(size=100)
    labels = (rows[:, 0] + noise > rows[:, 1]).astype(float)
    cells = [(*map(float, row), float(label)) for row, label in zip(rows, labels, strict=True)]
    frame = session.createDataFrame(cells, ["a", "b", "c", "label"])
    stages = [
        VectorAssembler(inputCols=["a", "b", "c"], outputCol="raw"),
        StandardScaler(inputCol="raw", outputCol="features", withMean=True),
        LogisticRegression(regParam=0.1),
    ]
    model = Pipeline(stages=stages).fit(frame)
    model.write().overwrite().save(str(DATA / "spark"))
    for check in DATA.glob("spark/**/*.crc"):  # checksums that Spark does without
        check.unlink()
    answers = model.transform(frame.limit(40)).select("prediction", "probability").collect()
    inputs = {f"in/{name}": rows[:40, i : i + 1] for i, name in enumerate("abc")}
    prediction = np.array([int(row["prediction"]) for row in answers])
    probability = np.array([row["probability"].toArray() for row in answers])
    np.savez(DATA / "spark.npz", **inputs, **{"out/prediction": prediction, "out/probability": probability})
    session.stop()


if __name__ == "__main__":
    DATA.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:]:
        shutil.rmtree(DATA / name, ignore_errors=True)
        {"paddle": paddle, "spark": spark}[name]()
