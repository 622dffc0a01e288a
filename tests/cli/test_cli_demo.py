import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cli_cases import error_of, invoke, run_json

from sardonyx.cli import subjects
from sardonyx.cli.report import render
from sardonyx.cli.story import Story
from sardonyx.cli.subjects import Stage, Subject
from sardonyx.errors import DownloadError, ProviderError
from sardonyx.measure.compare import Difference
from sardonyx.measure.timing import Latency, Ratio
from sardonyx.measure.trial import Trial, Trials
from sardonyx.zoo import digits


class Links(HTMLParser):
    """Collects all a page would load or lead to, and every tag."""

    def __init__(self):
        super().__init__()
        self.links, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


@pytest.fixture(scope="module")
def digits_demo(tmp_path_factory):
    page = tmp_path_factory.mktemp("demo") / "out.html"
    return run_json("demo", "digits", "--report", page), page.read_text(encoding="utf-8")


def test_the_digits_demo_reads_its_digit_on_every_runtime(digits_demo):
    found, _ = digits_demo
    assert found["subject"] == "digits"
    assert next(iter(found["probabilities"])) == found["expected"] == "2"
    assert list(found["stages"]) == ["Get the model", "Check it"]
    assert {r["name"] for r in found["runtimes"]} >= {"sardonyx/reference", "onnxruntime", "openvino"}
    for runtime in found["runtimes"]:
        assert runtime["error"] is None
        assert runtime["latency"]["p50_ms"] > 0
        if runtime["name"] != "sardonyx/reference":
            assert runtime["difference"]["max_abs"] < 1e-5
    expected = digits.held_out().probabilities[digits.SHOWN]
    np.testing.assert_allclose([found["probabilities"][c] for c in digits.CLASSES], expected, atol=2e-6)


def test_the_page_needs_nothing_from_elsewhere(digits_demo):
    _, page = digits_demo
    seen = Links()
    seen.feed(page)
    assert seen.links, "the picture is missing"
    assert all(link.startswith("data:image/") for link in seen.links)
    assert not re.search(r"url\(|@import|<script", page)
    assert {"svg", "img", "table"} <= set(seen.tags)
    assert "97.33 %" in page


def a_story(**changes):
    outputs = (np.array([[0.25, 0.75]], np.float32),)
    latency = Latency("x", 10, 1.0, 2.0, 3.0, 4.0, 500.0)
    trials = (
        Trial("sardonyx/cpu", outputs, latency, Difference(1e-7, 1e-7)),
        Trial("sardonyx/reference", outputs, latency),
        Trial("onnxruntime", error=ProviderError("no <such> opset")),
    )
    subject = Subject(
        name="digits", title="<title>", question="What & why?", model=Path("m.onnx"), inputs={},
        classes=("<script>alert(1)</script>", "dog"), expected="dog", picture="data:image/png;base64,AA==",
        caption="c", stages=(Stage("Get", {"<b>": "</html>"}),),
    )  # fmt: skip
    facts = {"threads": 2, "machine": "m", "version": "0", "note": "", **changes}
    ratios = (Ratio("openvino", 0.5, 0.4, 0.6),)
    return Story(subject=subject, trials=Trials(trials, ratios), probabilities=(0.25, 0.75), **facts)


def test_what_comes_from_a_model_is_escaped_on_the_page():
    page = render(a_story(note="<i>"))
    seen = Links()
    seen.feed(page)
    assert not {"script", "i", "b"} & set(seen.tags)
    assert page.count("</html>") == 1
    assert "no &lt;such&gt; opset" in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_is_honest_when_slower():
    assert "0.5 times as fast as openvino" in render(a_story())


def test_plain_demo_falls_back_to_digits_and_says_so(monkeypatch):
    def offline(folder, tell):
        raise DownloadError("no network", fix="plug it in")

    monkeypatch.setitem(subjects.SUBJECTS, "emotion", offline)
    told = invoke("demo")
    assert told.exit_code == 0, told.output
    assert "could not be downloaded" in told.stdout
    assert "plug it in" in told.stdout
    assert "Which digit is this?" in told.stdout
    assert "right" in told.stdout
    assert error_of("demo", "emotion")["code"] == "download", "asked for by name it is not exchanged"


def test_a_report_that_cannot_be_written_is_found_out_at_once(tmp_path):
    error = error_of("demo", "digits", "--report", tmp_path / "none" / "out.html")
    assert "folder that exists" in error["expected"]
    assert error_of("demo", "digits", "--report", tmp_path)["code"] == "invalid-input"
