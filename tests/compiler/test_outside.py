"""A kernel of another package, written with the builder, for an operator that is not ONNX's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from onnx import TensorProto, helper

import sardonyx
from sardonyx.compiler import program
from sardonyx.compiler.builder import Builder, Parameter
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.lower import Lowering, arguments
from sardonyx.compiler.program import Kernel
from sardonyx.ops.table import FLOATS, OPERATORS, elementwise, lowers

DOMAIN = "com.acme"


@dataclass(frozen=True)
class Mirror(Kernel):
    """y[r, i] = x[r, n - 1 - i]."""

    dtype: DType

    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("x", self.dtype), Parameter("y", self.dtype), Parameter("n"))

    def emit(self, k: Builder) -> None:
        n = k.size("n")
        with k.loop(k.end, start=k.begin) as row:
            source, target = k.pointer("x") + row * n, k.pointer("y") + row * n
            with k.loop(n) as at:
                k.store(k.load(source + (n - 1 - at)), target + at)


def mirror(ctx: Lowering, node) -> None:
    x = ctx.row_major(node.inputs[0])
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    n = x.dims[-1]
    ctx.step(
        Mirror(x.dtype),
        arguments(x=x, y=y, n=n),
        domain=prod(x.dims[:-1]),
        label=node.name or node.op_type,
        cost=n,
    )


@pytest.fixture
def operators() -> Iterator[None]:
    lowers("Mirror", dtypes=FLOATS, domain=DOMAIN, folds=False)(mirror)
    elementwise("Twice", dtypes=FLOATS, domain=DOMAIN)(lambda e, node, x: e.op("add", x[0], x[0]))
    sardonyx.register_op(DOMAIN, "Mirror", lambda x: x[..., ::-1], lambda x: [(x.dtype, x.dims)])
    sardonyx.register_op(DOMAIN, "Twice", lambda x: x + x, lambda x: [(x.dtype, x.dims)])
    yield
    for name in ("Mirror", "Twice"):
        sardonyx.unregister_op(DOMAIN, name)
        del OPERATORS[DOMAIN, name]


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT, np.float32), (TensorProto.DOUBLE, np.float64)])
def test_it_is_native(kind, dtype):
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Mirror", ["e"], ["m"], domain=DOMAIN),
        helper.make_node("Twice", ["m"], ["t"], domain=DOMAIN),
        helper.make_node("Neg", ["t"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, kind, ["N", 7]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    session = sardonyx.InferenceSession(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    for rows in (1, 5, 0):
        x = np.random.default_rng(3).normal(size=(rows, 7)).astype(dtype)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], -2 * np.exp(x)[:, ::-1], rtol=1e-6)


def test_its_code_is_kept_apart(monkeypatch):
    """Equal names and fields in another module, or another version of it, are other kernels."""
    first = Mirror(DType.F32).symbol
    assert Mirror(DType.F32).symbol == first
    monkeypatch.setattr(program, "_origin", lambda module: b"another version")
    assert Mirror(DType.F32).symbol != first


def test_what_cannot_be_read_again_is_not_kept(monkeypatch):
    program._origin.cache_clear()
    monkeypatch.delattr(__import__("sys").modules[__name__], "__file__")
    one = program._origin(__name__)
    program._origin.cache_clear()
    assert program._origin(__name__) != one
    program._origin.cache_clear()
