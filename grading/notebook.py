"""Reading a notebook without believing it. Standard library only; nothing here runs or renders a student's text.

A cell is the answer that `metadata.nbgrader.grade_id` names; where that is no task, the one that its `id` names: copying a
cell, or saving it in another program, changes the id and keeps the metadata. Code counts in code cells only, prose in any. Two
cells for one answer are "doubled": nobody may guess which is meant. Of equal keys in the JSON the last counts, as in Jupyter.
Only the source of answers leaves this file: never an output, never metadata. What IPython adds to Python: grading/magics.py.

The worst notebooks found within the limits, nothing but brackets, cost 2 s of one core and 250 MB.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading.folder import MAX_BYTES, STEM, FolderError, Found, SubmissionError, find_submissions, is_name, read

__all__ = [
    "FolderError",
    "Found",
    "Submission",
    "SubmissionError",
    "Task",
    "find_submissions",
    "is_name",
    "parse",
    "read",
    "tasks_of",
]
from grading.magics import as_python

MAX_PARTS = 2_000_000  # brackets and commas of the JSON: a list or a dict takes up to a hundred times its place in the file
MAX_CODE = 100_000  # characters of an answer in code
MAX_PROSE = 20_000  # characters of an answer in prose
LANGUAGES = ("en", "zh")
CJK = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True)
class Task:
    """One answer of an exercise, in code or in prose. title: the heading above it; holes: what students find in its place."""

    id: str
    points: float
    kind: str  # "code" | "prose"
    title: dict[str, str]
    holes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submission:
    """What a notebook answers. answers: the code of each code task, None unless its status is "ok"; prose: "" if empty.

    status of every task: "ok", "missing", "doubled", "untouched" (the hole or the prompt as it was), "too-long". Prose that
    is too long is cut, doubled prose stands one below the other: a person reads it.
    """

    language: str
    answers: dict[str, str | None]
    status: dict[str, str]
    prose: dict[str, str]


# The exercise


def tasks_of(stem: str, root: Path) -> list[Task]:
    """The tasks of an exercise in order, from exercises/{en,zh}/STEM.ipynb. Code has the points of its checks, ID-check...

    FileNotFoundError when the exercise is not built, ValueError when the two languages differ.
    """
    found = {}
    for language in LANGUAGES:
        path = Path(root) / "exercises" / language / f"{stem}.ipynb"
        if not STEM.fullmatch(stem) or not path.is_file():
            known = ", ".join(sorted(p.stem for p in (Path(root) / "exercises" / language).glob("*.ipynb"))) or "none"
            raise FileNotFoundError(f"no exercise {stem}: {path} is missing. Exercises: {known}; tools/build.py builds them")
        found[language] = list(_rows(json.loads(path.read_text("utf-8"))["cells"]))
    if [row[:3] for row in found["en"]] != [row[:3] for row in found["zh"]]:
        raise ValueError(f"the tasks of exercises/en/{stem}.ipynb and its zh sibling differ; run tools/build.py")
    tasks = []
    for (name, points, kind, title, hole), (*_, title_zh, hole_zh) in zip(found["en"], found["zh"]):
        tasks.append(Task(name, points, kind, {"en": title, "zh": title_zh}, (hole, hole_zh)))
    return tasks


def _rows(cells: list[dict]) -> Iterator[tuple[str, float, str, str, str]]:
    """(id, points, kind, heading above, text) of each answer in a notebook of our own."""
    rows = [(cell["metadata"].get("nbgrader", {}), cell["cell_type"], "".join(cell["source"])) for cell in cells]
    title = ""
    for meta, cell_type, text in rows:
        if meta.get("solution"):
            name = meta["grade_id"]
            check = re.compile(re.escape(name) + r"-check(-\d+)?")
            of_checks = (m["points"] for m, *_ in rows if m.get("grade") and check.fullmatch(m["grade_id"]))
            kind = "code" if cell_type == "code" else "prose"
            yield name, float(sum(of_checks) if kind == "code" else meta["points"]), kind, title, text
        elif cell_type == "markdown":
            title = ([*_headings(text)] or [title])[-1]


def _headings(text: str) -> Iterator[str]:
    """The headings of Markdown, outside of fenced listings."""
    fenced = False
    for line in text.split("\n"):
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        if not fenced and (match := re.match(r"#{1,6}[ \t]+(.*)", line)):
            yield match[1].strip()


# The notebook


def parse(raw: bytes, tasks: Iterable[Task]) -> Submission:
    """What a notebook answers to the tasks. SubmissionError for what is no notebook; no bytes raise anything else."""
    kinds = {task.id: task for task in tasks}
    texts: dict[str, list[str]] = {name: [] for name in kinds}
    others = []
    for cell in _cells(raw):
        name, cell_type = _task_of(cell, kinds), cell.get("cell_type")
        counts = cell_type == "markdown" if name is None else kinds[name].kind == "prose" or cell_type == "code"
        if counts and (text := _source_of(cell)) is not None:
            (others if name is None else texts[name]).append(text)
    answers, status, prose = {}, {}, {}
    for name, task in kinds.items():
        if task.kind == "code":
            answers[name], status[name] = _code(texts[name], task)
        else:
            prose[name], status[name] = _prose(texts[name], task)
    return Submission(_language(kinds.values(), others, texts), answers, status, prose)


def _cells(raw: bytes) -> list[dict]:
    """The cells of a notebook's bytes. Invalid UTF-8 is replaced: it may stand in an output, and the answers be whole."""
    if len(raw) > MAX_BYTES or sum(map(raw.count, (b"[", b"{", b","))) > MAX_PARTS:
        raise SubmissionError("too-large")
    try:
        text = raw.decode(json.detect_encoding(raw), "replace")
        notebook = json.loads(text, parse_int=float)  # an int of 5,000 digits raises; no number here needs one
    except (ValueError, RecursionError):
        raise SubmissionError("not-json") from None
    cells, version = (notebook.get("cells"), notebook.get("nbformat", 4)) if isinstance(notebook, dict) else (None, None)
    if not isinstance(cells, list) or not isinstance(version, int | float) or not version >= 4:
        raise SubmissionError("not-a-notebook")
    return [cell for cell in cells if isinstance(cell, dict)]


