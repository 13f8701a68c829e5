"""Codebooks: nearest centroid, falling distortion, summed gradients; against scikit-learn, brute force and autograd."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import nn
from torch.nn.utils import parametrize

from course_lib.quantization.codebook import (
    apply_codebook,
    centroid_gradient,
    codebook_distortion,
    initial_codebook,
    kmeans_codebook,
    nearest_codes,
    share_weights_,
)
from course_lib.quantization.qat import make_permanent


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


seeds = st.integers(0, 2**31 - 1)
starts = st.sampled_from(["linear", "density", "random"])


@given(seeds, st.integers(1, 9))
def test_every_weight_goes_to_its_nearest_centroid(seed, n_codes):
    """Eq. (2) as a full table of distances; a tie within rounding may go either way, so distances are compared."""
    W = draw(seed, 4, 7)
    codebook, codes = kmeans_codebook(W, n_codes, "density", 5)
    distance = (W[..., None] - codebook).abs()  # (4, 7, K)
    chosen = distance.gather(-1, codes[..., None])[..., 0]
    assert (chosen <= distance.min(dim=-1).values + 1e-12).all()


@given(seeds, st.integers(1, 12), starts)
def test_the_distortion_never_rises_between_iterations(seed, n_codes, start):
    """(2) and (3) each minimize D with the other held; moving an empty centroid onto a weight only removes an error."""
    W = draw(seed, 40) ** 3  # heavy tails leave clusters of a linear start empty
    D = []
    for n_iterations in range(8):
        generator = torch.Generator().manual_seed(seed % 1000)
        D.append(codebook_distortion(W, *kmeans_codebook(W, n_codes, start, n_iterations, generator=generator)))
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(D)), D


@given(seeds)
def test_centroids_are_the_means_of_their_members_at_the_end(seed):
    W = draw(seed, 50)
    codebook, codes = kmeans_codebook(W, 4, "density", 200)
    for k in range(4):
        assert abs(codebook[k] - W[codes == k].mean()) < 1e-12


@pytest.mark.parametrize("start", ["linear", "density"])
def test_scikit_learn_finds_the_same_centroids_from_the_same_start(start):
    """Dense Gaussian data and 8 codes: no cluster is ever empty, so both run plain Lloyd iterations."""
    W = draw(3, 3000)
    ours, codes = kmeans_codebook(W, 8, start, 1000)
    first = initial_codebook(W, 8, start)[:, None].numpy()
    theirs = KMeans(8, init=first, n_init=1, max_iter=1000, tol=0, algorithm="lloyd").fit(W[:, None].numpy())
    assert torch.allclose(ours, torch.from_numpy(theirs.cluster_centers_[:, 0]).sort().values, atol=1e-9)
    assert abs(codebook_distortion(W, ours, codes) * 3000 - theirs.inertia_) < 1e-8


@given(seeds, st.integers(1, 4))
def test_no_result_beats_the_best_partition_and_some_start_reaches_it(seed, n_codes):
    """Brute force over all ways to cut 8 sorted weights into K runs: an optimal clustering of a line is made of runs."""
    w = draw(seed, 8).sort().values
    best = min(
        sum(float(part.var(unbiased=False)) * len(part) for part in torch.tensor_split(w, list(cuts)))
        for cuts in itertools.combinations(range(1, 8), n_codes - 1)
    )
    D = []
    for trial in range(30):
        result = kmeans_codebook(w, n_codes, "random", 50, generator=torch.Generator().manual_seed(trial))
        D.append(8 * codebook_distortion(w, *result))
    assert min(D) >= best - 1e-12
    assert min(D) <= best * 1.05 + 1e-12


def test_hand_example():
    """Starts at 0, 5, 10: runs {0, 1}, {4, 6}, {10}; one round moves the centroids to 0.5, 5, 10 and they stay."""
    W = torch.tensor([[0.0, 10.0, 4.0], [6.0, 1.0, 10.0]])
    codebook, codes = kmeans_codebook(W, 3, "linear", 1)
    assert codebook.tolist() == [0.5, 5.0, 10.0]
    assert codes.tolist() == [[0, 2, 1], [1, 0, 2]]
    assert apply_codebook(codebook, codes).tolist() == [[0.5, 10.0, 5.0], [5.0, 0.5, 10.0]]
    assert codebook_distortion(W, codebook, codes) == pytest.approx((0.25 + 0.25 + 1 + 1) / 6)


def test_the_three_starts_are_what_they_say():
    W = torch.tensor([0.0, 1.0, 1.5, 2.0, 100.0, 3.0, 4.0, 5.0])
    assert initial_codebook(W, 3, "linear").tolist() == [0.0, 50.0, 100.0]
    assert initial_codebook(W, 1, "linear").tolist() == [50.0]
    assert initial_codebook(W, 2, "density").tolist() == [1.5, 5.0]  # positions 2 and 6 of the sorted list
    assert initial_codebook(W, 8, "random").equal(W.sort().values)  # no position twice
    drawn = initial_codebook(W, 4, "random", torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) <= set(W.tolist())
    assert drawn.equal(initial_codebook(W, 4, "random", torch.Generator().manual_seed(0)))


def test_pruned_weights_take_no_part_and_stay_zero():
    W = draw(1, 6, 8)
    mask = W.abs() > 0.7
    codebook, codes = kmeans_codebook(W * mask, 4, "linear", 20, mask=mask)
    assert codes.eq(-1).equal(~mask)
    assert apply_codebook(codebook, codes)[~mask].abs().max() == 0
    alone, _ = kmeans_codebook(W[mask], 4, "linear", 20)
    assert codebook.equal(alone)
    assert codebook_distortion(W, codebook, codes) == codebook_distortion(W[mask], codebook, codes[mask])


@pytest.mark.parametrize("W", [torch.full((3, 4), 0.7), torch.zeros(2, 2), torch.tensor([5.0]), torch.tensor([1.0, 1.0, 2.0])])
@pytest.mark.parametrize("start", ["linear", "density"])
def test_fewer_distinct_weights_than_codes_are_kept_exactly(W, start):
    """Surplus centroids repeat values; nothing is NaN and nothing is lost."""
    codebook, codes = kmeans_codebook(W, 4, start, 10)
    assert codebook.isfinite().all() and apply_codebook(codebook, codes).equal(W)


def test_an_empty_cluster_finds_work():
    """The linear start leaves centroids 1 and 2 of (0, 33, 67, 100) empty; in the end every code has members."""
    W = torch.cat([draw(0, 100) * 0.1, torch.tensor([100.0], dtype=torch.float64)])
    codebook, codes = kmeans_codebook(W, 4, "linear", 20)
    assert codes.unique().numel() == 4 and codebook_distortion(W, codebook, codes) < 0.003


def test_half_way_goes_to_the_lower_centroid():
    assert nearest_codes(torch.tensor([1.0, 0.999, 1.001]), torch.tensor([0.0, 2.0])).tolist() == [0, 0, 1]


@given(seeds, st.integers(1, 6))
def test_the_centroid_gradient_is_the_sum_spelled_out_and_what_autograd_says(seed, n_codes):
    G = draw(seed, 3, 5)
    codes = torch.randint(-1, n_codes, (3, 5), generator=torch.Generator().manual_seed(seed))
    spelled = [sum(g for g, q in zip(G.flatten().tolist(), codes.flatten().tolist()) if q == k) for k in range(n_codes)]
    got = centroid_gradient(G, codes, n_codes)
    assert torch.allclose(got, torch.tensor(spelled, dtype=torch.float64), atol=1e-12)
    codebook = draw(seed + 1, n_codes).requires_grad_()
    (apply_codebook(codebook, codes) * G).sum().backward()
    assert torch.allclose(codebook.grad, got, atol=1e-12)


def test_one_step_of_centroid_fine_tuning_is_the_formula():
    """c <- c - eta * sum of members' gradients, in a network, with the pruned weights still zero afterwards."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        model[0].weight[:, 0] = 0
    X, labels = draw(5, 10, 6), torch.arange(10) % 3
    codes = share_weights_(model, 4)
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for i in (0, 2):
            plain[i].weight.copy_(model[i].weight)
            plain[i].bias.copy_(model[i].bias)
    nn.functional.cross_entropy(plain(X), labels).backward()
    before = {i: model[i].parametrizations.weight.original.detach().clone() for i in (0, 2)}
    nn.functional.cross_entropy(model(X), labels).backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    for i in (0, 2):
        expected = before[i] - 0.5 * centroid_gradient(plain[i].weight.grad, codes[str(i)], 4)
        assert torch.allclose(model[i].parametrizations.weight.original, expected, atol=1e-12)
    assert model[0].weight[:, 0].abs().max() == 0
    shared = model[0].weight.detach().clone()
    parametrize.remove_parametrizations(model[0], "weight")
    assert model[0].weight.equal(shared) and shared.unique().numel() == 5  # four centroids and zero


