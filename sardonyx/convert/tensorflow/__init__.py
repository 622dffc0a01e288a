"""TensorFlow: frozen graphs, checkpoints and SavedModels of either version, live modules; without TensorFlow.

For readers of graphs that come in another file (TFJS):

    graph = from_json(topology, where, weights)                # or from_message(graph_def, where).with_values(weights)
    written = convert_graph(graph, inputs, outputs, options, name=...)

- `from_json(topology: Mapping, where: str, values: Mapping[str, Array] | None) -> Graph` takes `modelTopology` as it
  is; `values` are weights by the names of their nodes (Const, VariableV2, VarHandleOp), and go before what those hold.
- `inputs` and `outputs` are `Port(name, Endpoint.of("node:0"), kind=None, shape=None)`: the name in ONNX, and the
  place. For inputs `kind` (an `ir.DataType`) and `shape` are needed where the node there does not tell them.
- `written.model` is the ONNX model, `written.layers` the TensorFlow nodes by the names of its values, `written.notes`
  what to tell. All of these are in this package's `graph` and `writing` modules.
- `ports(graph, options) -> (inputs, outputs)` (in `ports`) finds them where nothing tells: placeholders, and results
  that nothing reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.convert.base import Source

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options


def recognises(source: Source) -> bool:
    """Whether `source` is TensorFlow's: by the first fields of a file, the files of a folder, or the object's class."""
    from sardonyx.convert.tensorflow.recognise import kind

    return kind(source) is not None


def read(source: Source, options: Options) -> Converted:
    """The graph as ONNX. Raises ConversionError listing all that cannot be converted, ModelFileError on damage."""
    from sardonyx.convert.tensorflow.reader import read

    return read(source, options)


def operators() -> list[str]:
    """TensorFlow's operators that can be converted."""
    from sardonyx.convert.tensorflow.table import EMITTERS, STRUCTURAL

    return sorted({*EMITTERS, *STRUCTURAL})
