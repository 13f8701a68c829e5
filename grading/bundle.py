"""What students get: one zip with the exercises, the library and what installs them; and the course as nbgrader wants it.

    bundle(root, "course.zip")                        every exercise, both languages
    bundle(root, "week3.zip", ["03_1_weight_pruning"])
    nbgrader_course(root, "class", lang="zh")         class/source/STEM/STEM.ipynb and class/nbgrader_config.py

A file goes in because a rule names it, never because nobody excluded it: `FILES`, the Python of course_lib, and the built
notebooks of known sources. Links are refused, since a link may point at a solution. Then the finished bytes are read again and
searched, whatever the rules said:

    (1)  a line of a solution or of a model answer, in an exercise whose source does not show that line in that cell
    (2)  a marker of a solution, or a string, a long name or a long line of code of a hidden case, in any file
    (3)  a cell of the solution, or an output, in any notebook
    (4)  a notebook that is not, byte for byte, what its source makes

Any finding raises BundleError, all of them with file and line, and nothing is written. Two bundles of the same course are equal
byte for byte: names sorted, one date, no owner, nothing compressed (zlib's builds differ, and 2 MB do not need it).
"""

import ast
import io
import json
import os
import tomllib
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tools import build
from tools.source import BEGIN, END, EXERCISE, Cell, Source

TOP = "model-optimization"  # the folder inside the zip, so that unpacking litters nobody's downloads
# `make lab` and conda need these: the package's metadata names README.md and both licences, the README shows the picture.
FILES = (
    "LICENSE",
    "LICENSE-TEXT",
    "Makefile",
    "NOTATION.md",
    "README.md",
    "README.zh-CN.md",
    "docs/three_ideas.png",
    "environment.yml",
    "pyproject.toml",
    "requirements.lock",
    "tools/lab.py",
)
SHORT, LONG = (
    12,
    30,
)  # characters: a solution's shorter lines say nothing; a hidden case's strings of at most 30 are everyday words
BEGINNING = 8  # characters by which the texts of hidden cases are looked up
MARKERS = ("# BEGIN SOLUTION", "# END SOLUTION")
CONFIG = '''\
"""nbgrader's settings for this course. Made by `python -m grading bundle --nbgrader`; STEM.ipynb come from the same command."""

c = get_config()  # noqa: F821  nbgrader provides it
c.CourseDirectory.course_id = "model-optimization"
# The comment "YOUR CODE HERE (about n lines)" stands above each marker already, with the right n.
c.ClearSolutions.begin_solution_delimeter = "# BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "# END SOLUTION"
c.ClearSolutions.code_stub = {{"python": "raise NotImplementedError"}}
c.ClearSolutions.text_stub = {prompt}
'''


