"""Run: pytest tests/test_check.py. Bad input is refused in one sentence: who refuses, what was given, what to do."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib import _check


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: _check.check_tensor("f", "W", [1.0]), TypeError, "f: W must be a torch.Tensor, got list"),
        (lambda: _check.check_tensor("f", "W", torch.ones(3), ndim=2), ValueError, r"2 dimension.*\(3,\)"),
        (lambda: _check.check_tensor("f", "W", torch.ones(3), like=torch.ones(2)), ValueError, r"\(2,\), got \(3,\)"),
        (lambda: _check.check_tensor("f", "W", torch.empty(0, 4)), ValueError, "W is empty"),
        (lambda: _check.check_tensor("f", "W", torch.tensor([math.nan, math.inf, 1])), ValueError, "1 NaN and 1 infinite"),
        (lambda: _check.check_fraction("f", "sparsity", 90), ValueError, "did you mean 0.9"),
        (lambda: _check.check_fraction("f", "sparsity", math.nan), ValueError, "got nan"),
        (lambda: _check.check_fraction("f", "sparsity", True), ValueError, "fraction in .* got True"),
        (lambda: _check.check_fraction("f", "sparsity", 2), ValueError, "did you mean 0.02"),
        (lambda: _check.check_fraction("f", "sparsity", 1.5), ValueError, "got 1.5$"),
        (lambda: _check.check_fraction("f", "sparsity", "half"), ValueError, "got 'half'"),
        (lambda: _check.check_n_bits("f", 9), ValueError, "from 2 to 8, got 9"),
        (lambda: _check.check_n_bits("f", 4.0), ValueError, "whole number"),
        (lambda: _check.check_n_bits("f", True), ValueError, "whole number"),
        (lambda: _check.check_number("f", "lr", math.inf), ValueError, "finite"),
        (lambda: _check.check_number("f", "lr", 0, above=0), ValueError, "> 0"),
        (lambda: _check.check_number("f", "c", -1, low=0), ValueError, ">= 0"),
        (lambda: _check.check_count("f", "n", 0), ValueError, "whole number >= 1"),
        (lambda: _check.check_count("f", "n", 1.5), ValueError, "got 1.5"),
        (lambda: _check.check_choice("f", "norm", "l3", ["l1", "l2"]), ValueError, "unknown norm 'l3'; known: 'l1', 'l2'"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, says):
    with pytest.raises(error, match=says):
        call()


@given(st.floats(0, 1), st.integers(2, 8), st.integers(1, 10**6), st.floats(1e-300, 1e300))
def test_good_input_passes_in_silence(fraction, n_bits, count, number):
    _check.check_fraction("f", "p", fraction)
    _check.check_n_bits("f", n_bits)
    _check.check_count("f", "n", count)
    _check.check_number("f", "x", number, above=0)
    _check.check_tensor("f", "W", torch.full((1,), fraction), ndim=1, like=torch.zeros(1))


def test_infinite_values_pass_only_where_they_are_allowed():
    _check.check_tensor("f", "W", torch.tensor([math.inf]), finite=False)
    with pytest.raises(ValueError, match="infinite"):
        _check.check_tensor("f", "W", torch.tensor([math.inf]))