def _task_of(cell: dict, tasks: dict[str, Task]) -> str | None:
    """The id of the task that a cell answers: grade_id before id, where it names a task."""
    meta: Any = cell.get("metadata")
    meta = meta.get("nbgrader") if isinstance(meta, dict) else None
    for name in (meta.get("grade_id") if isinstance(meta, dict) else None, cell.get("id")):
        if isinstance(name, str) and name in tasks:
            return name
    return None


def _source_of(cell: dict) -> str | None:
    """The source of a cell, with plain line ends and without half surrogate pairs; None if it is no text."""
    source = cell.get("source")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        return None
    source = source.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _code(texts: list[str], task: Task) -> tuple[str | None, str]:
    """(code, status) of the cells that answer a task in code. Comments and spaces alone do not touch a hole."""
    if len(texts) != 1:
        return None, "doubled" if texts else "missing"
    if len(texts[0]) > MAX_CODE:
        return None, "too-long"
    if any(_bones(texts[0]) == _bones(hole) for hole in task.holes):
        return None, "untouched"
    return as_python(texts[0]), "ok"


def _bones(code: str) -> list[str]:
    """The lines of code without indent, blank lines and lines of comment."""
    return [line for line in map(str.strip, code.split("\n")) if line and not line.startswith("#")]


def _prose(texts: list[str], task: Task) -> tuple[str, str]:
    """(text, status) of the cells that answer a task in prose; the prompt is no answer, wherever it was left."""
    prompts = {hole.strip() for hole in task.holes} - {""}
    kept = ["\n".join(line for line in text.split("\n") if line.strip() not in prompts).strip() for text in texts]
    text = "\n\n".join(filter(None, kept))
    if len(texts) != 1:
        return text[:MAX_PROSE], "doubled" if texts else "missing"
    return text[:MAX_PROSE], "untouched" if not text else "too-long" if len(text) > MAX_PROSE else "ok"


def _language(tasks: Iterable[Task], others: list[str], answers: dict[str, list[str]]) -> str:
    """The language of the notebook: that of most headings of tasks; without any, Chinese if 1 % of the text is."""
    headings = {heading for text in others for heading in _headings(text)}
    n = {language: sum(task.title.get(language) in headings for task in tasks) for language in LANGUAGES}
    if n["en"] != n["zh"]:
        return max(n, key=n.__getitem__)
    text = "".join([*others, *(text for texts in answers.values() for text in texts)])[:1_000_000]
    return "zh" if 100 * len(CJK.findall(text)) > len(text) else "en"
