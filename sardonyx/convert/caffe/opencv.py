"""OpenCV as the oracle of a Caffe network, where it computes what Caffe does."""

from __future__ import annotations

from collections.abc import Mapping

from sardonyx.convert.base import Oracle
from sardonyx.convert.caffe.files import Layer, Network
from sardonyx.convert.caffe.prototxt import Message
from sardonyx.convert.opencv_oracle import opencv

AGREES = frozenset(
    [
        "AbsVal",
        "BNLL",
        "BatchNorm",
        "Concat",
        "Convolution",
        "Deconvolution",
        "DetectionOutput",
        "Dropout",
        "ELU",
        "Eltwise",
        "Exp",
        "Flatten",
        "Input",
        "InnerProduct",
        "LRN",
        "Normalize",
        "PReLU",
        "Permute",
        "Pooling",
        "Power",
        "PriorBox",
        "ReLU",
        "Reshape",
        "Scale",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "TanH",
    ]
)
"""Layers that OpenCV computes as Caffe does, by comparison (tests/convert/caffe)."""

DIFFERS = {
    "Convolution": ("convolution_param", {"axis"}),
    "InnerProduct": ("inner_product_param", {"transpose"}),
    "LRN": ("lrn_param", {"norm_region", "k"}),
    "PriorBox": ("prior_box_param", {"offset_h", "offset_w", "width", "height"}),
}
"""Options of theirs with which it does not."""


def agrees(layer: Layer) -> bool:
    """Whether OpenCV computes this layer as Caffe does."""
    name, options = DIFFERS.get(layer.type, ("", set()))
    p = layer.message.message(name) if name else Message()
    if layer.type == "PriorBox" and "clip" not in p.fields:
        return False  # Its default is not that of Caffe.
    return layer.type in AGREES and not options & set(p.fields) and len(p.fields.get("kernel_size", [])) < 3


def oracle(network: Network, outputs: Mapping[str, str], timeout: float) -> Oracle | None:
    """OpenCV on the network's files; None where it is not installed or has other ideas of a layer.

    `outputs` are blobs by output. OpenCV goes by layers: the last that makes the blob.
    """
    if network.version == "V0" or not all(map(agrees, network.layers)):
        return None
    makers = {top: layer.name for layer in network.layers for top in layer.tops}
    if not set(outputs.values()) <= set(makers):
        return None
    return opencv("caffe", *network.files, {name: makers[blob] for name, blob in outputs.items()}, timeout)
