"""Paddle, Spark ML, H2O and JAX: recorded where these frameworks ran, converted where they are installed.

`SARDONYX_PADDLE_PYTHON` and `SARDONYX_SPARK_PYTHON` may name Pythons that have them; JAX is looked for in this one.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sardonyx.convert import process
from sardonyx.convert.api import read
from sardonyx.convert.base import Options, Source
from sardonyx.convert.exporters import columns, h2o, jax, paddle, spark
from sardonyx.errors import ConversionError, MissingExtraError, ModelFileError
from tests.convert.exporters.exporter_cases import agrees, dims

DATA = Path(__file__).parent.parent / "data" / "exporters"


def recorded(name):
    with np.load(DATA / f"{name}.npz") as stored:
        inputs = {key[3:]: stored[key] for key in stored.files if key.startswith("in/")}
        return inputs, {key[4:]: stored[key] for key in stored.files if key.startswith("out/")}


def needs(packages, framework=None):
    missing = set(packages) - set(process.versions(packages, framework))
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("name", ["net.json", ""])
def test_paddle(name):
    needs(paddle.PACKAGES, "paddle")
    converted = read(DATA / "paddle" / name)
    inputs, outputs = recorded("paddle")
    assert dims(converted.model.graph.inputs) == {"image": ["batch", 3, 8, 8]}
    assert list(dims(converted.model.graph.outputs).values()) == [["batch", 5], ["batch", 16]]
    names = [value.name for value in converted.model.graph.outputs]
    expected = dict(zip(names, (outputs["0"], outputs["1"]), strict=True))
    agrees(converted, inputs, expected)
    for key, value in converted.oracles[0]().run(inputs).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-6)


def test_spark():
    needs(spark.PACKAGES, "spark")
    inputs, outputs = recorded("spark")
    converted = read(DATA / "spark", Options(shapes=dict.fromkeys(inputs, (None, 1))))
    assert dims(converted.model.graph.inputs) == {"a": ["batch", 1], "b": ["batch", 1], "c": ["batch", 1]}
    assert dims(converted.model.graph.outputs) == {"prediction": ["batch"], "probability": ["batch", 2]}
    agrees(converted, inputs, outputs)
    found = converted.oracles[0]().run(inputs)
    assert found["prediction"].tolist() == outputs["prediction"].tolist()
    np.testing.assert_allclose(found["probability"], outputs["probability"], rtol=1e-6)


@pytest.mark.parametrize(("kind", "extra"), [(paddle, "paddle"), (spark, "spark"), (h2o, "h2o"), (jax, "jax")], ids=str)
def test_what_is_missing_names_its_extra(kind, extra, monkeypatch):
    monkeypatch.setattr("sardonyx.convert.exporters.base.versions", lambda packages, framework=None: {})
    with pytest.raises(MissingExtraError, match=rf"sardonyx\[{extra}\]"):
        kind.read(Source(object=3), Options(example=(1,), shapes={"x": (None, 1)}))


def test_recognised_by_content(tmp_path):
    assert paddle.recognises(Source(path=DATA / "paddle" / "net.json"))
    assert paddle.recognises(Source(path=DATA / "paddle"))
    assert not paddle.recognises(Source(path=DATA / "paddle" / "net.pdiparams"))
    assert not paddle.recognises(Source(path=tmp_path))
    other = tmp_path / "net.json"
    other.write_text("{}")
    (tmp_path / "net.pdiparams").write_bytes(b"")
    assert not paddle.recognises(Source(path=other))
    assert spark.recognises(Source(path=DATA / "spark"))
    assert not spark.recognises(Source(path=DATA / "paddle"))
    assert not jax.recognises(Source(path=other))
    mojo = archive(tmp_path / "some.file", INI)
    assert h2o.recognises(Source(path=mojo))
    assert not h2o.recognises(Source(path=archive(tmp_path / "b", "[info]\nversion = 1\n")))
    assert not h2o.recognises(Source(path=other))


# Spark


def test_stages_of_others_are_not_imported(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(DATA / "spark", folder)
    assert spark._kind(folder) == "org.apache.spark.ml.PipelineModel"
    part = next(folder.glob("stages/1_*/metadata/part-*"))
    facts = json.loads(part.read_text())
    part.write_text(json.dumps(facts | {"class": "antigravity.Stage"}))
    with pytest.raises(ConversionError, match=r"not Spark's own: antigravity\.Stage"):
        spark._kind(folder)
    for damage in ("", "{", "[]", '{"class"'):
        part.write_text(damage)
        with pytest.raises(ModelFileError, match="metadata"):
            spark._kind(folder)


def test_columns_of_frames_and_shapes():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.5, 2], "b": [1, 2], "c": ["x", "y"], "d": [[1.0, 2, 3], [4, 5, 6]]})
    found = columns.columns(Source(object=3), Options(example=(frame,)))
    assert [column.facts() for column in found] == [
        ["a", "float", 1],
        ["b", "int", 1],
        ["c", "text", 1],
        ["d", "float", 3],
    ]
    made = columns.made(found, 5, np.random.default_rng(0))
    assert {name: (value.shape, value.dtype.kind) for name, value in made.items()} == {
        "a": ((5, 1), "f"), "b": ((5, 1), "i"), "c": ((5, 1), "O"), "d": ((5, 3), "f"),
    }  # fmt: skip
    found = columns.columns(Source(object=3), Options(shapes={"x": (None, 4)}))
    assert columns.made(found, 2, np.random.default_rng(0))["x"].shape == (2, 4)
    with pytest.raises(ConversionError, match="which columns"):
        columns.columns(Source(object=3), Options())
    with pytest.raises(ConversionError, match="two dims"):
        columns.columns(Source(object=3), Options(shapes={"x": (None, 4, 5)}))


# H2O

INI = """[info]
h2o_version = 3.46.0.7
algorithm = Gradient Boosting Machine
n_features = 2
n_classes = 2