def test_input_is_not_changed_and_twice_is_the_same():
    W = draw(2, 30)
    before = W.clone()
    a, b = kmeans_codebook(W, 4), kmeans_codebook(W, 4)
    assert a[0].equal(b[0]) and a[1].equal(b[1]) and W.equal(before)


def test_the_codebook_has_the_type_of_the_weights():
    codebook, codes = kmeans_codebook(torch.randn(4, 4), 3)
    assert codebook.dtype == torch.float32 and codes.dtype == torch.int64 and codes.shape == (4, 4)


def test_sharing_is_all_or_nothing_and_not_done_twice():
    """A refusal half-way would leave a model that is neither plain nor shared; a second codebook would share codebooks."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight.zero_()
    with pytest.raises(ValueError, match="layer '1' keeps no weight"):
        share_weights_(model, 2)
    assert not any(parametrize.is_parametrized(layer) for layer in model)
    with torch.no_grad():
        model[1].weight.copy_(draw(3, 2, 3))
    share_weights_(model, 2)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="layer '0' is already shared; make_permanent"):
        share_weights_(model, 2)
    assert all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True))
    share_weights_(make_permanent(model), 2)


def test_random_starts_follow_the_generator_whatever_the_global_seed():
    """One generator, drawn on layer after layer: the codes are those of kmeans_codebook with the same generator."""
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5))
    weights = [layer.weight.detach().clone() for layer in model]
    codes = share_weights_(model, 4, "random", 0, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(5)
    for W, got in zip(weights, codes.values(), strict=True):
        assert got.equal(kmeans_codebook(W, 4, "random", 0, mask=W != 0, generator=generator)[1])


@pytest.mark.usefixtures("as_a_user")
def test_codes_of_the_wrong_kind_or_shape_are_refused_in_words():
    c = torch.tensor([-1.0, 1.0])
    with pytest.raises(ValueError, match=r"apply_codebook: codes must be whole numbers \(int64\), got torch.float32"):
        apply_codebook(c, torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"codebook_distortion: codes must have shape \(2, 3\), got \(3,\)"):
        codebook_distortion(torch.ones(2, 3), c, torch.tensor([0, 1, 1]))
    assert apply_codebook(c, torch.tensor([1, 0], dtype=torch.uint8)).tolist() == [1.0, -1.0]


@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_in_words():
    W = torch.ones(2, 2)
    with pytest.raises(ValueError, match="known: 'linear', 'density', 'random'"):
        kmeans_codebook(W, 2, "kmeans++")
    with pytest.raises(ValueError, match="n_codes must be a whole number >= 1"):
        kmeans_codebook(W, 0)
    with pytest.raises(ValueError, match="keeps no weight"):
        kmeans_codebook(W, 2, mask=torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(TypeError, match="must be boolean"):
        kmeans_codebook(W, 2, mask=torch.ones(2, 2))
    with pytest.raises(ValueError, match="1 NaN"):
        kmeans_codebook(torch.tensor([float("nan"), 1.0]), 2)
    with pytest.raises(ValueError, match="cannot draw 5"):
        initial_codebook(W, 5, "random")
    with pytest.raises(ValueError, match="ascending"):
        nearest_codes(W, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="from 0 to 2"):
        apply_codebook(torch.ones(2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="from -2 to 0"):
        centroid_gradient(torch.ones(2), torch.tensor([0, -2]), 3)
    with pytest.raises(ValueError, match="every weight is pruned"):
        codebook_distortion(torch.ones(2), torch.ones(1), torch.tensor([-1, -1]))
    with pytest.raises(ValueError, match="no linear"):
        share_weights_(nn.ReLU(), 4)
