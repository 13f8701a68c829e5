"""The order of the inputs in which N:M keeps most. Each name is a claim; each docstring says why it must hold."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.models import mlp
from course_lib.pruning import best_permutation, kept_score, n_m_mask, n_ways, permuted_n_m_mask, swap_permutation, top_mask


def seeded(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def kept_slowly(S, order, n, m):
    """Eq. (1) in float64 loops: in each row and block, sort and add the n largest."""
    total = 0.0
    for row in S.double().tolist():
        for b in range(0, len(row), m):
            total += math.fsum(sorted(row[order[j]] for j in range(b, b + m))[m - n :])
    return total


seeds = st.integers(0, 2**31 - 1)
patterns = st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (1, 3), (2, 3), (1, 1), (4, 4)])


@given(seeds, patterns)
def test_the_kept_score_is_its_formula_spelled_out(seed, pattern):
    n, m = pattern
    S = seeded(seed, 3, 3 * m)
    order = torch.randperm(3 * m, generator=torch.Generator().manual_seed(seed))
    assert math.isclose(kept_score(S, order, n, m), kept_slowly(S, order.tolist(), n, m), rel_tol=1e-12)


@given(seeds, patterns)
def test_the_permuted_columns_are_in_n_m_form(seed, pattern):
    n, m = pattern
    order = torch.randperm(2 * m, generator=torch.Generator().manual_seed(seed))
    mask = permuted_n_m_mask(seeded(seed, 5, 2 * m), order, n, m)
    assert (mask[:, order].reshape(5, 2, m).sum(dim=-1) == n).all()


@given(seeds, patterns)
def test_no_order_at_all_keeps_more_than_the_best(seed, pattern):
    """All 720 orders of six columns (or 24 of four), by the loop above: ours is as high as the highest."""
    n, m = pattern
    S = seeded(seed, 2, 6 if 6 % m == 0 else m)
    most = max(kept_slowly(S, order, n, m) for order in itertools.permutations(range(S.shape[1])))
    assert math.isclose(kept_score(S, best_permutation(S, n, m), n, m), most, rel_tol=1e-9)


@given(seeds, st.sampled_from([(2, 4), (1, 4), (3, 4)]))
def test_no_dealing_of_eight_columns_in_fours_keeps_more(seed, pattern):
    """The 70 choices of the first block hold all 35 ways twice."""
    S = seeded(seed, 3, 8)
    halves = [(*a, *(j for j in range(8) if j not in a)) for a in itertools.combinations(range(8), 4)]
    most = max(kept_slowly(S, order, *pattern) for order in halves)
    assert math.isclose(kept_score(S, best_permutation(S, *pattern), *pattern), most, rel_tol=1e-9)


@given(seeds, patterns, st.booleans())
def test_swapping_never_keeps_less_than_the_start(seed, pattern, from_another):
    """Each exchange made gains; sums of 4 float32 numbers in [0, 1] are off by less than 1e-6 in all."""
    n, m = pattern
    S = seeded(seed, 4, 4 * m) - 0.5  # signs: a score need not be a magnitude
    start = torch.randperm(4 * m, generator=torch.Generator().manual_seed(seed)) if from_another else torch.arange(4 * m)
    order = swap_permutation(S, n, m, max_swaps=300, start=start)
    assert order.sort().values.equal(torch.arange(4 * m))
    assert kept_score(S, order, n, m) >= kept_score(S, start, n, m) - 1e-6


@given(seeds, st.sampled_from([(2, 4), (1, 4), (1, 2), (2, 3), (3, 4)]))
def test_after_swapping_no_exchange_of_two_columns_gains(seed, pattern):
    """Local optimality, by trying every exchange. The search stops at 1e-5 of the largest score (at most 0.00001 here)."""
    n, m = pattern
    S = seeded(seed, 3, 3 * m)
    order = swap_permutation(S, n, m, max_swaps=300)
    kept = kept_score(S, order, n, m)
    for a, b in itertools.combinations(range(3 * m), 2):
        other = order.clone()
        other[[a, b]] = order[[b, a]]
        assert kept_score(S, other, n, m) <= kept + 2e-5


@given(seeds)
def test_the_first_exchange_is_the_one_that_gains_most(seed):
    S = seeded(seed, 3, 8)
    every = []
    for a, b in itertools.combinations(range(8), 2):
        order = torch.arange(8)
        order[[a, b]] = order[[b, a]]
        every.append(kept_score(S, order))
    assert kept_score(S, swap_permutation(S, max_swaps=1)) == pytest.approx(
        max(*every, kept_score(S, torch.arange(8))), abs=1e-5
    )


@given(seeds)
def test_free_choice_bounds_the_best_and_the_best_bounds_the_search(seed):
    S = seeded(seed, 3, 8)
    searched, best = (kept_score(S, find(S)) for find in (swap_permutation, best_permutation))
    assert searched <= best + 1e-9 and best <= S.double()[top_mask(S, 0.5)].sum().item() + 1e-9


def test_four_large_ones_side_by_side_by_hand():
    """(9, 8, 7, 6 | 1, 1, 1, 1) keeps 9 + 8 + 1 + 1 = 19; any two of the large ones exchanged with small ones: all four, 30."""
    S = torch.tensor([[9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0, 1.0]])
    assert kept_score(S, torch.arange(8)) == 19.0
    for find in (best_permutation, swap_permutation):
        order = find(S)
        assert kept_score(S, order) == 30.0
        assert permuted_n_m_mask(S, order).tolist() == [[True] * 4 + [False] * 4]


def test_the_number_of_ways_by_hand():
    """8 columns in fours: the first column picks 3 companions of 7, C(7, 3) = 35. 12: C(11, 3) * 35 = 5775."""
    assert [n_ways(8), n_ways(12), n_ways(4), n_ways(4, 2), n_ways(5, 1)] == [35, 5775, 1, 3, 1]


def test_the_identity_wins_where_nothing_can_be_gained():
    for S in (torch.zeros(2, 8), torch.ones(2, 8), torch.tensor([[5.0, 4.0, 1.0, 1.0, 5.0, 4.0, 1.0, 1.0]])):
        assert best_permutation(S).equal(torch.arange(8)) and swap_permutation(S).equal(torch.arange(8))


def test_the_network_before_can_deliver_its_units_in_the_new_order():
    """Rows of W0 and b0 and columns of W1 permuted alike: the same sums of the same products, in another order."""
    model = mlp(6, 8, 3)
    order, x = swap_permutation(model[2].weight.detach().abs()), torch.randn(20, 6)
    before = model(x).detach()
    with torch.no_grad():
        for tensor in (model[0].weight, model[0].bias):
            tensor.copy_(tensor[order])
        model[2].weight.copy_(model[2].weight[:, order])
    torch.testing.assert_close(model(x).detach(), before, rtol=0, atol=1e-5)


def test_the_identity_gives_the_plain_mask():
    S = seeded(0, 4, 12)
    assert permuted_n_m_mask(S, torch.arange(12)).equal(n_m_mask(S, 2, 4))


def test_inputs_are_not_changed_and_twice_is_the_same():
    S, start = seeded(0, 6, 16), torch.arange(16).flip(0)
    before = S.clone()
    assert swap_permutation(S, start=start).equal(swap_permutation(S, start=start))
    assert best_permutation(S[:, :8]).equal(best_permutation(S[:, :8]))
    assert permuted_n_m_mask(S, start).equal(permuted_n_m_mask(S, start))
    assert S.equal(before) and start.equal(torch.arange(16).flip(0))
    assert swap_permutation(S, max_swaps=0, start=start).equal(start)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: swap_permutation(torch.ones(2, 6)), "6 inputs"),
        (lambda: swap_permutation(torch.ones(2, 8), n=5), "n = 5, m = 4"),
        (lambda: swap_permutation(torch.ones(2, 8), n=0), "n must be a whole number >= 1"),
        (lambda: swap_permutation(torch.ones(2, 8), max_swaps=-1), "max_swaps"),
        (lambda: swap_permutation(torch.ones(2, 4, 2)), "2 dimension"),
        (lambda: swap_permutation(torch.full((2, 4), float("nan"))), "8 NaN"),
        (lambda: swap_permutation(torch.ones(1, 8), start=torch.zeros(8).long()), "each column 0 ... 7 once"),
        (lambda: best_permutation(torch.ones(1, 16)), "2.63e\\+06 ways; swap_permutation"),
        (lambda: best_permutation(torch.empty(0, 4)), "empty"),
        (lambda: kept_score(torch.ones(1, 4), torch.arange(3)), "each column 0 ... 3 once"),
        (lambda: permuted_n_m_mask(torch.ones(1, 4), torch.arange(4.0)), "each column"),
        (lambda: n_ways(6), "do not divide"),
        (lambda: n_ways(0), "whole number >= 1"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()
