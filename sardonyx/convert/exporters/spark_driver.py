"""Spark in a process of its own: a saved model exported by onnxmltools, or applied to rows."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.process import serve

Array = np.ndarray[Any, Any]


def work(arguments: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """`do` is "export" (to `target`) or "run" (rows by column; results by the names in `outputs`)."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = (
        builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    )
    try:
        module, _, name = arguments["kind"].removeprefix("org.apache.spark.").rpartition(".")
        model = getattr(import_module(f"pyspark.{module}"), name).load(f"file://{arguments['model']}")
        if arguments["do"] == "export":
            _export(model, arguments, session)
            return None, {}
        return None, _run(model, arguments, arrays, session)
    finally:
        session.stop()


def _export(model: Any, arguments: dict[str, Any], session: Any) -> None:
    from onnxmltools import convert_sparkml
    from onnxmltools.convert.common import data_types as kinds

    types = {"float": kinds.FloatTensorType, "int": kinds.Int64TensorType, "text": kinds.StringTensorType}
    initial = [(name, types[kind]([None, width])) for name, kind, width in arguments["columns"]]
    written = convert_sparkml(model, arguments["name"], initial, spark_session=session)
    Path(arguments["target"]).write_bytes(written.SerializeToString())


def _run(model: Any, arguments: dict[str, Any], arrays: dict[str, Array], session: Any) -> dict[str, Array]:
    from pyspark.ml.linalg import Vectors

    convert: dict[str, Callable[[Any], Any]] = {"float": float, "int": int, "text": str}
    cells = []
    for name, kind, width in arguments["columns"]:
        rows = arrays[name]
        if width > 1:
            cells.append([Vectors.dense([float(value) for value in row]) for row in rows])
        else:
            cells.append([convert[kind](value) for value in rows.reshape(-1)])
    names = [name for name, _, _ in arguments["columns"]]
    frame = model.transform(session.createDataFrame(list(zip(*cells, strict=True)), names))
    wanted = [name for name in arguments["outputs"] if name in frame.columns]
    rows = frame.select(wanted).collect()
    return {name: np.array([_plain(row[name]) for row in rows]) for name in wanted}


def _plain(value: Any) -> Any:
    return value.toArray() if hasattr(value, "toArray") else value


if __name__ == "__main__":
    serve(work)
