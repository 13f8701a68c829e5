"""Every thread between notebooks, pages and library leads somewhere; and tools/links.py would notice if one did not."""

import re

import pytest

from tests.small_course import CHAPTER_FILE, EXERCISE_FILE, edit, line_of, write_course
from tools import build, links

LIBRARY = '''\
"""A library of one module."""

import math

LIMIT = 3


def magnitude_score(W):
    """|W|. Source: Han 2015. Notebook: 03_1_weight_pruning, 04_3_distillation_in_practice."""


class Code:
    """A code. Source: Huffman 1952. Notebook: 03_1_weight_pruning."""

    size: int

    def __init__(self):
        self.lengths = {}

    def encode(self, symbols):
        pass


def _private():
    pass
'''
ENDING = """
# %%
magnitude_score, Code().encode, plots

# %% [markdown] lang="en"
# ## Summary
#
# ## Functions used
#
# `course_lib.pruning.magnitude_score`, `course_lib.pruning.criteria.Code.encode`
#
# ## Exercises
#
# ## Sources
#
# [The error](#The-error), [page](../../README.md#a-heading), `course_lib/pruning/criteria.py`, <https://example.org>

# %% [markdown] lang="zh"
# ## 小结
#
# ## 用到的函数
#
# `course_lib.pruning.magnitude_score`, `course_lib.pruning.criteria.Code.encode`
#
# ## 练习
#
# ## 出处
#
# [误差](#误差)、[说明](../../README.md#a-heading)、`course_lib/pruning/criteria.py`、<https://example.org>
"""
MODULE = "course_lib/pruning/criteria.py"


@pytest.fixture
def course(tmp_path):
    """The small course with a library, built, and with every thread whole."""
    write_course(tmp_path)
    (tmp_path / "course_lib/pruning").mkdir(parents=True)
    (tmp_path / MODULE).write_text(LIBRARY, "utf-8")
    (tmp_path / "course_lib/pruning/__init__.py").write_text("from .criteria import Code, magnitude_score\n", "utf-8")
    (tmp_path / "course_lib/__init__.py").write_text("", "utf-8")
    (tmp_path / "course_lib/plots.py").write_text("", "utf-8")
    chapter = (tmp_path / CHAPTER_FILE).read_text("utf-8").replace("costs", "of the 9 minutes you will need costs")
    (tmp_path / CHAPTER_FILE).write_text(chapter + ENDING, "utf-8")
    (tmp_path / "README.md").write_text("# A `heading`\n\n[chapter](notebooks/en/03_1_weight_pruning.ipynb)\n", "utf-8")
    assert build.main(["--root", str(tmp_path)]) == 0
    return tmp_path


def problems(root):
    """All broken threads of a course."""
    library, sources = links.Library(root), links.sources_of(root)
    found = links.broken_links(root, sources) + links.unknown_names(root, library, sources)
    return found + links.lonely_functions(root, library) + links.incomplete_chapters(library, sources)


def test_a_whole_course_has_no_broken_thread(course):
    assert problems(course) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "at", "says"),
    [
        (CHAPTER_FILE, "[练习](../../exercises/zh/03_1", "[练习](../../exercises/zh/03_9", "zh/03_9", "there is no such file"),
        (EXERCISE_FILE, "# A solution paragraph.", "# [x](nowhere.md)", "nowhere", "there is no such file"),
        ("README.md", "notebooks/en", "notebook/en", "notebook/en", "there is no such file"),
        (CHAPTER_FILE, "(#误差)", "(#误)", "(#误)", "anchor #误 is not in 03_1_weight_pruning.ipynb"),
        (CHAPTER_FILE, "# [The error](#The-error)", "# [The error](#误差)", "[The error]", "anchor #误差 is not in"),
        (
            CHAPTER_FILE,
            "[page](../../README.md#a-heading)",
            "[page](../../README.md#no)",
            "README.md#no",
            "anchor #no is not in",
        ),
        (
            CHAPTER_FILE,
            "from course_lib.pruning import",
            "from course_lib.prune import",
            "course_lib.prune ",
            "no course_lib.prune.",
        ),
        (CHAPTER_FILE, "import magnitude_score", "import magnitude", "import magnitude", "no course_lib.pruning.magnitude"),
        ("README.md", "[chapter]", "`course_lib.plots.draw` [chapter]", "plots.draw", "`course_lib.plots.draw` is no name"),
        ("README.md", "[chapter]", "`course_lib/plot.py` [chapter]", "plot.py", "`course_lib/plot.py` is no file"),
        ("README.md", "[chapter]", "`course_lib.pruning.Code.decode` [chapter]", "decode", "is no name of the library"),
        (MODULE, " Source: Han 2015.", "", "def magnitude_score", "has no 'Source:'"),
        (MODULE, " Notebook: 03_1_weight_pruning.", "", "class Code", "has no 'Notebook:'"),
        (MODULE, "03_1_weight_pruning, 04_3", "04_3", "def magnitude_score", "not written yet"),
        (
            MODULE,
            "03_1_weight_pruning, 04_3",
            "03_1_weight_puring, 04_3",
            "def magnitude_score",
            "no notebook 03_1_weight_puring",
        ),
        (MODULE, "class Code", "class Cipher", "class Cipher", "03_1_weight_pruning does not mention it"),
        (CHAPTER_FILE, "Code().encode, plots", "plots", None, "Code.encode` is listed as used, but no code cell comes"),
        (CHAPTER_FILE, "minutes you will", "hours you will", None, "no goals or no minutes"),
        (CHAPTER_FILE, "# ## Sources", "# ## Origins", None, "no heading 'Sources'"),
    ],
)
def test_a_broken_thread_is_named_with_its_line(course, name, old, new, at, says):
    edit(course, name, old, new)
    line = line_of(course, name, at) if at else r"\d+"
    found = [p for p in problems(course) if says in p]
    assert any(re.match(f"{name}:{line}: ", p) for p in found), problems(course)


def test_names_follow_imports_classes_and_constants(course):
    library = links.Library(course)
    good = ["course_lib", "course_lib.pruning", "course_lib.pruning.criteria.LIMIT", "course_lib.pruning.Code.size"]
    good += ["course_lib.pruning.Code.lengths", "course_lib.pruning.criteria.math"]
    assert all(map(library.resolves, good))
    bad = ["course_lib.x", "course_lib.pruning.LIMIT", "course_lib.pruning.Code.size.bits", "course_lib.plots.criteria"]
    assert not any(map(library.resolves, bad))


@pytest.mark.skipif(not (links.ROOT / "notebooks/source").is_dir(), reason="a copy of the library for mutants has no notebooks")
def test_the_threads_of_this_course_are_whole():
    found = problems(links.ROOT)
    assert not found, "\n".join(found)