class BundleError(Exception):
    """The bundle would leak, or is not complete. `problems` holds a sentence for each, `file:line: what; cure`."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join([*problems, f"{len(problems)} thing(s) to mend; nothing was written."]))
        self.problems = problems


@dataclass
class Secrets:
    """What no student may read, each line of text with the place that it is from."""

    solutions: dict[str, str] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)
    cells: dict[str, set[str]] = field(default_factory=dict)  # stem -> ids of cells of the solution
    shown: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)  # (language, stem, cell id) -> its lines

    @cached_property
    def beginnings(self) -> dict[str, list[str]]:
        """The texts of hidden cases by their first characters: thousands of them are looked for in a megabyte."""
        found: dict[str, list[str]] = {}
        for text in self.cases:
            found.setdefault(text[:BEGINNING], []).append(text)
        return found


def bundle(root: Path, out: Path, stems: list[str] | None = None, languages: tuple[str, ...] = build.LANGUAGES) -> list[str]:
    """Write the zip `out` with the exercises `stems` (None: all) in these languages; returns the names in it, sorted.

    Raises BundleError, and leaves an older `out` as it was, when a file is missing or anything would leak.
    """
    root, out = Path(root).resolve(), Path(out)
    sources = _sources(root, stems, languages)
    raw = _pack(_collect(root, sources, languages))
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:  # judged is what was packed, not what was meant to be packed
        files = {name.removeprefix(f"{TOP}/"): archive.read(name) for name in archive.namelist()}
    if problems := leaks(files, secrets_of(root), sources):
        raise BundleError(problems)
    partial = out.with_name(out.name + ".part")
    partial.write_bytes(raw)
    os.replace(partial, out)
    return sorted(files)


def _sources(root: Path, stems: list[str] | None, languages: tuple[str, ...]) -> list[Source]:
    """The sources of all chapters and of the chosen exercises; a bad one, or a name that is none, is refused."""
    sources = build.read_sources(root)
    known = sorted(s.stem for s in sources if s.kind == EXERCISE)
    wrong = [f"{stem}: no such exercise; there are: {', '.join(known)}" for stem in stems or [] if stem not in known]
    wrong += [f"{lang}: no such language; there are: en, zh" for lang in languages if lang not in build.LANGUAGES]
    wrong += [] if languages and stems != [] and known else ["nothing to hand out; name an exercise and a language"]
    sources = [s for s in sources if s.kind != EXERCISE or stems is None or s.stem in stems]
    if problems := wrong + [problem for source in sources for problem in source.problems]:
        raise BundleError(problems)
    return sources


def _collect(root: Path, sources: list[Source], languages: tuple[str, ...]) -> dict[str, bytes]:
    """Name -> bytes of every file that a rule names; a missing file and a link are refused."""
    hidden = {"__pycache__", ".ipynb_checkpoints"}
    library = [p for p in (root / "course_lib").rglob("*.py") if not hidden & set(p.parts)]
    names = {*FILES, *(p.relative_to(root).as_posix() for p in library)}
    for source in sources:
        folder = "exercises" if source.kind == EXERCISE else "notebooks"
        names |= {f"{folder}/{lang}/{source.stem}.ipynb" for lang in languages}
    files, problems = {}, [] if library else ["course_lib/:1: is missing; the exercises import it"]
    for name in sorted(names):
        path = root / name
        if any(p.is_symlink() for p in (path, *path.parents) if p.is_relative_to(root) and p != root):
            problems.append(f"{name}:1: a link; put the file itself there")
        elif not path.is_file():
            problems.append(f"{name}:1: is missing; run python tools/build.py, or fetch the course again")
        else:
            files[name] = path.read_bytes()
    if problems:
        raise BundleError(problems)
    return files


def _pack(files: dict[str, bytes]) -> bytes:
    """The zip: sorted, stored, each file of the year 1980 with mode 644 as if made on Unix."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{TOP}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def secrets_of(root: Path) -> Secrets:
    """What solutions and hidden cases say, of all exercises: a bundle for week 3 must not give away week 4."""
    found = Secrets()
    for source in (s for s in build.read_sources(root) if s.kind == EXERCISE):
        found.cells[source.stem] = set()
        for block, cell_id in zip(source.blocks, build.cell_ids(source.blocks)):
            if block.en.role == "solution":
                found.cells[source.stem].add(cell_id)
            for lang in build.LANGUAGES:
                cell = getattr(block, lang)
                hidden, shown = _sides(cell)
                found.shown[lang, source.stem, cell_id] = shown
                found.solutions |= {line: f"{cell.file}:{cell.line}" for line in hidden if len(line) >= SHORT}
    shown = "\n".join(line for lines in found.shown.values() for line in sorted(lines))
    library = "\n".join(path.read_text("utf-8") for path in sorted((root / "course_lib").rglob("*.py")))
    for path in sorted((root / "tests/grading").glob("[0-9]*.py")):
        found.cases |= _of_cases(path.read_text("utf-8"), path.relative_to(root).as_posix(), shown + library)
    for path in sorted((root / "tests/grading").glob("[0-9]*.toml")):
        found.cases |= _of_words(path.read_text("utf-8"), path.relative_to(root).as_posix(), shown)
    return found


