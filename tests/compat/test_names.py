"""The table of onnxruntime's names: it is what the installed onnxruntime and this package say."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

import sardonyx.compat.onnxruntime as ours
from sardonyx.compat import surface
from sardonyx.compat.install import VERSION

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"

same_version = pytest.mark.skipif(version("onnxruntime") != VERSION, reason=f"the table is of onnxruntime {VERSION}")


@same_version
def test_the_documented_table_is_current():
    assert surface.table() in PAGE.read_text(), "run scripts/record_compat.py"


@same_version
def test_every_declared_name_is_one_of_onnxruntimes():
    rows = surface.rows()
    names = {row.name for row in rows}
    assert names >= surface.ACCEPTED | surface.REFUSED
    assert not [row for row in rows if row.name in surface.ACCEPTED | surface.REFUSED and row.status == "absent"]


@same_version
def test_what_the_drop_in_promises_is_there():
    status = {row.name: row.status for row in surface.rows()}
    methods = ("run", "run_async", "run_with_iobinding", "run_with_ort_values", "run_with_ortvaluevector")
    promised = [
        *(f"InferenceSession.{name}" for name in (*methods, "end_profiling", "get_overridable_initializers")),
        *("SessionOptions.add_initializer", "SessionOptions.add_external_initializers"),
        *("SessionOptions.add_free_dimension_override_by_denotation", "InferenceSession.set_providers"),
        *("OrtValue.from_dlpack", "OrtValue.update_inplace", "IOBinding.bind_ortvalue_output"),
        *("SparseTensor.sparse_csr_from_numpy", "Fail", "InvalidArgument", "NoSuchFile", "InvalidGraph"),
        *("InvalidProtobuf", "NotImplemented", "RuntimeException", "EPFail"),
    ]
    assert {name: status[name] for name in promised} == dict.fromkeys(promised, "acts")


def test_an_absent_name_says_where_to_look():
    with pytest.raises(AttributeError, match=r"onnxruntime.ModelCompiler .* docs/compat.md"):
        ours.ModelCompiler  # noqa: B018 - the access is the test
