"""N:M blocks and channel scores of section 3.1. Each name is a claim; each docstring says why it must hold."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from course_lib.pruning import batch_norm_scores, channel_scores, magnitude_score, n_m_mask, top_mask


def seeded(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


seeds = st.integers(0, 2**31 - 1)
patterns = st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (4, 4), (4, 8)])


@given(seeds, patterns)
def test_each_block_keeps_exactly_n(seed, pattern):
    n, m = pattern
    mask = n_m_mask(seeded(seed, 3, 4 * m), n, m)
    assert (mask.reshape(3, 4, m).sum(-1) == n).all()


@given(seeds, st.sampled_from([(1, 2), (2, 4), (3, 4)]))
def test_no_other_choice_in_a_block_scores_more(seed, pattern):
    """Optimality, by trying all C(m, n) choices of every block. The sums are of the same numbers, so >= is exact enough."""
    n, m = pattern
    score = seeded(seed, 2, 2 * m).double()
    blocks, masks = score.reshape(4, m).tolist(), n_m_mask(score, n, m).reshape(4, m).tolist()
    for block, mask in zip(blocks, masks):
        ours = sum(sorted(s for s, keep in zip(block, mask) if keep))
        assert ours >= max(sum(sorted(choice)) for choice in itertools.combinations(block, n)) - 1e-12


@given(seeds)
def test_a_pattern_never_keeps_more_than_a_free_choice(seed):
    """Every 2:4 mask is also an unstructured mask of half the weights, so the free optimum is at least as good."""
    score = magnitude_score(seeded(seed, 6, 16))
    assert score[n_m_mask(score, 2, 4)].sum() <= score[top_mask(score, 0.5)].sum() * (1 + 1e-6)


def test_two_of_four_by_hand():
    """Blocks (1, 2, 3, 4) and (8, 0, 0, 7) keep their two largest; of four equals the two later ones stay."""
    score = torch.tensor([[1.0, 2.0, 3.0, 4.0, 8.0, 0.0, 0.0, 7.0], [5.0] * 8])
    assert n_m_mask(score, 2, 4).int().tolist() == [[0, 0, 1, 1, 1, 0, 0, 1], [0, 0, 1, 1] * 2]


def test_blocks_of_a_convolution_run_along_its_input_channels():
    """At each place of the window, (out, in) is a matrix of its own: the mask there must be that matrix's mask."""
    score = seeded(0, 3, 8, 2, 5)
    mask = n_m_mask(score, 2, 4)
    for y, x in itertools.product(range(2), range(5)):
        assert mask[:, :, y, x].equal(n_m_mask(score[:, :, y, x], 2, 4))


@given(seeds, st.sampled_from(["l1", "l2"]))
def test_channel_scores_are_their_formulas_spelled_out(seed, norm):
    """Sums of 18 float32 terms in another order: a relative error of at most 18 * 2^-24, about 1e-6."""
    W = seeded(seed, 4, 2, 3, 3)
    for i, score in enumerate(channel_scores(W, norm).tolist()):
        values = [abs(v) for v in W[i].flatten().double().tolist()]
        expected = math.fsum(values) if norm == "l1" else math.sqrt(math.fsum(v * v for v in values))
        assert math.isclose(score, expected, rel_tol=2e-6)


@given(seeds, st.sampled_from([1, 2]))
def test_the_worst_channels_are_those_that_torch_prunes(seed, order):
    """Peer: prune.ln_structured over dimension 0."""
    layer = nn.Conv2d(3, 8, 3)
    layer.weight.data = seeded(seed, 8, 3, 3, 3)
    keep = top_mask(channel_scores(layer.weight.detach(), f"l{order}"), 0.5)
    prune.ln_structured(layer, "weight", amount=0.5, n=order, dim=0)
    assert keep.equal(layer.weight_mask[:, 0, 0, 0].bool())


def test_the_norms_by_hand_and_where_they_disagree():
    """(3, 4) and (6, 0.5): L1 says 7 > 6.5, L2 says 5 < 6.02. One large weight counts more in L2."""
    W = torch.tensor([[3.0, -4.0], [6.0, 0.5]])
    assert channel_scores(W, "l1").tolist() == [7.0, 6.5]
    assert channel_scores(W)[0] == 5.0 and channel_scores(W, "l2").argmax() == 1


def test_batch_norm_scores_are_the_size_of_gamma():
    assert batch_norm_scores(torch.tensor([0.5, -2.0, 0.0])).tolist() == [0.5, 2.0, 0.0]


def test_weights_before_a_batch_norm_may_be_rescaled_and_gamma_may_not():
    """In training mode BN divides by the batch's own deviation: a channel ten times larger leaves the output as it was."""
    layer, norm, x = nn.Linear(6, 4, bias=False).double(), nn.BatchNorm1d(4, eps=1e-14).double(), seeded(0, 32, 6).double()
    before = norm(layer(x)).detach()
    layer.weight.data[1] *= 10
    torch.testing.assert_close(norm(layer(x)), before, rtol=0, atol=1e-9)
    norm.weight.data[1] *= 10
    assert not torch.allclose(norm(layer(x)), before, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_constant_and_zero_tensors_work(value):
    W = torch.full((2, 4), value)
    assert n_m_mask(W, 1, 2).sum() == 4 and channel_scores(W).isfinite().all()
    assert n_m_mask(torch.ones(1, 1), 1, 1).all() and batch_norm_scores(W[0]).equal(W[0].abs())


def test_inputs_are_not_changed_and_twice_is_the_same():
    W = seeded(0, 4, 8)
    before = W.clone()
    assert n_m_mask(W, 2, 4).equal(n_m_mask(W, 2, 4)) and channel_scores(W).equal(channel_scores(W))
    assert batch_norm_scores(W[0]).equal(batch_norm_scores(W[0])) and W.equal(before)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: n_m_mask(torch.ones(2, 6), 2, 4), ValueError, "6 inputs do not divide into blocks of 4"),
        (lambda: n_m_mask(torch.ones(2, 8), 5, 4), ValueError, "n <= m"),
        (lambda: n_m_mask(torch.ones(2, 8), 0, 4), ValueError, "n must be a whole number >= 1"),
        (lambda: n_m_mask(torch.ones(2, 8), 2, 2.5), ValueError, "m must be a whole number"),
        (lambda: n_m_mask(torch.ones(8), 2, 4), ValueError, "input dimension"),
        (lambda: n_m_mask(torch.full((2, 4), float("inf")), 2, 4), ValueError, "8 infinite"),
        (lambda: channel_scores(torch.ones(2, 2), "l3"), ValueError, "known: 'l1', 'l2'"),
        (lambda: channel_scores(torch.empty(2, 0)), ValueError, "empty"),
        (lambda: batch_norm_scores(torch.ones(2, 2)), ValueError, "1 dimension"),
        (lambda: batch_norm_scores([1.0]), TypeError, "torch.Tensor"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, says, as_a_user):
    with pytest.raises(error, match=says):
        call()
