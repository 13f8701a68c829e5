"""The loop and its parts: equal to torch's functions, repeatable bit for bit, and leaving nothing disturbed behind."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course_lib.optimizers import SGD
from course_lib.training import clip_gradients, cross_entropy, n_updates, train, warmup_cosine

EPS64 = 2.0**-52
seeds = st.integers(0, 2**31 - 1)


def small_problem(n=50, dtype=torch.float32, dropout=0.0):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(n, 6, generator=generator, dtype=dtype)
    labels = torch.randint(3, (n,), generator=generator)
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)).to(dtype), X, labels


def weights_of(model):
    return torch.cat([W.detach().flatten() for W in model.parameters()])


# cross_entropy


@given(seeds, st.floats(0.1, 50.0))
def test_cross_entropy_and_its_gradient_are_torchs(seed, size):
    """Sums of at most 8 terms: a few dozen roundings relative to the largest logit (up to 5 standard deviations)."""
    generator = torch.Generator().manual_seed(seed)
    ours = (size * torch.randn(5, 8, generator=generator, dtype=torch.float64)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    labels = torch.randint(8, (5,), generator=generator)
    a, b = cross_entropy(ours, labels), F.cross_entropy(theirs, labels)
    a.backward(), b.backward()
    assert abs(a.item() - b.item()) < 100 * EPS64 * 5 * max(size, 1)
    assert float((ours.grad - theirs.grad).abs().max()) < 1000 * EPS64 * max(size, 1)


def test_cross_entropy_is_its_formula_spelled_out():
    logits, labels = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]], dtype=torch.float64), torch.tensor([1, 0])
    rows = [math.log(sum(math.exp(u) for u in row)) - row[y] for row, y in zip(logits.tolist(), labels.tolist())]
    assert abs(cross_entropy(logits, labels).item() - sum(rows) / 2) < 20 * EPS64


def test_the_gradient_of_cross_entropy_is_predicted_minus_true():
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 1])
    cross_entropy(logits, labels).backward()
    expected = (logits.detach().softmax(dim=1) - F.one_hot(labels, 3)) / 4
    assert torch.allclose(logits.grad, expected, rtol=0, atol=20 * EPS64)


def test_huge_logits_do_not_overflow_and_equal_logits_give_log_c():
    assert cross_entropy(torch.tensor([[1000.0, 0.0]]), torch.tensor([1])).item() == 1000.0
    assert abs(cross_entropy(torch.zeros(7, 10), torch.zeros(7, dtype=torch.int64)).item() - math.log(10)) < 1e-6
    assert cross_entropy(torch.tensor([[-5.0]]), torch.tensor([0])).item() == 0.0
    assert math.isnan(cross_entropy(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0])).item())


@pytest.mark.parametrize(
    "logits, labels, error, says",
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), ValueError, "empty"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), ValueError, r"2 dimension"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), ValueError, "must be 2 whole"),
        (torch.zeros(2, 3), torch.zeros(2), ValueError, "whole class numbers"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), ValueError, r"lie in 0\.\.2, got 0 to 3"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), ValueError, r"got -1"),
        ([[0.0]], torch.tensor([0]), TypeError, "must be a torch.Tensor"),
    ],
)
def test_cross_entropy_refuses_bad_input_in_words(logits, labels, error, says, as_a_user):
    with pytest.raises(error, match=says):
        cross_entropy(logits, labels)


# warmup_cosine


@given(st.integers(1, 50), st.floats(1e-4, 1.0), st.floats(0.0, 1.0))
def test_without_warm_up_it_is_torchs_cosine(n_steps, lr, low):
    """With T_max = n_steps. torch multiplies its way from step to step, so its roundings grow with the step number."""
    W = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([W], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps, eta_min=low * lr)
    for step in range(n_steps + 1):
        expected = optimizer.param_groups[0]["lr"]
        assert abs(warmup_cosine(step, n_steps, lr, lr_min=low * lr) - expected) <= 20 * (step + 1) * EPS64 * lr
        optimizer.step()
        schedule.step()


def test_hand_example_of_the_schedule():
    """Climb in 2 steps to 1, then 4 steps of half a cosine: 1, (1 + sqrt(1/2))/2, 1/2, ..., and 0 from step 6 on."""
    rates = [warmup_cosine(t, 6, 1.0, n_warmup=2) for t in range(8)]
    r = math.sqrt(0.5)
    assert torch.allclose(torch.tensor(rates), torch.tensor([0.5, 1, 1, (1 + r) / 2, 0.5, (1 - r) / 2, 0, 0]), atol=1e-7)


@given(st.integers(2, 100), st.data())
def test_the_rate_rises_to_lr_and_then_never_rises_again(n_steps, data):
    n_warmup = data.draw(st.integers(0, n_steps))
    rates = [warmup_cosine(t, n_steps, 0.3, n_warmup, lr_min=0.01) for t in range(n_steps)]
    assert all(a < b for a, b in pairwise(rates[:n_warmup])) and all(a >= b for a, b in pairwise(rates[n_warmup:]))
    assert max(rates) == pytest.approx(0.3) and min(rates) > 0


@pytest.mark.parametrize(
    "arguments, says",
    [((-1, 5, 0.1), "step"), ((0, 0, 0.1), "n_steps"), ((0, 5, 0.1, 6), "n_warmup <="), ((0, 5, 0.1, 0, 0.2), "lr_min <=")],
)
def test_an_impossible_schedule_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        warmup_cosine(*arguments)


# clip_gradients


@given(seeds, st.floats(0.01, 20.0))
def test_clipping_is_torchs(seed, max_norm):
    generator = torch.Generator().manual_seed(seed)
    ours = [torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (5,), (2,))]
    for W in ours[:2]:
        W.grad = torch.randn(W.shape, generator=generator, dtype=torch.float64)
    theirs = copy.deepcopy(ours)
    for W, V in zip(ours[:2], theirs):
        V.grad = W.grad.clone()
    norm = clip_gradients(ours, max_norm)
    assert abs(norm - nn.utils.clip_grad_norm_(theirs, max_norm).item()) < 50 * EPS64 * norm
    for W, V in zip(ours[:2], theirs):
        assert torch.allclose(W.grad, V.grad, rtol=50 * EPS64, atol=0)
    assert ours[2].grad is None


def test_hand_example_of_clipping():
    """Norm of (3, 4) is 5: to norm 1 everything is divided by 5 (+ 1e-6); below the limit nothing changes."""
    W = torch.zeros(2, requires_grad=True)
    W.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([W], 10.0) == 5.0 and W.grad.tolist() == [3.0, 4.0]
    assert clip_gradients(iter([W]), 1.0) == 5.0
    assert torch.allclose(W.grad, torch.tensor([0.6, 0.8]), atol=1e-6)


def test_clipping_zero_or_no_gradients_works_and_nan_is_refused():
    W = torch.zeros(2, requires_grad=True)
    assert clip_gradients([W], 1.0) == 0.0
    W.grad = torch.zeros(2)
    assert clip_gradients([W], 1.0) == 0.0 and W.grad.tolist() == [0, 0]
    W.grad = torch.tensor([1.0, float("nan")])
    with pytest.raises(FloatingPointError, match="nan"):
        clip_gradients([W], 1.0)
    assert W.grad[0] == 1.0
    with pytest.raises(ValueError, match="max_norm must be > 0"):
        clip_gradients([W], 0.0)


def test_clipping_refuses_a_single_tensor(as_a_user):
    with pytest.raises(TypeError, match="one tensor"):
        clip_gradients(torch.zeros(2), 1.0)


# train


def test_train_is_the_loop_written_out():
    """Same batches, torch's optimizer and loss, no function of ours but the plan: float64 leaves only roundings."""
    model, X, labels = small_problem(dtype=torch.float64)
    theirs = copy.deepcopy(model)
    history = train(
        model, X, labels, optimizer=SGD(model.parameters(), lr=0.1, momentum=0.9), n_epochs=3, batch_size=16, seed=5
    )
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    generator, losses = torch.Generator().manual_seed(5), []
    for _ in range(3):
        order = torch.randperm(50, generator=generator)
        torch.randint(2**31, (4,), generator=generator)  # the seeds of the four steps
        for batch in order.split(16):
            optimizer.zero_grad()
            loss = F.cross_entropy(theirs(X[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert len(history.losses) == n_updates(50, 3, 16) == 12
    assert torch.allclose(torch.tensor(history.losses), torch.tensor(losses), rtol=0, atol=1e4 * EPS64)
    assert torch.allclose(weights_of(model), weights_of(theirs), rtol=0, atol=1e4 * EPS64)


def test_it_learns_and_every_sample_is_seen_once_an_epoch():
    model, X, labels = small_problem()
    seen = []
    first = cross_entropy(model(X), labels).item()
    tagged = torch.cat([X, torch.arange(50.0)[:, None]], dim=1)

    def forward(x):
        seen.extend(x[:, -1].long().tolist())
        return model(x[:, :-1])

    history = train(model, tagged, labels, forward=forward, n_epochs=2, batch_size=16, progress=False)
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50)) and seen[:50] != seen[50:]
    assert cross_entropy(model(X), labels).item() < first
    assert history.seconds > 0 and history.lrs == [1e-3] * 8


@given(st.integers(1, 60), st.integers(1, 40))
def test_accumulation_in_any_number_of_pieces_is_the_large_batch(batch_size, n_accumulate):
    """Eq. (5), also when the pieces are unequal. Float64 and SGD: differences are roundings of 50-term sums."""
    results = []
    for pieces in (1, n_accumulate):
        model, X, labels = small_problem(dtype=torch.float64)
        optimizer = SGD(model.parameters(), lr=0.2)
        history = train(
            model, X, labels, optimizer=optimizer, batch_size=batch_size, n_accumulate=pieces, progress=False, max_norm=1.0
        )
        results.append((weights_of(model), history.losses))
    assert torch.allclose(results[0][0], results[1][0], rtol=0, atol=1e5 * EPS64)
    assert torch.allclose(torch.tensor(results[0][1]), torch.tensor(results[1][1]), rtol=0, atol=1e4 * EPS64)


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others():
    """With dropout and random augmentation, from different global states."""
    got = {}
    for name, seed, state in (("a", 3, 10), ("b", 3, 11), ("c", 4, 10)):
        model, X, labels = small_problem(dropout=0.5)
        torch.manual_seed(state)
        train(model, X, labels, n_epochs=2, batch_size=16, seed=seed, augment=lambda x: x + torch.randn_like(x), progress=False)
        got[name] = weights_of(model)
    assert got["a"].equal(got["b"]) and not got["a"].equal(got["c"])


def test_steps_draw_different_random_numbers():
    model, X, labels = small_problem()
    drawn = []
    train(model, X, labels, batch_size=10, augment=lambda x: drawn.append(torch.rand(())) or x, progress=False)
    assert len({float(d) for d in drawn}) == 5


def test_the_callers_random_numbers_data_and_modes_are_as_before():
    model, X, labels = small_problem(dropout=0.5)
    model[2].eval()
    modes, X_before = [m.training for m in model.modules()], X.clone()
    before = torch.get_rng_state()
    train(model, X, labels, progress=False)
    assert torch.get_rng_state().equal(before) and X.equal(X_before)
    assert [m.training for m in model.modules()] == modes
    assert all(W.grad is None for W in model.parameters())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_passes_and_leaves_a_usable_model(error):
    """The weights are those after the last whole update; modes, random numbers and gradients are in order; training goes on."""
    model, X, labels = small_problem()
    model.eval()
    state, after = torch.get_rng_state(), {}

    def stop(step):
        after[step] = weights_of(model)
        if step == 2:
            raise error

    with pytest.raises(error):
        train(model, X, labels, n_epochs=5, batch_size=16, after_step=stop, progress=False)
    assert weights_of(model).equal(after[2]) and not model.training and all(W.grad is None for W in model.parameters())
    assert torch.get_rng_state().equal(state)
    assert len(train(model, X, labels, progress=False).losses) == 1


def test_divergence_is_said_with_its_step_and_the_weights_stay_finite():
    """A squared error with a rate far above 2/L squares nothing but grows by a factor each step until float32 overflows."""
    _, X, labels = small_problem()
    linear = nn.Linear(6, 1)
    with pytest.raises(FloatingPointError, match=r"step \d+|gradients of parameter"):
        train(
            linear,
            X,
            labels.float(),
            loss_fn=lambda u, y: (u.squeeze(1) - y).square().mean(),
            optimizer=SGD(linear.parameters(), lr=100.0),
            n_epochs=100,
            progress=False,
        )
    assert weights_of(linear).isfinite().all()


def test_an_infinite_loss_stops_the_training_even_where_its_gradient_is_finite():
    model, X, labels = small_problem()
    with pytest.raises(FloatingPointError, match=r"the loss of step 0 is inf, lr 0\.001"):
        train(model, X, labels, loss_fn=lambda u, y: u.mean() + math.inf, progress=False)


def test_schedule_sets_the_rate_of_each_step_for_ours_and_for_torchs_optimizer():
    lrs = []
    for make in (lambda p: SGD(p, lr=9.0), lambda p: torch.optim.SGD(p, lr=9.0)):
        model, X, labels = small_problem(dtype=torch.float64)
        history = train(
            model,
            X,
            labels,
            optimizer=make(model.parameters()),
            batch_size=16,
            schedule=lambda t: warmup_cosine(t, 4, 0.1, 1),
            progress=False,
        )
        lrs.append((history.lrs, weights_of(model)))
    assert lrs[0][0] == lrs[1][0] == [warmup_cosine(t, 4, 0.1, 1) for t in range(4)]
    assert torch.allclose(lrs[0][1], lrs[1][1], rtol=0, atol=1e3 * EPS64)


def test_several_targets_reach_the_loss_in_order_and_max_norm_clips():
    """With a loss linear in the outputs, one SGD step of lr 1 has exactly the clipped norm."""
    model, X, labels = small_problem()
    before = weights_of(model)

    def loss(outputs, first, second):
        assert first.equal(labels[second]) and len(outputs) == len(first)
        return 1000 * outputs.mean()

    optimizer = SGD(model.parameters(), lr=1.0)
    train(model, X, (labels, torch.arange(50)), loss_fn=loss, optimizer=optimizer, max_norm=0.5, batch_size=50, progress=False)
    assert abs(float((weights_of(model) - before).norm()) - 0.5) < 1e-5


def test_a_single_sample_and_token_inputs_work():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2))
    history = train(model, torch.tensor([[1, 2, 6]]), torch.tensor([1]), progress=False)
    assert len(history.losses) == 1


def test_the_progress_bar_counts_every_update(capsys):
    model, X, labels = small_problem()
    train(model, X, labels, batch_size=16, description="fitting")
    assert "fitting" in (shown := capsys.readouterr().err) and "4/4" in shown
    train(model, X, labels, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change, says",
    [
        ({"X": torch.zeros(0, 6)}, "X is empty"),
        ({"X": torch.full((50, 6), float("nan"))}, "300 NaN"),
        ({"targets": torch.zeros(49, dtype=torch.int64)}, "X has 50 samples, targets.0. has 49"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"n_accumulate": 0}, "n_accumulate"),
        ({"max_norm": -1.0}, "max_norm"),
        ({"first_step": -1}, "first_step"),
    ],
)
def test_train_refuses_bad_input_in_words(change, says, as_a_user):
    model, X, labels = small_problem()
    with pytest.raises(ValueError, match=says):
        train(model, **({"X": X, "targets": labels, "progress": False} | change))


def test_n_updates_counts_the_smaller_last_batch():
    assert (n_updates(128), n_updates(129), n_updates(10, 3, 4)) == (1, 2, 9)
    with pytest.raises(ValueError, match="n_samples"):
        n_updates(0)
