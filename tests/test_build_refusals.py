"""What tools/build.py must refuse. A refusal is only worth something if it names file, line and cure, and writes nothing."""

import re

import pytest

from tests.small_course import CHAPTER_FILE as C
from tests.small_course import EXERCISE_FILE as E
from tests.small_course import edit, line_of, refusal, write_course
from tools import build


@pytest.fixture
def tree(tmp_path):
    """The small course in a folder of its own."""
    return write_course(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "at", "says"),
    [
        (E, "# BEGIN SOLUTION", "# BEGN SOLUTION", "BEGN", "no known marker"),
        (E, "# END SOLUTION", "### END SOLUTION", "### END", "no known marker"),
        (E, " (about 1 line)", "", "BEGIN", "no known marker"),
        (E, "    # END SOLUTION\n", "", "BEGIN", "unbalanced"),
        (E, "    # END", "# END", "# END", "same indent"),
        (E, "about 1 line", "about 9 lines", "BEGIN", "write (about 1 lines)"),
        (E, "    return x / 2\n    # END SOLUTION", "    # END SOLUTION\n    return x / 2", "BEGIN", "nothing between"),
        (E, "import math", "import math\n# END SOLUTION", "# END SOLUTION\n\n# %%", "outside an answer"),
        (E, '"setup"', '"set-up"', "set-up", "roles here: answer, check, given, setup, solution"),
        (E, ' role="setup"', "", "# %%\nimport", "role=None"),
        (E, 'id="half"', 'id="half" colour="red"', "colour", "unknown attribute colour"),
        (E, 'role="answer" id="half"', 'role="answer"', '# %% role="answer"', "needs an id"),
        (E, 'id="half"', 'id="Half_1"', "Half_1", "an id has only"),
        (E, ' points="2"', "", "half-check", "points are missing"),
        (E, 'points="2"', 'points="0"', "half-check", "points are missing"),
        (E, 'points="2"', 'points="two"', "half-check", "is no number"),
        (E, 'role="setup"', 'role="setup" points="1"', "setup", "drop them here"),
        (E, 'id="half-check"', 'id="half"', '"check"', "was given at line 10 already"),
        (E, 'id="half-check"', 'id="whole-check"', "whole-check", "no answer above"),
        (E, 'role="check" id="half-check" points="2"', 'role="given"', 'id="half"', "has no check"),
        (E, "import math", "import math\nhalf = lambda x: (", "lambda", "does not parse"),
        (E, "import math", "%timeit 1", "timeit", "does not parse"),
        (E, "import math", "import math  # 数学", "数学", "comments, names and figure text are English"),
        (E, "import math", "import math\n# %% role='setup'", "# %% role='", "an empty cell"),
        (E, 'lang="zh" role="answer" id="why"', 'lang="zh" role="answer" id="how"', "how", "differ from the English"),
        (C, "# %%\nfrom", '# %% role="given"\nfrom', "given", "roles here: none"),
        (C, "# %%\nfrom", '# %% lang="en"\nfrom', '# %% lang="en"', "code is shared"),
        (C, "# %%\nfrom", "# %% [raw]\nfrom", "[raw]", "a raw cell"),
        (C, "# %%\nfrom", "#%%\nfrom", "#%%", "no cell marker"),
        (C, "# %%\nfrom", "# %% A title\nfrom", "A title", "unknown attribute title"),
        (C, "# %%\nfrom", "# %% [markdown]\n# Text\n\n# %%\nfrom", "[markdown]\n# Text", "prose without a language"),
        (
            C,
            '# %% [markdown] lang="en"\n# # 3.1',
            '# x\n# %% [markdown] lang="en"\n# # 3.1',
            "# x",
            "text before the first cell",
        ),
        (C, "# # 3.1 · Weight", "# Weight", '[markdown] lang="en"\n# Weight', "the first cell must"),
        (C, "# ## The error", "# # The error", "The error", "a second '# ' heading"),
        (C, "# ## The error", "# ### The error", "The error", "no level may be skipped"),
        (C, "12 $$\n#\n# 其中", "13 $$\n#\n# 其中", "13 $$", "formulas differ: $$ D = s^2 / 13 $$ stands in the Chinese"),
        (C, "D = s^2 / 12 $$\n#\n# 其中", "D = s^3 / 12 $$\n#\n# 其中", "s^3", "s^3 / 12 $$ stands in the Chinese"),
        (C, "其中 $s$", "其中 $s 步$", "步$", "Chinese inside the formula"),
        (C, "其中 $s$", "其中 s$", "其中 s", "does not close"),
        (C, "# ## 误差", "# ### 误差", '[markdown] lang="zh"\n# ### 误差', "headings differ (English: ##; Chinese: ###)"),
        (C, "花费 \\$5 的 `bytes`", "花费 \\$5 的 `byte`", "的 `byte`", "code differ: byte stands in the Chinese"),
        (C, "exercises/zh/", "exercises/en/", "[练习]", "links to"),
        (C, "exercises/zh/03_1", "exercises/zh/03_2", "[练习]", "links differ"),
        (
            C,
            "# <details><summary>提示</summary>积分。</details>",
            "# 积分。",
            '[markdown] lang="zh"\n# ## 误',
            "number of <details>",
        ),
        (C, "积分。</details>", "积分。", "积分", "is not closed"),
        (C, "where $s$", "其 $s$", "其 $s$", "Chinese (其) in an English cell"),
        (C, "# ## 误差\n", "# ## Error\n", None, None),
    ],
)
def test_a_source_that_breaks_a_rule_is_refused_at_its_line(tree, capsys, name, old, new, at, says):
    """`at` is the text on the line that must be named (with what follows it, where the line alone is ambiguous)."""
    if at is None:  # the heading alone in English is fine: other words of the cell are Chinese; without them it is not
        edit(tree, name, "# 其中 $s$ 是步长。", "# where $s$ is the step.")
        edit(tree, name, "提示</summary>积分。", "Hint</summary>Integrate.")
        at, says = '[markdown] lang="zh"\n# ## Error', "no Chinese in this"
    said = refusal(edit(tree, name, old, new), capsys)
    sentence = next((s for s in said.split("\n") if says in s), said)
    assert sentence.startswith(f"{name}:{line_of(tree, name, at)}: ") and says in sentence


