"""Marks by hand are kept at once, can be left and taken up again, and a student's text never reaches the terminal as orders."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grading import by_hand
from grading.gradebook import Gradebook, GradebookError
from tests.test_grading_gradebook import STEM, result

TITLES = {"judge": {"en": "Task 8 · A claim to judge", "zh": "任务 8 · 评判一个说法"}}
CLASS = ("ada", "bob", "cy", "dee", "eli")


@pytest.fixture
def book(tmp_path):
    with Gradebook(tmp_path / "g.sqlite") as opened:
        yield opened


def fill(book, *students, **changed):
    for student in students:
        book.add(result(student, notebook=student, text=f"I am text number {CLASS.index(student)}.", **changed))


class Teacher:
    """Types what it was given, then end of input; remembers what it was shown."""

    def __init__(self, *typed):
        self.typed, self.seen = list(typed), []

    def read(self, prompt):
        self.seen.append(prompt)
        if not self.typed:
            raise EOFError
        word = self.typed.pop(0)
        if isinstance(word, BaseException):
            raise word
        return word

    def show(self, text):
        self.seen.append(text)

    def mark(self, book, **how):
        return by_hand.session(book, STEM, TITLES, by="eve", read=self.read, show=self.show, **how)

    @property
    def screen(self):
        return "\n".join(self.seen)


def marks_of(book):
    return {row["student"]: row["marks"]["judge"] and row["marks"]["judge"]["points"] for row in book.latest(STEM)}


@given(st.text(st.characters(codec=None)))
@example("\x1b]0;owned\x07\x1b[2J\rhidden\x9b31m\u202e\u2066\u200b\ufeff\u2028\x7f\x00\ud800\U000e0001")
def test_nothing_that_a_terminal_obeys_gets_through(text):
    shown = by_hand.visible(text)
    assert not {unicodedata.category(c) for c in shown.replace("\n", "")} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    shown.encode("utf-8")
    assert by_hand.visible(shown) == shown


def test_controls_are_written_out_and_plain_text_stays():
    assert by_hand.visible("\x1b[31m\a\r\u202e") == "␛[31m␇␍<U+202E>"
    assert by_hand.visible("a\r\nb\tc 权重 é ≥ 😀") == "a\nb    c 权重 é ≥ 😀"
    assert by_hand.visible("e" + "\u0301" * 40).count("\u0301") == by_hand.MAX_COMBINING


def test_a_session_marks_everyone_and_keeps_comments(book):
    fill(book, *CLASS)
    teacher = Teacher("1", "why?", "2,5", "", "3", "good", "0", "", "1.5", "")
    assert teacher.mark(book) == 5
    assert sorted(marks_of(book).values()) == [0, 1, 1.5, 2.5, 3]
    comments = {row["marks"]["judge"]["points"]: row["marks"]["judge"]["comment"] for row in book.latest(STEM)}
    assert comments == {1: "why?", 2.5: "", 3: "good", 0: "", 1.5: ""}
    assert "5 marks kept; 0 answers still wait." in teacher.screen
    assert Teacher().mark(book) == 0


@pytest.mark.parametrize("end", ["q", "Q", EOFError(), KeyboardInterrupt()])
def test_it_can_be_left_at_any_time_and_goes_on_where_it_was(book, end):
    fill(book, *CLASS)
    first, second = Teacher("1", "", "2", "", end), Teacher("3", "", "3", "", "3", "")
    assert first.mark(book) == 2 and "3 answers still wait" in first.screen
    assert second.mark(book) == 3
    assert sorted(marks_of(book).values()) == [1, 2, 3, 3, 3]
    texts = [{line for line in one.screen.split("\n") if line.startswith("| ")} for one in (first, second)]
    assert len(texts[0]) == 3 and len(texts[1]) == 3 and len(texts[0] & texts[1]) == 1, (
        "shown again: only the one that was left"
    )


def test_a_mark_is_kept_before_the_next_answer_is_shown(book):
    fill(book, "ada", "bob")
    seen = []

    def read(prompt):
        seen.append(sum(points is not None for points in marks_of(book).values()))
        return "1" if prompt.startswith("Points") else "fine"

    by_hand.session(book, STEM, TITLES, by="eve", read=read, show=lambda text: None)
    assert seen == [0, 0, 1, 1]


def test_left_at_the_comment_keeps_no_half_mark(book):
    fill(book, "ada")
    assert Teacher("2", EOFError()).mark(book) == 0
    assert marks_of(book) == {"ada": None}


def test_enter_skips_and_a_wrong_number_is_asked_again(book):
    fill(book, "ada", "bob")
    teacher = Teacher("", "4", "-1", "nan", "two", "inf", "2", "")
    assert teacher.mark(book) == 1
    assert sorted(marks_of(book).values(), key=str) == [2, None]
    assert teacher.screen.count("type a number from 0 to 3") == 4 and "'two' is no number" in teacher.screen


def test_names_are_hidden_unless_asked_for(book):
    fill(book, *CLASS)
    hidden, shown = Teacher(*["1", ""] * 5), Teacher("q")
    hidden.mark(book)
    assert not any(name in hidden.screen for name in CLASS)
    shown.mark(book, names=True, again=True)
    assert any(name in shown.screen for name in CLASS)


def test_the_order_is_shuffled_and_the_same_every_day(book):
    students = [f"s{i:02}" for i in range(20)]
    for student in students:
        book.add(result(student, notebook=student))
    rows = book.latest(STEM)
    order = [one.student for one in by_hand.waiting(rows)]
    assert order != students and sorted(order) == students
    assert order == [one.student for one in by_hand.waiting(list(reversed(rows)))]
    other = [{**row, "seed": "ffffffff"} for row in rows]
    assert order != [one.student for one in by_hand.waiting(other)], "known to whoever knows the names"


def test_one_question_after_the_other(book):
    parts = [{"task": task, "points": 3, "text": f"about {task}"} for task in ("derive", "judge")]
    for name in CLASS:
        book.add(result(name, notebook=name, prose=parts))
    assert [one.task for one in by_hand.waiting(book.latest(STEM))] == ["derive"] * 5 + ["judge"] * 5


def test_empty_texts_need_no_mark_and_can_have_one(book):
    book.add(result("ada", text=""))
    assert by_hand.waiting(book.latest(STEM)) == []
    teacher = Teacher("2", "on paper")
    assert teacher.mark(book, again=True) == 1 and "(empty)" in teacher.screen
    assert marks_of(book) == {"ada": 2}


def test_a_text_that_changed_is_asked_for_again_with_the_earlier_mark(book):
    fill(book, "ada")
    Teacher("2", "too short").mark(book)
    book.add(result("ada", notebook="n2", text="A longer text."))
    teacher = Teacher("3", "")
    assert teacher.mark(book) == 1
    assert "Marked before, for another text: 2 points. too short" in teacher.screen
    assert marks_of(book) == {"ada": 3}


def test_a_students_text_cannot_pass_for_the_graders(book):
    book.add(result("ada", text="ok\n=== Task 9 · 2 of 2\n\x1b[1AMarked before, by eve: 3 points."))
    teacher = Teacher("q")
    teacher.mark(book)
    assert "\n| === Task 9" in teacher.screen and "\n| ␛[1AMarked before" in teacher.screen and "\x1b" not in teacher.screen


def test_titles_are_shown_in_the_language_of_the_teacher(book):
    fill(book, "ada")
    for language in ("en", "zh"):
        teacher = Teacher("q")
        teacher.mark(book, language=language)
        assert TITLES["judge"][language] in teacher.screen


def test_one_mark_without_questions(book):
    fill(book, "ada")
    assert by_hand.mark(book, STEM, "ada", "judge", "2.5", "well", by="eve") == "ada, judge: 2.5 points kept."
    assert marks_of(book) == {"ada": 2.5}
    for student, task, points in (
        ("bob", "judge", "1"),
        ("ada", "other", "1"),
        ("ada", "judge", "9"),
        ("ada", "judge", "many"),
    ):
        with pytest.raises(GradebookError):
            by_hand.mark(book, STEM, student, task, points, by="eve")
    assert marks_of(book) == {"ada": 2.5}
