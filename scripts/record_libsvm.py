"""Train small LibSVM models and record what LibSVM says of some rows, for tests/convert/test_libsvm.py.

Run in an environment with libsvm-official (3.37.0 was used) and NumPy:

    python scripts/record_libsvm.py

Writes NAME.model and recorded.npz to tests/convert/data/libsvm: `NAME/x` float32 rows, `NAME/label` (what svm_predict
says without probabilities; values, for regression), `NAME/scores` (decision values), `NAME/probabilities`.
"""

from __future__ import annotations

from ctypes import c_double
from pathlib import Path
from typing import Any

import numpy as np
from libsvm.svm import gen_svm_nodearray, libsvm
from libsvm.svmutil import svm_load_model, svm_parameter, svm_problem, svm_save_model, svm_train

DATA = Path(__file__).parents[1] / "tests/convert/data/libsvm"
FEATURES = 5
CASES: dict[str, tuple[str, int]] = {
    # svm_train's options, and the number of classes
    "c_svc_linear": ("-s 0 -t 0", 2),
    "c_svc_poly": ("-s 0 -t 1 -d 3 -g 0.3 -r 0.7 -b 1", 3),
    "c_svc_rbf": ("-s 0 -t 2 -g 0.4 -b 1", 2),
    "c_svc_five": ("-s 0 -t 2 -g 0.4 -b 1", 5),
    "c_svc_sigmoid": ("-s 0 -t 3 -g 0.1 -r 0.2", 4),
    "c_svc_precomputed": ("-s 0 -t 4 -b 1", 3),
    "nu_svc_rbf": ("-s 1 -t 2 -n 0.3 -b 1", 4),
    "nu_svc_linear": ("-s 1 -t 0 -n 0.2", 3),
    "one_class_rbf": ("-s 2 -t 2 -n 0.3", 1),
    "one_class_density": ("-s 2 -t 2 -n 0.3 -b 1", 1),
    "epsilon_svr_poly": ("-s 3 -t 1 -d 2 -g 0.5 -r 1", 0),
    "epsilon_svr_precomputed": ("-s 3 -t 4", 0),
    "nu_svr_rbf": ("-s 4 -t 2 -n 0.4 -b 1", 0),
    "nu_svr_sigmoid": ("-s 4 -t 3 -g 0.1", 0),
}
LABELS = (3, -1, 7, 2, 40)
"""Neither sorted nor from 0 on."""


def sparse(rows: np.ndarray[Any, Any]) -> list[dict[int, float]]:
    return [{i + 1: float(value) for i, value in enumerate(row) if value} for row in rows]


def predicted(model: Any, row: dict[int, float], kernel: bool) -> tuple[float, list[float], list[float]]:
    """Label or value, decision values, probabilities. (svmutil.svm_predict writes beyond its buffer for nu_svc.)"""
    nodes, _ = gen_svm_nodearray(row, isKernel=kernel)
    classes = model.get_nr_class()
    scores = (c_double * max(classes * (classes - 1) // 2, 1))()
    label = libsvm.svm_predict_values(model, nodes, scores)
    chances = (c_double * classes)()
    if model.is_probability_model() and model.get_svm_type() < 3:
        libsvm.svm_predict_probability(model, nodes, chances)
    return label, list(scores), list(chances)


def targets(x: np.ndarray[Any, Any], classes: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    score = x[:, 0] + np.sin(2 * x[:, 1]) + 0.3 * rng.normal(size=len(x))
    if classes < 2:
        return score
    ranks = np.argsort(np.argsort(score + 0.5 * x[:, 2] ** 2))
    return np.array(LABELS)[ranks * classes // len(x)]


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    recorded = {}
    kept: list[Any] = []  # libsvm keeps pointers to what these own
    for seed, (name, (options, classes)) in enumerate(CASES.items()):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(60, FEATURES)).astype(np.float32)
        x[rng.random(x.shape) < 0.3] = 0
        rows = (1.5 * rng.normal(size=(40, FEATURES))).astype(np.float32)
        y = targets(x.astype(np.float64), classes, rng)
        given, asked = sparse(x), sparse(rows)
        if kernel := "-t 4" in options:
            rows = (rows @ x.T + 1).astype(np.float32)  # what the model is given: kernel values
            gram = (x @ x.T + 1).astype(np.float32)
            given = [{0: i + 1, **{j + 1: float(v) for j, v in enumerate(row)}} for i, row in enumerate(gram)]
            asked = [{0: 1, **{j + 1: float(v) for j, v in enumerate(row)}} for row in rows]
        kept += [svm_problem(y, given, isKernel=kernel), svm_parameter(options + " -q")]
        model = svm_train(*kept[-2:])
        svm_save_model(str(DATA / f"{name}.model"), model)
        model = svm_load_model(str(DATA / f"{name}.model"))
        label, scores, chances = zip(*(predicted(model, row, kernel) for row in asked), strict=True)
        recorded[f"{name}/x"] = rows
        recorded[f"{name}/label"] = np.array(label)
        recorded[f"{name}/scores"] = np.array(scores)
        if "-b 1" in options and classes:
            recorded[f"{name}/probabilities"] = np.array(chances)
    np.savez_compressed(DATA / "recorded.npz", **recorded)


if __name__ == "__main__":
    main()