[columns]
Sepal = length
width
label

[domains]
2: 2 d000.txt
"""


def archive(path, ini):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.ini", ini)
    return path


def test_facts_of_a_mojo(tmp_path):
    path = archive(tmp_path / "m", INI.replace("Sepal = length", "length"))
    facts = h2o._facts(path, Source(path=path))
    assert facts == h2o._Facts("Gradient Boosting Machine", "3.46.0.7", ["length", "width"])
    for damage in (INI.replace("2\n", "9\n"), INI.replace("[columns]", ""), "[info]\nn_features = x", ""):
        path = archive(tmp_path / "m", damage)
        with pytest.raises(ModelFileError):
            h2o._facts(path, Source(path=path))


# JAX


def test_jax_functions():
    needs(jax.PACKAGES)
    import jax as framework
    import jax.numpy as jnp

    table = np.arange(30, dtype=np.float32).reshape(10, 3)

    def function(x, ids):
        return {"sum": jnp.tanh(x @ jnp.ones((4, 3))), "rows": (jnp.asarray(table)[ids],)}

    example = (np.zeros((1, 4), np.float32), np.array([9], np.int32))
    for source, kind in ((framework.jit(function), None), (function, "jax")):
        converted = read(source, Options(example=example), kind=kind)
        assert dims(converted.model.graph.inputs) == {"x": ["batch", 4], "ids": ["batch"]}
        assert set(dims(converted.model.graph.outputs)) == {"sum", "rows_0"}
        inputs = converted.make_inputs(5, np.random.default_rng(0))
        agrees(converted, inputs, converted.oracles[0]().run(inputs))
    with pytest.raises(ConversionError, match="example arguments"):
        read(framework.jit(function))


def test_flax_modules():
    needs((*jax.PACKAGES, "flax"))
    import jax as framework
    from flax import linen, nnx

    class Old(linen.Module):
        @linen.compact
        def __call__(self, image):
            return linen.Dense(3)(linen.relu(linen.Conv(4, (3, 3))(image)).mean((1, 2)))

    image = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)
    variables = Old().init(framework.random.key(0), image)
    converted = read(Old(), Options(example=(variables, image)))
    assert dims(converted.model.graph.inputs) == {"image": ["batch", 8, 8, 2]}
    inputs = converted.make_inputs(3, np.random.default_rng(0))
    agrees(converted, inputs, {"output": np.asarray(Old().apply(variables, inputs["image"]))})
    new = nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 3, rngs=nnx.Rngs(1)))
    converted = read(new, Options(example=(np.zeros((1, 4), np.float32),)))
    inputs = converted.make_inputs(3, np.random.default_rng(0))
    agrees(converted, inputs, {"output": np.asarray(new(next(iter(inputs.values()))))})
