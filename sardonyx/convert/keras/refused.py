"""Keras's layers that are not converted, and why. Together with the reader's table these are all its layers."""

from __future__ import annotations

_TEXT = "it makes numbers of text or by a vocabulary; do that before the model"
_CELL = "it is a cell, or a wrapper's base, which is no layer of a network by itself"
_CODE = "it holds code of another framework"
_ALWAYS = "it changes pictures at inference, by their histograms or by chance; do that before the model"

REFUSED: dict[str, str] = {
    **dict.fromkeys(("HashedCrossing", "Hashing", "IntegerLookup", "StringLookup", "TextVectorization"), _TEXT),
    **dict.fromkeys(("AbstractRNNCell", "GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"), _CELL),
    **dict.fromkeys(("Layer", "Wrapper"), _CELL),
    **dict.fromkeys(("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"), _CODE),
    **dict.fromkeys(("AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization"), _ALWAYS),
    **dict.fromkeys(("RandomCrop", "RandomHeight", "RandomWidth", "Solarization"), _ALWAYS),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), "convolutions over time steps are not supported"),
    **dict.fromkeys(
        ("LocallyConnected1D", "LocallyConnected2D"), "convolutions with unshared weights are not supported"
    ),
    **dict.fromkeys(
        ("MelSpectrogram", "STFTSpectrogram"), "spectrograms are not supported; make them before the model"
    ),
    "DenseFeatures": "feature columns are not supported; they belong before the model",
    "Lambda": "it holds Python code, which is never run",
    "MaxNumBoundingBoxes": "it is about boxes beside pictures, not about values of a network",
    "Pipeline": "a pipeline of augmentations is not supported; apply it before the model",
    "ReversibleEmbedding": "a layer that is called in two directions is not supported",
    "SpectralNormalization": "its wrapped layer is not looked into; save the layer inside in its place",
}
