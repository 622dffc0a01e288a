"""H2O in a process of its own: a MOJO exported by onnxmltools, or scored by H2O's Java program."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.process import serve

Array = np.ndarray[Any, Any]


def work(arguments: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """`do` is "export" (to `target`) or "run" (`rows` of all columns; `predict` and `probabilities` of classifiers)."""
    if arguments["do"] == "export":
        from onnxmltools import convert_h2o

        written = convert_h2o(arguments["model"], name=arguments["name"])
        Path(arguments["target"]).write_bytes(written.SerializeToString())
        return None, {}
    import h2o

    given, answered = Path("rows.csv").absolute(), Path("answers.csv").absolute()
    with given.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(arguments["columns"])
        writer.writerows([[repr(float(value)) for value in row] for row in arrays["rows"]])
    jar = Path(h2o.__file__).parent / "backend" / "bin" / "h2o.jar"
    h2o.mojo_predict_csv(
        str(given), arguments["model"], genmodel_jar_path=str(jar), output_csv_path=str(answered), verbose=False
    )
    with answered.open(newline="") as file:
        names, *rows = list(csv.reader(file))
    results = {"predict": np.array([row[0] for row in rows])}
    if len(names) > 1:
        results["probabilities"] = np.array([[float(value) for value in row[1:]] for row in rows])
    else:
        results["predict"] = results["predict"].astype(np.float64)
    return None, results


if __name__ == "__main__":
    serve(work)
