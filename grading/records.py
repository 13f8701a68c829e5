"""Marks on their way out: files for Canvas and Moodle, a CSV and a JSON of everything, and how a class did.

Where the columns come from, looked up in the programs that read them:

Canvas   lib/gradebook_importer.rb of instructure/canvas-lms: "Student", "ID", "SIS User ID", "SIS Login ID", "Section", then
         the assignments; a row whose first cell holds "Points Possible". A student is found by ID, else SIS User ID, else SIS
         Login ID, else name. An empty cell counts as a change where a grade stands in Canvas. A new title makes a new
         assignment; one that exists is headed "Title (its number)" in Canvas's own export: pass that as `assignment`.
Moodle   grade/import/csv/classes/load_data.php of moodle/moodle, and docs.moodle.org, "Grade import": columns in any order are
         mapped by hand, one of them to the user (username or useremail), one to the grade, one to its feedback. Feedback
         without its grade would erase the grade, so both are here. "-" is no grade; an empty cell would become 0 in a new
         grade item. Unless the site allows more, grades above 100 are refused.

A spreadsheet runs a cell that begins with = + - @ as a formula, and a student can choose such a name; it gets a ' in front.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from grading.by_hand import visible

FORMATS = ("csv", "canvas", "moodle", "json")
IDENTITIES = ("username", "email")
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
NO_GRADE = "-"  # Moodle's own sign
FORMULA = re.compile(r"^\s*[=+\-@＝＋－＠]")


def export(
    rows: Sequence[dict],
    format: str,
    stem: str,
    max_points: float,
    *,
    identity: str = "username",
    emails: dict[str, str] | None = None,
    assignment: str | None = None,
) -> str:
    """The text of a file, from `Gradebook.latest(stem)`. Write it with encoding="utf-8", newline="".

    identity: "username" or "email", Moodle's column for the user; emails: {student: address}, where the students' folders
    are not named by address. assignment: the title in Canvas, the stem if not given. ValueError says what is wrong.
    """
    if format == "csv":
        return _csv(rows, max_points)
    if format == "canvas":
        return _canvas(rows, assignment or stem, max_points)
    if format == "moodle":
        return _moodle(rows, stem, identity, emails or {})
    if format == "json":
        return _json(rows, stem, max_points)
    raise ValueError(f"{format!r} is no format of an export; choose one of {', '.join(FORMATS)}.")


def _csv(rows: Sequence[dict], max_points: float) -> str:
    """student, one column a task, total, max, awaiting marks, isolation, graded_at; what nobody has marked is empty."""
    tasks = tasks_in(rows)
    lines = [["student", *tasks, "total", "max", "awaiting marks", "isolation", "graded_at"]]
    for row in rows:
        points = [number(row["by_task"].get(task)) for task in tasks]
        end = [number(row["total"]), number(max_points), " ".join(row["awaiting"]), row["isolation"], row["graded_at"]]
        lines.append([row["student"], *points, *end])
    return _written(lines)


def _canvas(rows: Sequence[dict], assignment: str, max_points: float) -> str:
    lines = [[*CANVAS, assignment], ["    Points Possible", "", "", "", "", number(max_points)]]
    for row in rows:
        name = row["student"].replace("Points Possible", "Points-Possible")  # a student of that name would set the maximum
        lines.append([name, "", "", row["student"], "", number(row["total"])])
    return _written(lines)


def _moodle(rows: Sequence[dict], stem: str, identity: str, emails: dict[str, str]) -> str:
    if identity not in IDENTITIES:
        raise ValueError(f"{identity!r} is no column for the user; choose one of {', '.join(IDENTITIES)}.")
    lines = [[identity, stem, f"{stem} feedback"]]
    for row in rows:
        user = row["student"]
        if identity == "email":
            user = emails.get(user, user)
            if "@" not in user:
                raise ValueError(f"{user!r} is no address; give the addresses of all students, or choose username.")
        lines.append([user, number(row["total"]) or NO_GRADE, _remarks(row)])
    return _written(lines)


def _remarks(row: dict) -> str:
    """The feedback cell: points by task, and the teacher's comments, as plain text. Moodle shows it as HTML, so no < or &."""
    parts = [f"{task}: {number(points)}" for task, points in row["by_task"].items() if points is not None]
    for task, mark in row["marks"].items():
        if mark and not mark["stale"] and mark["comment"].strip():
            parts.append(f"{task}: {' '.join(mark['comment'].split())}")
    return "; ".join(parts).replace("&", "&amp;").replace("<", "&lt;")


