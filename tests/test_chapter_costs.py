"""The table of costs in chapter 00 lists every chapter, says the minutes that the chapter itself says, and keeps the limit."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "notebooks" / "source").glob("*.py"))}


def costs():
    """The literal `COSTS = {...}` of chapter 00."""
    for node in ast.parse(SOURCES["00_start_here"]).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "COSTS":
            return ast.literal_eval(node.value)
    raise AssertionError("chapter 00 has no COSTS = {...}")


def test_every_chapter_is_listed_in_order_and_no_other():
    assert list(costs()) == list(SOURCES)


@pytest.mark.parametrize("stem", SOURCES)
def test_the_minutes_are_those_of_the_chapters_own_opening(stem):
    """The first number of minutes that the English opening names is the time to read and try."""
    stated = re.search(r"\b(\d+) minutes\b", SOURCES[stem])
    assert stated and costs()[stem][0] == int(stated[1])


@pytest.mark.parametrize(("stem", "cost"), costs().items())
def test_seconds_of_computing_keep_the_limit(stem, cost):
    """DESIGN section 3: a chapter runs in at most 60 s, those on real models in 90 s."""
    assert 0 < cost[1] <= (90 if stem.startswith("05") else 60)
