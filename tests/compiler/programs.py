"""Models as programs for any processor, this one or another."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from sardonyx.compiler.packed import PackedWeights
from sardonyx.compiler.program import Program
from sardonyx.compiler.target import Target
from sardonyx.ops import operator_of
from sardonyx.providers.cpu import lower
from tests.suites.operators import CASES, Case

THREADS = 2


def program_of(model: ir.Model, feeds: Mapping[str, np.ndarray], target: Target) -> Program:
    """The model's program for inputs of these dims."""
    dims = tuple(feeds[str(value.name)].shape for value in model.graph.inputs)
    return lower(model.graph, dims, target, THREADS, PackedWeights())


def is_one_program(case: Case) -> bool:
    """Whether no node reads what another counts: such a case is cut in two, the second made when the first has run."""
    graph = ir.from_proto(case.model()).graph
    counting = [node for node in graph if (operator := operator_of(node)) is not None and operator.counts]
    return not any(value.uses() for node in counting for value in node.outputs)


PROGRAMS = [case for case in CASES if is_one_program(case)]
"""The operator cases but for the few that are several programs."""
