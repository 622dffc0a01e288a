"""`sardonyx ops` and the page made from it."""

from pathlib import Path

import onnx
from cli.cli_cases import error_of, invoke, run_json

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_page_is_current():
    assert invoke("ops", "--markdown").stdout == PAGE.read_text(), "sardonyx ops --markdown > docs/operators.md"


def test_every_operator_of_the_standard_has_a_row():
    rows = run_json("ops")["operators"]
    domains = {row["domain"] for row in rows}
    expected = {(s.domain or "ai.onnx", s.name) for s in onnx.defs.get_all_schemas_with_history()}
    standard = {"ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"}
    found = {(row["domain"], row["name"]) for row in rows if row["domain"] != "com.microsoft"}
    assert found == {one for one in expected if one[0] in standard}
    assert {*standard, "com.microsoft"} == domains


def test_operators_of_com_microsoft_have_rows():
    rows = {row["name"]: row["runs"] for row in run_json("ops", "--domain", "com.microsoft")["operators"]}
    assert rows["FastGelu"] == "cpu, by definition"
    assert (rows["MatMulNBits"], rows["GreedySearch"], rows["Tokenizer"]) == ("cpu", "cpu", "host")


def test_rows_are_chosen():
    (row,) = run_json("ops", "Relu")["operators"]
    assert (row["runs"], row["versions"]) == ("cpu", [1, 6, 13, 14])
    assert {row["domain"] for row in run_json("ops", "--domain", "ai.onnx.ml")["operators"]} == {"ai.onnx.ml"}
    assert run_json("ops", "Bernoulli")["operators"][0]["runs"] == "cpu, by definition"
    assert "Nothing" in error_of("ops", "Nothing")["what"]
