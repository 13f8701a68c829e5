"""What students get holds what they need and nothing that would give an answer away: every leak is planted, and caught."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

from grading.bundle import FILES, TOP, BundleError, bundle, leaks, secrets_of
from tests.small_course import EXERCISE_FILE, edit, line_of, write_course
from tools import build

ROOT = Path(__file__).resolve().parents[1]
STEMS = sorted(path.stem for path in (ROOT / "solutions/source").glob("*.py"))
STEM = "03_1_weight_pruning"
NOTEBOOK = f"exercises/en/{STEM}.ipynb"
CASE_FILE = f"tests/grading/{STEM}.py"
CASES = """\
import numpy as np
PRELUDE = "import math  # a prelude that is longer than thirty characters"

def draw_numbers_that_nobody_would_guess(rng):
    value = float(rng.uniform(3.25, 7.75)) * 2
    return (value,)

IDEA = "A number that is odd has a half that is not whole."
"""
WORDS = '[half.odd]\nhint.en = "Is a \\"half\\" always whole, do you think?"\nhint.zh = "一半总是整数吗？请再想一想奇数。"\n'

real = pytest.mark.skipif(not STEMS, reason="a copy of the library for mutants has no notebooks")


@pytest.fixture
def tree(tmp_path):
    """A small course, built, with hidden cases and everything that a bundle takes along."""
    root = write_course(tmp_path / "course")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).write_text(f"{name}\n", "utf-8")
    for name, text in (
        ("course_lib/__init__.py", '"""Halves."""\n'),
        (CASE_FILE, CASES),
        (f"tests/grading/{STEM}.toml", WORDS),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    assert build.main(["--root", str(root)]) == 0
    return root


def change(root, name, do):
    """Let `do` change the cells of a built notebook in place, written as the build writes it."""
    notebook = json.loads((root / name).read_text("utf-8"))
    do(notebook["cells"])
    (root / name).write_text(json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n", "utf-8")


def refused(root, **options):
    """The sentences of a bundle that must fail and leave nothing behind."""
    out = root.parent / "out.zip"
    with pytest.raises(BundleError) as caught:
        bundle(root, out, **options)
    assert list(root.parent.glob("out*")) == [], "a refused bundle wrote something"
    assert str(caught.value).endswith(f"{len(caught.value.problems)} thing(s) to mend; nothing was written.")
    return caught.value.problems


def only(problems, words):
    """The one sentence with these words."""
    found = [problem for problem in problems if words in problem]
    assert len(found) == 1, problems
    return found[0]


def test_a_bundle_holds_the_named_files_and_no_other(tree):
    """Default deny: a file beside an allowed one stays out, whatever it is."""
    strays = [
        "course_lib/notes.txt",
        "course_lib/__pycache__/x.py",
        "course_lib/.ipynb_checkpoints/x.py",
        ".git/config",
        "secret",
    ]
    strays += [
        "grading/seed",
        "tools/build.py",
        "docs/teachers.md",
        "tests/test_x.py",
        "exercises/en/.ipynb_checkpoints/a.ipynb",
    ]
    strays += ["exercises/en/mine.ipynb", "exercises/solutions.zip", "notebooks/en/out.png", ".venv/lib/x.py"]
    for name in strays:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("stray", "utf-8")
    names = bundle(tree, tree / "out.zip")
    notebooks = [f"{folder}/{lang}/{STEM}.ipynb" for folder in ("exercises", "notebooks") for lang in ("en", "zh")]
    assert names == sorted([*FILES, "course_lib/__init__.py", *notebooks])
    with zipfile.ZipFile(tree / "out.zip") as archive:
        assert archive.namelist() == [f"{TOP}/{name}" for name in names]
        assert all(archive.read(f"{TOP}/{name}") == (tree / name).read_bytes() for name in names)


def test_one_language_leaves_the_other_out(tree):
    names = bundle(tree, tree / "out.zip", [STEM], ("zh",))
    assert [n for n in names if n.endswith(".ipynb")] == [f"exercises/zh/{STEM}.ipynb", f"notebooks/zh/{STEM}.ipynb"]


def test_two_bundles_are_equal_byte_for_byte_whatever_the_clock_and_the_modes(tree):
    bundle(tree, tree / "a.zip")
    for path in tree.rglob("*.py"):
        os.utime(path, (2e9, 2e9))
        path.chmod(0o600)
    bundle(tree, tree / "b.zip")
    assert (tree / "a.zip").read_bytes() == (tree / "b.zip").read_bytes()


def test_a_line_of_the_solution_in_an_exercise_is_a_leak(tree):
    change(tree, NOTEBOOK, lambda cells: cells[1]["source"].extend(["\n", "if True:\n", "    return x / 2\n"]))
    problem = only(refused(tree), "a line of the solution")
    line = line_of(tree, NOTEBOOK, '"    return x / 2')
    assert problem.startswith(f"{NOTEBOOK}:{line}: "), problem
    assert f"at {EXERCISE_FILE}:" in problem and "'return x / 2'" in problem


def test_a_model_answer_in_prose_is_a_leak_in_chinese_too(tree):
    text = "因为一个数折半两次，剩下的就是原来的四分之一，这一点很显然，读者不妨自己再验算一遍，看看是不是真的如此。"
    change(tree, f"exercises/zh/{STEM}.ipynb", lambda cells: cells[0].update(source=[f"# 练习\n{text}"]))
    problem = only(refused(tree), "a line of the solution")
    assert problem.startswith(f"exercises/zh/{STEM}.ipynb:") and text[:20] in problem


def test_a_build_that_cuts_no_hole_is_not_believed(tree, monkeypatch):
    """The build agrees with itself then, so only a search that does without it can see the leak."""
    monkeypatch.setattr(build, "cut", lambda text, lang: build.solved(text))
    assert build.main(["--root", str(tree)]) == 0
    problems = refused(tree)
    assert len(problems) == 2 and all("a line of the solution" in problem for problem in problems), problems


def test_a_line_that_the_exercise_shows_on_purpose_is_no_leak(tree):
    edit(tree, EXERCISE_FILE, "assert half(4) == 2", "assert (lambda x:\n        x / 2)(4) == 2\nassert half(4) == 2")
    edit(tree, EXERCISE_FILE, "    return x / 2", "    return (\n        x / 2)")
    assert build.main(["--root", str(tree)]) == 0
    assert NOTEBOOK in bundle(tree, tree / "out.zip")


TOLD = [
    "A number that is odd has a half that is not whole.",
    "see draw_numbers_that_nobody_would_guess(rng)",
    'Is a "half" always whole, do you think?',
    "一半总是整数吗？请再想一想奇数。",
]


@pytest.mark.parametrize("told", [*TOLD, "value = float(rng.uniform(3.25, 7.75)) * 2"])
@pytest.mark.parametrize("name", [NOTEBOOK, f"notebooks/zh/{STEM}.ipynb"])
def test_a_word_of_a_hidden_case_in_a_notebook_is_a_leak(tree, told, name):
    change(tree, name, lambda cells: cells[-1]["source"].append(f"\nx  # {told}"))
    line = line_of(tree, name, json.dumps(told, ensure_ascii=False)[1:-1])
    problem = only(refused(tree), "tells a hidden case")
    assert problem.startswith(f"{name}:{line}: ") and f" of tests/grading/{STEM}." in problem, problem


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("name", ["NOTATION.md", "course_lib/__init__.py"])
def test_a_word_of_a_hidden_case_in_any_other_file_is_a_leak(tree, told, name):
    """Lines of code are no secret when the library holds them: an oracle may be spelled like the formula in it."""
    (tree / name).write_text(f"one\ntwo {told} three\n", "utf-8")
    assert only(refused(tree), "tells a hidden case").startswith(f"{name}:2: ")


def test_a_hidden_case_pasted_into_a_check_is_a_leak_although_the_build_is_fresh(tree):
    edit(
        tree,
        EXERCISE_FILE,
        "assert half(4) == 2",
        'assert "A number that is odd has a half that is not whole."\nassert half(4) == 2',
    )
    assert build.main(["--root", str(tree)]) == 0
    problems = refused(tree)
    assert len(problems) == 2 and all("tells a hidden case" in problem for problem in problems), problems


def test_the_prelude_of_the_cases_may_stand_in_the_exercise(tree):
    edit(tree, EXERCISE_FILE, "import math\n", "import math  # a prelude that is longer than thirty characters\n")
    assert build.main(["--root", str(tree)]) == 0
    assert NOTEBOOK in bundle(tree, tree / "out.zip")


def test_a_copy_of_a_source_under_another_name_is_a_leak(tree):
    (tree / "course_lib/half.py").write_text((tree / EXERCISE_FILE).read_text("utf-8"), "utf-8")
    assert any(problem.startswith("course_lib/half.py:") and "a marker of a solution" in problem for problem in refused(tree))


def test_a_cell_of_the_solution_is_a_leak(tree):
    solution = json.loads((tree / f"solutions/en/{STEM}.ipynb").read_text("utf-8"))["cells"][-1]
    change(tree, NOTEBOOK, lambda cells: cells.append(solution | {"source": ["pass"]}))
    line = line_of(tree, NOTEBOOK, json.dumps(solution["id"]))
    assert only(refused(tree), "a cell of the solution").startswith(f"{NOTEBOOK}:{line}: ")


def test_a_cell_tagged_solution_is_a_leak(tree):
    change(tree, NOTEBOOK, lambda cells: cells[2]["metadata"].update(tags=["solution"]))
    assert "(half)" in only(refused(tree), "a cell of the solution")


@pytest.mark.parametrize(
    "what",
    [{"outputs": [{"name": "stdout", "output_type": "stream", "text": ["2"]}]}, {"execution_count": 3}, {"execution_count": 0}],
)
@pytest.mark.parametrize("folder, cell_id", [("exercises", "half-check"), ("notebooks", None)])
def test_an_output_is_a_leak(tree, what, folder, cell_id):
    name = f"{folder}/en/{STEM}.ipynb"
    change(
        tree, name, lambda cells: next(c for c in cells if c["cell_type"] == "code" and cell_id in (None, c["id"])).update(what)
    )
    assert only(refused(tree), "has an output or was run").startswith(f"{name}:")


def test_a_notebook_older_than_its_source_is_refused(tree):
    edit(tree, EXERCISE_FILE, "assert half(4) == 2", "assert half(6) == 3")
    problems = refused(tree)
    assert len(problems) == 2 and all("is not what its source makes" in problem for problem in problems)
    assert problems[0].startswith(f"{NOTEBOOK}:{line_of(tree, NOTEBOOK, 'assert half(4)')}: ")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": [{"id": "a"}]}', '{"cells": 3}'])
def test_what_is_no_notebook_is_refused(tree, text):
    (tree / NOTEBOOK).write_text(text, "utf-8")
    assert only(refused(tree), "not a notebook").startswith(f"{NOTEBOOK}:1: ")


@pytest.mark.parametrize("name", [NOTEBOOK, "Makefile", "exercises/en"])
def test_a_link_is_refused_and_not_followed(tree, name):
    there = tree / name
    there.rename(tree.parent / "elsewhere")
    there.symlink_to(tree.parent / "elsewhere")
    assert all(": a link; " in problem for problem in refused(tree))


@pytest.mark.parametrize("name", [NOTEBOOK, "requirements.lock", "course_lib/__init__.py"])
def test_a_missing_file_is_named(tree, name):
    (tree / name).unlink()
    assert only(refused(tree), "is missing").startswith(name.removesuffix("__init__.py") + ":1: ")


@pytest.mark.parametrize("options", [{"stems": ["03_1"]}, {"stems": []}, {"languages": ("de",)}, {"languages": ()}])
def test_what_is_not_there_cannot_be_ordered(tree, options):
    assert len(refused(tree, **options)) == 1


def test_a_source_that_the_build_refuses_is_refused(tree):
    edit(tree, EXERCISE_FILE, "# END SOLUTION", "# END SOLUTON")
    assert all(problem.startswith(f"{EXERCISE_FILE}:") for problem in refused(tree))


def test_a_refused_bundle_leaves_the_older_one(tree):
    bundle(tree, tree / "out.zip")
    before = (tree / "out.zip").read_bytes()
    change(tree, NOTEBOOK, lambda cells: cells[1]["source"].append("\nreturn x / 2"))
    with pytest.raises(BundleError):
        bundle(tree, tree / "out.zip")
    assert (tree / "out.zip").read_bytes() == before and not list(tree.glob("*.part"))


@cache
def told() -> object:
    """The secrets of this course."""
    return secrets_of(ROOT)


@real
@pytest.mark.parametrize("stem", STEMS)
def test_every_line_of_every_solution_is_caught_when_it_is_planted(stem):
    mine = [line for line, where in told().solutions.items() if where.startswith(f"solutions/source/{stem}.py")]
    assert len(mine) > 20
    name = f"exercises/en/{stem}.ipynb"
    notebook = json.loads((ROOT / name).read_text("utf-8"))
    notebook["cells"][0]["source"] = [line + "\n" for line in mine]
    found = leaks({name: json.dumps(notebook, indent=1).encode()}, told(), [])
    caught = [problem for problem in found if "a line of the solution" in problem]
    assert len(caught) == len(mine) and len({problem.split(": ")[0] for problem in caught}) == len(mine)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """This course's bundle, unpacked."""
    folder = tmp_path_factory.mktemp("bundle")
    bundle(ROOT, folder / "course.zip")
    with zipfile.ZipFile(folder / "course.zip") as archive:
        archive.extractall(folder)
    return folder / TOP


