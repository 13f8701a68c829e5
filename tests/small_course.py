"""A course of one chapter and one exercise, small enough to break in every way: what the tests of tools/build.py work on."""

import re

from tools import build

CHAPTER = """\
# %% [markdown] lang="en"
# # 3.1 · Weight pruning
#
# A weight costs \\\\$5 in `bytes`. See [the exercise](../../exercises/en/03_1_weight_pruning.ipynb).

# %% [markdown] lang="zh"
# # 3.1 · 权重剪枝
#
# 一个权重花费 \\\\$5 的 `bytes`。见[练习](../../exercises/zh/03_1_weight_pruning.ipynb)。

# %%
from course_lib import plots
from course_lib.pruning import magnitude_score

# %% [markdown] lang="en"
# ## The error
#
# $$ D = s^2 / 12 $$
#
# where $s$ is the step.
#
# <details><summary>Hint</summary>Integrate.</details>

# %% [markdown] lang="zh"
# ## 误差
#
# $$ D = s^2 / 12 $$
#
# 其中 $s$ 是步长。
#
# <details><summary>提示</summary>积分。</details>

# %%
assert 1 + 1 == 2

# %%
assert 1 + 1 == 2
"""

EXERCISE = """\
# %% [markdown] lang="en"
# # Exercises 3.1

# %% [markdown] lang="zh"
# # 练习 3.1

# %% role="setup"
import math

# %% role="answer" id="half"
def half(x):
    # BEGIN SOLUTION (about 1 line)
    return x / 2
    # END SOLUTION


# %% role="check" id="half-check" points="2"
assert half(4) == 2, f"got {half(4)}"

# %% [markdown] lang="en" role="answer" id="why" points="1.5"
# Because halving a number twice leaves a quarter of it behind.

# %% [markdown] lang="zh" role="answer" id="why" points="1.5"
# 因为一个数折半两次，剩下的就是原来的四分之一，这一点很显然，读者不妨自己再验算一遍，看看是不是真的如此。

# %% [markdown] lang="en" role="solution"
# A solution paragraph.

# %% [markdown] lang="zh" role="solution"
# 解答的一段话。

# %% role="solution"
quarter = half(half(1))
"""
CHAPTER_FILE, EXERCISE_FILE = "notebooks/source/03_1_weight_pruning.py", "solutions/source/03_1_weight_pruning.py"


def write_course(folder):
    """One chapter, one exercise, two READMEs with the markers of the table."""
    for name, text in ((CHAPTER_FILE, CHAPTER), (EXERCISE_FILE, EXERCISE)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text.replace("\\\\", "\\"), "utf-8")
    for name in build.READMES.values():
        (folder / name).write_text("before\n<!-- table:begin -->\nold\n<!-- table:end -->\nafter\n", "utf-8")
    return folder


def edit(tree, name, old, new):
    """Replace what stands exactly once."""
    text = (tree / name).read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
    (tree / name).write_text(text.replace(old, new), "utf-8")
    return tree


def line_of(tree, name, text):
    """The line on which `text` begins; it stands exactly once."""
    whole = (tree / name).read_text("utf-8")
    assert whole.count(text) == 1, f"{text!r} stands {whole.count(text)} times"
    return whole.count("\n", 0, whole.index(text)) + 1


def refusal(tree, capsys, *arguments):
    """The sentences of a build that must fail, and must not write."""
    capsys.readouterr()
    before = {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    assert build.main(["--root", str(tree), *arguments]) == 1
    assert before == {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()}, "a refused build wrote something"
    said = capsys.readouterr().err
    for sentence in said.strip().split("\n")[:-1]:
        assert re.match(r"[\w/.-]+:\d+: .+", sentence), f"no file:line in {sentence!r}"
    return said
