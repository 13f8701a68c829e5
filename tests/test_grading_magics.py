"""IPython's lines leave an answer without harm, and what is Python stays as it is."""

import re
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from grading.magics import as_python

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = [
    Path(sysconfig.get_path("stdlib")) / f"{name}.py"
    for name in ("tokenize", "textwrap", "argparse", "optparse", "ast", "re/_parser")
]
CODE = sorted(ROOT.glob("solutions/source/*.py")) + sorted(ROOT.glob("tests/grading/*/*/*.py")) + [Path(__file__)] + LIBRARY

CASES = {
    "%matplotlib inline\nx = 1": "\nx = 1",
    "%%time\nx = 1": "\nx = 1",
    "!pip install numpy\n!!ls\nx = 1": "\n\nx = 1",
    "?len\nlen?\nlen??\nnp.a*b?\n%timeit?": "\n\n\n\n",
    "def f(x):\n    %timeit x\n    return x": "def f(x):\n    pass\n    return x",
    "if 1:\n\t!echo hi\ny = 2": "if 1:\n\tpass\ny = 2",
    "%time y = f(1)": "y = f(1)",
    "    %time y = f(1)": "y = f(1)",
    "%time f(1, \\\n  2)": "f(1, \\\n  2)",
    "%time\n%time -p f()\n%timeit f()": "\n\n",
    "files = !ls *.py": "files = None",
    "t = %timeit -o f(1)": "t = None",
    "y = %time f(1)": "y = f(1)",
    "self.x=%time 3": "self.x=3",
    "!echo \"it's (\nx = 1\n%who": "\nx = 1\n",
    "!echo one \\\n  two \\\n  three\nx = 1": "\n\n\nx = 1",
    "    x = 1\n    %time y = 2\n    if x:\n        !ls\n\n    z = 3": "x = 1\ny = 2\nif x:\n    pass\n\nz = 3",
    "    # a remark\n    x = 1": "# a remark\nx = 1",
    "from __future__ import annotations\n%load_ext autoreload": "from __future__ import annotations\n",
    "%%time\nfrom __future__ import annotations": "\nfrom __future__ import annotations",
}
PYTHON = [
    '"""\n%timeit in a docstring\n!ls\nf?\n"""\nx = 1',
    "s = '''a\n%b'''\nt = '%d' \\\n% 3",
    "x = (7\n% 4)\ny = [1,\n  2\n  % 2]\nz = {\n'a': 5\n!= 4}",
    "x = 7 \\\n  % 4\n",
    "s = 'one \\\n% of a string'\n",
    "x = 5  # why?\n# %time f(x)\n# y = !ls\n",
    "x = 7; x %= 4; y = x != 3; z = '?'",
    'r"\\""; "\\\\"; \'"\'; "\'"\nx = 1',
    'f"{1}"; rb"""\n%"""\nx = "#(["\n',
    "    # a remark, then Python\ndef f():\n    return 1",
    "d = {'%': '!',\n'?': 1}\nprint(f'{d!r:>{10}}')",
    "x = 1 if '[' else 2 # ([{\ny = 2",
    "\n\n  \n",
    "",
]


@pytest.mark.parametrize("text", CASES)
def test_the_lines_of_ipython_become_python(text):
    assert as_python(text) == CASES[text]
    compile(as_python(text), "answer", "exec")


@pytest.mark.parametrize("text", PYTHON)
def test_python_stays_as_it_is(text):
    compile(text, "python", "exec")
    assert as_python(text) == text


@pytest.mark.parametrize("path", [p for p in CODE if p.is_file()], ids=lambda path: path.stem)
def test_real_code_stays_as_it_is(path):
    assert as_python(path.read_text("utf-8")) == path.read_text("utf-8")


def test_magics_between_any_two_lines_of_real_code_vanish():
    """Where a logical line begins, a magic of the same indent changes nothing but a `pass`; a quote in it opens no string."""
    text = (ROOT / "grading/magics.py").read_text("utf-8")
    starts = [m.start() for m in re.finditer(r"^ *(?:def|if|for|return|elif|else|while|kept|quote|new|i) ?", text, re.M)]
    for magic in ('%timeit "', "!it's ((", "?x"):
        for start in starts:
            indent = re.match(" *", text[start:])[0]
            changed = as_python(f"{text[:start]}{indent}{magic}\n{text[start:]}")
            assert changed == f"{text[:start]}{indent + 'pass' if indent else ''}\n{text[start:]}", text[start : start + 40]


@pytest.mark.parametrize("text", [*CASES, *PYTHON])
def test_jupyter_runs_what_counts_here(text):
    """IPython itself as the oracle: it makes Python of every case, and of nothing else than what changes here too."""
    transformed = TransformerManager().transform_cell(text)
    compile(transformed, "jupyter", "exec")
    assert ("get_ipython" in transformed) == (text in CASES and "remark" not in text)


@given(st.lists(st.sampled_from(["%time ", "'''", *"%!?\\'\"#()[]{}=\n\t x1"]), max_size=60).map("".join))
def test_any_text_comes_back_with_as_many_lines_and_stays_from_then_on(text):
    once = as_python(text)
    assert once.count("\n") == text.count("\n")
    try:
        compile(text, "text", "exec")
    except (SyntaxError, ValueError):
        return
    assert once == text