@pytest.mark.parametrize("gone", ["en", "zh"])
def test_a_missing_translation_is_refused(tree, capsys, gone):
    """Which sibling is gone decides which cell is named: the one that stands alone."""
    text = (tree / C).read_text("utf-8")
    cells = re.split(r"(?m)^(?=# %%)", text)
    kept = [c for c in cells if not (f'lang="{gone}"' in c and ("误差" in c or "The error" in c))]
    (tree / C).write_text("".join(kept), "utf-8")
    line = line_of(tree, C, "误差" if gone == "en" else "The error") - 1
    said = refusal(tree, capsys)
    assert f"{C}:{line}: " in said and ("translation is missing" if gone == "zh" else 'no lang="en" right above') in said


def test_a_turned_round_pair_and_a_doubled_translation_are_refused(tree, capsys):
    text = (tree / C).read_text("utf-8")
    cells = re.split(r"(?m)^(?=# %%)", text)
    for order in ([1, 0], [0, 1, 1], [0, 0, 1]):
        title = [cells[1:3][i] for i in order]
        (tree / C).write_text("".join(title + cells[3:]), "utf-8")
        assert re.search(rf"{C}:(1|6|11): ", refusal(tree, capsys))


def test_an_unlisted_file_is_refused_by_name(tree, capsys):
    build.main(["--root", str(tree)])
    for name in ("notebooks/en/99_stale.ipynb", "exercises/zh/notes.txt", "solutions/en/03_1_weight_pruning.py"):
        (tree / name).write_text("{}", "utf-8")
        for arguments in ([], ["--check"]):
            assert f"{name}:1: no source makes this file" in refusal(tree, capsys, *arguments)
        (tree / name).unlink()
    (tree / "notebooks/source/README.txt").write_text("x", "utf-8")
    assert "notebooks/source/README.txt:1: not a source" in refusal(tree, capsys)


def test_a_solution_left_over_in_the_exercise_is_refused(tree, capsys):
    """A check that computes its expected value by the solution's own line gives the answer away."""
    line = "return [x / 2 for x in numbers if isinstance(x, float)]"
    edit(tree, E, "return x / 2", line)
    edit(tree, E, "import math", f"import math\n\ndef peek(numbers):\n    {line}")
    said = refusal(tree, capsys)
    at = line_of(tree, E, f"def peek(numbers):\n    {line}") + 1
    assert f"{E}:{at}: solution left over in the exercise" in said


def test_a_model_answer_left_over_in_the_prose_is_refused(tree, capsys):
    answer = "Because halving a number twice leaves a quarter of it behind."
    edit(tree, E, "# # Exercises 3.1", f"# # Exercises 3.1\n#\n# {answer}")
    assert f"{E}:4: solution left over" in refusal(tree, capsys)


def test_check_names_every_stale_missing_and_touched_notebook(tree, capsys):
    build.main(["--root", str(tree)])
    edit(tree, C, "Integrate.", "Integrate it.")
    (tree / "solutions/zh/03_1_weight_pruning.ipynb").unlink()
    said = refusal(tree, capsys, "--check")
    assert re.search(r"notebooks/en/03_1_weight_pruning.ipynb:\d+: is not what its source makes", said)
    assert "solutions/zh/03_1_weight_pruning.ipynb:1: is missing" in said and "exercises" not in said


def test_a_marker_inside_a_string_is_refused(tree, capsys):
    """jupytext and the scan for lines would number the cells differently, and every later refusal would name a wrong line."""
    edit(tree, E, "import math", 'import math\ntext = """\n# %% no cell\n"""')
    assert re.search(rf"{E}:\d+: a '# %%' that jupytext does not read", refusal(tree, capsys))