def _sides(cell: Cell) -> tuple[set[str], set[str]]:
    """The lines of a cell that are hidden from students, and those that are shown. Not by tools/build.py: it is on trial."""
    hidden, shown = set(), set()
    inside = cell.role == "solution" or (cell.role == "answer" and cell.kind == "markdown")
    for line in cell.text.split("\n"):
        if cell.kind == "code" and (BEGIN.match(line) or END.match(line)):
            inside = bool(BEGIN.match(line))
        else:
            (hidden if inside else shown).add(line.strip())
    return hidden, shown


def _of_cases(text: str, file: str, visible: str) -> dict[str, str]:
    """Text -> place of what a file of hidden cases says: strings, names, and lines of code that stand nowhere else.

    Its PRELUDE is the part of the exercise's setup that answers lean on, which students see; so are its imports.
    """
    found, tree = {}, ast.parse(text)
    for node in tree.body:
        prelude = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["PRELUDE"]
        if prelude or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for part in ast.walk(node):
            said = [part.name] if isinstance(part, ast.FunctionDef | ast.ClassDef) else []
            said += part.value.split("\n") if isinstance(part, ast.Constant) and isinstance(part.value, str) else []
            found |= {line.strip(): f"{file}:{part.lineno}" for line in said}
        lines = enumerate(text.split("\n")[node.lineno - 1 : node.end_lineno], node.lineno)
        found |= {line.strip(): f"{file}:{i}" for i, line in lines if line.strip() not in visible}
    return {line: where for line, where in found.items() if _is_telling(line)}


def _of_words(text: str, file: str, visible: str) -> dict[str, str]:
    """Text -> place of the strings beside the cases: ideas, hints, programs that a student's test is tried on."""
    found, waiting = {}, [tomllib.loads(text)]
    while waiting:
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        for line in map(str.strip, value.split("\n") if isinstance(value, str) else []):
            found[line] = f"{file}:{1 + text.count(chr(10), 0, max(text.find(line), 0))}"
    return {line: where for line, where in found.items() if _is_telling(line) and line not in visible}


def _is_telling(line: str) -> bool:
    """Long enough to be no accident, and no import."""
    return len(line.encode()) > LONG and not line.startswith(("import ", "from "))


def leaks(files: dict[str, bytes], secrets: Secrets, sources: list[Source]) -> list[str]:
    """The findings (1) to (4) in the files of a bundle, each a sentence `file:line: what; cure`."""
    problems = []
    expected = build.build_all(sources)[0]
    for name, raw in files.items():
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            continue  # the picture
        if not name.endswith(".ipynb"):
            problems += [p for i, line in enumerate(text.split("\n"), 1) for p in _in_any_line(line, f"{name}:{i}", secrets)]
            continue
        try:
            problems += _in_notebook(name, text, secrets)
        except (ValueError, KeyError, TypeError, AttributeError):
            problems.append(f"{name}:1: not a notebook; run python tools/build.py")
        if text != expected.get(name):
            lines = zip(text.split("\n") + [""], expected.get(name, "").split("\n") + [""])
            line = next((i for i, (a, b) in enumerate(lines, 1) if a != b), 1)
            problems.append(f"{name}:{line}: is not what its source makes; run python tools/build.py")
    return problems


def _in_any_line(line: str, where: str, secrets: Secrets) -> list[str]:
    """Finding (2) in one line of text."""
    problems = [f"{where}: a marker of a solution ({m}); hand out built files only" for m in MARKERS if m in line]
    for i in range(len(line)):
        for text in secrets.beginnings.get(line[i : i + BEGINNING], ()):
            if line.startswith(text, i):
                problems.append(f"{where}: tells a hidden case, {text[:60]!r} of {secrets.cases[text]}; reword one of the two")
    return problems


