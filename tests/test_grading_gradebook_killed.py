"""No kill loses a result, no second grader gets in, and what cannot be used is refused in one sentence, with the cure."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from grading import gradebook
from grading.gradebook import Gradebook, GradebookError, dump
from tests.test_grading_gradebook import STEM, result

ROOT = Path(__file__).resolve().parents[1]
needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "gradebook.sqlite"


@pytest.fixture
def book(path):
    with Gradebook(path) as opened:
        yield opened


# --- two at once, and processes that were killed ---

GRADE = """
for made in json.loads(Path(sys.argv[2]).read_text()):
    names = "student", "stem", "notebook_sha256", "cases_sha256", "grader", "isolation"
    if not book.already(*(made[name] for name in names)):
        book.add(made)
        print(made["student"], flush=True)
    if not book.history(made["student"], made["stem"], "judge"):
        book.set_mark(made["student"], made["stem"], "judge", 2, "ok", "eve")
"""
DIE_HALFWAY = """
book._db.execute("PRAGMA cache_size=1")  # pages go to the file before COMMIT: the journal is hot
book._db.execute("BEGIN IMMEDIATE")
for i in range(200):
    book._db.execute("INSERT INTO attempt (student, stem, graded_at, result) VALUES (?, 's', '', ?)", (str(i), "x" * 5000))
