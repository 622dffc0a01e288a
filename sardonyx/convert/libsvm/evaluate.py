"""What conversions of LibSVM models are compared with: LibSVM itself, or its algorithm row by row in float64. Nothing
here is shared with how the ONNX is written."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Oracle, Source, Values
from sardonyx.convert.libsvm.source import Machine


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The model, for the input called `input_name`."""

    machine: Machine
    input_name: str

    @property
    def name(self) -> str:
        """What this is."""
        return "float64 evaluation of the source's support vectors"

    def run(self, inputs: Values) -> Values:
        """The outputs that the model has, and the layer "scores"."""
        rows = [self._decisions(row) for row in np.asarray(inputs[self.input_name]).astype(np.float64)]
        scores = np.array(rows).reshape(len(rows), -1)
        machine = self.machine
        if machine.kind in ("epsilon_svr", "nu_svr"):
            return {"scores": scores, "variable": scores}
        if machine.kind == "one_class":
            label = np.array([1 if row[0] > 0 else -1 for row in rows])
            inside = np.array([_inside(float(row[0]), machine.marks) for row in rows])
            return {"scores": scores, "label": label, "probabilities": np.stack([inside, 1 - inside], 1)}
        result = {"scores": scores, "label": np.array([self._vote(row) for row in rows])}
        if machine.prob_a is not None and machine.prob_b is not None:
            result["probabilities"] = np.array([self._couple(row) for row in rows])
        return result

    def _decisions(self, x: Array) -> list[float]:
        machine = self.machine
        short = x[: machine.vectors.shape[1]]
        dots = np.einsum("vf,f->v", machine.vectors, short)
        match machine.kernel:
            case "rbf":
                rest = float((x[machine.vectors.shape[1] :] ** 2).sum())
                values = np.exp(-machine.gamma * (((machine.vectors - short) ** 2).sum(axis=1) + rest))
            case "polynomial":
                values = (machine.gamma * dots + machine.coef0) ** machine.degree
            case "sigmoid":
                values = np.tanh(machine.gamma * dots + machine.coef0)
            case _:
                values = dots
        if not machine.is_classifier:
            return [float((machine.coefficients[0] * values).sum() - machine.rho[0])]
        starts = [sum(machine.counts[:i]) for i in range(len(machine.counts))]
        found: list[float] = []
        for i in range(len(machine.labels)):
            for j in range(i + 1, len(machine.labels)):
                total = sum(
                    machine.coefficients[j - 1, starts[i] + s] * values[starts[i] + s] for s in range(machine.counts[i])
                )
                total += sum(
                    machine.coefficients[i, starts[j] + s] * values[starts[j] + s] for s in range(machine.counts[j])
                )
                found.append(float(total - machine.rho[len(found)]))
        return found

    def _vote(self, decisions: list[float]) -> int:
        votes = [0] * len(self.machine.labels)
        for (i, j), value in zip(self.machine.pairs, decisions, strict=True):
            votes[i if value > 0 else j] += 1
        return self.machine.labels[votes.index(max(votes))]

    def _couple(self, decisions: list[float]) -> Array:
        k = len(self.machine.labels)
        r = np.zeros((k, k))
        assert self.machine.prob_a is not None and self.machine.prob_b is not None
        for (i, j), value, a, b in zip(
            self.machine.pairs, decisions, self.machine.prob_a, self.machine.prob_b, strict=True
        ):
            power = value * a + b
            chance = math.exp(-power) / (1 + math.exp(-power)) if power >= 0 else 1 / (1 + math.exp(power))
            r[i, j] = min(max(chance, 1e-7), 1 - 1e-7)
            r[j, i] = 1 - r[i, j]
        return r[[0, 1], [1, 0]] if k == 2 else _minimised(r)


def _minimised(r: Array) -> Array:
    """The second method of Wu, Lin and Weng (2004), stopped where LibSVM stops."""
    k = len(r)
    q = np.array([[(r[:, t] ** 2).sum() if t == j else -r[j, t] * r[t, j] for j in range(k)] for t in range(k)])
    p = np.full(k, 1 / k)
    for _ in range(max(100, k)):
        qp = q @ p
        pqp = p @ qp
        if np.abs(qp - pqp).max() < 0.005 / k:
            break
        for t in range(k):
            diff = (pqp - qp[t]) / q[t, t]
            p[t] += diff
            pqp = (pqp + diff * (diff * q[t, t] + 2 * qp[t])) / (1 + diff) / (1 + diff)
            qp = (qp + diff * q[t]) / (1 + diff)
            p = p / (1 + diff)
    return p


def _inside(decision: float, marks: Array | None) -> float:
    if marks is None:
        return math.nan
    if decision < marks[0]:
        return 0.001
    if decision > marks[-1]:
        return 0.999
    return next((i / len(marks) for i in range(1, len(marks)) if decision < marks[i]), 0.0)


@dataclass(frozen=True, eq=False)
class _Library:
    """By the functions of the library itself: `svmutil.svm_predict` writes beyond its buffer for nu_svc."""

    svm: Any
    model: Any
    machine: Machine
    input_name: str
    name: str = "libsvm"

    def run(self, inputs: Values) -> Values:
        found = [self._one(row) for row in np.asarray(inputs[self.input_name], np.float64)]
        label, scores, chances = (np.array(part) for part in zip(*found, strict=True))
        if self.machine.kind in ("epsilon_svr", "nu_svr"):
            return {"scores": scores, "variable": label[:, None]}
        return {"scores": scores, "label": label.astype(np.int64), "probabilities": chances}

    def _one(self, row: Array) -> tuple[float, list[float], list[float]]:
        nodes, _ = self.svm.gen_svm_nodearray({i + 1: float(value) for i, value in enumerate(row)})
        scores = (ctypes.c_double * max(len(self.machine.pairs), 1))()
        label = self.svm.libsvm.svm_predict_values(self.model, nodes, scores)
        chances = (ctypes.c_double * max(len(self.machine.labels), 2))()
        if self.machine.prob_a is not None or self.machine.marks is not None:
            self.svm.libsvm.svm_predict_probability(self.model, nodes, chances)
        return label, list(scores), list(chances)


def library(source: Source, machine: Machine, input_name: str) -> Oracle | None:
    """LibSVM (`pip install libsvm-official`) with the model loaded; None where it is not installed."""
    if machine.kernel == "precomputed" or importlib.util.find_spec("libsvm") is None:
        return None
    svm = importlib.import_module("libsvm.svm")
    live = source.path is None
    model = source.object if live else svm.libsvm.svm_load_model(str(source.file()).encode())
    return _Library(svm, model, machine, input_name) if model else None
