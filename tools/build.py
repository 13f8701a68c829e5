"""Build the notebooks of both languages from their sources. The only build code of the course: this file and its two helpers.

    python tools/build.py            write every notebook and the tables of the READMEs
    python tools/build.py 03_1       only the sources whose name contains 03_1
    python tools/build.py --check    write nothing; fail when a notebook differs from its source, or is left over

    notebooks/source/STEM.py   ->  notebooks/{en,zh}/STEM.ipynb
    solutions/source/STEM.py   ->  solutions/{en,zh}/STEM.ipynb  and  exercises/{en,zh}/STEM.ipynb

`tools/source.py` reads and refuses, `tools/parity.py` compares the languages, this file writes. Two builds are equal byte for
byte: ids are the author's or a hash of the English source, keys are sorted, nothing has outputs. An exercise is its solution
with holes: the lines between BEGIN SOLUTION and END SOLUTION become `raise NotImplementedError`, cells with role "solution"
go away, and what is left is searched for lines of the solution. Metadata is nbgrader's (schema 3), so Validate works.
"""

import argparse
import ast
import hashlib
import itertools
import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `python tools/build.py` puts tools/ on the path, and not the folder that holds it

from tools.parity import parts_of, problems_of_headings, problems_of_pair  # noqa: E402
from tools.source import BEGIN, CHAPTER, END, EXERCISE, Block, Cell, Source, read_source  # noqa: E402

