"""Make small TensorFlow.js models, and record what TensorFlow computes with their weights.

    python scripts/record_tfjs.py tests/convert/data/tfjs

Needs tensorflow 2.21 and tf_keras, in an environment of their own. The files are those that TensorFlow.js's own
converter writes: Keras's configuration, or a graph that TensorFlow's optimiser has gone over, with a manifest of
weights, quantised as `tensorflowjs/quantization.py` does. Each model is a folder; inputs and outputs lie in
recorded.npz as `NAME/in/i` and `NAME/out/i`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tf_keras
from google.protobuf import json_format
from tensorflow.core.protobuf import config_pb2, device_properties_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import cluster, tf_optimizer
from tensorflow.python.training.saver import export_meta_graph

Arrays = dict[str, Any]


def quantised(array: Any, kind: str | None) -> tuple[bytes, dict[str, Any], Any]:
    """The bytes, the manifest's words on them, and the numbers they stand for."""
    if kind is None or array.dtype != np.float32 or array.size < 2:
        return array.tobytes(), {}, array
    if kind == "float16":
        half = array.astype(np.float16)
        words = {"quantization": {"dtype": kind, "original_dtype": "float32"}}
        return half.tobytes(), words, half.astype(np.float32)
    dtype = np.dtype(kind)
    scale = float((array.max() - array.min()) / np.iinfo(dtype).max) or 1.0
    low = float(np.round(array.min() / scale)) * scale if array.min() <= 0 <= array.max() else float(array.min())
    steps = np.clip(np.round((array - low) / scale), 0, np.iinfo(dtype).max).astype(dtype)
    words = {"quantization": {"dtype": kind, "scale": scale, "min": low, "original_dtype": "float32"}}
    return steps.tobytes(), words, (steps.astype(np.float64) * scale + low).astype(np.float32)


