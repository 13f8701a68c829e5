"""What 16 bits lose, predicted from the format's smallest number; loss scaling equal to torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.precision import LossScaler, autocast_forward, smallest_positive, underflow_share
from course_lib.training import train

seeds = st.integers(0, 2**31 - 1)


def small_problem(n=50, dtype=torch.float32, dropout=0.0):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(n, 6, generator=generator, dtype=dtype)
    labels = torch.randint(3, (n,), generator=generator)
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)).to(dtype), X, labels


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_smallest_number_is_torchs_and_half_of_it_is_zero(dtype):
    """finfo.tiny is the smallest normal number; eps times it is the smallest subnormal. Half of that ties to the even 0."""
    smallest = smallest_positive(dtype)
    assert smallest == torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    if dtype == torch.float16:
        both = torch.tensor([smallest, smallest / 2, smallest / 2 * 1.001], dtype=torch.float64).to(dtype)
        assert (both > 0).tolist() == [True, False, True] and smallest == 2.0**-24


@given(seeds, st.floats(-30, 0), st.integers(0, 20))
def test_predicted_underflow_is_what_casting_does(seed, log_size, log_scale):
    """Every half-precision rounding to zero is predicted by the threshold 2^-25 alone; powers of two scale exactly."""
    generator = torch.Generator().manual_seed(seed)
    G = 2.0**log_size * torch.randn(500, generator=generator) * 10.0 ** torch.randn(500, generator=generator)
    G[:50] = 0
    scaled = (G * 2.0**log_scale).half()
    lost = int(((scaled == 0) & (G != 0)).sum()) / 450
    assert underflow_share(G, torch.float16, scale=2.0**log_scale) == lost


def test_underflow_of_zeros_and_bad_input():
    assert underflow_share(torch.zeros(3)) == 0.0
    assert underflow_share(torch.tensor([2.0**-25, 2.0**-24])) == 0.5
    assert underflow_share(torch.tensor([2.0**-25]), torch.bfloat16) == 0.0
    with pytest.raises(ValueError, match="scale"):
        underflow_share(torch.ones(1), scale=0.0)
    with pytest.raises(ValueError, match="dtype"):
        smallest_positive(torch.int8)


def test_the_scaler_does_what_torchs_does():
    """Good steps, an overflow, growth: the same scale and the same gradients at each step."""
    ours, theirs = LossScaler(scale=2.0**10, n_good=3), torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    optimizer = torch.optim.SGD([V := torch.ones(2, requires_grad=True)], lr=0.0)
    W = torch.ones(2, requires_grad=True)
    for factor in (1.0, 2.0, 1e38, 1.0, 1.0, 1.0, 3.0, float("inf"), 1.0):
        W.grad = V.grad = None
        ours.scaled((factor * W).sum()).backward()
        theirs.scale((factor * V).sum()).backward()
        good = ours.unscale([W])
        theirs.unscale_(optimizer)
        assert good == bool(W.grad.isfinite().all()) and torch.equal(W.grad, V.grad)
        theirs.step(optimizer)
        theirs.update()
        assert ours.scale == theirs.get_scale()


def test_scaling_brings_back_a_gradient_that_float16_loses():
    """2^-30 is 0 in float16; 2^16 times it is not, and dividing by a power of two in float32 is exact."""
    master, scaler = torch.ones(1, requires_grad=True), LossScaler(2.0**16)
    for loss_of, expected in ((lambda loss: loss, 0.0), (scaler.scaled, 2.0**-30)):
        master.grad = None
        # A float16 station in the middle of the chain: the gradient, 2^-30 on arrival, has to pass it.
        loss_of(master.half().float() * 2.0**-30).backward()
        if expected:
            assert scaler.unscale([master])
        assert master.grad.item() == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_float32_weights_from_16_bit_products(dtype):
    """Outputs differ from float32 by roundings of the inputs: below 2 layers * 6 terms * 2^-8 of their size, and not by 0."""
    model, X, labels = small_problem()
    u, v = model(X).detach(), autocast_forward(model, dtype)(X).detach()
    assert v.dtype == torch.float32 and 0 < float((u - v).abs().max()) < 0.1 * float(u.abs().max())
    history = train(model, X, labels, forward=autocast_forward(model, torch.bfloat16), n_epochs=20, progress=False)
    assert history.losses[-1] < history.losses[0] and all(W.dtype == torch.float32 for W in model.parameters())
    with pytest.raises(ValueError, match="dtype"):
        autocast_forward(model, torch.float64)
