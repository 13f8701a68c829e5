"""Scores and masks of section 3.1. Each name is a claim; each docstring says why it must hold."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from course_lib.pruning import (
    global_masks,
    magnitude_score,
    mean_threshold_mask,
    movement_score,
    random_score,
    taylor_score,
    top_mask,
)


def seeded(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


seeds = st.integers(0, 2**31 - 1)
matrices = seeds.map(lambda seed: seeded(seed, 5, 7))
# Few distinct values, so that ties are the rule and not the exception.
tied = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=40).map(torch.tensor)
fractions = st.floats(0, 1)


def rule_spelled_out(W, c, per_row):
    """Eq. (1) as the document writes it: loops in double precision, exact sums, nothing shared with the library."""
    rows = W.double().tolist()
    whole = math.fsum(abs(v) for row in rows for v in row) / W.numel()
    mean = [math.fsum(abs(v) for v in row) / len(row) if per_row else whole for row in rows]
    return [[not abs(w) < c * mean[i] for w in row] for i, row in enumerate(rows)]


@given(matrices, st.floats(0, 3), st.booleans())
def test_the_mask_is_the_formula_spelled_out(W, c, per_row):
    assert mean_threshold_mask(W, c, per_row).tolist() == rule_spelled_out(W, c, per_row)


@given(matrices, st.integers(-20, 20))
def test_scaling_a_row_changes_no_decision(W, exponent):
    """The threshold scales with the row: only the shape of the distribution matters. Powers of two are exact."""
    scale = torch.ones(5, 1)
    scale[2] = 2.0**exponent
    assert mean_threshold_mask(W * scale).equal(mean_threshold_mask(W))


@given(matrices, st.floats(0, 2), st.floats(0, 2))
def test_a_larger_factor_never_keeps_more(W, a, b):
    low, high = sorted((a, b))
    assert not (mean_threshold_mask(W, high) & ~mean_threshold_mask(W, low)).any()


@given(matrices)
def test_each_row_keeps_its_largest_weight(W):
    """A maximum is never below a mean: with c <= 1 no unit is cut off, which a quantile does not promise."""
    assert mean_threshold_mask(W).gather(1, W.abs().argmax(1, keepdim=True)).all()


@example(3, 0.1, torch.float64)  # (0.1 + 0.1 + 0.1) / 3 > 0.1
@given(st.integers(1, 3000), st.floats(-10, 10), st.sampled_from([torch.float32, torch.float64]))
def test_a_row_of_equal_weights_stays_whole(n, w, dtype):
    """A rounded mean lands above n equal numbers now and then, in float32 and in float64; the rule says `smaller`."""
    assert mean_threshold_mask(torch.full((1, n), w, dtype=dtype)).all()


def test_the_rule_by_hand():
    """Means 1.5 and 10: 1 and 0 go from the first row, nothing from the second, since nothing is smaller than its mean."""
    W = torch.tensor([[1.0, -3.0, 2.0, 0.0], [10.0, 10.0, -10.0, 10.0]])
    assert mean_threshold_mask(W).tolist() == [[False, True, True, False], [True] * 4]
    assert mean_threshold_mask(W, per_row=False).tolist() == [[False] * 4, [True] * 4]  # mean 5.75: the small row falls silent


def test_the_mean_is_finer_than_the_weights():
    """1, 1 and the next float32 above 1: the mean lies between them, which float32 cannot say, so both ones must go."""
    assert mean_threshold_mask(torch.tensor([[1.0, 1.0, 1 + 2**-23]])).tolist() == [[False, False, True]]


def test_a_filter_is_one_row():
    """All weights that enter a unit are its row: a (out, in, kh, kw) tensor is judged as its (out, in kh kw) matrix."""
    W = seeded(0, 6, 3, 5, 5)
    assert mean_threshold_mask(W).flatten(1).equal(mean_threshold_mask(W.flatten(1)))


@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("draw", "share"),
    [
        (torch.distributions.Normal(0, 0.03), lambda c: math.erf(c / math.sqrt(math.pi))),
        (torch.distributions.Laplace(0, 0.03), lambda c: 1 - math.exp(-c)),
        (torch.distributions.Uniform(-0.03, 0.03), lambda c: min(c / 2, 1)),
    ],
)
def test_the_share_of_zeros_follows_from_the_distribution(draw, share, c):
    """One million draws: five standard deviations of a share are at most 0.0025; the mean itself adds a fifth of that."""
    zeros = 1 - mean_threshold_mask(draw.sample((1, 1_000_000)), c).double().mean().item()
    assert abs(zeros - share(c)) < 0.003


@given(matrices, matrices)
def test_scores_are_their_formulas_spelled_out(W, G):
    """Float32 products are rounded once in both, so the numbers must be equal, not near."""
    pairs = [list(zip(w, g)) for w, g in zip(W.double().tolist(), G.double().tolist())]
    assert magnitude_score(W).equal(torch.tensor([[abs(w) for w, _ in row] for row in pairs]))
    assert taylor_score(W, G).equal(torch.tensor([[abs(w * g) for w, g in row] for row in pairs]))
    assert movement_score(W, G).equal(torch.tensor([[-w * g for w, g in row] for row in pairs]))


def test_the_taylor_score_is_the_change_of_the_loss():
    """L = sum(a w) is linear, so the first order is exact: erasing w_i changes L by -a_i w_i, up to float64 rounding."""
    a, W = seeded(0, 3, 4).double(), seeded(1, 3, 4).double().requires_grad_()
    loss = (a * W).sum()
    loss.backward()
    for i in range(12):
        erased = W.detach().clone()
        erased.view(-1)[i] = 0
        assert math.isclose(abs((a * erased).sum() - loss).item(), taylor_score(W.detach(), W.grad).view(-1)[i], rel_tol=1e-9)


def test_movement_is_positive_where_a_descent_step_leaves_zero():
    """w <- w - eta g with a small eta: |w| grows exactly where w g < 0."""
    W, G = seeded(0, 20, 20), seeded(1, 20, 20)
    grows = (W - 1e-4 * G).abs() > W.abs()
    assert grows.equal(movement_score(W, G) > 0)


def test_movement_adds_up_over_steps():
    steps = [(seeded(i, 3, 3), seeded(i + 50, 3, 3)) for i in range(6)]
    S = None
    for W, G in steps:
        S = movement_score(W, G, S)
    torch.testing.assert_close(S, -sum(W * G for W, G in steps))


def test_random_scores_are_uniform_and_know_nothing_of_the_weights():
    """Mean 1/2 within five standard deviations of 0.289 / sqrt(n); correlation with |w| within 5 / sqrt(n)."""
    W = seeded(0, 100, 1000)
    S = random_score(W, torch.Generator().manual_seed(1))
    assert abs(S.mean() - 0.5) < 5 * 0.289 / 100_000**0.5 and S.min() >= 0 and S.max() < 1
    assert abs(torch.corrcoef(torch.stack([S.flatten(), W.abs().flatten()]))[0, 1]) < 5 / 100_000**0.5
    assert S.equal(random_score(2 * W, torch.Generator().manual_seed(1)))
    assert not S.equal(random_score(W, torch.Generator().manual_seed(2)))


@given(tied, fractions)
def test_exactly_round_p_n_go_whatever_the_ties(score, sparsity):
    assert int((~top_mask(score, sparsity)).sum()) == round(sparsity * score.numel())


@given(tied, fractions)
def test_no_kept_score_is_below_a_removed_one(score, sparsity):
    mask = top_mask(score, sparsity)
    if mask.any() and not mask.all():
        assert score[mask].min() >= score[~mask].max()


@given(tied, fractions)
def test_among_equals_the_earlier_position_goes(score, sparsity):
    """Sorted by (score, position), a removed one never stands behind a kept one: the mask has one possible value."""
    order = sorted(range(score.numel()), key=lambda i: (score[i].item(), i))
    gone = set(order[: round(sparsity * score.numel())])
    assert top_mask(score, sparsity).tolist() == [i not in gone for i in range(score.numel())]


@given(tied, fractions, fractions)
def test_more_sparsity_removes_the_same_and_more(score, a, b):
    low, high = sorted((a, b))
    assert not (top_mask(score, high) & ~top_mask(score, low)).any()


@given(seeds, st.sampled_from([0.1, 0.5, 0.77, 0.9]))
def test_the_top_mask_is_what_torch_prunes(seed, sparsity):
    """Peer: prune.l1_unstructured, on weights without ties, where both must name the same ones."""
    layer = nn.Linear(13, 11, bias=False)
    layer.weight.data = seeded(seed, 11, 13)
    ours = top_mask(magnitude_score(layer.weight.detach()), sparsity)
    prune.l1_unstructured(layer, "weight", sparsity)
    assert ours.equal(layer.weight_mask.bool())


@given(seeds, st.sampled_from([0.3, 0.8]))
def test_the_global_masks_are_what_torch_prunes(seed, sparsity):
    """Peer: prune.global_unstructured over two layers of different size and scale."""
    layers = {"a": nn.Linear(7, 9), "b": nn.Linear(9, 4)}
    for i, layer in enumerate(layers.values()):
        layer.weight.data = (1 + i) * seeded(seed + i, *layer.weight.shape)
    ours = global_masks({name: magnitude_score(layer.weight.detach()) for name, layer in layers.items()}, sparsity)
    prune.global_unstructured([(layer, "weight") for layer in layers.values()], prune.L1Unstructured, amount=sparsity)
    assert all(ours[name].equal(layer.weight_mask.bool()) for name, layer in layers.items())


def test_one_threshold_for_all_layers_by_hand():
    """Six scores, half go: 0.1, 0.2 and 1. The layer of large scores keeps all but one, and shapes stay with their names."""
    scores = {"small": torch.tensor([[0.1, 0.2, 3.0]]), "large": torch.tensor([1.0, 5.0, 4.0])}
    masks = global_masks(scores, 0.5)
    assert masks["small"].tolist() == [[False, False, True]] and masks["large"].tolist() == [False, True, True]


def test_one_layer_is_the_top_mask():
    score = seeded(3, 4, 6)
    assert global_masks({"only": score}, 0.4)["only"].equal(top_mask(score, 0.4))


@pytest.mark.parametrize("W", [torch.zeros(3, 4), torch.full((2, 3), -0.7), torch.tensor([[2.0]]), torch.eye(3)])
def test_constant_tensors_zero_rows_and_single_weights_work(W):
    """A row of zeros has mean 0 and nothing is smaller; half of one weight rounds to none (a half goes to even)."""
    assert mean_threshold_mask(W)[(W.abs() == W.abs().amax(1, keepdim=True))].all()
    for score in (magnitude_score(W), taylor_score(W, W), movement_score(W, W)):
        assert score.isfinite().all() and int((~top_mask(score, 0.5)).sum()) == round(W.numel() / 2)


@pytest.mark.parametrize("sparsity", [0, 1])
def test_the_ends_keep_all_and_nothing(sparsity):
    assert top_mask(seeded(0, 3, 5), sparsity).float().mean() == 1 - sparsity


def test_inputs_are_not_changed_and_twice_is_the_same():
    W, G, S = seeded(0, 4, 4), seeded(1, 4, 4), seeded(2, 4, 4)
    before = [W.clone(), G.clone(), S.clone()]
    for f in (
        lambda: mean_threshold_mask(W),
        lambda: magnitude_score(W),
        lambda: taylor_score(W, G),
        lambda: movement_score(W, G, S),
        lambda: top_mask(W, 0.5),
        lambda: global_masks({"a": W, "b": G}, 0.5)["b"],
        lambda: random_score(W, torch.Generator().manual_seed(0)),
    ):
        assert f().equal(f())
    assert all(now.equal(then) for now, then in zip([W, G, S], before))


NAN = torch.tensor([[float("nan"), 1.0]])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: mean_threshold_mask(torch.empty(0, 3)), ValueError, "empty"),
        (lambda: mean_threshold_mask(NAN), ValueError, "1 NaN"),
        (lambda: mean_threshold_mask(torch.ones(1, 1), -1.0), ValueError, "c must be >= 0"),
        (lambda: mean_threshold_mask(torch.ones(3)), ValueError, "has no rows"),
        (lambda: magnitude_score([[1.0]]), TypeError, "torch.Tensor"),
        (lambda: magnitude_score(NAN), ValueError, "NaN"),
        (lambda: random_score(torch.empty(0)), ValueError, "empty"),
        (lambda: taylor_score(torch.ones(2), torch.ones(3)), ValueError, r"G must have shape \(2,\)"),
        (lambda: taylor_score(NAN, NAN), ValueError, "NaN"),
        (lambda: movement_score(torch.ones(2), torch.ones(3)), ValueError, r"G must have shape \(2,\)"),
        (lambda: movement_score(torch.ones(2), torch.ones(2), torch.ones(1)), ValueError, "previous must have shape"),
        (lambda: top_mask(NAN, 0.5), ValueError, "NaN"),
        (lambda: top_mask(torch.ones(2), 90), ValueError, "did you mean 0.9"),
        (lambda: top_mask(torch.ones(2), True), ValueError, "got True"),
        (lambda: global_masks([torch.ones(2)], 0.5), TypeError, "dict {layer name: score}, got list"),
        (lambda: global_masks({"fc": torch.ones(2)}, 2), ValueError, "global_masks: sparsity"),
        (lambda: global_masks({}, 0.5), ValueError, "at least one layer"),
        (lambda: global_masks({"fc": NAN}, 0.5), ValueError, "'fc'"),
        (lambda: global_masks({"fc": torch.ones(2)}, -0.1), ValueError, "fraction"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, says, as_a_user):
    with pytest.raises(error, match=says):
        call()