def write(folder: Path, model: dict[str, Any], arrays: Arrays, kind: str | None, shard: int) -> Arrays:
    """model.json and its shards of `shard` bytes; the weights as they are stored."""
    folder.mkdir(parents=True, exist_ok=True)
    data, entries, stored = b"", [], {}
    for name, array in arrays.items():
        part, words, stored[name] = quantised(array, kind)
        entries.append({"name": name, "shape": list(array.shape), "dtype": str(array.dtype), **words})
        data += part
    parts = [data[at : at + shard] for at in range(0, len(data), shard)]
    paths = [f"group1-shard{i + 1}of{len(parts)}.bin" for i in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        (folder / path).write_bytes(part)
    model = {**model, "weightsManifest": [{"paths": paths, "weights": entries}]}
    (folder / "model.json").write_text(json.dumps(model))
    return stored


def picture() -> Any:
    layers = tf_keras.layers
    x = tf_keras.Input((12, 10, 3), name="image")
    y = layers.Conv2D(6, 3, 2, "same", activation="relu", name="first")(x)
    y = layers.BatchNormalization(name="normal")(layers.DepthwiseConv2D(3, name="depth")(y))
    inner = tf_keras.Sequential(
        [layers.Conv2D(4, 1, name="one", input_shape=(4, 3, 6)), layers.ReLU(6.0)], name="inner"
    )
    y = layers.Flatten()(inner(y))
    return tf_keras.Model(x, [layers.Dense(5, activation="softmax", name="kinds")(y), layers.Dense(2, name="place")(y)])


def sequence() -> Any:
    layers = tf_keras.layers
    made = [
        layers.Bidirectional(layers.LSTM(4, return_sequences=True), input_shape=(6, 3), name="both"),
        layers.GRU(3, name="gru"),
        layers.Dense(2, activation="tanh", name="last"),
    ]
    return tf_keras.Sequential(made)


def layers_model(
    folder: Path, model: Any, kind: str | None, shard: int, *, javascript: bool = False
) -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    model.set_weights(
        [rng.uniform(0.1, 0.6, w.shape) * rng.choice([-1, 1], w.shape) ** (w.ndim > 1) for w in model.get_weights()]
    )
    arrays = {w.name.removesuffix(":0"): w.numpy() for w in model.weights}
    config = json.loads(model.to_json())
    if javascript:  # as model.save() in a browser writes it
        topology = {
            "class_name": config["class_name"],
            "config": config["config"],
            "keras_version": "tfjs-layers 4.22.0",
        }
        head = {"modelTopology": topology, "format": "layers-model", "generatedBy": "TensorFlow.js tfjs-layers v4.22.0"}
    else:
        topology = {"keras_version": "2.15.0", "backend": "tensorflow", "model_config": config}
        head = {
            "format": "layers-model",
            "generatedBy": "keras v2.15.0",
            "convertedBy": "TensorFlow.js Converter v4.22.0",
            "modelTopology": topology,
        }
    stored = write(folder, head, arrays, kind, shard)
    model.set_weights([stored[w.name.removesuffix(":0")] for w in model.weights])
    x = rng.normal(0, 1, (2, *model.input_shape[1:])).astype(np.float32)
    outputs = model(x)
    return [x], [y.numpy() for y in (outputs if isinstance(outputs, list) else [outputs])]


def graph_model(folder: Path, model: Any, kind: str | None) -> tuple[Any, Any]:
    """Frozen, gone over by the optimiser (convolutions with their bias and activation become one), weights apart."""
    rng = np.random.default_rng(6)
    model.set_weights(
        [rng.uniform(0.1, 0.6, w.shape) * rng.choice([-1, 1], w.shape) ** (w.ndim > 1) for w in model.get_weights()]
    )
    specs = [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in model.inputs]
    made = tf.function(lambda x: dict(zip(("kinds", "place"), model(x), strict=True))).get_concrete_function(*specs)
    frozen = convert_variables_to_constants_v2(made)
    graph = frozen.graph
    signature = meta_graph_pb2.SignatureDef()
    tensors = {"inputs": frozen.inputs, "outputs": frozen.outputs}
    names = {"inputs": ["image"], "outputs": ["kinds", "place"]}
    definition = graph.as_graph_def()
    for node in definition.node:
        node.device = "/device:CPU:0"
    meta = export_meta_graph(graph_def=definition, graph=graph)
    fetches = meta_graph_pb2.CollectionDef()
    fetches.node_list.value.extend([t.name for t in (*frozen.inputs, *frozen.outputs)])
    meta.collection_def["train_op"].CopyFrom(fetches)
    options = config_pb2.ConfigProto()
    rewrite = options.graph_options.rewrite_options
    rewrite.optimizers[:] = ["debug_stripper", "remap", "constfold", "arithmetic", "dependency", "remap"]
    rewrite.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    machine = device_properties_pb2.NamedDevice(name="/CPU:0")
    machine.properties.type = "CPU"
    machine.properties.environment.update({"architecture": "5"})  # any that has no fused kernels of its own
    better = tf_optimizer.OptimizeGraph(options, meta, cluster=cluster.Cluster(devices=[machine]))
    for side, ends in tensors.items():
        for name, tensor in zip(names[side], ends, strict=True):
            info = getattr(signature, side)[name]
            info.name, info.dtype = tensor.name, tensor.dtype.as_datatype_enum
            info.tensor_shape.CopyFrom(tensor.shape.as_proto())
    arrays = {}
    for node in better.node:
        node.device = ""
        if node.op == "Const":
            arrays[node.name] = tf.make_ndarray(node.attr["value"].tensor)
            tensor = node.attr["value"].tensor
            shape, dtype = tf.TensorShape(tensor.tensor_shape), tensor.dtype
            tensor.Clear()
            tensor.dtype = dtype
            tensor.tensor_shape.CopyFrom(shape.as_proto())
    head = {
        "format": "graph-model", "generatedBy": tf.__version__, "convertedBy": "TensorFlow.js Converter v4.22.0",
        "signature": json_format.MessageToDict(signature), "modelTopology": json_format.MessageToDict(better),
        "userDefinedMetadata": {"labels": ["a", "b", "c", "d", "e"]},
    }  # fmt: skip
    print(sorted({node.op for node in better.node}))
    stored = write(folder, head, arrays, kind, 1000)
    for node in better.node:
        if node.op == "Const":
            node.attr["value"].tensor.tensor_content = np.ascontiguousarray(stored[node.name]).tobytes()
    x = rng.normal(0, 1, (2, *model.input_shape[1:])).astype(np.float32)
    fetched = [entry["name"] for entry in head["signature"]["outputs"].values()]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(better, name="")
        outputs = session.run(fetched, {frozen.inputs[0].name: x})
    return [x], outputs


def main() -> None:
    target = Path(sys.argv[1])
    tf_keras.utils.set_random_seed(3)
    results = {
        "layers": layers_model(target / "layers", picture(), None, 500),
        "layers_uint8": layers_model(target / "layers_uint8", picture(), "uint8", 10_000),
        "layers_uint16": layers_model(target / "layers_uint16", sequence(), "uint16", 10_000),
        "layers_javascript": layers_model(target / "layers_javascript", sequence(), None, 300, javascript=True),
        "graph": graph_model(target / "graph", picture(), None),
        "graph_float16": graph_model(target / "graph_float16", picture(), "float16"),
    }
    stored = {
        f"{name}/{side}/{i}": array
        for name, sides in results.items()
        for side, arrays in zip(("in", "out"), sides, strict=True)
        for i, array in enumerate(arrays)
    }
    np.savez_compressed(target / "recorded.npz", **stored)


if __name__ == "__main__":
    main()
