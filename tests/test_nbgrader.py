"""nbgrader as a front end: its own commands read our notebooks, release our exercises, and mark our solutions in full.

nbgrader is optional and large, so it is never imported here: its processes have a home of their own, and their warnings are
theirs. What it is asked, it is asked once for all tests below.
"""

import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from benchmarks.nbgrader_side import autograde_seconds, environment
from grading.bundle import MARKERS, nbgrader_course, nbgrader_source
from tests.small_course import write_course
from tools import build
from tools.source import EXERCISE, read_source

ROOT = Path(__file__).resolve().parents[1]
STEMS = sorted(path.stem for path in (ROOT / "solutions/source").glob("*.py"))
RUN = "03_1_weight_pruning"  # the exercise whose notebooks nbgrader executes; the others are converted only
# What nbgrader writes into a release, and nothing else: its locks, its checksum, and the type that it found.
ADDED = {"deletable", "editable", "nbgrader.cell_type", "nbgrader.checksum"}
PROGRAM = """
import json, sys
from traitlets.config.loader import PyFileConfigLoader
from nbgrader.apps import NbGraderAPI
from nbgrader.validator import Validator

validate, stems = json.loads(sys.argv[1])
api = NbGraderAPI(config=PyFileConfigLoader("nbgrader_config.py").load_config())
problems = {stem: result["error"] for stem in stems if not (result := api.generate_assignment(stem))["success"]}
found = {name: Validator().validate(path) for name, path in validate.items()}
open("answer.json", "w").write(json.dumps({"problems": problems, "validate": found}))
"""

there = pytest.mark.skipif(not STEMS, reason="a copy of the library for mutants has no notebooks")
installed = pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed (extra: classroom)"
)


@cache
def exercise(stem: str, lang: str) -> dict:
    """The exercise as its source makes it now."""
    source = read_source(ROOT / f"solutions/source/{stem}.py", ROOT, EXERCISE)
    return json.loads(build.notebook(source, lang, exercise=True))


@cache
def solution(stem: str, lang: str) -> dict:
    """The solution as its source makes it now."""
    return json.loads(build.notebook(read_source(ROOT / f"solutions/source/{stem}.py", ROOT, EXERCISE), lang))


def texts(notebook: dict) -> dict[str, str]:
    """Cell id -> text."""
    return {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}


def flat(metadata: dict) -> dict:
    """A cell's metadata with nbgrader's entries beside the others, as "nbgrader.points"."""
    rest = {key: value for key, value in metadata.items() if key != "nbgrader"}
    return rest | {f"nbgrader.{key}": value for key, value in metadata.get("nbgrader", {}).items()}


@there
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("lang", build.LANGUAGES)
def test_a_source_for_nbgrader_is_the_exercise_with_its_solution_between_markers(stem, lang):
    """Without what is between the markers it is the exercise, without the markers and the hole's comment the solution."""
    cells = texts(json.loads(nbgrader_source(ROOT, stem, lang)))
    assert list(cells) == list(texts(exercise(stem, lang)))
    for cell in exercise(stem, lang)["cells"]:
        text, nbgrader = cells[cell["id"]], cell["metadata"].get("nbgrader", {})
        if not nbgrader.get("solution"):
            assert text == "".join(cell["source"])
        elif cell["cell_type"] == "markdown":
            assert text == texts(solution(stem, lang))[cell["id"]]
        else:
            lines = text.split("\n")
            begin, end = (next(i for i, line in enumerate(lines) if marker in line) for marker in MARKERS)
            hole = lines[begin].replace(MARKERS[0], "raise NotImplementedError")
            assert "\n".join([*lines[:begin], hole, *lines[end + 1 :]]) == "".join(cell["source"])
            assert "# YOUR CODE HERE" in lines[begin - 1]
            solved = [*lines[: begin - 1], *lines[begin + 1 : end], *lines[end + 1 :]]
            assert "\n".join(solved) == texts(solution(stem, lang))[cell["id"]]


