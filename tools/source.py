r"""Reading one source: cells with their line numbers, and every rule that a source must keep.

A chapter (`notebooks/source/STEM.py`) and an exercise (`solutions/source/STEM.py`) are py:percent files. jupytext reads them;
the `# %%` markers are scanned once more beside it, because jupytext forgets where a cell stood and a refusal must name
`file:line`. Reading is default-deny: what no rule names, an attribute, a role, a marker, a cell without language, is refused
together with its cure. `read_source` never raises for a bad source: it returns the refusals as sentences, all of them.

    # %% [markdown] lang="en"                     prose, directly followed by its sibling lang="zh"
    # %%                                          code of a chapter
    # %% role="answer" id="mend-listing"          code of an exercise: setup, given, answer, check or solution

Left out: magics and shell lines (`%timeit`, `!pip`). A course cell is Python, so that tests can run it without IPython.
"""

import ast
import difflib
import io
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

import jupytext

CHAPTER, EXERCISE = "chapter", "exercise"
CODE_ROLES = {CHAPTER: {None}, EXERCISE: {"setup", "given", "answer", "check", "solution"}}
PROSE_ROLES = {CHAPTER: {None}, EXERCISE: {None, "answer", "solution"}}
STEM = re.compile(r"\d\d(_\d+)?_[a-z0-9]+(_[a-z0-9]+)*")
MARKER = re.compile(r"^\s*#+\s*%%")
CJK = re.compile("[\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef]")
BEGIN = re.compile(r"^(\s*)# BEGIN SOLUTION \(about (\d+) lines?\)$")
END = re.compile(r"^(\s*)# END SOLUTION$")
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}


