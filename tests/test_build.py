"""What tools/build.py makes. What it refuses stands in test_build_refusals.py."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.small_course import CHAPTER_FILE, EXERCISE_FILE, edit, write_course
from tools import build
from tools.parity import language_free, parts_of
from tools.source import read_source

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tree(tmp_path):
    """The small course in a folder of its own."""
    return write_course(tmp_path)


def built(tree, name):
    """A built notebook as a dict."""
    return json.loads((tree / name).read_text("utf-8"))


def texts(notebook):
    """The text of each cell."""
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def test_a_build_makes_six_notebooks_and_the_check_agrees(tree, capsys):
    assert build.main(["--root", str(tree)]) == 0
    names = sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*.ipynb"))
    folders = [f"{f}/{lang}" for f in ("exercises", "notebooks", "solutions") for lang in ("en", "zh")]
    assert names == [f"{folder}/03_1_weight_pruning.ipynb" for folder in folders]
    assert build.main(["--root", str(tree), "--check"]) == 0
    assert "all fresh" in capsys.readouterr().out


def test_two_builds_are_equal_byte_for_byte(tree):
    build.main(["--root", str(tree)])
    first = {p: p.read_bytes() for p in tree.rglob("*.ipynb")}
    for path in first:
        path.unlink()
    build.main(["--root", str(tree)])
    assert first == {p: p.read_bytes() for p in tree.rglob("*.ipynb")}


def test_notebooks_are_valid_and_hold_no_outputs(tree):
    import nbformat

    build.main(["--root", str(tree)])
    for path in tree.rglob("*.ipynb"):
        text = path.read_text("utf-8")
        nbformat.validate(nbformat.reads(text, as_version=4))
        notebook = json.loads(text)
        assert text.endswith("}\n") and notebook["metadata"]["kernelspec"]["name"] == "python3"
        assert all(c["outputs"] == [] and c["execution_count"] is None for c in notebook["cells"] if c["cell_type"] == "code")


def test_languages_exercise_and_solution_share_ids_and_repeats_are_counted(tree):
    """A learner's answer must be found whichever language was worked in; nbformat wants ids unique in a notebook."""
    build.main(["--root", str(tree)])
    stem = "03_1_weight_pruning.ipynb"
    ids = {name: [c["id"] for c in built(tree, f"{name}/{stem}")["cells"]] for name in ("notebooks/en", "notebooks/zh")}
    assert ids["notebooks/en"] == ids["notebooks/zh"] and ids["notebooks/en"][-1] == ids["notebooks/en"][-2] + "-2"
    solution, exercise = ([c["id"] for c in built(tree, f"{f}/zh/{stem}")["cells"]] for f in ("solutions", "exercises"))
    assert exercise == solution[:5] and exercise[2:] == ["half", "half-check", "why"]


def test_an_exercise_has_holes_where_the_solution_has_answers(tree):
    build.main(["--root", str(tree)])
    for lang, comment in (("en", "(about 1 line)"), ("zh", "（约 1 行）")):
        exercise = texts(built(tree, f"exercises/{lang}/03_1_weight_pruning.ipynb"))
        header, hole, end = exercise[2].split("\n")
        assert header == "def half(x):" and end == "    raise NotImplementedError"
        assert hole.startswith("    # YOUR CODE HERE") and hole.endswith(comment)
        assert exercise[4] == build.PROMPT[lang] and len(exercise) == 5
        solution = texts(built(tree, f"solutions/{lang}/03_1_weight_pruning.ipynb"))
        assert solution[0].endswith(build.SUFFIX[lang]) and exercise[0] + build.SUFFIX[lang] == solution[0]
        assert solution[2] == "def half(x):\n    return x / 2" and solution[-1] == "quarter = half(half(1))"


def test_a_hint_is_opened_for_markdown_and_twice_is_once():
    """CommonMark reads no Markdown inside an HTML block, which lasts until a blank line."""
    text = "a\n<details><summary>Hint</summary>Use `x`\nand $y$.</details>\n<details><summary>2</summary>\nz\n</details>\nb"
    hint = "<details><summary>Hint</summary>\n\nUse `x`\nand $y$.\n\n</details>"
    opened = build.open_hints(text)
    assert opened == f"a\n{hint}\n\n<details><summary>2</summary>\n\nz\n\n</details>\n\nb"
    assert build.open_hints(opened) == opened


def test_chinese_lines_are_joined_where_a_break_would_show_as_a_space():
    joined = {"一行，\n二行": "一行，二行", "中文\n中文": "中文中文", "一，\n`x` 二": "一，`x` 二", "- 一，\n  二": "- 一，二"}
    kept = [
        "中文\nLatin",
        "# 标题\n正文",
        "一。\n- 二",
        "一。\n1. 二",
        "一，\n$$ x $$",
        "一。\n\n二",
        "| 一 |\n| 二 |",
        "> 一，\n> 二",
    ]
    kept += ["```\n一，\n二\n```", "一。\n```\n二，\n三\n```", "a，\n<details>"]
    for text, wanted in [*joined.items(), *((text, text) for text in kept)]:
        assert build.join_lines(text) == wanted, text


