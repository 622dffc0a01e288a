"""AArch64: the operator cases and two networks, compiled for it and run under QEMU.

Two threads run them, so the executor's atomics and its futex are among what is tested.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from sardonyx.compiler.jit import kernel_object
from sardonyx.compiler.program import Program
from sardonyx.passes.pipeline import optimize
from sardonyx.zoo import architectures, digits
from tests.compiler.aarch64.machine import AARCH64, PACKAGES, Machine, missing_tools
from tests.compiler.programs import PROGRAMS, THREADS, program_of
from tests.compiler.test_vmath import EVERYWHERE, ulps
from tests.suites.operators import Case, floats, node

ELF_MACHINE = 183
"""AArch64, in an object file's head."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and the inputs to run it on."""

    name: str
    model: ir.Model
    feeds: Mapping[str, np.ndarray]

    @cached_property
    def program(self) -> Program:
        return program_of(self.model, self.feeds, AARCH64)

    def wanted(self) -> np.ndarray:
        session = onnxruntime.InferenceSession(ir.to_proto(self.model).SerializeToString())
        return session.run(None, dict(self.feeds))[0]


def subject(case: Case) -> Subject:
    return Subject(case.name, ir.from_proto(case.model()), case.feeds)


def network(name: str, model: ir.Model, x: np.ndarray) -> Subject:
    return Subject(name, optimize(model), {str(model.graph.inputs[0].name): x})


def convolution(channels: int, filters: int, height: int, width: int) -> Case:
    weights = {"w": floats(filters, channels, 3, 3) / np.float32(3 * np.sqrt(channels)), "b": floats(filters)}
    nodes = [node("Conv", "x w b", "c", pads=[1, 0, 1, 2]), node("Relu", "c")]
    return Case("winograd", nodes, {"x": floats(2, channels, height, width)}, weights)


def sweep(op: str, x: np.ndarray) -> Subject:
    return subject(Case(f"{op}-{x.dtype}", [node(op, "x")], {"x": x}))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


FUNCTIONS = {"Exp": (np.exp, 1.0), "Log": (np.log, 1.0), "Tanh": (np.tanh, 3.0)}
"""Reference and bound in units in the last place, as for the host."""
DOUBLES = {"Exp": np.exp, "Log": np.log, "Tanh": np.tanh, "Sigmoid": sigmoid}
OPERATORS = [subject(case) for case in PROGRAMS]
SWEEPS = {op: sweep(op, EVERYWHERE) for op in FUNCTIONS}
DOUBLE_SWEEPS = {op: sweep(op, np.random.default_rng(0).uniform(0.01, 30, 500)) for op in DOUBLES}
WINOGRAD = subject(convolution(40, 47, 17, 22))
NETWORKS = [
    network("digits", ir.from_proto(onnx.load(digits.model_path())), digits.held_out().images),
    network("mobilenetv2", architectures.build("mobilenetv2", image=64, batch=1, classes=10), floats(1, 3, 64, 64)),
]
ALL = (*OPERATORS, *SWEEPS.values(), *DOUBLE_SWEEPS.values(), WINOGRAD, *NETWORKS)


def name_of(subject: Subject) -> str:
    return subject.name


def test_every_kernel_compiles() -> None:
    for kernel in dict.fromkeys(kernel for subject in ALL for kernel in subject.program.kernels):
        code = kernel_object(kernel, AARCH64)
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == ELF_MACHINE


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    missing = ", ".join(missing_tools())
    if missing:
        pytest.skip(f"no {missing} here; on Debian: apt-get install {PACKAGES}")
    return Machine.link((k for subject in ALL for k in subject.program.kernels), tmp_path_factory.mktemp("aarch64"))


def run(machine: Machine, subject: Subject) -> np.ndarray:
    feeds = [subject.feeds[str(value.name)] for value in subject.model.graph.inputs]
    return machine.run(subject.program, feeds, threads=THREADS)[0]


@pytest.mark.parametrize("subject", OPERATORS, ids=name_of)
def test_operators(machine: Machine, subject: Subject) -> None:
    got, want = run(machine, subject), subject.wanted()
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    if got.dtype.kind == "f":
        scale = np.nanmax(np.abs(want[np.isfinite(want)]), initial=1e-6)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6 * scale)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(machine: Machine, op: str) -> None:
    reference, bound = FUNCTIONS[op]
    with np.errstate(all="ignore"):
        want = reference(EVERYWHERE.astype(np.float64))
    assert ulps(run(machine, SWEEPS[op]), want).max() <= bound


@pytest.mark.parametrize("op", DOUBLES)
def test_functions_of_float64(machine: Machine, op: str) -> None:
    subject = DOUBLE_SWEEPS[op]
    np.testing.assert_allclose(run(machine, subject), DOUBLES[op](subject.feeds["x"]), rtol=1e-14)


@pytest.mark.parametrize("subject", [WINOGRAD, *NETWORKS], ids=name_of)
def test_networks(machine: Machine, subject: Subject) -> None:
    if subject is WINOGRAD:
        assert "winograd" in [kernel.name for kernel in subject.program.kernels]
    got, want = run(machine, subject), subject.wanted()
    assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


def test_reading_past_an_end_is_caught(machine: Machine) -> None:
    (subject,) = [subject for subject in OPERATORS if subject.name == "Relu"]
    with pytest.raises(subprocess.CalledProcessError):
        machine.run(subject.program, [subject.feeds["x"].ravel()[:-1]], threads=THREADS)