LANGUAGES = ("en", "zh")
SOURCES = {"notebooks": CHAPTER, "solutions": EXERCISE}
BUILT = ("notebooks", "solutions", "exercises")
HOLE = {"en": "# YOUR CODE HERE (about {n} {lines})", "zh": "# YOUR CODE HERE 在此处写代码（约 {n} 行）"}
PROMPT = {
    "en": "*Double-click here, replace this line by your answer, and run the cell.*",
    "zh": "*双击此处，把这一行换成你的答案，然后运行该单元格。*",
}
SUFFIX = {"en": " (with solutions)", "zh": "（含参考答案）"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TABLE = re.compile(r"(<!-- table:begin -->\n).*?(<!-- table:end -->)", re.S)
COLUMNS = {"en": "| chapter | formulas | library | exercise |", "zh": "| 章节 | 公式 | 库 | 练习 |"}
READMES = {"en": "README.md", "zh": "README.zh-CN.md"}


def read_sources(root: Path, names: list[str] = ()) -> list[Source]:
    """All sources (whose stem contains one of `names`), chapters first; foreign files beside them are refused."""
    sources = []
    for folder, kind in SOURCES.items():
        for path in sorted((root / folder / "source").glob("*")):
            if path.name in ("__pycache__", ".ipynb_checkpoints"):
                continue
            if path.suffix != ".py" or not path.is_file():
                where = path.relative_to(root).as_posix()
                sources.append(
                    Source(where, path.stem, kind, problems=[f"{where}:1: not a source; only STEM.py files live here"])
                )
            elif not names or any(name in path.stem for name in names):
                source = read_source(path, root, kind)
                for block in source.blocks:
                    source.problems += problems_of_pair(block) if block.en.kind == "markdown" else []
                source.problems += problems_of_headings(source)
                sources.append(source)
    return sources


def cell_ids(blocks: list[Block]) -> list[str]:
    """The same id in both languages, the exercise and its solution: the author's, or a hash of the English or shared text."""
    seen: Counter[str] = Counter()
    ids = []
    for block in blocks:
        digest = hashlib.sha256(f"{block.en.kind}\n{block.en.text}".encode()).hexdigest()[:10]
        seen[digest] += 1
        ids.append(block.en.id or (digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"))
    return ids


def nbgrader(cell: Cell) -> dict:
    """nbgrader's metadata of an answer, a check or a prose answer; nothing for other cells."""
    if cell.role not in ("answer", "check"):
        return {}
    by_hand = cell.role == "answer" and cell.kind == "markdown"
    grades = cell.role == "check" or by_hand
    row = {"grade": grades, "grade_id": cell.id, "locked": cell.role == "check", "schema_version": 3}
    row |= {"solution": cell.role == "answer", "task": False}
    if grades:
        row["points"] = int(cell.points) if cell.points == int(cell.points) else cell.points
    return {"nbgrader": row}


def cut(text: str, lang: str) -> str:
    """The text of an answer with its solution replaced by a hole at the same indent."""
    kept, hidden = [], False
    for line in text.split("\n"):
        if begin := BEGIN.match(line):
            n, hidden = int(begin[2]), True
            comment = HOLE[lang].format(n=n, lines="line" if n == 1 else "lines")
            kept += [begin[1] + comment, begin[1] + "raise NotImplementedError"]
        elif END.match(line):
            hidden = False
        elif not hidden:
            kept.append(line)
    return "\n".join(kept)


def solved(text: str) -> str:
    """The text of an answer as a solution reads best: without the two markers."""
    return "\n".join(line for line in text.split("\n") if not BEGIN.match(line) and not END.match(line))


def exercise_text(cell: Cell, lang: str) -> str:
    """What a learner finds in place of a cell of the solution."""
    if cell.role != "answer":
        return cell.text
    return cut(cell.text, lang) if cell.kind == "code" else PROMPT[lang]


def open_hints(text: str) -> str:
    """`<details>` with blank lines inside: without them Markdown is not read there, and `code` keeps its backticks."""
    text = re.sub(r"</summary>[ \t]*\n*[ \t]*(?=\S)", "</summary>\n\n", text)
    text = re.sub(r"[ \t]*\n*[ \t]*</details>", "\n\n</details>", text)
    return re.sub(r"</details>[ \t]*\n+(?=\S)", "</details>\n\n", text)


def join_lines(text: str) -> str:
    """Chinese prose without the line breaks of its source: Markdown would show each as a space, and Chinese has none there.

    A line is joined to the next where Chinese meets Chinese, and after Chinese punctuation whatever follows; headings, lists,
    tables, quotations, formulas and listings keep their lines.
    """
    lines, fenced = [], False
    for line in text.split("\n"):
        above, here = (lines[-1] if lines else ""), line.strip()
        fenced ^= here.startswith(("```", "~~~"))
        prose = here and not fenced and not here.startswith(("```", "~~~", "#", ">", "|", "<", "$$", "!["))
        prose = prose and not re.match(r"([-*+]|\d+[.)])\s", here) and not above.lstrip().startswith(("#", ">", "|", "<", "$$"))
        meets = re.search(r"[\u4e00-\u9fff]$", above) and re.match(r"[\u3000-\u9fff\uff00-\uffef“‘]", here)
        if prose and (meets or re.search(r"[\u3000-\u303f\uff00-\uffef”’]$", above)):
            lines[-1] = above + here
        else:
            lines.append(line)
    return "\n".join(lines)


def notebook(source: Source, lang: str, exercise: bool = False) -> str:
    """The notebook as the text of its file."""
    cells = []
    for i, (block, cell_id) in enumerate(zip(source.blocks, cell_ids(source.blocks))):
        cell = getattr(block, lang)
        if exercise and cell.role == "solution":
            continue
        text = exercise_text(cell, lang) if exercise else solved(cell.text) if cell.kind == "code" else cell.text
        if cell.kind == "markdown":
            text = open_hints(join_lines(text) if lang == "zh" else text)
        if i == 0 and source.kind == EXERCISE and not exercise:
            text = re.sub(r"\A(# .*)", lambda m: m[1] + SUFFIX[lang], text)
        row = {"cell_type": cell.kind, "id": cell_id, "metadata": nbgrader(cell), "source": text.splitlines(keepends=True)}
        if cell.kind == "code":
            row |= {"execution_count": None, "outputs": []}
        cells.append(row)
    content = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def leftovers(source: Source) -> list[str]:
    """Lines of a solution that a learner could still read in the built exercise, at the line of the source.

    A line counts when it is long (40 characters) and no header of a block, or when it stands with its neighbour: two
    solutions in a row are no accident, one short line often is.
    """
    hidden: set[tuple[str, ...]] = set()
    for cell in (cell for block in source.blocks for cell in {block.en, block.zh}):
        if cell.role == "solution" or (cell.role == "answer" and cell.kind == "markdown"):
            hidden |= _marks(cell.text)
        elif cell.role == "answer":
            lines = cell.text.split("\n")
            span = [i for i, line in enumerate(lines) if BEGIN.match(line) or END.match(line)]
            hidden |= _marks("\n".join(lines[span[0] + 1 : span[1]]))
    problems = []
    for block in source.blocks:
        for lang in LANGUAGES if block.en.kind == "markdown" else ("en",):
            cell = getattr(block, lang)
            if cell.role == "solution":
                continue
            for mark in sorted(_marks(exercise_text(cell, lang)) & hidden):
                line = next(i for i, text in enumerate(cell.text.split("\n")) if text.strip() == mark[0])
                cure = "a learner would read the answer; reword it or move it between the markers"
                problems.append(f"{cell.file}:{cell.first + line}: solution left over in the exercise: {mark[0]!r}; {cure}")
    return problems


def _marks(text: str) -> set[tuple[str, ...]]:
    """The lines by which a solution is recognized: long ones alone, all others with the next one."""
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith(("#", "import ", "from "))]
    long = {(line,) for line in lines if len(line) >= 40 and not line.endswith(":")}
    pairs = {(a, b) for a, b in itertools.pairwise(lines) if len(a) >= 15 and len(b) >= 8}
    return long | pairs


def build_all(sources: list[Source]) -> tuple[dict[str, str], list[str]]:
    """Path -> text of every notebook, and the sentences of all refusals."""
    files, problems = {}, []
    for source in sources:
        wrong = source.problems or (leftovers(source) if source.kind == EXERCISE else [])
        problems += wrong
        if wrong:
            continue
        for lang in LANGUAGES:
            if source.kind == CHAPTER:
                files[f"notebooks/{lang}/{source.stem}.ipynb"] = notebook(source, lang)
            else:
                files[f"solutions/{lang}/{source.stem}.ipynb"] = notebook(source, lang)
                files[f"exercises/{lang}/{source.stem}.ipynb"] = notebook(source, lang, exercise=True)
    return files, problems


def unlisted(root: Path) -> list[str]:
    """Files in the built folders that no source makes; a learner's checkpoints do not count."""
    stems = {folder: {p.stem for p in (root / folder / "source").glob("*.py")} for folder in SOURCES}
    stems["exercises"] = stems["solutions"]
    problems = []
    for folder in BUILT:
        for path in sorted(p for lang in LANGUAGES for p in (root / folder / lang).glob("**/*")):
            if path.is_dir() or ".ipynb_checkpoints" in path.parts or path.name.startswith(".~"):
                continue
            if path.suffix != ".ipynb" or path.stem not in stems[folder] or path.parent.name not in LANGUAGES:
                where = path.relative_to(root).as_posix()
                problems.append(f"{where}:1: no source makes this file; delete it, or move your own notebook elsewhere")
    return problems


def library_of(source: Source) -> list[str]:
    """The modules of course_lib that the code imports, sorted: `pruning`, `plots`, ..."""
    found = set()
    for block in (b for b in source.blocks if b.en.kind == "code"):
        for node in ast.walk(ast.parse(block.en.text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", None) or ""
            for name in names if not module else [f"{module}.{n}" for n in names]:
                if name.startswith("course_lib."):
                    found.add(name.split(".")[1])
    return sorted(found)


def table(sources: list[Source], lang: str) -> str:
    """The table of a README: chapter | display formulas | library | exercise."""
    exercises = {s.stem for s in sources if s.kind == EXERCISE}
    rows = [COLUMNS[lang], "|---|---|---|---|"]
    for source in (s for s in sources if s.kind == CHAPTER and s.blocks):
        title = getattr(source.blocks[0], lang).text.split("\n")[0].removeprefix("# ").strip()
        n_formulas = sum(len(parts_of(b.en.text).displays) for b in source.blocks if b.en.kind == "markdown")
        library = ", ".join(f"`{module}`" for module in library_of(source)) or "-"
        path = f"{lang}/{source.stem}.ipynb"
        exercise = f"[{source.stem}](exercises/{path})" if source.stem in exercises else "-"
        rows.append(f"| [{title}](notebooks/{path}) | {n_formulas} | {library} | {exercise} |")
    return "\n".join(rows) + "\n"


def readmes(root: Path, sources: list[Source]) -> tuple[dict[str, str], list[str]]:
    """The READMEs with fresh tables, and a notice for each that has no markers for one."""
    files, notices = {}, []
    for lang, name in READMES.items():
        text = (root / name).read_text("utf-8") if (root / name).exists() else ""
        if not TABLE.search(text):
            notices.append(f"{name}: no table written, its markers <!-- table:begin --> <!-- table:end --> are not there")
            continue
        files[name] = TABLE.sub(lambda m, lang=lang: m[1] + table(sources, lang) + m[2], text, count=1)
    return files, notices


def differences(root: Path, files: dict[str, str]) -> list[str]:
    """What stands on the disk and is not what the sources make."""
    problems = []
    for name, text in files.items():
        if not (root / name).exists():
            problems.append(f"{name}:1: is missing; run python tools/build.py")
        elif (old := (root / name).read_text("utf-8")) != text:
            lines = zip(old.split("\n") + [""], text.split("\n") + [""])
            line = next((i for i, (a, b) in enumerate(lines, 1) if a != b), 1)
            problems.append(
                f"{name}:{line}: is not what its source makes; run python tools/build.py (edit sources, not notebooks)"
            )
    return problems


def main(argv: list[str] | None = None) -> int:
    """Build or check; 0 if all is well, 1 after naming every refusal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only the sources whose name contains one of these")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on any difference or leftover")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder of the course (default: this one)")
    arguments = parser.parse_args(argv)
    root = arguments.root.resolve()
    sources = read_sources(root, arguments.names)
    if arguments.names and not sources:
        parser.error("no source of that name")
    files, problems = build_all(sources)
    notices: list[str] = []
    if not arguments.names:
        problems += unlisted(root)
        if not problems:
            tables, notices = readmes(root, sources)
            files |= tables
    if arguments.check:
        problems += differences(root, files)
    if problems:
        print("\n".join(problems), file=sys.stderr)
        print(f"{len(problems)} thing(s) to mend; nothing was written.", file=sys.stderr)
        return 1
    n_written = 0 if arguments.check else write(root, files)
    print(
        "\n".join(
            notices
            + [f"{len(sources)} sources, {len(files)} files: " + ("all fresh" if arguments.check else f"{n_written} written")]
        )
    )
    return 0


def write(root: Path, files: dict[str, str]) -> int:
    """Write what changed; returns how many files that were."""
    n_written = 0
    for name, text in files.items():
        path = root / name
        if path.exists() and path.read_bytes() == text.encode():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        n_written += 1
    return n_written


if __name__ == "__main__":
    sys.exit(main())