def test_nbgrader_metadata_of_answer_check_and_prose(tree):
    build.main(["--root", str(tree)])
    cells = {c["id"]: c["metadata"] for c in built(tree, "exercises/en/03_1_weight_pruning.ipynb")["cells"]}
    rows = {cell_id: m["nbgrader"] for cell_id, m in cells.items() if m}
    assert sorted(rows) == ["half", "half-check", "why"] and all(r["schema_version"] == 3 for r in rows.values())
    flags = {k: (r["solution"], r["grade"], r["locked"], r.get("points")) for k, r in rows.items()}
    assert flags == {"half": (True, False, False, None), "half-check": (False, True, True, 2), "why": (True, True, False, 1.5)}


def test_the_readme_table_comes_from_the_sources(tree, capsys):
    build.main(["--root", str(tree)])
    english = (tree / "README.md").read_text("utf-8")
    assert "| [3.1 · Weight pruning](notebooks/en/03_1_weight_pruning.ipynb) | 1 | `plots`, `pruning` | [03_1" in english
    chinese = (tree / "README.zh-CN.md").read_text("utf-8")
    assert "[3.1 · 权重剪枝](notebooks/zh/" in chinese and "(exercises/zh/" in chinese
    assert english.startswith("before\n") and english.endswith("-->\nafter\n") and "old" not in english
    (tree / "README.md").write_text("no markers", "utf-8")
    assert build.main(["--root", str(tree)]) == 0 and "README.md: no table" in capsys.readouterr().out
    assert (tree / "README.md").read_text("utf-8") == "no markers"


def test_only_named_sources_are_built(tree):
    edit(tree, EXERCISE_FILE, "return x / 2", "return (")
    (tree / "solutions/source/04_1_other.py").write_text(
        (tree / EXERCISE_FILE).read_text("utf-8").replace("return (", "return 1")
    )
    assert build.main(["--root", str(tree), "04_1"]) == 0
    assert sorted(p.name for p in tree.rglob("*.ipynb")) == ["04_1_other.ipynb"] * 4


def test_english_may_quote_the_document_and_list_its_code(tree):
    quote = "> 权重裁剪是一种简单的模型优化方法\n#\n# ```python\n# x = 1  # 权重\n# ```"
    for old in ("# where $s$ is the step.", "# 其中 $s$ 是步长。"):
        edit(tree, CHAPTER_FILE, old, f"{old}\n#\n# {quote}")
    assert build.main(["--root", str(tree)]) == 0


def test_parts_of_prose():
    text = (
        "## A `$x$` b \\$3 and $a_1$, $$ b \n c $$\n```\n$no$ [x](y)\n```\n[t](a/en/b.ipynb#c) <https://x.org> ![](p_(1).png)"
    )
    parts = parts_of(text)
    assert [v for v, _ in parts.code] == ["```\n$no$ [x](y)\n```", "$x$"]
    assert [v for v, _ in parts.formulas] == ["$a_1$", "$$ b c $$"] and parts.stray_dollar is None
    assert [v for v, _ in parts.links] == ["a/en/b.ipynb#c", "https://x.org", "p_(1).png"]
    assert [v for v, _ in parts.headings] == ["##"] and all(text[o] == "$" for _, o in parts.formulas)
    assert language_free("../en/b.ipynb#weights") == language_free("../zh/b.ipynb#权重") != language_free("../zh/b.ipynb")


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="$`\\[]()<>#\u2028\u2029\x85"), max_size=12
)
formulas = st.text(st.sampled_from("abc^_{}12+ \\"), min_size=1, max_size=8).filter(
    lambda t: t.strip() and not t.endswith("\\")
)


@given(st.lists(st.tuples(words, formulas), max_size=5))
def test_every_formula_is_found_at_its_place_whatever_stands_around(pieces):
    text = "".join(f"{word} ${formula}$ " for word, formula in pieces)
    found = parts_of(text).formulas
    assert [value for value, _ in found] == ["$" + " ".join(formula.split()) + "$" for _, formula in pieces]
    assert all(text[offset] == "$" for _, offset in found)


@given(
    st.lists(
        st.sampled_from(["x = 1", "    # BEGIN SOLUTION (about 3 lines)", "    secret()", "    # END SOLUTION", "", "y = 2"])
    )
)
def test_no_line_between_the_markers_survives_the_cut(lines):
    """Whatever the order of lines: what follows a BEGIN up to its END is gone, everything else stays in its order."""
    kept, hidden = [], False
    for line in lines:
        hidden = "BEGIN" in line or (hidden and "END" not in line)
        if not hidden and "SOLUTION" not in line:
            kept.append(line)
    cut = [line for line in build.cut("\n".join(lines), "en").split("\n") if "YOUR CODE" not in line and "raise" not in line]
    assert [line for line in cut if line] == [line for line in kept if line]


@pytest.mark.skipif(not (ROOT / "notebooks/source").is_dir(), reason="a copy of the library for mutants has no notebooks")
def test_the_notebooks_of_this_course_are_what_their_sources_make(capsys):
    assert build.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.skipif(not (ROOT / "notebooks/source").is_dir(), reason="a copy of the library for mutants has no notebooks")
def test_lines_of_real_cells_are_where_the_reader_says():
    """The first words of each real cell stand on the line that a refusal would name."""
    for folder, kind in build.SOURCES.items():
        for path in sorted((ROOT / folder / "source").glob("*.py")):
            lines = path.read_text("utf-8").split("\n")
            for block in read_source(path, ROOT, kind).blocks:
                for cell in (block.en, block.zh):
                    first = cell.text.split("\n")[0].strip()
                    line = lines[cell.first - 1].removeprefix("# " if cell.kind == "markdown" else "")
                    assert lines[cell.line - 1].startswith("# %%") and line.strip() == first
