"""Train small models with another version of XGBoost than the tests' and record what it predicts, for
tests/convert/test_xgboost.py.

Run in an environment with that version (1.7.6 and 2.1.4 were used):

    python scripts/record_xgboost.py

Writes NAME.json or NAME.ubj and NAME.npz (`x`, and `prediction` of a Booster) to tests/convert/data/xgboost, with the
version in NAME.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xgboost

DATA = Path(__file__).parents[1] / "tests/convert/data/xgboost"
VERSION = xgboost.__version__
CASES = {
    "categories": {"objective": "reg:squarederror", "max_cat_to_onehot": 2, "tree_method": "hist"},
    "logitraw": {"objective": "binary:logitraw", "base_score": 0.3},
    "logistic": {"objective": "binary:logistic", "base_score": 0.3},
    "gamma": {"objective": "reg:gamma", "base_score": 0.7},
    "dart": {"objective": "multi:softprob", "num_class": 3, "booster": "dart", "rate_drop": 0.5},
    "linear": {"objective": "multi:softprob", "num_class": 3, "booster": "gblinear", "base_score": 0.3},
    "vector": {"objective": "reg:squarederror", "multi_strategy": "multi_output_tree", "tree_method": "hist"},
}


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    for name, parameters in CASES.items():
        if name == "vector" and VERSION < "2":
            continue
        rng = np.random.default_rng(3)
        x = rng.normal(size=(120, 4)).astype(np.float32)
        x[:, 3] = rng.integers(0, 9, 120)
        x[rng.random(x.shape) < 0.1] = np.nan
        score = np.nan_to_num(x[:, 0] + np.sin(2 * x[:, 3]))
        y = np.abs(score) + 0.1 if name == "gamma" else np.stack([score, -score], 1) if name == "vector" else score
        if "multi:" in parameters["objective"]:
            y = np.digitize(score, [-0.5, 0.5])
        elif parameters["objective"].startswith("binary"):
            y = score > 0
        kinds = ["q", "q", "q", "c"] if name == "categories" else None
        data = xgboost.DMatrix(x, label=y, feature_types=kinds, enable_categorical=kinds is not None)
        booster = xgboost.train({"max_depth": 3, "nthread": 1, **parameters}, data, 4)
        stem = f"{name}_{VERSION.replace('.', '_')}"
        booster.save_model(DATA / f"{stem}.{'ubj' if name in ('dart', 'vector') else 'json'}")
        np.savez_compressed(DATA / f"{stem}.npz", x=x, prediction=booster.predict(data))


if __name__ == "__main__":
    main()
