"""The shape of the house: which package may import which, what is public, and that importing is quick."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import sardonyx

PACKAGE = Path(sardonyx.__file__).parent
ROOT = PACKAGE.parent

# In the order data flows; a layer may import from itself and from those before it.
LAYERS = (
    ("errors", "config", "garbage"),
    ("model",),
    ("passes",),
    ("compiler",),
    ("ops",),
    ("runtime", "plan"),
    ("providers",),
    ("options", "feeds", "trace", "session"),
    ("backend", "compat"),
    ("measure",),
    ("convert",),
    ("zoo",),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Modules of concrete providers. Nothing outside providers/ may name them but the table of entry points.
PLUMBING = {"__init__", "base", "coverage", "functions", "partition", "registry"}

HEAVY = {
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "openvino",
    "llvmlite",
    "h5py",
    "PIL",
    "torch",
    "tensorflow",
    "tokenizers",
    "sympy",
    "ml_dtypes",
    "google.protobuf",
    "typer",
    "rich",
}

PUBLIC = [
    "CompileError",
    "ConfigError",
    "ConversionError",
    "DownloadError",
    "ExecutionError",
    "ExecutionMode",
    "GraphOptimizationLevel",
    "InferenceSession",
    "InvalidInputError",
    "InvalidModelError",
    "MissingExtraError",
    "ModelFileError",
    "ModelMetadata",
    "NodeArg",
    "ParityError",
    "Placement",
    "ProviderError",
    "RunOptions",
    "SardonyxError",
    "SessionOptions",
    "UnsupportedOperatorError",
    "__version__",
    "convert",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "install_as_onnxruntime",
    "register_op",
    "unregister_op",
]


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[int, str]]:
    """Every module a file imports, in functions too, by full name, with its line.

    `from package import name` gives `package.name`, which names the module when `name` is one.
    """
    found = []
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                upper = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*upper, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def layer(module: str) -> str:
    """`sardonyx.model.file` is of the layer `model`."""
    return module.split(".")[1]


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_module_has_a_layer():
    layers = {layer(module_of(path)) for path in sources() if module_of(path) != "sardonyx"}
    assert layers <= set(RANK)


def test_imports_go_one_way():
    wrong = []
    for path in sources():
        module = module_of(path)
        if module == "sardonyx":  # The public API reaches everywhere, lazily: see test_import_is_light.
            continue
        for line, target in imports(path):
            if not target.startswith("sardonyx."):
                continue
            # `from sardonyx import config` and `from sardonyx import InferenceSession` alike.
            home = sardonyx._HOME.get(layer(target), layer(target)).split(".")[0]
            if home in RANK and RANK[home] > RANK[layer(module)]:
                wrong.append(f"{place(path, line)}: {layer(module)} imports {target}")
    assert not wrong


def test_only_one_file_touches_llvm_binding():
    wrong = [
        place(path, line)
        for path in sources()
        for line, target in imports(path)
        if target.startswith("llvmlite.binding") and path != PACKAGE / "compiler" / "jit.py"
    ]
    assert not wrong


def test_nobody_names_a_concrete_provider():
    concrete = {path.stem for path in (PACKAGE / "providers").glob("*.py")} - PLUMBING
    concrete |= {path.name for path in (PACKAGE / "providers").iterdir() if (path / "__init__.py").exists()}
    wrong = [
        f"{place(path, line)}: {target}"
        for path in sources()
        if path.parent.name != "providers" and "providers" not in path.relative_to(PACKAGE).parts
        for line, target in imports(path)
        if target.startswith("sardonyx.providers.") and target.split(".")[2] in concrete
    ]
    assert not wrong
    # Among themselves only helpers of their own: the plumbing knows them by entry point alone.
    for name in PLUMBING - {"__init__"}:
        targets = [target for _, target in imports(PACKAGE / "providers" / f"{name}.py")]
        assert not [target for target in targets if target.split(".")[2:3] and target.split(".")[2] in concrete], name


def test_public_names():
    assert sorted(sardonyx.__all__) == PUBLIC
    assert dir(sardonyx) == PUBLIC
    for name in PUBLIC:
        assert getattr(sardonyx, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        sardonyx.no_such_name  # noqa: B018 - the access is the test


def in_fresh_process(code: str) -> str:
    # -I: nothing of the caller's environment or folder; the package itself must come from where it is here.
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_import_is_light():
    used = "import sardonyx; sardonyx.SessionOptions; sardonyx.SardonyxError"
    code = f"{used}; import json; print(json.dumps(list(sys.modules)))"
    loaded = set(json.loads(in_fresh_process(code)))
    assert not loaded & HEAVY


def test_import_is_quick():
    # The best of a few, since other work may be going on; measured inside, without the interpreter's start.
    code = "import time; t = time.perf_counter(); import sardonyx; print(time.perf_counter() - t)"
    assert min(float(in_fresh_process(code)) for _ in range(3)) < 0.25
