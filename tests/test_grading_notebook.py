"""A notebook is read without belief: the answers of honest ones arrive, and no bytes do more than a word in the report."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading import notebook as reading
from grading.notebook import MAX_CODE, MAX_PROSE, Submission, SubmissionError, Task, parse, tasks_of
from tools import build
from tools.source import EXERCISE, read_source

ROOT = Path(__file__).resolve().parents[1]
STEMS = sorted(path.stem for path in (ROOT / "solutions/source").glob("*.py"))
STEM = "03_1_weight_pruning"
TASKS = [
    Task("code", 2, "code", {"en": "Task 1", "zh": "任务 1"}, ("def f():\n    # HOLE\n    raise NotImplementedError",)),
    Task("more", 1, "code", {"en": "Task 2", "zh": "任务 2"}),
    Task("words", 3, "prose", {"en": "Task 3", "zh": "任务 3"}, ("*Write here.*", "*写在这里。*", "")),
]

each_exercise = pytest.mark.parametrize("stem", STEMS)
each_language = pytest.mark.parametrize("lang", build.LANGUAGES)


def built(folder: str, lang: str, stem: str = STEM) -> dict:
    return json.loads((ROOT / folder / lang / f"{stem}.ipynb").read_text("utf-8"))


def cell(source, grade_id=None, cell_id=None, cell_type="code") -> dict:
    found = {"cell_type": cell_type, "metadata": {"nbgrader": {"grade_id": grade_id}} if grade_id else {}, "source": source}
    return found | ({"id": cell_id} if cell_id else {}) | ({"outputs": [{"text": "SECRET"}]} if cell_type == "code" else {})


def raw_of(*cells, **others) -> bytes:
    return json.dumps({"cells": list(cells), "nbformat": 4, "nbformat_minor": 5, "metadata": {"x": "SECRET"}} | others).encode()


def read_cells(*cells) -> Submission:
    return parse(raw_of(*cells), TASKS)


def problem(raw: bytes) -> str:
    with pytest.raises(SubmissionError) as error:
        parse(raw, TASKS)
    return error.value.problem


# The exercises of the course


@each_exercise
def test_tasks_are_the_answers_of_the_source_with_the_points_of_their_checks(stem):
    """An oracle of its own: the source, not the built notebook."""
    cells = [block.en for block in read_source(ROOT / f"solutions/source/{stem}.py", ROOT, EXERCISE).blocks]
    expected = []
    for answer in (c for c in cells if c.role == "answer"):
        checks = [c.points for c in cells if c.role == "check" and c.id.split("-check")[0] == answer.id]
        kind, points = ("code", sum(checks)) if answer.kind == "code" else ("prose", answer.points)
        expected.append((answer.id, points, kind))
    tasks = tasks_of(stem, ROOT)
    assert [(task.id, task.points, task.kind) for task in tasks] == expected and expected
    for task in tasks:
        assert task.title["en"].startswith("Task ") and task.title["zh"].startswith("任务 ")
        assert task.title["en"].split(" · ")[0].split()[1] == task.title["zh"].split(" · ")[0].split()[1]


def test_points_of_several_checks_are_added_and_no_others(tmp_path):
    def check(name, points):
        return {
            "cell_type": "code",
            "metadata": {"nbgrader": {"grade": True, "grade_id": name, "points": points}},
            "source": [],
        }

    answer = {
        "cell_type": "code",
        "metadata": {"nbgrader": {"grade": False, "solution": True, "grade_id": "a"}},
        "source": ["x"],
    }
    heading = {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "text\n", "```\n", "# no heading\n", "```\n"]}
    checks = [
        check("a-check", 1),
        check("a-check-2", 0.5),
        check("a-checker", 4),
        check("a-b-check", 8),
        check("b-a-check", 16),
    ]
    for lang in build.LANGUAGES:
        (tmp_path / "exercises" / lang).mkdir(parents=True)
        (tmp_path / "exercises" / lang / f"{STEM}.ipynb").write_text(json.dumps({"cells": [heading, answer, *checks]}))
    assert tasks_of(STEM, tmp_path) == [Task("a", 1.5, "code", {"en": "Title", "zh": "Title"}, ("x", "x"))]
    (tmp_path / "exercises" / "zh" / f"{STEM}.ipynb").write_text(json.dumps({"cells": [heading, answer, *checks[1:]]}))
    with pytest.raises(ValueError, match=r"differ; run tools/build\.py"):
        tasks_of(STEM, tmp_path)


@pytest.mark.parametrize("stem", ["99_9_nothing", "../en/03_1_weight_pruning", "", "a/b"])
def test_an_exercise_that_does_not_exist_is_named_with_those_that_do(stem):
    with pytest.raises(FileNotFoundError, match=STEM):
        tasks_of(stem, ROOT)


@each_exercise
@each_language
def test_the_exercise_as_downloaded_is_untouched(stem, lang):
    tasks = tasks_of(stem, ROOT)
    found = parse(json.dumps(built("exercises", lang, stem)).encode(), tasks)
    assert found.language == lang
    assert found.status == {task.id: "untouched" for task in tasks}
    assert set(found.answers.values()) == {None} and set(found.prose.values()) <= {""}
    assert [*found.answers, *found.prose] == sorted(
        found.status, key=lambda name: (name in found.prose, list(found.status).index(name))
    )


@each_exercise
@each_language
def test_the_solution_arrives_word_by_word(stem, lang):
    tasks = tasks_of(stem, ROOT)
    notebook = built("solutions", lang, stem)
    found = parse(json.dumps(notebook, ensure_ascii=lang == "en").encode(), tasks)
    sources = {c["id"]: "".join(c["source"]) for c in notebook["cells"]}
    assert found.language == lang and set(found.status.values()) == {"ok"}
    assert found.answers == {task.id: sources[task.id] for task in tasks if task.kind == "code"}
    assert found.prose == {task.id: sources[task.id].strip() for task in tasks if task.kind == "prose"}


@each_language
def test_the_language_survives_without_headings(lang):
    tasks = tasks_of(STEM, ROOT)
    notebook = built("solutions", lang)
    for c in notebook["cells"]:
        if c["cell_type"] == "markdown":
            c["source"] = [line.lstrip("#") for line in c["source"]]
    assert parse(json.dumps(notebook).encode(), tasks).language == lang
    notebook["cells"] = [c for c in notebook["cells"] if "nbgrader" in c["metadata"]]
    assert parse(json.dumps(notebook).encode(), tasks).language == lang


# Which cell is an answer


@pytest.mark.parametrize(
    "cells, status, code",
    [
        ([cell("x = 1", "code", "code")], "ok", "x = 1"),
        ([cell("x = 1", "code")], "ok", "x = 1"),  # nbformat 4.4 has no ids
        ([cell("x = 1", None, "code")], "ok", "x = 1"),
        ([cell("x = 1", "code", "5f3a")], "ok", "x = 1"),
        ([cell("x = 1", "elsewhere", "code")], "ok", "x = 1"),
        ([cell("x = 1", "code", "more")], "ok", "x = 1"),  # they contradict each other: grade_id
        ([cell("x = 1", "more", "code")], "missing", None),
        ([cell("x = 1", "code", "code", "markdown")], "missing", None),
        ([cell("x = 1", "code", "code", "raw")], "missing", None),
        ([cell(["x =", " 1\r\n", "y = 2"], "code")], "ok", "x = 1\ny = 2"),
        ([cell("", "code")], "ok", ""),
        ([cell(None, "code")], "missing", None),
        ([cell(["x", 1], "code")], "missing", None),
        ([cell({"x": 1}, "code")], "missing", None),
        ([cell("x = 1", "code"), cell("x = 2", "code")], "doubled", None),
        ([cell("x = 1", "code", "a"), cell("x = 1", None, "code")], "doubled", None),
        ([cell("x = 1", "code"), cell("notes", "code", None, "markdown")], "ok", "x = 1"),
        ([cell("x" * MAX_CODE, "code")], "ok", "x" * MAX_CODE),
        ([cell("x" * (MAX_CODE + 1), "code")], "too-long", None),
        ([cell("%matplotlib inline\nx = 1", "code")], "ok", "\nx = 1"),
    ],
)
def test_a_cell_answers_by_grade_id_and_else_by_id(cells, status, code):
    found = read_cells(*cells)
    assert (found.status["code"], found.answers["code"]) == (status, code)
    assert "SECRET" not in repr(found)


@pytest.mark.parametrize("odd", [1, None, [], {}, ["code"], True, 1.5])
def test_ids_and_metadata_of_any_kind_are_passed_over(odd):
    for changed in (
        {"id": odd},
        {"metadata": odd},
        {"metadata": {"nbgrader": odd}},
        {"metadata": {"nbgrader": {"grade_id": odd}}},
    ):
        found = read_cells(cell("x = 1", "code", "code") | changed)
        assert found.answers["code"] == "x = 1"
    assert read_cells(odd, cell("x = 1", "code")).answers["code"] == "x = 1"
    assert read_cells(cell("x = 1", "code") | {"cell_type": odd}).status["code"] == "missing"


def test_a_hole_is_untouched_until_a_line_of_code_changes():
    hole = TASKS[0].holes[0]
    for same in (hole, hole + "\n\n", hole.replace("# HOLE", "# a plan\n    # in two lines"), hole.replace("    ", "\t")):
        assert read_cells(cell(same, "code")).status["code"] == "untouched"
    for other in (hole.replace("raise", "return 1\n    raise"), hole + "\nx = 1", hole.replace("f()", "f(x)"), "# nothing"):
        assert read_cells(cell(other, "code")).status["code"] == "ok"


@pytest.mark.parametrize(
    "texts, status, prose",
    [
        (["It is so."], "ok", "It is so."),
        (["*Write here.*"], "untouched", ""),
        (["  *写在这里。*\n\n"], "untouched", ""),
        ([""], "untouched", ""),
        (["*Write here.*\n\nIt is so.\n"], "ok", "It is so."),
        ([["It ", "is.\r\n", "So."]], "ok", "It is.\nSo."),
        (["a", "b"], "doubled", "a\n\nb"),
        (["*Write here.*", "b"], "doubled", "b"),
        (["a" * MAX_PROSE, "b"], "doubled", "a" * MAX_PROSE),
        (["a\n\nb"], "ok", "a\n\nb"),
        (["a" * MAX_PROSE], "ok", "a" * MAX_PROSE),
        (["a" * (MAX_PROSE + 1)], "too-long", "a" * MAX_PROSE),
        ([], "missing", ""),
        (["%magic stays\n<script>"], "ok", "%magic stays\n<script>"),
    ],
)
def test_prose_is_kept_for_a_person(texts, status, prose):
    for cell_type in ("markdown", "code", "raw"):
        found = read_cells(*(cell(text, "words", None, cell_type) for text in texts))
        assert (found.status["words"], found.prose["words"]) == (status, prose)


def test_half_surrogate_pairs_are_replaced_and_whole_ones_joined():
    raw = rb'{"cells":[{"cell_type":"code","id":"code","source":["a\ud83d","\ude00b\udc00\ud800c"]}]}'
    found = parse(raw, TASKS)
    assert found.answers["code"] == "a\U0001f600b\ufffd\ufffdc"
    assert found.answers["code"].encode()


# Any bytes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(encoding):
    raw = json.dumps({"cells": [cell("x = '权重'", "code")]}, ensure_ascii=False).encode(encoding)
    assert parse(raw, TASKS).answers["code"] == "x = '权重'"


def test_oddities_of_json_outside_of_the_answers_harm_nobody():
    odd = '"outputs": [NaN, -Infinity, 1e999, ' + "9" * 6000 + '], "outputs": 0, "id": "more", "id": "code"'
    raw = '{"cells": [{"cell_type": "code", "source": "x = 1", ' + odd + '}], "nbformat": 5, "nbformat": 4}'
    assert parse(raw.encode().replace(b"NaN,", b'"\xff\xfe\x80",NaN,'), TASKS).answers["code"] == "x = 1"


NO_JSON = [
    b"",
    b" ",
    b"\0" * 100,
    b"{",
    b"[" * 200_000,
    b'{"cells":' * 100_000,
    b"\xff\xfe",
    b"PK\x03\x04",
    b"{'cells': []}",
    b'{"cells": []} 1',
]
NO_NOTEBOOK = [
    b"1",
    b"null",
    b'"text"',
    b"[]",
    b"{}",
    b"NaN",
    b'{"cells": {}}',
    b'{"cells": null}',
    b'{"cells": "abc"}',
    b"9" * 6000,
]
NO_NOTEBOOK += [
    b'{"nbformat": 3, "worksheets": [{"cells": []}]}',
    b'{"cells": [], "nbformat": 3}',
    b'{"cells": [], "nbformat": "4"}',
]
NO_NOTEBOOK += [b'{"cells": [], "nbformat": NaN}', b'{"cells": [], "nbformat": null}']


def test_what_is_no_notebook_is_named():
    assert {problem(raw) for raw in NO_JSON} == {"not-json"}
    assert {problem(raw) for raw in NO_NOTEBOOK} == {"not-a-notebook"}
    assert problem(b"[" * 990 + b"]" * 990) in ("not-json", "not-a-notebook")


def test_what_would_take_much_memory_is_too_large(monkeypatch):
    assert problem(b'{"cells":[' + b"[]," * reading.MAX_PARTS + b"[]]}") == "too-large"
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    assert problem(b" " * 101) == "too-large" and problem(b" " * 100) == "not-json"


def test_a_notebook_without_answers_has_a_status_for_each():
    found = parse(b'{"cells": []}', TASKS)
    assert found == Submission(
        "en", {"code": None, "more": None}, dict.fromkeys(("code", "more", "words"), "missing"), {"words": ""}
    )


words = st.text(max_size=5) | st.sampled_from(["code", "markdown", "words"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words
keys = st.sampled_from(["cell_type", "id", "source", "metadata", "nbgrader", "grade_id", "x"])


def holding(inner):
    """Lists and dicts of something, with the keys that a notebook has."""
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5)


junk = leaves | holding(leaves | holding(leaves))


@given(st.lists(junk, max_size=4), junk)
def test_cells_of_any_form_give_a_submission_of_plain_text(cells, minor):
    found = parse(json.dumps({"cells": cells, "nbformat_minor": minor}).encode(), TASKS)
    assert found.language in ("en", "zh") and list(found.status) == ["code", "more", "words"]
    assert all((text is None) == (found.status[name] != "ok") for name, text in found.answers.items())
    json.dumps([found.answers, found.prose], ensure_ascii=False).encode()


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 3))
def test_a_damaged_notebook_is_read_or_named(noise, at, width):
    whole = raw_of(cell("x = 1", "code", "code"), cell("It is so.", "words", None, "markdown"))
    for raw in (noise, whole[:at] + noise + whole[at + width :], whole[:at]):
        try:
            assert isinstance(parse(raw, TASKS), Submission)
        except SubmissionError as error:
            assert error.problem in ("not-json", "not-a-notebook")


def test_what_a_student_adds_around_the_answers_changes_nothing():
    tasks, notebook = tasks_of(STEM, ROOT), built("solutions", "en")
    plain = parse(json.dumps(notebook).encode(), tasks)
    changed = copy.deepcopy(notebook)
    for c in changed["cells"]:
        c["outputs"] = [{"output_type": "display_data", "data": {"text/html": "<script>SECRET</script>"}}]
        c["metadata"]["tags"] = ["SECRET"]
        if c["id"].endswith("-check"):
            c["source"] = "print('passed')"
    changed["cells"] += [cell("SECRET", "mend-listing-check", "mend-listing-check"), cell("SECRET", "mend-listing-2")]
    assert parse(json.dumps(changed).encode(), tasks) == plain
