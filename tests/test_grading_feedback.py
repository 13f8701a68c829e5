"""Feedback says what was tested and what to do, in the student's language, and nothing of a hidden case or of the notebook."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading import feedback
from grading.cases import CATEGORIES, Case, CaseFile
from grading.feedback import ANSWER, CATEGORY, PROBLEM, SAY, FeedbackError, feedback_for, write
from tests.test_grading_gradebook import STEM, result

PROBLEMS = {"missing", "not-a-file", "link", "too-large", "unreadable", "not-json", "not-a-notebook", "bad-name", "crashed"}
STATES = {"missing", "doubled", "untouched", "too-long", "raised", "time", "memory", "died"}


@dataclass(frozen=True)
class Task:
    """Like notebook.Task."""

    id: str
    points: float
    kind: str
    title: dict[str, str]


TASKS = (
    Task("mend", 4, "code", {"en": "Task 1 · Mend $|w|$ (4 points)", "zh": "任务 1 · 修好 $|w|$（4 分）"}),
    Task("use", 2, "code", {"en": "Task 2 · Use it (2 points)", "zh": "任务 2 · 用起来（2 分）"}),
    Task("judge", 3, "prose", {"en": "Task 3 · Judge (3 points, marked by hand)", "zh": "任务 3 · 评判（3 分，人工评分）"}),
)


def case(task, name, points, **more):
    idea, hint = {"en": f"Idea of {name}.", "zh": f"{name} 的用意。"}, {"en": f"Nudge {name}.", "zh": f"留意 {name}。"}
    return Case(task, name, points, lambda rng: (), lambda got: None, "f", idea, hint, **more)


FILE = CaseFile(
    STEM, "numpy", "", (case("mend", "rows", 2), case("mend", "bias", 2), case("use", "all", 2, uses=("mend",))), "c1"
)


def graded(mend=(None, None), use=None, **changed):
    """A result with these verdicts."""
    rows = [("mend", "rows", mend[0]), ("mend", "bias", mend[1]), ("use", "all", use)]
    cases = [{"task": t, "name": n, "points": 2, "earned": 0 if v else 2, "verdict": v} for t, n, v in rows]
    return result(cases=cases, answers={"mend": "ok", "use": "ok", "judge": "ok"}) | changed


def by_hand(points, comment="", stale=False):
    return {"judge": {"points": points, "comment": comment, "by": "eve", "marked_at": "", "stale": stale}}


def test_every_category_state_and_problem_has_a_sentence_in_both_languages():
    assert (set(CATEGORY), set(ANSWER), set(PROBLEM)) == (set(CATEGORIES), STATES, PROBLEMS)
    for words in (*CATEGORY.values(), *ANSWER.values(), *PROBLEM.values()):
        assert set(words) == {"en", "zh"} and words["en"].endswith(".") and words["zh"].endswith("。")
        assert re.search("[\u4e00-\u9fff]", words["zh"]) and not re.search("[\u3000-\u9fff\uff00-\uffef]", words["en"])
    assert set(SAY["en"]) == set(SAY["zh"])
    for name in SAY["en"]:
        assert re.findall(r"{\w+}", SAY["en"][name]) == re.findall(r"{\w+}", SAY["zh"][name])


def test_a_failed_case_tells_its_idea_its_category_and_its_hint_in_the_students_language():
    en = feedback_for(graded(("shape", None)), TASKS, FILE, {})
    assert "- **Lost 2.** Idea of rows. The shape or the length of the result is wrong. Hint: Nudge rows." in en
    assert "Idea of bias" not in en and "Use it (" not in en.split("| ")[-1]
    zh = feedback_for(graded(("shape", None), language="zh"), TASKS, FILE, {})
    assert "- **失 2 分**：rows 的用意。结果的形状或长度不对。提示：留意 rows。" in zh
    assert "Idea" not in zh and "Hint" not in zh
    assert not re.search(r"[^\w\s*]\*\*\w", zh), "Markdown closes no ** between a punctuation mark and a letter"


def test_the_table_and_the_total_hold_every_task():
    text = feedback_for(graded((None, "value")), TASKS, FILE, {})
    assert "**4 of 9 points**" in text
    assert "| Task 1 · Mend $\\|w\\|$ (`mend`) | 2 / 4 |" in text
    assert "| Task 2 · Use it (`use`) | 2 / 2 |" in text
    assert "| Task 3 · Judge (`judge`) | awaits a mark / 3 |" in text
    assert "3 more points are marked by hand" in text


def test_a_task_that_uses_a_faulty_answer_says_so_and_only_then():
    assert "calls your answer to `mend`" in feedback_for(graded(("value", None), "value"), TASKS, FILE, {})
    assert "calls your answer" not in feedback_for(graded((None, None), "value"), TASKS, FILE, {})
    assert "calls your answer" not in feedback_for(graded(("value", None)), TASKS, FILE, {})


@pytest.mark.parametrize("state", sorted(STATES))
def test_how_far_the_cell_came_is_said_once(state):
    verdict = state if state in CATEGORIES else "undefined"
    made = graded((verdict, verdict), answers={"mend": state, "use": "ok"})
    text = feedback_for(made, TASKS, FILE, {})
    assert text.count(ANSWER[state]["en"]) >= 1
    assert CATEGORY["undefined"]["en"] not in text and "Hint" not in text, "a hint for a cell that was never called"
    assert "Idea of rows." in text


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_a_submission_that_could_not_be_read_gets_its_reason_in_both_languages(problem):
    text = feedback_for(result(problem=problem, cases=[], prose=[], answers={}), TASKS, FILE, {})
    assert PROBLEM[problem]["en"] in text and PROBLEM[problem]["zh"] in text
    assert "points**" not in text, "no points where nothing was graded"


def test_a_mark_by_hand_and_its_comment_are_shown_and_counted():
    text = feedback_for(graded(), TASKS, FILE, by_hand(2.5, "Good.\n- but <b>short</b>\x1b[0m"))
    assert "**8.5 of 9 points**" in text and "Marked by hand: 2.5 of 3 points." in text
    assert "> Good.\n> \\- but &lt;b&gt;short&lt;/b&gt;␛\\[0m" in text
    stale = feedback_for(graded(), TASKS, FILE, by_hand(2.5, "old words", stale=True))
    assert "awaits a new mark" in stale and "old words" not in stale and "**6 of 9 points**" in stale


def test_a_text_that_was_never_written_says_so_and_awaits_nothing():
    made = graded(prose=[{"task": "judge", "points": 3, "text": ""}], answers={"mend": "ok", "use": "ok", "judge": "untouched"})
    text = feedback_for(made, TASKS, FILE, {})
    assert ANSWER["untouched"]["en"] in text and "await" not in text and "(`judge`) | 0 / 3 |" in text


@pytest.mark.parametrize(
    "made, marks, line",
    [
        (graded((None, "value"), "value"), {}, "begin with `mend`"),
        (graded((None, None), "value"), by_hand(1), "begin with `use`"),
        (graded(), {}, "wait for the marks by hand"),
        (graded(), by_hand(1), "read the comments"),
        (graded(), by_hand(3), "all points reached"),
    ],
)
def test_it_ends_with_what_to_do_next(made, marks, line):
    last = feedback_for(made, TASKS, FILE, marks).strip().split("\n")[-1]
    assert last.startswith("**Next:** ") and line in last


def test_a_case_that_is_no_longer_kept_loses_its_words_and_not_its_points():
    text = feedback_for(graded(("value", None)), TASKS, replace(FILE, cases=FILE.cases[1:]), {})
    assert "- **Lost 2.** One of the hidden cases. A value is wrong.\n" in text


MARKER = "Zq7"  # begins every text of the student's below, and no word of ours
texts = st.text(st.characters(codec=None)).map(lambda text: MARKER + text)


@given(texts, texts, texts, st.sampled_from(["en", "zh"]))
def test_nothing_of_the_notebook_and_no_unknown_word_is_repeated(prose, verdict, state, language):
    made = graded((verdict, "value"), answers={"mend": state, "use": state, "judge": state}, language=language)
    made |= {"prose": [{"task": "judge", "points": 3, "text": prose}], "outputs": [prose], "versions": {"python": prose}}
    assert MARKER not in feedback_for(made, TASKS, FILE, {})
    assert MARKER not in feedback_for(made | {"problem": verdict}, TASKS, FILE, {})


@given(st.text(st.characters(codec=None)))
def test_a_name_is_shown_as_text_whatever_it_is(name):
    text = feedback_for(graded(student=name), TASKS, FILE, {})
    (line,) = [line for line in text.split("\n") if line.startswith("Student: ")]
    assert not re.search(r"[<>]", line)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]!|~$#]", line.removeprefix("Student: "))
    assert text.count("\n") == feedback_for(graded(student="ada"), TASKS, FILE, {}).count("\n")
    text.encode("utf-8")


def test_markup_in_a_name_is_escaped():
    assert feedback.escaped("<script>*a*_b_[x](y)`c`&") == "&lt;script&gt;\\*a\\*\\_b\\_\\[x\\](y)\\`c\\`&amp;"
    assert [feedback.escaped(text) for text in ("# h", "- a", "1. a", "=== ", "a\nb")] == [
        "\\# h",
        "\\- a",
        "1\\. a",
        "\\===",
        "a b",
    ]


def test_a_file_is_written_whole_where_it_belongs(tmp_path):
    path = write(tmp_path / "feedback", graded(), TASKS, FILE, {})
    assert path == tmp_path / "feedback" / "ada" / f"{STEM}.md"
    assert path.read_text("utf-8") == feedback_for(graded(), TASKS, FILE, {})
    write(tmp_path / "feedback", graded(("value", None)), TASKS, FILE, {})
    assert "Idea of rows" in path.read_text("utf-8") and [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "student", ["..", ".", "", "a/b", "../x", "/etc", "a\\b", "C:x", "a\0b", "a\nb", " a", "a.", "x" * 300]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, student):
    with pytest.raises(FeedbackError, match="rename"):
        write(tmp_path / "feedback", graded(student=student), TASKS, FILE, {})
    assert list(tmp_path.rglob("*")) == []


def test_links_are_not_followed(tmp_path):
    folder, elsewhere = tmp_path / "feedback", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "file").write_text("keep me")
    (folder / "ada").symlink_to(elsewhere)
    with pytest.raises(FeedbackError, match="is a link"):
        write(folder, graded(), TASKS, FILE, {})
    (folder / "bob").mkdir()
    (folder / "bob" / f"{STEM}.md").symlink_to(elsewhere / "file")
    with pytest.raises(FeedbackError, match="is a link"):
        write(folder, graded(student="bob"), TASKS, FILE, {})
    assert [p.name for p in elsewhere.iterdir()] == ["file"] and (elsewhere / "file").read_text() == "keep me"
    (folder / "cy" / f"{STEM}.md").mkdir(parents=True)
    with pytest.raises(FeedbackError, match="wrong kind"):
        write(folder, graded(student="cy"), TASKS, FILE, {})


def test_a_write_that_fails_leaves_the_old_file_and_a_later_one_clears_up(tmp_path, monkeypatch):
    path = write(tmp_path, graded(), TASKS, FILE, {})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(FeedbackError, match="No space left on device"):
            write(tmp_path, graded(("value", None)), TASKS, FILE, {})
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
    Path(path.parent, f".{STEM}.0000.tmp").write_text("left by a kill")
    write(tmp_path, graded(("value", None)), TASKS, FILE, {})
    assert [p.name for p in path.parent.iterdir()] == [path.name]
