"""Finding submissions and reading their bytes without believing anything: names, links and special files are traps.

Each folder in the folder of submissions is a student. The student's notebook is the first of these that exists:

    1. STUDENT/STEM.ipynb
    2. STUDENT/STEM/STEM.ipynb, then STUDENT/ASSIGNMENT/STEM.ipynb, assignments by name (nbgrader's layout)
    3. the only .ipynb in STUDENT/STEM/, or else in the student's only ASSIGNMENT folder with notebooks, unless its name is
       that of another exercise

Hidden files are passed over. No symbolic link below the folder is followed; no FIFO, device or socket is opened. A name that
some file system could not bear, or would take for another student's, is reported: feedback is written under it. While
grading runs nobody else may write to the folder: copy submissions out of the students' reach first.
"""

import errno
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

MAX_BYTES = 20_000_000  # of a notebook
MAX_NAME = 100  # characters of a student's name
STEM = re.compile(r"\d\d(_\d+)?_[a-z0-9]+(_[a-z0-9]+)*")
FORBIDDEN = set('/\\<>:"|?*')  # not in a name that every file system takes
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.I)
JUNCTION = 0xA0000003  # Windows' way of a link to a folder


class SubmissionError(Exception):
    """A submission that cannot be read. Its text is one of the words in the result: "missing", "link", "not-json", ..."""

    def __init__(self, problem: str):
        super().__init__(problem)
        self.problem = problem


class FolderError(ValueError):
    """The folder of submissions is not what it should be; the text says the cure."""


@dataclass(frozen=True)
class Found:
    """A student and the notebook, or the problem in its place. A name that no file can bear is replaced by one that can."""

    student: str
    path: Path | None
    problem: str | None


def find_submissions(folder: Path, stem: str) -> list[Found]:
    """Every student in the folder, by name. FolderError when there is no student to grade, with the cure."""
    folder, layout = Path(folder), f"put each student's work in a folder of its own: STUDENT/{stem}.ipynb"
    try:
        entries = _entries(folder)
    except FileNotFoundError:
        raise FolderError(f"there is no folder {folder}; name the folder of submissions, and {layout}") from None
    except NotADirectoryError:
        raise FolderError(f"{folder} is no folder; name the folder that holds the students' folders, and {layout}") from None
    except OSError as error:
        raise FolderError(f"{folder} cannot be read ({error.strerror}); give yourself the right to read it") from None
    students = {name: kind for name, kind in entries.items() if kind in ("folder", "link") or name.endswith(".ipynb")}
    if not any(kind in ("folder", "link") for kind in students.values()):
        raise FolderError(f"{folder} holds no student's folder; {layout}")
    bearers: dict[str, int] = {}
    for name in students:
        bearers[_folded(name)] = bearers.get(_folded(name), 0) + 1
    found = []
    for name, kind in students.items():
        if kind not in ("folder", "link") or not is_name(name) or bearers[_folded(name)] > 1:
            found.append(Found(_safe(name), None, "bad-name"))
        elif kind == "link":
            found.append(Found(name, None, "link"))
        else:
            found.append(Found(name, *_notebook_in(folder / name, stem)))
    return sorted(found, key=lambda one: one.student)


def is_name(name: str) -> bool:
    """True for a student's name that every file system, table and terminal takes as it is.

    isprintable refuses control and format characters (those that turn the direction of text too), undecodable bytes and all
    spaces but the plain one. Windows' device names are refused with any ending.
    """
    if not name or len(name) > MAX_NAME or not name.isprintable() or set(name) & FORBIDDEN:
        return False
    return not (name.startswith((".", " ")) or name.endswith((".", " ")) or ".." in name or DEVICE.fullmatch(name))


def _folded(name: str) -> str:
    """Equal for names that some file system takes for one: Unicode's normal forms and upper or lower case do not count."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _safe(name: str) -> str:
    """A good name for a bad one: what is readable of it, and a digest that tells it from all others."""
    digest = sha256(os.fsencode(name)).hexdigest()[:8]
    return "_" + re.sub(r"[^\w-]+", "_", name)[: MAX_NAME - 10] + "~" + digest


def _entries(folder: Path) -> dict[str, str]:
    """Name -> "file", "folder", "link" or "other" of what is not hidden, by name. Nothing is opened, no link followed."""
    found = {}
    with os.scandir(folder) as rows:
        for row in rows:
            if not row.name.startswith("."):
                try:
                    found[row.name] = _kind(row.stat(follow_symlinks=False))
                except FileNotFoundError:  # gone meanwhile
                    continue
    return dict(sorted(found.items()))


def _kind(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == JUNCTION:
        return "link"
    return "folder" if stat.S_ISDIR(status.st_mode) else "file" if stat.S_ISREG(status.st_mode) else "other"


def _notebook_in(student: Path, stem: str) -> tuple[Path | None, str | None]:
    """(path, None) of a student's notebook, or (None, problem). The rules stand at the head of this file."""
    wanted, notebooks = f"{stem}.ipynb", {}
    try:
        own = _entries(student)
        if wanted in own:
            return _verdict(student / wanted, own[wanted])
        folders = sorted((name for name, kind in own.items() if kind == "folder"), key=lambda name: (name != stem, name))
        for name in folders:
            inside = _entries(student / name)
            if wanted in inside:
                return _verdict(student / name / wanted, inside[wanted])
            notebooks[name] = {n: kind for n, kind in inside.items() if n.endswith(".ipynb") and kind != "folder"}
    except OSError:
        return None, "unreadable"
    full = [name for name in folders if notebooks[name]]
    if stem in full or len(full) == 1:
        assignment = stem if stem in full else full[0]
        (name, kind), *more = notebooks[assignment].items()
        if not more and name.isprintable() and not STEM.fullmatch(name.removesuffix(".ipynb")):
            return _verdict(student / assignment / name, kind)
    return None, "link" if "link" in own.values() else "missing"


def _verdict(path: Path, kind: str) -> tuple[Path | None, str | None]:
    return (path, None) if kind == "file" else (None, "link" if kind == "link" else "not-a-file")


def read(path: Path) -> bytes:
    """The bytes of a regular file of at most MAX_BYTES. SubmissionError for all else, without waiting for anything."""
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        _must_be_a_file(os.lstat(path))
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _must_be_a_file(os.fstat(descriptor))  # another file may have taken its place
            parts, n_left = [], MAX_BYTES + 1
            while n_left and (part := file.read(min(n_left, 1 << 20))):
                parts.append(part)
                n_left -= len(part)
    except FileNotFoundError:
        raise SubmissionError("missing") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SubmissionError("link" if getattr(error, "errno", None) == errno.ELOOP else "unreadable") from None
    if not n_left:
        raise SubmissionError("too-large")
    return b"".join(parts)


def _must_be_a_file(status: os.stat_result) -> None:
    if (kind := _kind(status)) != "file":
        raise SubmissionError("link" if kind == "link" else "not-a-file")
    if status.st_size > MAX_BYTES:
        raise SubmissionError("too-large")