os.kill(os.getpid(), signal.SIGKILL)
"""
LEAVE_AN_ORPHAN = """
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def start(path: Path, code: str, *arguments) -> subprocess.Popen:
    """A process of its own that says "here", opens the gradebook, and does something with it."""
    lines = [
        "import json, os, signal, sys, time",
        "from pathlib import Path",
        "from grading.gradebook import Gradebook",
        "print('here', flush=True)",
        "with Gradebook(Path(sys.argv[1])) as book:",
        textwrap.indent(code, "    "),
    ]
    command = [sys.executable, "-c", "\n".join(lines), str(path), *map(str, arguments)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "here\n"
    return child


@needs_kill
def test_killed_ten_times_at_random_moments_nothing_is_lost_and_nothing_is_graded_twice(path, tmp_path):
    # Texts that fill some pages of the database each, so that a kill can fall into the middle of a write.
    batch = [result(f"s{i:02}", notebook=f"n{i}", text=f"{i} " * 8000) for i in range(16)]
    whole, given_in = tmp_path / "whole.sqlite", tmp_path / "batch.json"
    given_in.write_text(json.dumps(batch))
    began = time.perf_counter()
    with Gradebook(whole) as book:
        for made in batch:
            book.add(made)
            book.set_mark(made["student"], STEM, "judge", 2, "ok", "eve")
    needed_s = time.perf_counter() - began
    moments, reported, kills = random.Random(3), [], 0
    for _ in range(10):
        child = start(path, GRADE, given_in)
        time.sleep(moments.uniform(0, needed_s / 4))
        child.kill()
        reported += child.communicate()[0].split()
        kills += child.returncode == -signal.SIGKILL
        with Gradebook(path) as book:
            assert {row["student"] for row in book.latest(STEM)} >= set(reported), "a result that was reported as kept is lost"
            assert book._rows("PRAGMA integrity_check") == [("ok",)]
    assert kills >= 3 and reported, f"{kills} kills, {len(reported)} reports: the moments are badly chosen"
    last = start(path, GRADE, given_in)
    reported += last.communicate(timeout=60)[0].split()
    assert last.returncode == 0 and len(reported) == len(set(reported)), "graded twice"
    assert dump(path) == dump(whole)


@needs_kill
def test_a_kill_in_the_middle_of_a_transaction_takes_back_that_transaction_only(path):
    with Gradebook(path) as book:
        book.add(result("first"))
    with start(path, DIE_HALFWAY) as child:
        assert child.wait(60) == -signal.SIGKILL
    assert Path(f"{path}-journal").stat().st_size > 0, "no half-written transaction was left"
    with Gradebook(path, read_only=True) as book:  # reading alone repairs it too
        assert book.stems() == [STEM]
    with Gradebook(path) as book:
        assert [row["student"] for row in book.latest(STEM)] == ["first"] and book.stems() == [STEM]


@needs_kill
def test_a_lock_left_by_a_killed_process_blocks_nobody_even_with_its_children_alive(path):
    grader = start(path, LEAVE_AN_ORPHAN)
    orphan = int(grader.stdout.readline())
    try:
        with pytest.raises(GradebookError, match="Another grader"), Gradebook(path):
            pass
        grader.kill()
        grader.wait()
        os.kill(orphan, 0)  # still alive
        with Gradebook(path) as book:
            book.add(result())
    finally:
        os.kill(orphan, signal.SIGKILL)
        grader.stdout.close()


def test_a_kill_while_the_gradebook_is_made_leaves_nothing_in_the_way(path):
    path.parent.mkdir()
    path.write_bytes(b"")  # what is there when the kill falls between the first open and the first commit
    Path(f"{path}.lock").write_bytes(b"")
    with Gradebook(path) as book:
        book.add(result())
    assert list(dump(path)["attempts"]) == [f"{STEM}/ada"]


def test_a_second_grader_is_refused_in_a_sentence_and_the_first_goes_on(path, book):
    with pytest.raises(GradebookError, match=r"Another grader has .* open; wait"), Gradebook(path):
        pass
    book.add(result())
    assert len(book.latest(STEM)) == 1


def test_without_fcntl_a_second_grader_is_refused_all_the_same(path, monkeypatch):
    monkeypatch.setattr(gradebook, "fcntl", None)
    monkeypatch.setitem(gradebook.CONNECT, "timeout", 0.1)
    with Gradebook(path) as book:
        with pytest.raises(GradebookError, match="Another program has"), Gradebook(path):
            pass
        book.add(result())
    with Gradebook(path) as book:
        assert len(book.latest(STEM)) == 1


# --- the wrong file, the wrong folder, a full disk ---


def refusal(path: Path, **how) -> str:
    with pytest.raises(GradebookError) as caught, Gradebook(path, **how):
        pass
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    return str(caught.value)


def test_what_is_no_gradebook_is_refused_and_left_as_it_is(tmp_path):
    text, database = tmp_path / "text", tmp_path / "database"
    text.write_bytes(b"dear diary " * 1000)
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE cats (name)")
    other.close()
    before = text.read_bytes(), database.read_bytes()
    assert "no gradebook" in refusal(text) and "no gradebook" in refusal(database)
    assert "no gradebook" in refusal(text, read_only=True) and "no gradebook" in refusal(database, read_only=True)
    assert "is a folder" in refusal(tmp_path)
    assert (text.read_bytes(), database.read_bytes()) == before


def test_a_gradebook_of_a_newer_grader_is_refused(path):
    with Gradebook(path) as book:
        book._db.execute("PRAGMA user_version=9")
    assert "newer grader (schema 9, this one knows 1); update" in refusal(path)


def test_a_torn_file_is_refused(path):
    with Gradebook(path) as book:
        for i in range(5):
            book.add(result(f"s{i}", text="x" * 9000))
    content = path.read_bytes()
    path.write_bytes(content[:100] + os.urandom(len(content) - 100))
    assert "damaged" in refusal(path)


def test_a_full_disk_is_a_sentence_and_loses_nothing_of_before(path):
    with Gradebook(path) as book:
        book.add(result())
        (pages,) = book._db.execute("PRAGMA page_count").fetchone()
        book._db.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(GradebookError, match="disk is full: nothing was written"):
            book.add(result("big", text="x" * 100_000))
        book._db.execute("PRAGMA max_page_count=100000")
        book.add(result("small"))
        assert [row["student"] for row in book.latest(STEM)] == ["ada", "small"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    monkeypatch.chdir(folder)  # root may write anywhere, so root tries as somebody else
    was_root = os.name == "posix" and os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        assert "choose a folder that can be written to" in refusal(Path("gradebook.sqlite"))
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_reading_makes_no_gradebook_and_takes_no_lock(path):
    assert "There is no gradebook" in refusal(path, read_only=True)
    assert not path.parent.exists()
    with Gradebook(path) as writer, Gradebook(path, read_only=True) as reader:
        writer.add(result())
        assert len(reader.latest(STEM)) == 1
        with pytest.raises(GradebookError, match="opened to read"):
            reader.add(result("bob"))
        with pytest.raises(GradebookError, match="opened to read"):
            reader.set_mark("ada", STEM, "judge", 1, "", "eve")
