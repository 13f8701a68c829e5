"""The gradebook keeps what it was given: attempts, marks by hand and their history, and the sums that count."""

import copy
import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grading.gradebook import Gradebook, GradebookError, dump

STEM = "03_1_weight_pruning"


def result(student="ada", notebook="n1", text="Because.", earned=2, **changed) -> dict:
    """A small result: one task in code, two cases, and one in prose."""
    cases = [
        {"task": "mend", "name": "rows", "points": 2, "earned": earned, "verdict": None if earned == 2 else "value"},
        {"task": "mend", "name": "bias", "points": 2, "earned": 0, "verdict": "shape"},
    ]
    made = {
        "student": student,
        "stem": STEM,
        "notebook_sha256": notebook,
        "language": "en",
        "problem": None,
        "answers": {"mend": "ok"},
        "cases": cases,
        "prose": [{"task": "judge", "points": 3, "text": text}],
        "isolation": "bwrap",
        "seconds": 0.2,
        "cases_sha256": "c1",
        "grader": "1",
        "seed": "0123abcd",
        "versions": {"python": "3.11"},
    }
    return made | changed


def key(made: dict) -> list:
    return [made[name] for name in ("student", "stem", "notebook_sha256", "cases_sha256", "grader", "isolation")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "gradebook.sqlite"


@pytest.fixture
def book(path):
    with Gradebook(path) as opened:
        yield opened


def test_a_result_comes_back_as_it_was_kept(book):
    made = result()
    book.add(copy.deepcopy(made))
    (row,) = book.latest(STEM)
    assert {name: row[name] for name in made} == made
    assert row["attempt"] == 1 and row["graded_at"].endswith("+00:00")
    assert book.stems() == [STEM]


@pytest.mark.parametrize("name", ["student", "notebook_sha256", "cases_sha256", "grader", "isolation"])
def test_only_the_same_key_was_already_graded(book, name):
    book.add(result())
    assert book.already(*key(result()))
    assert not book.already(*key(result(**{name: "other"})))


def test_what_was_graded_is_refused_and_a_new_attempt_must_be_asked_for(book):
    book.add(result())
    with pytest.raises(GradebookError, match="already graded"):
        book.add(result())
    assert len(book.attempts("ada", STEM)) == 1
    book.add(result(earned=0), again=True)
    assert [one["cases"][0]["earned"] for one in book.attempts("ada", STEM)] == [2, 0]


def test_the_latest_attempt_counts_and_earlier_ones_remain(book):
    book.add(result())
    book.add(result(notebook="n2", earned=0))
    assert [(one["attempt"], one["notebook_sha256"]) for one in book.attempts("ada", STEM)] == [(1, "n1"), (2, "n2")]
    (row,) = book.latest(STEM)
    assert (row["attempt"], row["notebook_sha256"], row["total"]) == (2, "n2", 0)


def test_handing_in_the_first_version_again_makes_it_count_again(book):
    for notebook in ("n1", "n2"):
        book.add(result(notebook=notebook))
    assert not book.already(*key(result(notebook="n1")))
    book.add(result(notebook="n1"))
    assert book.latest(STEM)[0]["notebook_sha256"] == "n1"


def test_exercises_do_not_mix(book):
    book.add(result())
    book.add(result(stem="03_2_quantization"))
    assert len(book.latest(STEM)) == 1 and book.stems() == [STEM, "03_2_quantization"]


def test_totals_count_code_and_marks_by_hand(book):
    book.add(result())
    (row,) = book.latest(STEM)
    assert (row["by_task"], row["total"], row["awaiting"], row["marks"]) == (
        {"mend": 2, "judge": None},
        2,
        ["judge"],
        {"judge": None},
    )
    book.set_mark("ada", STEM, "judge", 2.5, "good", "eve")
    (row,) = book.latest(STEM)
    assert (row["by_task"], row["total"], row["awaiting"]) == ({"mend": 2, "judge": 2.5}, 4.5, [])
    assert {name: row["marks"]["judge"][name] for name in ("points", "comment", "by", "stale")} == {
        "points": 2.5,
        "comment": "good",
        "by": "eve",
        "stale": False,
    }


def test_nothing_marked_is_no_total_and_an_empty_text_is_0_until_marked(book):
    book.add(result("missing", problem="missing", cases=[], prose=[]))
    book.add(result("waits", cases=[]))
    book.add(result("empty", cases=[], text=" \n"))
    totals = {row["student"]: (row["total"], row["awaiting"]) for row in book.latest(STEM)}
    assert totals == {"missing": (None, []), "waits": (None, ["judge"]), "empty": (0, [])}
    book.set_mark("empty", STEM, "judge", 1, "was on paper", "eve")
    assert book.latest(STEM)[0]["total"] == 1


def test_the_last_mark_counts_and_all_stay_in_the_history(book):
    book.add(result())
    for points in (1, 3, 2):
        book.set_mark("ada", STEM, "judge", points, "", "eve")
    assert [mark["points"] for mark in book.history("ada", STEM, "judge")] == [1, 3, 2]
    assert book.latest(STEM)[0]["marks"]["judge"]["points"] == 2


def test_a_mark_survives_a_regrading_of_the_same_text_and_is_stale_for_another(book):
    book.add(result())
    book.set_mark("ada", STEM, "judge", 3, "yes", "eve")
    book.add(result(cases_sha256="c2"))
    assert book.latest(STEM)[0]["marks"]["judge"]["stale"] is False
    book.add(result(notebook="n2", text="Because not."))
    (row,) = book.latest(STEM)
    assert (row["marks"]["judge"]["stale"], row["total"], row["awaiting"]) == (True, 2, ["judge"])
    book.add(result(notebook="n3"))  # the first text again
    (row,) = book.latest(STEM)
    assert (row["marks"]["judge"]["stale"], row["total"]) == (False, 5)


def test_a_mark_above_the_new_maximum_is_stale(book):
    book.add(result())
    book.set_mark("ada", STEM, "judge", 3, "", "eve")
    book.add(result(cases_sha256="c2", prose=[{"task": "judge", "points": 2, "text": "Because."}]))
    assert book.latest(STEM)[0]["marks"]["judge"]["stale"] is True


@pytest.mark.parametrize("points", [-0.5, 3.5, math.nan, math.inf, -math.inf, True, None, "2"])
def test_points_outside_the_task_are_refused(book, points):
    book.add(result())
    with pytest.raises(GradebookError, match="from 0 to 3"):
        book.set_mark("ada", STEM, "judge", points, "", "eve")
    assert book.history("ada", STEM, "judge") == []


def test_a_mark_for_an_unknown_student_or_task_is_refused_with_what_is_known(book):
    book.add(result())
    with pytest.raises(GradebookError, match="bob has no result"):
        book.set_mark("bob", STEM, "judge", 1, "", "eve")
    with pytest.raises(GradebookError, match="tasks to mark by hand: judge"):
        book.set_mark("ada", STEM, "mend", 1, "", "eve")


def test_a_secret_in_the_place_of_its_fingerprint_is_refused(book, path):
    for secret in ("0" * 64, "hunter2!", 12345678.5):
        with pytest.raises(GradebookError, match="never kept"):
            book.add(result(seed=secret))
    assert book.latest(STEM) == []


@pytest.mark.parametrize("earned", [-1, 2.5, math.nan])
def test_more_points_than_a_case_is_worth_are_refused(book, earned):
    with pytest.raises(GradebookError, match="mend/rows earned"):
        book.add(result(earned=earned))


def test_half_a_result_is_refused(book):
    with pytest.raises(GradebookError, match="without cases, isolation"):
        book.add({name: value for name, value in result().items() if name not in ("cases", "isolation")})


@settings(max_examples=15)
@given(st.text(st.characters(codec=None), min_size=1), st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_any_text_a_student_or_a_teacher_can_type_is_kept(tmp_path_factory, student, text, comment):
    path = tmp_path_factory.mktemp("any") / "g.sqlite"
    with Gradebook(path) as book:
        book.add(result(student, text=text))
        book.set_mark(student, STEM, "judge", 1, comment, student)
        (row,) = book.latest(STEM)
        assert row["prose"][0]["text"] == text and not row["marks"]["judge"]["stale"]
        row["student"].encode(), row["marks"]["judge"]["comment"].encode()  # both fit into a UTF-8 file
        assert book.already(*key(result(student, text=text)))
    assert len(dump(path)["attempts"]) == 1


def test_threads_may_ask_while_one_writes(book):
    wrong = []

    def ask():
        for i in range(50):
            try:
                book.already(*key(result(f"s{i}")))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(8):
        book.add(result(f"s{i}"))
    for thread in threads:
        thread.join()
    assert wrong == [] and len(book.latest(STEM)) == 8


def test_dump_leaves_out_times_seconds_and_ids_and_nothing_else(tmp_path):
    one, two, three = (tmp_path / name for name in "abc")
    for path, order, seconds, points in ((one, (0, 1), 1.0, 2), (two, (1, 0), 2.0, 2), (three, (0, 1), 1.0, 1)):
        with Gradebook(path) as book:
            for i in order:
                book.add(result(f"s{i}", seconds=seconds))
            book.set_mark("s0", STEM, "judge", points, "", "eve")
    assert dump(one) == dump(two) != dump(three)
    assert "seconds" not in dump(one)["attempts"][f"{STEM}/s0"][0]
