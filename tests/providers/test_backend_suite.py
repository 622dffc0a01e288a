"""onnx's own node tests through InferenceSession, on each provider."""

from __future__ import annotations

import pytest
from suites.onnx_backend import Case, assert_same, cases, sample

import sardonyx

# Cases a provider does not pass, with the reason.
RANDOM = "onnx expects the numbers of its own generator, unseeded"
IGNORED = {
    "test_bernoulli": RANDOM,
    "test_bernoulli_double": RANDOM,
    "test_bernoulli_double_expanded": RANDOM,
    "test_bernoulli_expanded": RANDOM,
    "test_bernoulli_seed": RANDOM,
    "test_bernoulli_seed_expanded": RANDOM,
    "test_if_opt": "the expected value lacks one level of the sequence it is declared to be",
    "test_scan_sum": "Scan-8, with a batch axis: removed from the standard in opset 9",
}
PROVIDERS = ["cpu", "reference"]
COUNT = 200


def check(provider: str, case: Case) -> None:
    session = sardonyx.InferenceSession(case.model, providers=[provider])
    for feed, expected in case.feeds:
        assert_same(case, session.run(None, feed), expected)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("case", sample(COUNT), ids=lambda case: case.name)
def test_node(provider: str, case: Case):
    if case.name in IGNORED:
        pytest.skip(IGNORED[case.name])
    check(provider, case)


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
def test_all_nodes(provider: str):
    failed = {}
    for case in cases().values():
        if case.name not in IGNORED:
            try:
                check(provider, case)
            except (sardonyx.SardonyxError, AssertionError) as error:
                failed[case.name] = str(error)[:200]
    assert not failed