@dataclass(frozen=True)
class Cell:
    """One cell: `line` is that of its marker, `first` that of the first line of `text`."""

    file: str
    line: int
    first: int
    kind: str  # "markdown" | "code"
    text: str
    lang: str | None = None
    role: str | None = None
    id: str | None = None
    points: float | None = None

    def at(self, offset: int = 0) -> str:
        """`file:line` of the character `offset` of the text."""
        return f"{self.file}:{self.first + self.text.count(chr(10), 0, offset)}"

    @property
    def where(self) -> str:
        """`file:line` of the cell's marker."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Block:
    """What becomes one cell in each language: a prose pair, or a code cell that both share (en is zh)."""

    en: Cell
    zh: Cell


@dataclass
class Source:
    """A source that was read: its blocks in order, and what is wrong with it."""

    file: str
    stem: str
    kind: str  # CHAPTER | EXERCISE
    blocks: list[Block] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_source(path: Path, root: Path, kind: str) -> Source:
    """Read `path`; every refusal is one sentence `file:line: what. cure` in `.problems`."""
    source = Source(path.relative_to(root).as_posix(), path.stem, kind)
    if not STEM.fullmatch(path.stem):
        source.problems.append(f"{source.file}:1: the name is no stem; name it like 03_1_weight_pruning.py")
        return source
    cells = _cells(path.read_text("utf-8"), source)
    for cell in cells:
        source.problems += _problems_of_cell(cell, kind)
    source.blocks = _pair(cells, source.problems)
    source.problems += _problems_of_ids(source)
    if kind == EXERCISE:
        source.problems += _problems_of_answers(source)
    return source


def _cells(text: str, source: Source) -> list[Cell]:
    """The cells by jupytext, with the lines of their markers; refuses where the two readings differ."""
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if MARKER.match(line)]
    for i in starts:
        if not lines[i].startswith("# %%") or lines[i][4:5] not in ("", " "):
            source.problems.append(f"{source.file}:{i + 1}: {lines[i].strip()!r} is no cell marker; start the line with '# %%'")
    if (first := next((i for i, line in enumerate(lines) if line.strip()), None)) is None or first not in starts:
        source.problems.append(
            f"{source.file}:{(first or 0) + 1}: text before the first cell; begin the file with a '# %%' cell"
        )
    read = jupytext.reads(text, fmt=FORMAT).cells
    if source.problems:
        return []
    cells = []
    for k, (start, end) in enumerate(zip(starts, starts[1:] + [len(lines)])):
        prose = "[markdown]" in lines[start]
        body = next((i for i in range(start + 1, end) if lines[i].strip() not in (("", "#") if prose else ("",))), end)
        expected = "".join(lines[body:end][:1]).removeprefix("#" if prose else "").strip()
        cell = read[k] if k < len(read) else None
        if cell is None or next((line.strip() for line in cell.source.split("\n") if line.strip()), "") != expected:
            source.problems.append(
                f"{source.file}:{start + 1}: a '# %%' that jupytext does not read as a cell; is it in a string?"
            )
            return []
        cells.append(_cell(source, cell, start + 1, body + 1))
    return cells


def _cell(source: Source, cell, line: int, first: int) -> Cell:
    """One cell with its attributes; refuses attributes and types that no rule names."""
    given = {k: v for k, v in cell.metadata.items() if k not in ("lines_to_next_cell", "lines_to_end_of_cell_marker")}
    text = re.sub(r"\A(?:\s*\n)+", "", cell.source).rstrip()
    where = f"{source.file}:{line}"
    if cell.cell_type not in ("markdown", "code"):
        source.problems.append(f"{where}: a {cell.cell_type} cell; write '# %% [markdown] lang=...' or '# %%'")
    for name in sorted(set(given) - {"lang", "role", "id", "points"}):
        source.problems.append(
            f'{where}: unknown attribute {name}={given[name]!r}; known: lang, role, id, points (key="value")'
        )
    try:
        points = float(given["points"]) if "points" in given else None
    except (TypeError, ValueError):
        source.problems.append(f'{where}: points={given["points"]!r} is no number; write points="2"')
        points = None
    names = {key: str(given[key]) if key in given else None for key in ("lang", "role", "id")}
    return Cell(source.file, line, first, cell.cell_type, text, points=points, **names)


def _problems_of_cell(cell: Cell, kind: str) -> list[str]:
    """What one cell can do wrong by itself."""
    say, roles = [], (CODE_ROLES if cell.kind == "code" else PROSE_ROLES)[kind]
    if not cell.text.strip():
        say.append("an empty cell; write something or delete it")
    if cell.kind == "markdown" and cell.lang not in ("en", "zh"):
        say.append(f'prose without a language (lang={cell.lang!r}); write lang="en", and its sibling lang="zh" below')
    if cell.kind == "code" and cell.lang is not None:
        say.append("code is shared by both languages; drop lang")
    if cell.role not in roles:
        known = ", ".join(sorted(filter(None, roles))) or "none"
        say.append(f"role={cell.role!r} is not for {cell.kind} of a source of this kind ({kind}); roles here: {known}")
    if cell.id is not None and not IDENTIFIER.fullmatch(cell.id):
        say.append(f"id={cell.id!r}; an id has only a-z, 0-9 and '-', at most 64 characters")
    if cell.role in ("answer", "check") and cell.id is None:
        say.append(f'a cell with role="{cell.role}" needs an id, like id="mend-listing"')
    graded = cell.role == "check" or (cell.role == "answer" and cell.kind == "markdown")
    if graded and not (cell.points and cell.points > 0):
        say.append('points are missing; write points="1" (a number above 0)')
    if not graded and cell.points is not None:
        say.append("points stand on check cells and on prose answers only; drop them here")
    problems = [f"{cell.where}: {sentence}" for sentence in say]
    return problems + (_problems_of_code(cell) if cell.kind == "code" else _problems_of_prose(cell))


def _problems_of_prose(cell: Cell) -> list[str]:
    """English without Chinese, Chinese with some; a quotation (`>`) or a fenced listing may be in the document's language."""
    problems, fenced = [], False
    for i, line in enumerate(cell.text.split("\n")):
        fenced ^= line.lstrip().startswith("```")
        if cell.lang == "en" and not fenced and not line.startswith(">") and (found := CJK.search(line)):
            problems.append(
                f"{cell.file}:{cell.first + i}: Chinese ({found[0]}) in an English cell; quote it on a line with '>'"
            )
    words = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|<[^>]*>", "", cell.text, flags=re.S)
    if cell.lang == "zh" and re.search(r"[A-Za-z]{2}", words) and not CJK.search(words):
        problems.append(f'{cell.where}: no Chinese in this lang="zh" cell; write the Chinese text')
    return problems


def _problems_of_code(cell: Cell) -> list[str]:
    """Code must parse; comments are English; solution markers stand in answers only, well written and one pair each."""
    try:
        ast.parse(cell.text)
    except SyntaxError as e:
        return [f"{cell.file}:{cell.first + (e.lineno or 1) - 1}: this does not parse ({e.msg}); mend the Python"]
    problems, markers = [], []
    for token in tokenize.generate_tokens(io.StringIO(cell.text).readline):
        if token.type != tokenize.COMMENT:
            continue
        where, line = f"{cell.file}:{cell.first + token.start[0] - 1}", token.line.rstrip("\n")
        if CJK.search(token.string):
            problems.append(f"{where}: a comment in Chinese; comments, names and figure text are English")
        if (begin := BEGIN.match(line)) or END.match(line):
            markers.append((where, "BEGIN" if begin else "END", line, token.start[0] - 1))
        elif _is_like_a_marker(token.string):
            cure = "write '# BEGIN SOLUTION (about 4 lines)' or '# END SOLUTION' on a line of its own"
            problems.append(f"{where}: {token.string!r} is no known marker; {cure}")
    if cell.role != "answer":
        return problems + [
            f'{w}: a {m} SOLUTION outside an answer; move it into a cell with role="answer"' for w, m, *_ in markers
        ]
    if [m for _, m, *_ in markers] != ["BEGIN", "END"]:
        where = markers[0][0] if markers else cell.where
        return problems + [f"{where}: unbalanced markers; an answer has one BEGIN SOLUTION and, below it, one END SOLUTION"]
    return problems + _problems_of_hole(cell, *markers)


