"""The loop and its parts: equal to torch's functions, repeatable bit for bit, and leaving nothing disturbed behind."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course_lib.optimizers import SGD, Adam
from course_lib.training import cross_entropy, n_updates, train, warmup_cosine

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
        ({"targets": torch.full((50,), -1)}, "train: labels must lie in 0.*got -1 to -1"),
        ({"targets": torch.full((50,), 99)}, "train: labels must lie in 0.*got 99 to 99"),
        ({"targets": torch.zeros(50)}, "train: .*whole class numbers"),
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


def test_an_optimizer_of_another_model_is_refused():
    """It would walk through all batches, report a falling or constant loss, and change nothing of this model."""
    X, labels = torch.randn(8, 4), torch.zeros(8, dtype=torch.int64)
    model, other = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    for optimizer in (Adam(other.parameters()), torch.optim.SGD(other.parameters(), lr=0.1)):
        with pytest.raises(ValueError, match="no parameter of this model"):
            train(model, X, labels, optimizer=optimizer, progress=False)


def test_augmentation_must_keep_the_number_of_samples():
    X, labels = torch.randn(8, 4), torch.zeros(8, dtype=torch.int64)
    with pytest.raises(ValueError, match="made 5 samples of 8"):
        train(torch.nn.Linear(4, 2), X, labels, augment=lambda x: x[:5], progress=False)