@real
def test_the_bundle_of_this_course_holds_no_folder_of_the_teachers(unpacked):
    names = {path.relative_to(unpacked).parts[0] for path in unpacked.rglob("*")}
    assert names == {name.split("/")[0] for name in FILES} | {"course_lib", "exercises", "notebooks"}
    assert sorted(path.stem for path in (unpacked / "exercises/zh").iterdir()) == STEMS


@real
def test_make_lab_finds_in_the_bundle_what_it_needs(unpacked):
    """Up to the installation itself: library and start page are there, and so is what the package's metadata names."""
    program = (
        "import course_lib.doctor, course_lib.assets, tools.lab\n"
        "for locale in tools.lab.COURSES:\n"
        "    line = tools.lab.command(locale, [])\n"
        "    start = line[-1].split('/lab/tree/')[1] if line[-1].startswith('--LabApp') else line[4].split('/lab/tree/')[1]\n"
        "    assert (tools.lab.ROOT / start).is_file(), start\n"
        "print(course_lib.__file__)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=unpacked, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and Path(run.stdout.strip()).parent == unpacked / "course_lib", run.stdout + run.stderr
    project = tomllib.loads((unpacked / "pyproject.toml").read_text("utf-8"))["project"]
    assert all((unpacked / name).is_file() for name in [project["readme"], *project["license-files"]])
    assert all((unpacked / name).is_file() for name in ("Makefile", "requirements.lock", "environment.yml", "tools/lab.py"))
