"""The rules of the house, each held by a test: which way imports point, how long a file may be, what git may hold."""

import ast
import fnmatch
import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from tools import build

ROOT = Path(__file__).resolve().parents[1]
PYTHON_FOLDERS = ("course_lib", "tools", "tests", "grading", "benchmarks", "site")

# A module imports from its own floor and from below, never from above. What is not named stands on the second floor.
FLOORS = {
    0: {"_check", "_parametrized"},
    1: {"pruning", "quantization", "distillation", "calibration", "measure", "coding", "storage"},
    2: {"optimizers", "training", "models", "data", "assets", "pretrained"},
    3: {"plots"},
    4: {"widgets"},
    5: {"__main__"},
}
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:root|work|home/\w+|Users/\w+)/|[A-Z]:\\\\?Users\\")
BUILT = re.compile(r"(?:notebooks|solutions|exercises)/(?:en|zh)/[^/]+\.ipynb")
BOX = "│├└─┬ \u00a0"


@cache
def files() -> tuple[str, ...]:
    """Every file that git has or would take; in a download without git, every file but the hidden and the built ones."""
    try:
        command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        hidden = {".venv", "__pycache__", "_build", "_work", ".git"}
        names = [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if p.is_file() and not hidden & set(p.parts)]
    return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))


def python_files() -> list[str]:
    """The course's own Python, without the sources of notebooks and the answers kept for the grader's tests."""
    return [name for name in files() if name.endswith(".py") and name.split("/")[0] in PYTHON_FOLDERS]


@cache
def tree_of(name: str) -> ast.Module:
    """The syntax tree of a file of the course."""
    return ast.parse((ROOT / name).read_text("utf-8"))


def imports(name: str) -> set[str]:
    """Full dotted names of what a file imports, relative ones made absolute."""
    package = name.removesuffix(".py").split("/")[:-1]
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(filter(None, [*base, node.module]))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def floor(module: str) -> int:
    """The floor of a module of course_lib."""
    return next((level for level, names in FLOORS.items() if module in names), 2)


def test_course_lib_imports_only_from_its_own_floor_or_below():
    """pruning, quantization and distillation stay functions on tensors: no data, no training, no pictures."""
    wrong = []
    for name in files():
        if not (name.startswith("course_lib/") and name.endswith(".py")) or name == "course_lib/__init__.py":
            continue
        own = name.split("/")[1].removesuffix(".py")
        used = {full.split(".")[1] for full in imports(name) if full.startswith("course_lib.")}
        wrong += [f"{name} (floor {floor(own)}) imports {m} (floor {floor(m)})" for m in used if floor(m) > floor(own)]
    assert not wrong, "\n".join(wrong)


def test_course_lib_imports_no_notebook_no_grader_no_tool_no_test():
    others = {"notebooks", "solutions", "exercises", "grading", "tools", "tests", "benchmarks"}
    wrong = [f"{n} imports {i}" for n in files() if n.startswith("course_lib/") and n.endswith(".py") for i in imports(n)]
    wrong = [sentence for sentence in wrong if sentence.split(" imports ")[1].split(".")[0] in others]
    assert not wrong, "\n".join(wrong)


def test_a_file_is_one_idea():
    """350 lines are one sitting; a file that outgrows them is two ideas."""
    lengths = {name: (ROOT / name).read_text("utf-8").count("\n") for name in python_files()}
    assert not (long := {n: k for n, k in lengths.items() if k > 350}), f"longer than 350 lines: {long}"


def test_a_function_is_read_at_a_glance():
    """50 lines of code at most (the aim is 40), docstring not counted."""
    long = []
    for name in python_files():
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = node.end_lineno - node.lineno - (ast.get_docstring(node, clean=False) or "").count("\n")
                long += [f"{name}:{node.lineno} {node.name}: {n_lines}"] if n_lines > 50 else []
    assert not long, "\n".join(long)


def test_nothing_opens_a_pickle():
    """A pickle runs code when it is opened. Allowed is an Unpickler of our own, whose find_class admits arrays alone.

    Tests may open what they made themselves, to show what a pickle can do.
    """
    wrong = []
    for name in (n for n in python_files() if not n.startswith("tests/")):
        for node in ast.walk(tree_of(name)):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            safe = any(
                k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in getattr(node, "keywords", [])
            )
            allow = any(
                k.arg == "allow_pickle" and getattr(k.value, "value", None) is True for k in getattr(node, "keywords", [])
            )
            opens = re.fullmatch(r"(c?[pP]ickle|dill|joblib|marshal|shelve)\.(load|loads|open|Unpickler)", call)
            if opens or allow or (call == "torch.load" and not safe):
                wrong.append(f"{name}:{node.lineno}: {call}")
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Unpickler") for base in node.bases):
                methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
                wrong += [f"{name}:{node.lineno}: {node.name} has no find_class"] if "find_class" not in methods else []
    assert not wrong, "\n".join(wrong)


def test_git_holds_no_outputs():
    wrong = []
    for name in (n for n in files() if n.endswith(".ipynb")):
        cells = json.loads((ROOT / name).read_text("utf-8"))["cells"]
        wrong += [name] if any(c.get("outputs") or c.get("execution_count") for c in cells) else []
    assert not wrong, f"outputs stored: {wrong}; run python tools/build.py"


