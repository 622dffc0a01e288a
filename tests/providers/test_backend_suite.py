"""onnx's own tests: all of them as onnx runs them, through `sardonyx.backend`; some on the reference provider too."""

from __future__ import annotations

import pytest

import sardonyx
import sardonyx.backend
from tests.suites.native_share import GOAL, PAGE, Reasons, page, reasons
from tests.suites.onnx_backend import Case, cases, sample
from tests.suites.onnx_chance import assert_right

COUNT = 200
# Cases that `reference` alone does not pass, with the reason.
IGNORED = {
    "test_gradient": "onnx.reference does not implement Gradient",
    "test_scan_sum": "Scan-8, with a batch axis: removed from the standard in opset 9",
}


def check(case: Case, session: sardonyx.InferenceSession) -> None:
    model = sardonyx.backend.SardonyxBackendRep(session)
    for feed, expected in case.feeds:
        assert_right(case, feed, model.run(feed), expected)


@pytest.mark.parametrize("case", sample(COUNT), ids=lambda case: case.name)
def test_node_on_the_reference_provider(case: Case):
    for name, reason in IGNORED.items():
        if case.name.startswith(name):
            pytest.skip(reason)
    check(case, sardonyx.InferenceSession(case.model, providers=["reference"]))


@pytest.fixture(scope="module")
def whole() -> tuple[dict[str, str], dict[str, Reasons]]:
    """What failed of all cases, and what was not native."""
    failed: dict[str, str] = {}
    found: dict[str, Reasons] = {}
    for case in cases().values():
        try:
            session = sardonyx.backend.prepare(case.model).session
            found[case.name] = reasons(session.explain())
            check(case, session)
        except (sardonyx.SardonyxError, AssertionError) as error:
            failed[case.name] = str(error)[:200]
    return failed, found


def test_the_whole_suite_passes(whole):
    failed, found = whole
    assert not failed
    assert len(found) >= 2033


def test_the_list_of_what_is_not_native_is_current(whole):
    _, found = whole
    assert page(found) == PAGE.read_text(), "run python -m scripts.native_share"
    native = sum(not reasons for reasons in found.values())
    assert native >= GOAL * len(found)
