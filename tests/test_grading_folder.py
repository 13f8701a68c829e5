"""Submissions are found by their rules, and no name, link or special file gets further than a word in the report."""

import os
import socket
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading import folder as where
from grading.folder import MAX_BYTES, FolderError, SubmissionError, find_submissions, is_name, read

STEM = "03_1_weight_pruning"
BOOK = f"{STEM}.ipynb"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "all").mkdir()
    return tmp_path / "all"


def put(root: Path, *names: str) -> None:
    """Files of these relative names, each holding its own name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def picked(root: Path) -> dict[str, str]:
    """{student: relative path or problem}."""
    found = find_submissions(root, STEM)
    assert all((one.path is None) != (one.problem is None) for one in found)
    return {one.student: one.problem or one.path.relative_to(root / one.student).as_posix() for one in found}


def problem(path: Path) -> str:
    with pytest.raises(SubmissionError) as error:
        read(path)
    assert str(error.value) == error.value.problem
    return error.value.problem


# Which notebook


def test_both_layouts_are_found_in_the_order_of_names(root):
    put(
        root, f"cy/hw/{BOOK}", f"ada/{BOOK}", f"bo/{STEM}/{BOOK}", f"李雷/{BOOK}", "dan/hw/mine.ipynb", f"eve/{STEM}/mine.ipynb"
    )
    expected = {
        "ada": BOOK,
        "bo": f"{STEM}/{BOOK}",
        "cy": f"hw/{BOOK}",
        "dan": "hw/mine.ipynb",
        "eve": f"{STEM}/mine.ipynb",
        "李雷": BOOK,
    }
    assert picked(root) == expected and list(picked(root)) == sorted(expected)
    put(root, "eve/other/x.ipynb", "eve/00/y.ipynb", "dan/hw/folder.ipynb/x")  # neither disturbs the rule that fitted
    assert picked(root) == expected
    assert all(read(one.path).decode().endswith(".ipynb") for one in find_submissions(root, STEM))


@pytest.mark.parametrize("k", range(5))
def test_of_several_candidates_the_first_rule_that_fits_decides(root, k):
    ranked = [BOOK, f"{STEM}/{BOOK}", f"00/{BOOK}", f"b/{BOOK}", f"{STEM}/only.ipynb"]
    put(root, *(f"ada/{name}" for name in ranked[k:]))
    assert picked(root) == {"ada": ranked[k]}


def test_what_fits_no_rule_is_missing(root):
    put(
        root,
        "none/notes.txt",
        "other/mine.ipynb",
        "two/hw/a.ipynb",
        "two/hw/b.ipynb",
        "folders/h1/a.ipynb",
        "folders/h2/b.ipynb",
    )
    put(root, "another/hw/03_2_quantization.ipynb", "deep/a/b/" + BOOK, f"hidden/.ipynb_checkpoints/{BOOK}", f"dot/.{BOOK}")
    (root / "empty").mkdir()
    (root / "shell").mkdir()
    (root / "shell" / "hw").mkdir()
    assert set(picked(root).values()) == {"missing"} and len(picked(root)) == 10


def test_checkpoints_and_hidden_files_do_not_count(root):
    put(
        root,
        f"ada/{BOOK}",
        f"ada/.ipynb_checkpoints/{BOOK}",
        f".git/{BOOK}",
        ".DS_Store",
        "README.md",
        f".ipynb_checkpoints/{BOOK}",
    )
    put(root, "bo/hw/mine.ipynb", "bo/hw/.mine.ipynb", "bo/hw/data.csv", "bo/.cache/x.ipynb")
    assert picked(root) == {"ada": BOOK, "bo": "hw/mine.ipynb"}


def test_a_notebook_outside_of_a_students_folder_is_reported(root):
    put(root, f"ada/{BOOK}", "bo.ipynb")
    found = find_submissions(root, STEM)
    assert [one.problem for one in found] == ["bad-name", None] and "bo" in found[0].student


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.write_text(""), lambda p: p.mkdir(), lambda p: put(p, "a.ipynb")])
def test_a_folder_without_students_says_the_cure(tmp_path, make):
    make(tmp_path / "all")
    with pytest.raises(FolderError, match=f"STUDENT/{STEM}.ipynb") as error:
        find_submissions(tmp_path / "all", STEM)
    assert str(tmp_path / "all") in str(error.value)


def test_a_folder_that_may_not_be_read_says_the_cure(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    put(root, f"ada/{BOOK}")
    monkeypatch.setattr(where.os, "scandir", refuse)
    with pytest.raises(FolderError, match=r"Permission denied.*right to read"):
        find_submissions(root, STEM)


def test_a_students_folder_that_may_not_be_read_stops_nobody_else(root, monkeypatch):
    put(root, f"ada/{BOOK}", f"bo/{BOOK}")
    real = os.scandir

    def refuse(path):
        if Path(path).name == "ada":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(where.os, "scandir", refuse)
    assert picked(root) == {"ada": "unreadable", "bo": BOOK}


# Links and special files


def test_links_below_the_folder_are_refused(root):
    put(root, f"ada/{BOOK}", "ada/hw/mine.ipynb")
    (root / "whole").symlink_to(root / "ada")
    (root / "nowhere").symlink_to(root / "gone")
    for name in ("notebook", "assignment", "inside", "only", "dangling"):
        (root / name).mkdir()
    (root / "notebook" / BOOK).symlink_to(root / "ada" / BOOK)
    (root / "dangling" / BOOK).symlink_to("/gone")
    (root / "assignment" / "hw").symlink_to(root / "ada")
    for name, book in (("inside", BOOK), ("only", "mine.ipynb")):
        (root / name / "hw").mkdir()
        (root / name / "hw" / book).symlink_to(root / "ada" / BOOK)
    assert picked(root).pop("ada") == BOOK
    assert {one.problem for one in find_submissions(root, STEM) if one.student != "ada"} == {"link"}
    assert problem(root / "notebook" / BOOK) == problem(root / "dangling" / BOOK) == "link"


def test_a_link_beside_the_notebook_harms_nobody_and_the_folder_itself_may_be_one(root, tmp_path):
    put(root, f"ada/{BOOK}", f"bo/hw/{BOOK}")
    for name in ("ada", "bo"):
        (root / name / "data").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(root)
    assert picked(root) == picked(tmp_path / "link") == {"ada": BOOK, "bo": f"hw/{BOOK}"}


def test_nothing_waits_for_a_fifo_a_socket_or_a_device(root):
    for name in ("fifo", "folder", "socket", "second"):
        (root / name).mkdir()
    os.mkfifo(root / "fifo" / BOOK)
    (root / "folder" / BOOK).mkdir()
    (root / "second" / "hw").mkdir()
    os.mkfifo(root / "second" / "hw" / "mine.ipynb")
    with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryDirectory() as short:  # a socket's path has 107 bytes
        server.bind(f"{short}/s")
        os.rename(f"{short}/s", root / "socket" / BOOK)
        assert picked(root) == dict.fromkeys(("fifo", "folder", "second", "socket"), "not-a-file")
        assert {problem(root / name / BOOK) for name in ("fifo", "folder", "socket")} == {"not-a-file"}
    assert problem(Path("/dev/zero")) == problem(Path("/dev/null")) == "not-a-file"


@pytest.mark.parametrize("change, word", [("fifo", "not-a-file"), ("link", "link"), ("gone", "missing")])
def test_a_file_that_changes_its_kind_after_the_first_look_is_refused(root, monkeypatch, change, word):
    put(root, BOOK, "other")
    seen = os.lstat(root / BOOK)
    (root / BOOK).unlink()
    if change == "fifo":
        os.mkfifo(root / BOOK)
    elif change == "link":
        (root / BOOK).symlink_to(root / "other")
    monkeypatch.setattr(where.os, "lstat", lambda path: seen)
    assert problem(root / BOOK) == word


# Bytes


def test_a_file_is_read_whole_up_to_the_limit_and_not_beyond(root, monkeypatch):
    (root / BOOK).write_bytes(b"")
    assert read(root / BOOK) == b""
    for n, word in ((MAX_BYTES, None), (MAX_BYTES + 1, "too-large")):
        with open(root / BOOK, "r+b") as file:
            file.truncate(n)
        if word:
            assert problem(root / BOOK) == word
            monkeypatch.setattr(where, "_must_be_a_file", lambda status: None)  # it grew after the last look
            assert problem(root / BOOK) == word
        else:
            assert len(read(root / BOOK)) == n
    assert problem(root / "gone") == "missing" and problem(root / "a\0b") == "unreadable"


def test_a_file_that_cannot_be_opened_is_unreadable(root, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    put(root, BOOK)
    monkeypatch.setattr(where.os, "open", refuse)
    assert problem(root / BOOK) == "unreadable"


# Names

GOOD = [
    "ada",
    "Ada Lovelace",
    "o'neil",
    "李雷",
    "Zoë",
    "s1234567",
    "a.b",
    "console",
    "com10",
    "x" * 100,
    "-",
    "_a",
    "a~b",
    "Ünal-Öz",
]
BAD = [
    "..",
    ".ada",
    "a..b",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\tb",
    "a\x1b[31m",
    "ada ",
    " ada",
    "ada.",
    "x" * 101,
    "",
    "\x7f",
    "a\u202eb",
]
BAD += [
    "a\u200fb",
    "a\u2066b",
    "a\u200bb",
    "\ufeffa",
    "a\u2028b",
    "a\ud800b",
    "CON",
    "con",
    "Nul.txt",
    "aux.",
    "COM1",
    "lpt9.a.b",
    "COM²",
    "prn .x",
    "<b>",
    "a:b",
    "a|b",
    "a?",
    "a*",
    '"a"',
]


def test_names_that_every_system_bears_are_good_and_no_others():
    assert [name for name in GOOD if not is_name(name)] == []
    assert [name for name in BAD if is_name(name)] == []


def test_bad_names_are_reported_under_good_ones(root):
    bad = [name for name in BAD if name and "/" not in name and "\0" not in name and not name.startswith(".")]
    put(root, *(f"{name}/{BOOK}" for name in bad if name != "a\ud800b"), f"ada/{BOOK}")
    os.makedirs(os.fsencode(root) + b"/b\xff\xfe")
    found = find_submissions(root, STEM)
    assert {one.problem for one in found if one.student != "ada"} == {"bad-name"}
    assert len({one.student for one in found}) == len(found) == len(bad) + 1
    assert all(is_name(one.student) and one.student.encode() for one in found)


def test_names_that_some_file_system_takes_for_one_are_all_reported(root):
    composed = unicodedata.normalize("NFC", "Zoë")
    put(
        root,
        *(
            f"{name}/{BOOK}"
            for name in ("Ada", "ada", "bo", composed, unicodedata.normalize("NFD", composed), "STRASSE", "straße")
        ),
    )
    found = find_submissions(root, STEM)
    assert len({one.student for one in found}) == len(found) == 7
    assert [one.student for one in found if one.problem is None] == ["bo"]
    assert {one.problem for one in found if one.student != "bo"} == {"bad-name"}


@given(st.text(max_size=120))
def test_a_good_name_is_one_plain_line_and_every_name_has_a_good_stand_in(name):
    if is_name(name):
        assert name == name.strip() and name.isprintable() and len(name.splitlines()) == 1 and os.path.basename(name) == name
        assert name.encode() and name not in (".", "..")
    assert is_name(where._safe(name))