def _json(rows: Sequence[dict], stem: str, max_points: float) -> str:
    """Everything that is known, with versions, seed fingerprints and isolation; the students' prose too."""
    known = {
        "stem": stem,
        "max_points": max_points,
        "seeds": sorted({row["seed"] for row in rows if row.get("seed")}),
        "isolation": sorted({row["isolation"] for row in rows}),
        "students": list(rows),
    }
    text = json.dumps(known, ensure_ascii=False, indent=1, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"  # UTF-8 cannot hold half a pair


def _written(lines: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[harmless(cell) for cell in line] for line in lines])
    return text.getvalue()


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula and no terminal for an order. Canvas's row of points keeps its blanks."""
    shown = visible(cell)
    return "'" + shown if FORMULA.match(shown) and shown != NO_GRADE else shown


def number(value: float | None) -> str:
    """A mark as text: 2, 2.5, and nothing for None."""
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


def tasks_in(rows: Sequence[dict]) -> list[str]:
    """The tasks that occur in results, code and prose, in the order in which they were first seen."""
    return list(dict.fromkeys(task for row in rows for task in row["by_task"]))


def statistics(rows: Sequence[dict]) -> list[dict]:
    """How a class did, a dict a task, over the submissions that could be read:

    "task";  "students": how many have points for it;  "right": the share of them with all points;  "share": points reached
    over points to reach;  "commonest": None or {"case", "students"}, the case that most students lost;  "awaiting": how many
    wait for a mark. Shares are None where there are no students.
    """
    found = []
    for task in tasks_in(rows):
        reached, lost, awaiting = [], Counter(), 0
        for row in rows:
            if task not in row["by_task"]:
                continue
            if row["by_task"][task] is None:
                awaiting += 1
                continue
            parts = [part for part in [*row["cases"], *row["prose"]] if part["task"] == task]
            reached.append((row["by_task"][task], sum(part["points"] for part in parts)))
            lost.update(case["name"] for case in row["cases"] if case["task"] == task and case["earned"] < case["points"])
        n, top = len(reached), sum(most for _, most in reached)
        worst = min(lost, key=lambda name: (-lost[name], name), default=None)  # a tie goes by the name, not by who came first
        found.append(
            {
                "task": task,
                "students": n,
                "right": sum(points >= most for points, most in reached) / n if n else None,
                "share": sum(points for points, _ in reached) / top if top else None,
                "commonest": {"case": worst, "students": lost[worst]} if worst else None,
                "awaiting": awaiting,
            }
        )
    return found


def table(rows: Sequence[dict]) -> str:
    """One line a student as aligned columns for a terminal: the points so far, what waits for a mark, what went wrong."""
    lines = [["student", "total", "awaiting", "problem"]]
    for row in rows:
        lines.append([row["student"], number(row["total"]), " ".join(row["awaiting"]), row["problem"] or ""])
    return aligned(lines, numbers=(1,))


def statistics_table(rows: Sequence[dict], titles: dict[str, str] | None = None) -> str:
    """`statistics` as aligned columns for a terminal. titles: {task: title} to show in the place of the ids."""
    lines = [["task", "students", "right", "points", "awaiting", "commonest failed case"]]
    for one in statistics(rows):
        title, worst = (titles or {}).get(one["task"], one["task"]), one["commonest"]
        cells = [title, str(one["students"]), _percent(one["right"]), _percent(one["share"]), str(one["awaiting"] or "")]
        lines.append([*cells, f"{worst['case']} ({worst['students']})" if worst else ""])
    return aligned(lines, numbers=(1, 2, 3, 4))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def aligned(lines: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Lines of cells as text in columns; the columns in `numbers` are flush right. Chinese characters count as two places."""
    shown = [[visible(cell).replace("\n", " ") for cell in line] for line in lines]
    widths = [max(map(width, column)) for column in zip(*shown, strict=True)]
    text = []
    for line in shown:
        cells = []
        for k, (cell, places) in enumerate(zip(line, widths)):
            blanks = " " * (places - width(cell))
            cells.append(blanks + cell if k in numbers else cell + blanks)
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def width(text: str) -> int:
    """How many places a terminal gives a text."""
    places = 0
    for character in text:
        if not unicodedata.combining(character) and unicodedata.category(character) not in ("Mn", "Me", "Cf"):
            places += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return places