def test_settings_of_nbgrader_that_are_there_stay(tmp_path):
    course = write_course(tmp_path)
    names = nbgrader_course(course, tmp_path / "class", lang="zh")
    assert names == ["nbgrader_config.py", f"source/{RUN}/{RUN}.ipynb"]
    text = (tmp_path / "class/nbgrader_config.py").read_text("utf-8")
    compile(text, "nbgrader_config.py", "exec")
    assert build.PROMPT["zh"] in text
    (tmp_path / "class/nbgrader_config.py").write_text("mine", "utf-8")
    assert nbgrader_course(course, tmp_path / "class") == names[1:]
    assert (tmp_path / "class/nbgrader_config.py").read_text("utf-8") == "mine"


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """nbgrader's answers: the releases of all exercises, and its validation of one exercise and its solution."""
    folder = tmp_path_factory.mktemp("nbgrader")
    (folder / "class").mkdir()
    nbgrader_course(ROOT, folder / "class")
    names = {"solution": solution(RUN, "en"), "exercise": exercise(RUN, "en")}
    for name, notebook in names.items():
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), "utf-8")
    question = json.dumps([{name: str(folder / f"{name}.ipynb") for name in names}, STEMS])
    own = environment(folder / "home", Path(sys.executable))
    line = [sys.executable, "-c", PROGRAM, question]
    run = subprocess.run(line, cwd=folder / "class", env=own, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-4000:]
    answer = json.loads((folder / "class/answer.json").read_text("utf-8"))
    assert answer["problems"] == {}, answer["problems"]
    return answer["validate"] | {"release": folder / "class/release"}


@there
@installed
def test_nbgrader_validates_the_solution(asked):
    assert asked["solution"] == {}


@there
@installed
def test_nbgrader_fails_every_check_of_the_exercise_at_its_hole(asked):
    checks = [cell for cell in exercise(RUN, "en")["cells"] if cell["metadata"].get("nbgrader", {}).get("locked")]
    assert list(asked["exercise"]) == ["failed"]
    assert [cell["source"] for cell in asked["exercise"]["failed"]] == ["".join(cell["source"]).strip() for cell in checks]
    assert all("NotImplementedError" in cell["raw_error"] for cell in asked["exercise"]["failed"])


@there
@installed
@pytest.mark.parametrize("stem", STEMS)
def test_a_release_is_our_exercise_but_for_locks_and_checksums(asked, stem):
    """Same cells, same texts, same metadata; nbgrader adds ADDED to the cells that it knows, and changes nothing."""
    released = json.loads((asked["release"] / stem / f"{stem}.ipynb").read_text("utf-8"))
    ours = exercise(stem, "en")
    assert texts(released) == texts(ours) and list(texts(released)) == list(texts(ours))
    assert released["metadata"] == ours["metadata"] and released["nbformat"] == ours["nbformat"]
    for theirs, cell in zip(released["cells"], ours["cells"]):
        assert {k: theirs[k] for k in cell if k not in ("metadata", "source")} == {
            k: cell[k] for k in cell if k not in ("metadata", "source")
        }
        before, after = flat(cell["metadata"]), flat(theirs["metadata"])
        assert before.items() <= after.items() and after.keys() - before.keys() <= (ADDED if before else set())
        if before:
            assert after["deletable"] is False and after.get("editable", True) is not after["nbgrader.locked"]


@there
@installed
def test_nbgrader_marks_the_solution_with_the_points_of_its_checks(tmp_path):
    """Prose waits for a reader. The same function times nbgrader in benchmarks."""
    (tmp_path / "ada.ipynb").write_text(json.dumps(solution(RUN, "en")), "utf-8")
    found = autograde_seconds({"ada": tmp_path / "ada.ipynb"}, RUN, Path(sys.executable))["ada"]
    rows = [cell["metadata"].get("nbgrader", {}) for cell in exercise(RUN, "en")["cells"]]
    assert found["score"] == sum(row.get("points", 0) for row in rows if not row.get("solution")) > 0
    assert found["seconds"] > 0
