"""The gradebook: one SQLite file in which no result is lost and none is counted twice.

    attempt   one row a graded submission, never changed: the key of what was graded, the time, the result as JSON
    mark      one row a mark by hand, never changed: the latest one for the same text counts

It survives a kill or a power cut: one transaction a submission, `synchronous=EXTRA` (journal, file and folder are on the disk
before COMMIT returns), and a rollback journal that the next start replays. A write-ahead log would be faster, but needs shared
memory, which network drives lack, and marks are kept on network drives.

One writer at a time: `flock` on FILE.lock for as long as the gradebook is open. The kernel drops it with the process, however
that ends, so a lock that was left behind blocks nobody; a forked child gives its copy up at once, or an orphan would hold it.
Readers (`read_only=True`: exports, statistics) take no lock and see the last finished transaction.

The secret behind the hidden numbers never comes near this file; its fingerprint, 8 hex digits, may stand in a result as "seed".
"""

import hashlib
import json
import math
import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: SQLite's own exclusive lock takes its place
    fcntl = None

SCHEMA = 1
APPLICATION = 0x67726164  # "grad", in the header of the file: what tells a gradebook from another database
TABLES = (
    """CREATE TABLE attempt (id INTEGER PRIMARY KEY AUTOINCREMENT, student TEXT NOT NULL, stem TEXT NOT NULL,
       notebook_sha256 TEXT, cases_sha256 TEXT, grader TEXT, isolation TEXT, graded_at TEXT NOT NULL, result TEXT NOT NULL)""",
    """CREATE TABLE mark (id INTEGER PRIMARY KEY AUTOINCREMENT, student TEXT NOT NULL, stem TEXT NOT NULL, task TEXT NOT NULL,
       prose_sha256 TEXT NOT NULL, points REAL NOT NULL, comment TEXT NOT NULL, marker TEXT NOT NULL,
       marked_at TEXT NOT NULL)""",
    "CREATE INDEX attempt_of ON attempt (stem, student, id)",
    "CREATE INDEX mark_of ON mark (stem, student, task, id)",
)
KEY = ("notebook_sha256", "cases_sha256", "grader", "isolation")
CONNECT = {"timeout": 10, "isolation_level": None, "check_same_thread": False}  # transactions are begun and ended below
NEEDED = ("student", "stem", "problem", "cases", "prose", *KEY)
_OPEN: "weakref.WeakSet[Gradebook]" = weakref.WeakSet()


class GradebookError(Exception):
    """What is wrong with the gradebook or with what it was asked, and the cure, in one sentence."""


