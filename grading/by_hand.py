"""Marks for prose: the answers to be read, one after the other, and a mark for each, kept at once.

Fair: all answers to one question before the next question, without names, in an order that is shuffled for each question but
stays the same from day to day. Safe: a terminal obeys what it is sent (colours, titles, moved cursors, text that runs
backwards), so a student's text reaches it only through `visible`.

`session` asks for a mark and a comment, and can be left at any time; the next session goes on where this one ended. A mark for
a text that has changed since is shown, and asked for again.
"""

import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grading.gradebook import Gradebook, GradebookError

UNSEEN = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}  # controls, formats (bidi), private, unassigned, surrogates, separators
MAX_COMBINING = 4  # more marks than this on one letter grow over the lines around it


@dataclass(frozen=True)
class Answer:
    """One prose answer that waits for a mark; `before` is a stale mark, or with `again` the present one."""

    student: str
    task: str
    points: float
    text: str
    before: dict | None


def visible(text: str) -> str:
    """The text with every character that a terminal obeys, hides or turns round written out: ESC is ␛, U+202E <U+202E>.

    Line ends stay (CR LF becomes LF), a tab becomes four spaces.
    """
    shown, combining = [], 0
    for character in text.replace("\r\n", "\n"):
        code, kind = ord(character), unicodedata.category(character)
        combining = combining + 1 if kind in ("Mn", "Me") else 0
        if character == "\n":
            shown.append(character)
        elif character == "\t":
            shown.append("    ")
        elif code < 0x20:
            shown.append(chr(0x2400 + code))
        elif code == 0x7F:
            shown.append("␡")
        elif kind in UNSEEN or combining > MAX_COMBINING:
            shown.append(f"<U+{code:04X}>")
        else:
            shown.append(character)
    return "".join(shown)


def waiting(rows: list[dict], again: bool = False) -> list[Answer]:
    """The answers to mark, from `Gradebook.latest`: students shuffled for each question; `again`: the marked ones too."""
    tasks = list(dict.fromkeys(part["task"] for row in rows for part in row["prose"]))
    found = []
    for task in tasks:
        ordered = sorted(rows, key=lambda row: row["student"])
        # Seeded by the secret's fingerprint where there is one: students do not know it, so they cannot know their place.
        seed = next((row["seed"] for row in ordered if row.get("seed")), ordered[0]["stem"])
        random.Random(f"{seed}/{task}").shuffle(ordered)
        for row in ordered:
            for part in row["prose"]:
                if part["task"] == task and (again or task in row["awaiting"]):
                    found.append(Answer(row["student"], task, part["points"], part["text"], row["marks"][task]))
    return found


def points_of(text: str | float) -> float:
    """The number that was typed, 2.5 or 2,5; GradebookError if it is none."""
    try:
        return float(text.replace(",", ".") if isinstance(text, str) else text)
    except ValueError:
        raise GradebookError(f"{text!r} is no number; type points like 2 or 2.5.") from None


def mark(book: Gradebook, stem: str, student: str, task: str, points: str | float, comment: str = "", *, by: str) -> str:
    """One mark without questions; the sentence that says so. GradebookError if student, task or points cannot be."""
    number = points_of(points)
    book.set_mark(student, stem, task, number, comment, by)
    return f"{visible(student)}, {task}: {number:g} points kept."


def session(
    book: Gradebook,
    stem: str,
    titles: dict[str, dict[str, str]],
    *,
    by: str,
    names: bool = False,
    again: bool = False,
    language: str = "en",
    read: Callable[[str], str] = input,
    show: Callable[[str], Any] = print,
) -> int:
    """Mark what waits, until all is marked or `q` (or end of input, or Ctrl-C) is typed; the number of marks kept.

    titles: {task: {"en": its heading, "zh": ...}}. names: show whose answer it is. again: also what has a mark already.
    read, show: how to ask and to print, so that a test can.
    """
    answers = waiting(book.latest(stem), again)
    n_kept = 0
    show(f"{len(answers)} answers to mark. Points, or Enter to skip, or q to leave; each mark is kept at once.")
    try:
        for i, answer in enumerate(answers, 1):
            title = titles.get(answer.task, {}).get(language, answer.task)
            show(_page(answer, title, f"{i} of {len(answers)}", names))
            points = _ask_points(answer, read, show)
            if points is None:
                continue
            comment = read("Comment for the student (Enter for none): ").strip()
            book.set_mark(answer.student, stem, answer.task, points, comment, by)
            n_kept += 1
    except (EOFError, KeyboardInterrupt):
        pass
    left = len(waiting(book.latest(stem)))
    show(f"{n_kept} marks kept; {left} answers still wait.")
    return n_kept


def _page(answer: Answer, title: str, place: str, names: bool) -> str:
    """What is shown of one answer. Each line of the student's begins with a bar, so that none can pass for one of ours."""
    head = f"\n=== {title} · {place}" + (f" · {visible(answer.student)}" if names else "")
    text = visible(answer.text).rstrip() or "(empty)"
    lines = [head, *(f"| {line}" for line in text.split("\n"))]
    if answer.before:
        why = "for another text" if answer.before["stale"] else "by " + visible(answer.before["by"])
        lines.append(f"Marked before, {why}: {answer.before['points']:g} points. {visible(answer.before['comment'])}".rstrip())
    return "\n".join(lines)


def _ask_points(answer: Answer, read: Callable[[str], str], show: Callable[[str], Any]) -> float | None:
    """A number from 0 to the points of the task, None to skip; EOFError to leave."""
    while True:
        typed = read(f"Points, 0 to {answer.points:g}: ").strip()
        if typed.lower() == "q":
            raise EOFError
        if not typed:
            return None
        try:
            points = points_of(typed)
        except GradebookError as error:
            show(str(error))
            continue
        if 0 <= points <= answer.points:
            return points
        show(f"{typed} is no mark here; type a number from 0 to {answer.points:g}, Enter to skip, or q to leave.")