def test_no_file_names_a_path_of_a_machine():
    wrong = []
    for name in files():
        try:
            text = (ROOT / name).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.split("\n"), 1)
        wrong += [f"{name}:{i}: {m[0]}" for i, line in lines if (m := MACHINE_PATH.search(line))]
    assert not wrong, "\n".join(wrong)


def normal(requirement: str) -> str:
    """The name of a distribution, as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement.strip())[0]).lower()


def project() -> dict:
    """The table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def direct(extras: list[str]) -> set[str]:
    """The direct dependencies of the course with these extras."""
    rows = [row for extra in extras for row in project()["optional-dependencies"][extra]]
    return {normal(row) for row in project()["dependencies"] + rows}


def test_environment_yml_says_what_pyproject_says_and_pins_nothing_twice():
    rows = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    pip = next(row["pip"] for row in rows if isinstance(row, dict))
    conda = [row for row in rows if isinstance(row, str)]
    assert f"python{project()['requires-python']}" in conda
    assert len(pip) == 1, f"versions live in pyproject.toml; {pip} lists more than the package itself"
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", pip[0])
    assert extras, f"{pip[0]} should be -e .[extra,...]"
    assert sorted(extras[1].split(",")) == sorted(project()["optional-dependencies"])
    assert not {normal(row) for row in conda} & direct(sorted(project()["optional-dependencies"]))


def test_requirements_lock_pins_every_direct_dependency_that_make_installs():
    path = ROOT / "requirements.lock"
    assert path.is_file(), "requirements.lock is not there; write it from the environment that CI ran"
    lines = [line.split("#")[0].strip() for line in path.read_text("utf-8").split("\n")]
    lines = [line for line in lines if line]
    odd = [line for line in lines if not re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.!+-]+(\s*;.+)?", line)]
    assert not odd, f"not of the form name==version: {odd}"
    extras = ",".join(re.findall(r"-e '\.\[([\w,]+)\]'", (ROOT / "Makefile").read_text("utf-8"))).split(",")
    assert not (missing := direct(extras) - {normal(line) for line in lines}), f"not in requirements.lock: {sorted(missing)}"
    names = [normal(line) for line in lines]
    assert len(set(names)) == len(names), "a name is pinned twice"


def tree_entries(text: str) -> list[str]:
    """The paths of the file tree in a README: what stands in the fenced block between the markers of the tree.

    An entry is the first word of a line; its folder is the nearest line above that ends in '/' and is indented less. Lines of
    box-drawing characters are read as indents; `*` stands for any part of a name.
    """
    marked = re.search(r"<!-- tree:begin -->(.*?)<!-- tree:end -->", text, re.S)
    block = re.search(r"^```\w*\n(.*?)^```", marked[1] if marked else "", re.M | re.S)
    entries, stack = [], []
    for line in filter(str.strip, block[1].split("\n") if block else []):
        depth = len(line) - len(line.lstrip(BOX))
        name = line[depth:].split()[0]
        while stack and stack[-1][0] >= depth:
            stack.pop()
        path = "".join(folder for _, folder in stack) + name
        entries.append(path)
        if name.endswith("/"):
            stack.append((depth, name))
    return entries


@pytest.mark.parametrize("readme", build.READMES.values())
def test_the_file_tree_of_a_readme_is_the_tree(readme):
    """Every file that nobody builds stands in it (`*` allowed), and nothing stands in it that is not there."""
    path = ROOT / readme
    assert path.is_file(), f"{readme} is not there yet"
    entries = tree_entries(path.read_text("utf-8"))
    assert entries, f"{readme} has no fenced file tree between <!-- tree:begin --> and <!-- tree:end -->"
    named = [entry for entry in entries if not entry.endswith("/")]
    existing = files()
    folders = {"/".join(name.split("/")[:i]) + "/" for name in existing for i in range(1, name.count("/") + 1)}
    ghosts = [e for e in entries if not any(fnmatch.fnmatchcase(f, e) for f in (folders if e.endswith("/") else existing))]
    missing = [f for f in existing if not BUILT.fullmatch(f) and not any(fnmatch.fnmatchcase(f, e) for e in named)]
    assert not ghosts, f"{readme} names what is not there: {ghosts}"
    assert not missing, f"{readme} does not name: {missing}"


def test_a_tree_is_read_with_indents_and_with_boxes():
    plain = "README.md  text\ncourse_lib/  the library\n  pruning/\n    criteria.py  scores\n  data.py\nMakefile"
    boxes = "README.md\ncourse_lib/\n├── pruning/\n│   └── criteria.py  x\n└── data.py\nMakefile"
    paths = [
        "README.md",
        "course_lib/",
        "course_lib/pruning/",
        "course_lib/pruning/criteria.py",
        "course_lib/data.py",
        "Makefile",
    ]
    for tree in (plain, boxes):
        assert tree_entries(f"```\nmake lab\n```\n<!-- tree:begin -->\n```\n{tree}\n```\n<!-- tree:end -->") == paths