class Gradebook:
    """`with Gradebook(path) as book:` opens the gradebook, makes it if there is none, and keeps other graders out."""

    def __init__(self, path: Path, read_only: bool = False):
        self.path, self.read_only = Path(path), read_only
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None
        self._turn = threading.RLock()  # one thread at a time uses the connection

    def __enter__(self) -> "Gradebook":
        try:
            with self._sentences():
                if self.path.is_dir():
                    raise GradebookError(f"{self.path} is a folder; name a file in it, like {self.path / 'gradebook.sqlite'}.")
                if self.read_only:
                    self._open_to_read()
                else:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._take_lock()
                    self._open_to_write()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        self.give_lock_up()

    def give_lock_up(self) -> None:
        """Close this process's hold on the lock. In a forked child the parent's stays: a lock goes with its last holder."""
        if self._lock is not None:
            with suppress(OSError):
                os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        if fcntl is None:
            return
        self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        _OPEN.add(self)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GradebookError(
                f"Another grader has {self.path} open; wait until it ends, or give this run another folder."
            ) from None

    def _open_to_write(self) -> None:
        self._db = sqlite3.connect(self.path, **CONNECT)
        if fcntl is None:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA synchronous=EXTRA")
        with self._transaction():  # also replays the journal of a killed run, and finds out whether the file can be written
            if self._is_new():
                for statement in TABLES:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={APPLICATION}")
                self._db.execute(f"PRAGMA user_version={SCHEMA}")
        if self._db.execute("PRAGMA journal_mode=DELETE").fetchone()[0] != "delete":
            raise GradebookError(f"{self.path} is in use by another program; close it and start again.")

    def _open_to_read(self) -> None:
        if not self.path.is_file():
            raise GradebookError(f"There is no gradebook at {self.path}; grade first, or name the folder of an earlier run.")
        where = self.path.resolve().as_uri()
        for mode in ("rw", "ro"):  # rw first: only a writer can replay the journal that a killed run left
            self._db = sqlite3.connect(f"{where}?mode={mode}", uri=True, **CONNECT)
            try:
                self._db.execute("PRAGMA query_only=1")
                self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                break
            except sqlite3.OperationalError:
                self._db.close()
                if mode == "ro":
                    raise
        if self._is_new():
            raise GradebookError(f"{self.path} is empty; grade first, or name the folder of an earlier run.")

    def _is_new(self) -> bool:
        """True for a file without anything in it; raises for what is no gradebook of this version."""
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        n_tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application == version == n_tables == 0:
            return True
        if application != APPLICATION:
            raise GradebookError(f"{self.path} is a database, but no gradebook; move it away or choose another folder.")
        if version > SCHEMA:
            raise GradebookError(
                f"{self.path} was written by a newer grader (schema {version}, this one knows {SCHEMA}); update the course."
            )
        return False

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise GradebookError(_sentence(error, self.path)) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self.read_only:
            raise GradebookError(f"{self.path} was opened to read; open it to write.")
        with self._turn, self._sentences():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values) -> list[tuple]:
        with self._turn, self._sentences():
            return self._db.execute(query, values).fetchall()

    def already(self, student, stem, notebook_sha256, cases_sha256, grader, isolation) -> bool:
        """Is exactly this what the latest attempt graded? (An older attempt does not count: who hands in the first version
        again gets a new attempt, for the latest counts.)"""
        found = self._rows(
            f"SELECT {', '.join(KEY)} FROM attempt WHERE stem=? AND student=? ORDER BY id DESC LIMIT 1", stem, _plain(student)
        )
        same = found == [tuple(map(_plain, (notebook_sha256, cases_sha256, grader, isolation)))]
        return same and self.attempts(student, stem)[-1]["problem"] != "crashed"  # a fault of the grader is no grade

    def add(self, result: dict, again: bool = False) -> None:
        """Keep a result as a new attempt, in one transaction. What was already graded is refused, unless `again`."""
        result = {**_checked(result), "student": _plain(result["student"])}
        key = tuple(_plain(result[name]) for name in KEY)
        text = json.dumps(result, allow_nan=False)  # ASCII: a lone surrogate of a notebook's text stays a JSON escape
        with self._transaction():
            if not again and self.already(result["student"], result["stem"], *key):
                who = f"{result['student']}'s {result['stem']}"
                raise GradebookError(f"{who} was already graded and has not changed; skip it, or ask for a new attempt.")
            self._db.execute(
                f"INSERT INTO attempt (student, stem, {', '.join(KEY)}, graded_at, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (result["student"], result["stem"], *key, _now(), text),
            )

    def stems(self) -> list[str]:
        """The exercises that have results."""
        return [stem for (stem,) in self._rows("SELECT DISTINCT stem FROM attempt ORDER BY stem")]

    def attempts(self, student: str, stem: str) -> list[dict]:
        """All results of a student, oldest first, each with "attempt" (1, 2, ...) and "graded_at"."""
        rows = self._rows("SELECT graded_at, result FROM attempt WHERE stem=? AND student=? ORDER BY id", stem, _plain(student))
        return [{**json.loads(text), "attempt": i, "graded_at": at} for i, (at, text) in enumerate(rows, 1)]

    def latest(self, stem: str) -> list[dict]:
        """The result that counts of each student, by name, with

        "attempt", "graded_at";  "marks": {prose task: None or {"points", "comment", "by", "marked_at", "stale"}};
        "by_task": {task: points or None};  "awaiting": [prose tasks without a mark that counts];  "total": points so far, or
        None if nothing has been marked. A mark for another text than the present one is stale: shown, not counted.
        """
        query = """SELECT student, (SELECT count(*) FROM attempt b WHERE b.stem = a.stem AND b.student = a.student), graded_at,
                   result FROM attempt a WHERE id IN (SELECT max(id) FROM attempt WHERE stem=? GROUP BY student)
                   ORDER BY student"""
        found = []
        for student, n, at, text in self._rows(query, stem):
            result = json.loads(text)
            marks = {part["task"]: self._mark(student, stem, part) for part in result["prose"]}
            found.append({**result, "attempt": n, "graded_at": at, "marks": marks, **_sums(result, marks)})
        return found

    def _mark(self, student: str, stem: str, part: dict) -> dict | None:
        """The mark of one prose answer: the latest for this very text, else the latest for another one, flagged stale."""
        history = self.history(student, stem, part["task"])
        same = [mark for mark in history if mark["prose_sha256"] == _digest(part["text"]) and mark["points"] <= part["points"]]
        if not history:
            return None
        mark = dict((same or history)[-1], stale=not same)
        del mark["prose_sha256"]
        return mark

    def history(self, student: str, stem: str, task: str) -> list[dict]:
        """All marks by hand of one answer, oldest first."""
        rows = self._rows(
            """SELECT prose_sha256, points, comment, marker, marked_at FROM mark
               WHERE stem=? AND student=? AND task=? ORDER BY id""",
            stem,
            _plain(student),
            task,
        )
        return [dict(zip(("prose_sha256", "points", "comment", "by", "marked_at"), row)) for row in rows]

    def set_mark(self, student: str, stem: str, task: str, points: float, comment: str, by: str) -> None:
        """Keep a mark by hand for the prose of the latest attempt. Earlier marks stay in the history."""
        found = self._rows(
            "SELECT result FROM attempt WHERE stem=? AND student=? ORDER BY id DESC LIMIT 1", stem, _plain(student)
        )
        if not found:
            raise GradebookError(f"{_plain(student)} has no result for {stem}; grade first, or mend the name.")
        prose = {part["task"]: part for part in json.loads(found[0][0])["prose"]}
        if task not in prose:
            known = ", ".join(prose) or "none"
            raise GradebookError(f"{_plain(student)}'s {stem} has no prose task {task!r}; tasks to mark by hand: {known}.")
        top = prose[task]["points"]
        number = isinstance(points, int | float) and not isinstance(points, bool)
        if not number or not 0 <= points <= top:  # NaN is in no interval
            raise GradebookError(f"{points!r} is no mark for {task}; give a number from 0 to {top:g}.")
        values = (_plain(student), stem, task, _digest(prose[task]["text"]), float(points), _plain(comment), _plain(by), _now())
        with self._transaction():
            self._db.execute(
                """INSERT INTO mark (student, stem, task, prose_sha256, points, comment, marker, marked_at)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                values,
            )


def dump(path: Path) -> dict:
    """The content without times, seconds and row ids, so that two gradebooks compare: attempts and marks, each in order."""
    attempts, marks = {}, {}
    with Gradebook(path, read_only=True) as book:
        for student, stem, text in book._rows("SELECT student, stem, result FROM attempt ORDER BY stem, student, id"):
            result = {name: value for name, value in json.loads(text).items() if name != "seconds"}
            attempts.setdefault(f"{stem}/{student}", []).append(result)
        query = "SELECT student, stem, task, prose_sha256, points, comment, marker FROM mark ORDER BY stem, student, task, id"
        for student, stem, task, *rest in book._rows(query):
            marks.setdefault(f"{stem}/{student}/{task}", []).append(rest)
    return {"attempts": attempts, "marks": marks}


def points_by_task(result: dict, marks: dict[str, dict | None]) -> dict[str, float | None]:
    """Points of each task; None where a mark by hand is awaited. An empty text is worth 0 until somebody marks it."""
    points: dict[str, float | None] = {}
    for case in result["cases"]:
        points[case["task"]] = round(points.get(case["task"], 0) + case["earned"], 6)
    for part in result["prose"]:
        mark = marks.get(part["task"])
        unmarked = None if part["text"].strip() else 0
        points[part["task"]] = mark["points"] if mark and not mark["stale"] else unmarked
    return points


def _sums(result: dict, marks: dict[str, dict | None]) -> dict:
    """Points by task, the total so far, and what waits for a mark."""
    by_task = points_by_task(result, marks)
    given = [points for points in by_task.values() if points is not None]
    total = round(math.fsum(given), 6) if given else None
    return {"by_task": by_task, "total": total, "awaiting": [task for task in marks if by_task[task] is None]}


def _checked(result: dict) -> dict:
    """The result itself, if it is whole: no points above what a case is worth, no secret in the place of a fingerprint."""
    missing = [name for name in NEEDED if name not in result]
    if missing:
        raise GradebookError(f"A result without {', '.join(missing)} cannot be kept; grade the submission again.")
    for case in result["cases"]:
        if not 0 <= case["earned"] <= case["points"] < math.inf:
            raise GradebookError(f"{case['task']}/{case['name']} earned {case['earned']} of {case['points']}; mend its points.")
    if result.get("seed") is not None and not re.fullmatch("[0-9a-f]{8}", str(result["seed"])):
        raise GradebookError("The seed of a result is a fingerprint of 8 hex digits; the secret itself is never kept.")
    return result


def _sentence(error: Exception, path: Path) -> str:
    """What went wrong with the file, and the cure."""
    if isinstance(error, OSError):
        return f"{path} cannot be opened ({error.strerror}); choose a folder that can be written to."
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return f"The disk is full: nothing was written to {path}; make room and start again, what was graded stays."
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"{path} cannot be written; allow writing to the file and its folder, or choose another folder."
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return f"{path} is no gradebook, or damaged; move it away, or bring back a copy."
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"Another program has {path} open; close it and start again."
    return f"{path} cannot be used ({error}); look at the disk, then start again: what was graded stays."


def _plain(text: str | None) -> str | None:
    """Text that UTF-8 can hold: what of a name it cannot is written as an escape."""
    return None if text is None else str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [book.give_lock_up() for book in list(_OPEN)])