def _in_notebook(name: str, text: str, secrets: Secrets) -> list[str]:
    """Findings (1), (2) and (3) in one notebook. The line is that of the file, not of the cell."""
    folder, lang, file = name.split("/")
    stem, problems, at = file.removesuffix(".ipynb"), [], 0
    for cell in json.loads(text)["cells"]:
        at = max(text.find(json.dumps(cell["id"]), at), at)
        where = f"{name}:{1 + text.count(chr(10), 0, at)}"
        if cell["id"] in secrets.cells.get(stem, ()) or "solution" in cell["metadata"].get("tags", ()):
            problems.append(f"{where}: a cell of the solution ({cell['id']}); run python tools/build.py")
        if cell.get("outputs") or cell.get("execution_count") is not None:
            problems.append(f"{where}: the cell {cell['id']} has an output or was run; run python tools/build.py")
        shown = secrets.shown.get((lang, stem, cell["id"]), set())
        for line in "".join(cell["source"]).split("\n"):
            where = f"{name}:{_line_of(text, line, cell['id'])}"
            problems += _in_any_line(line, where, secrets)
            source = secrets.solutions.get(line.strip()) if folder == "exercises" and line.strip() not in shown else None
            if source:
                problems.append(f"{where}: a line of the solution at {source}, {line.strip()[:60]!r}; take it out")
    return problems


def _line_of(text: str, line: str, cell_id: str) -> int:
    """Where a line of a cell stands in the notebook's file; a cell's id is written above its source. 1 if it is not found."""
    start = max(text.find(json.dumps(cell_id)), 0)
    for spelled in (json.dumps(line, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)):
        for begin in (start, 0):
            if (at := text.find(f'"{spelled}', begin)) >= 0 or (at := text.find(spelled, begin)) >= 0:
                return 1 + text.count("\n", 0, at)
    return 1


def nbgrader_source(root: Path, stem: str, lang: str) -> str:
    """An exercise as nbgrader's `source`: the text of a notebook that keeps the solutions, between nbgrader's markers.

    It is the built exercise with answers in its holes, so cells of role "solution" are not in it. "About n lines" stands above
    the marker; with `CONFIG`, `nbgrader generate_assignment` gives the exercise back, cell by cell.
    """
    source = next(s for s in _sources(Path(root).resolve(), [stem], (lang,)) if s.stem == stem and s.kind == EXERCISE)
    answers = {block.en.id: getattr(block, lang) for block in source.blocks if block.en.role == "answer"}
    notebook = json.loads(build.notebook(source, lang, exercise=True))
    for row in notebook["cells"]:
        if row["id"] in answers:
            row["source"] = _marked(answers[row["id"]], lang).splitlines(keepends=True)
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _marked(cell: Cell, lang: str) -> str:
    """An answer with its solution between markers: a hole's comment above them, no number inside."""
    if cell.kind == "markdown":
        return build.open_hints(build.join_lines(cell.text) if lang == "zh" else cell.text)
    lines = []
    for line in cell.text.split("\n"):
        if begin := BEGIN.match(line):
            lines += [build.cut(line, lang).split("\n")[0], begin[1] + MARKERS[0]]
        else:
            lines.append(line)
    return "\n".join(lines)


def nbgrader_course(root: Path, out: Path, stems: list[str] | None = None, lang: str = "en") -> list[str]:
    """Write `out` as a course of nbgrader in one language; returns the names written, sorted. For teachers: it holds solutions.

    A nbgrader_config.py that is there already is somebody's and stays.
    """
    root, out, written = Path(root).resolve(), Path(out), {}
    for source in (s for s in _sources(root, stems, (lang,)) if s.kind == EXERCISE):
        written[f"source/{source.stem}/{source.stem}.ipynb"] = nbgrader_source(root, source.stem, lang)
    if not (out / "nbgrader_config.py").exists():
        written["nbgrader_config.py"] = CONFIG.format(prompt=json.dumps(build.PROMPT[lang], ensure_ascii=False))
    for name, text in written.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(text.encode())
    return sorted(written)
