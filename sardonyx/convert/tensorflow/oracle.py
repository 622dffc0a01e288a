"""What a converted graph is compared with: TensorFlow, else a float64 evaluation of the graph itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sardonyx.convert.base import Options, Oracle
from sardonyx.convert.tensorflow.ports import is_switch
from sardonyx.convert.tensorflow.writing import PLACEHOLDERS

if TYPE_CHECKING:
    from sardonyx.convert.tensorflow.reader import Loaded

PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly")
LAYERS = 200
"""So many layers' values are asked of TensorFlow, spread over the graph."""


def oracles(
    loaded: Loaded, layers: Mapping[str, str], moved: frozenset[str], options: Options
) -> Sequence[Callable[[], Oracle | None]]:
    """TensorFlow in a process of its own where it is installed, and our evaluation.

    Values of the layers in `moved` are given as [N, C, ...], as the model has them.
    """
    return [lambda: _framework(loaded, layers, moved, options), lambda: _evaluation(loaded, moved)]


def places(loaded: Loaded) -> dict[str, dict[str, str]]:
    """TensorFlow's names of the inputs and outputs, by ours."""
    return {
        kind: {port.name: f"{port.at.node}:{port.at.port}" for port in ports}
        for kind, ports in (("inputs", loaded.inputs), ("outputs", loaded.outputs))
    }


def _framework(loaded: Loaded, layers: Mapping[str, str], moved: frozenset[str], options: Options) -> Oracle | None:
    from sardonyx.convert.process import versions
    from sardonyx.convert.subprocess_oracle import SubprocessOracle

    found = versions(PACKAGES, "tensorflow")
    if not found:
        return None
    names = [name for name in dict.fromkeys(layers.values()) if name in loaded.graph.nodes]
    switches = [node.name for node in loaded.graph.nodes.values() if node.op in PLACEHOLDERS and is_switch(node)]
    fed = {port.at.node for port in loaded.inputs}
    arguments = {
        **loaded.how,
        **places(loaded),
        "layers": names[:: -(-len(names) // LAYERS) or 1],
        "moved": sorted(moved.intersection(names)),
        "switches": [name for name in switches if name not in fed],
    }
    version = next(iter(found.values()))
    module = "sardonyx.convert.tensorflow.framework"
    return SubprocessOracle(f"TensorFlow {version}", module, arguments, options.timeout, "tensorflow")


def _evaluation(loaded: Loaded, moved: frozenset[str]) -> Oracle | None:
    from sardonyx.convert.tensorflow.evaluate import Evaluation

    return Evaluation(loaded.graph, loaded.inputs, loaded.outputs, moved)