def _problems_of_hole(cell: Cell, begin: tuple, end: tuple) -> list[str]:
    """The two markers of one answer: same indent, code between them, an honest number of lines."""
    indents = [re.match(r"\s*", marker[2])[0] for marker in (begin, end)]
    if indents[0] != indents[1]:
        return [f"{end[0]}: END SOLUTION is not indented like its BEGIN SOLUTION; give both the same indent"]
    code = [line.strip() for line in cell.text.split("\n")[begin[3] + 1 : end[3]]]
    n_lines, promised = sum(bool(line) and not line.startswith("#") for line in code), int(BEGIN.match(begin[2])[2])
    if n_lines == 0:
        return [f"{begin[0]}: nothing between the markers; write the solution there"]
    if not n_lines / 2 - 1 <= promised <= 2 * n_lines + 1:
        return [
            f"{begin[0]}: the solution has {n_lines} lines of code, the marker says {promised}; write (about {n_lines} lines)"
        ]
    return []


def _is_like_a_marker(comment: str) -> bool:
    """True for what was probably meant as a marker: BEGN SOLUTION, ### END SOLUTION, # begin solution, #END SOLUTON."""
    words = comment.lstrip("# ").upper().split()[:2]
    return len(words) == 2 and any(
        difflib.SequenceMatcher(None, " ".join(words), m).ratio() > 0.8 for m in ("BEGIN SOLUTION", "END SOLUTION")
    )


def _pair(cells: list[Cell], problems: list[str]) -> list[Block]:
    """English and Chinese prose become blocks; a missing, doubled or turned-round translation is refused."""
    blocks, waiting = [], None
    for cell in cells + [None]:
        if cell is not None and cell.kind == "markdown" and cell.lang == "zh":
            if waiting is None:
                problems.append(
                    f'{cell.where}: lang="zh" with no lang="en" right above it; order: English, then Chinese, once each'
                )
            elif (waiting.role, waiting.id, waiting.points) != (cell.role, cell.id, cell.points):
                problems.append(
                    f"{cell.where}: role, id or points differ from the English sibling at line {waiting.line}; copy them"
                )
            else:
                blocks.append(Block(waiting, cell))
            waiting = None
            continue
        if waiting is not None:
            problems.append(
                f'{waiting.where}: the translation is missing; put the lang="zh" cell right below this lang="en" one'
            )
        waiting = cell if cell is not None and cell.kind == "markdown" and cell.lang == "en" else None
        if cell is not None and cell.kind == "code":
            blocks.append(Block(cell, cell))
    return blocks


def _problems_of_ids(source: Source) -> list[str]:
    """An id names one cell."""
    seen: dict[str, int] = {}
    problems = []
    for cell in (block.en for block in source.blocks if block.en.id is not None):
        if cell.id in seen:
            problems.append(f"{cell.where}: id={cell.id!r} was given at line {seen[cell.id]} already; choose another")
        seen.setdefault(cell.id, cell.line)
    return problems


def _problems_of_answers(source: Source) -> list[str]:
    """Every answer in code is followed by its check, `ID-check` (more of them: `ID-check-2`); every check has an answer."""
    problems, answers = [], {}
    for cell in (block.en for block in source.blocks if block.en.kind == "code"):
        if cell.role == "answer":
            answers[cell.id] = [cell, 0]
        elif cell.role == "check":
            of = re.sub(r"-check(-\d+)?$", "", cell.id or "")
            if of not in answers or of == cell.id:
                problems.append(
                    f"{cell.where}: check {cell.id!r} has no answer above it; name it ANSWERID-check, below its answer"
                )
            else:
                answers[of][1] += 1
    for cell, n_checks in answers.values():
        if not n_checks:
            problems.append(
                f'{cell.where}: answer {cell.id!r} has no check; add a cell with role="check" id="{cell.id}-check" below'
            )
    return problems
