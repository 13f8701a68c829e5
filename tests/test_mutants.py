"""Run: pytest tests/test_mutants.py. The runner of the mutants is judged too: it must tell a kill from a survivor."""

import subprocess
import sys

import pytest

from tests.mutants.run import ROOT, Mutant, load_mutants


def verdict(old, new):
    """The runner's verdict, from a process of its own: this one has already imported the library that would be mutated."""
    mutant = Mutant("m", "course_lib/_check.py", old, new, ("tests/test_check.py",))
    code = f"from tests.mutants.run import *; import torch; print(next(judge([{mutant!r}], 1))[1])"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_every_mutant_still_fits_the_code_it_changes():
    """A mutant whose text has moved would test nothing; this finds it in milliseconds, before the long run does."""
    mutants = load_mutants()
    assert mutants
    for mutant in mutants:
        source = (ROOT / mutant.file).read_text("utf-8")
        assert mutant.apply(source) != source, mutant.name
        assert all((ROOT / test).is_file() for test in mutant.tests), mutant.name


def test_a_harmless_change_survives_and_is_reported():
    assert verdict("Refusing bad input", "Declining bad input").strip() == "SURVIVED"


def test_a_harmful_change_is_killed():
    assert verdict("if X.numel() == 0:", "if X.numel() < 0:").strip() == "killed"


def test_a_mutant_that_breaks_the_import_is_no_kill():
    """Status 1 means that a test failed. A file that does not even parse proves nothing about the tests."""
    assert "no verdict" in verdict("import torch\n", "import torch (\n")


def test_a_text_that_does_not_stand_exactly_once_is_refused():
    with pytest.raises(ValueError, match="stands 0 times"):
        Mutant("m", "f.py", "a", "b", ()).apply("xyz")
    with pytest.raises(ValueError, match="stands 2 times"):
        Mutant("m", "f.py", "a", "b", ()).apply("aa")
