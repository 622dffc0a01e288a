"""The process in which CatBoost loads a model, writes ONNX and predicts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sardonyx.convert.process import serve
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]
_RESTRICTIONS = (
    "numeric features alone, symmetric trees (grow_policy SymmetricTree), and labels that are whole numbers or text"
)


def work(arguments: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """The model at `model`: written to `onnx` and told about, or its predictions of the kinds `types` for rows X."""
    import catboost

    model = catboost.CatBoost()
    try:
        model.load_model(arguments["model"])
    except catboost.CatBoostError as error:
        raise ModelFileError(
            "CatBoost cannot load the file", where=arguments["where"], got=str(error)[:300], fix="save the model again"
        ) from error
    if "types" in arguments:
        return None, {kind: np.asarray(model.predict(arrays["X"], prediction_type=kind)) for kind in arguments["types"]}
    told = dict(model.get_metadata().items())
    kinds = {"categorical": model.get_cat_feature_indices(), "text": model.get_text_feature_indices()}
    kinds["embedding"] = model.get_embedding_feature_indices()
    if other := ", ".join(f"{kind} ones: {places}" for kind, places in kinds.items() if places):
        raise ConversionError(
            "the model has features that are no numbers", where=arguments["where"], expected=_RESTRICTIONS, got=other,
            fix="train it without them, or with codes that you computed",
        )  # fmt: skip
    try:
        model.save_model(arguments["onnx"], format="onnx")
    except catboost.CatBoostError as error:
        raise ConversionError(
            f"CatBoost does not write this model as ONNX: {str(error).rpartition(': ')[2][:200]}",
            where=arguments["where"], expected=_RESTRICTIONS, fix="train it with such",
        ) from error  # fmt: skip
    loss = json.loads(told["params"])["loss_function"]["type"]
    classes = json.loads(told.get("class_params") or "null")
    labels = (
        [str(one) if classes["class_label_type"] == "String" else one for one in model.classes_.tolist()]
        if classes
        else None
    )
    return {"loss": loss, "labels": labels, "names": list(model.feature_names_)}, {}


if __name__ == "__main__":
    serve(work)
