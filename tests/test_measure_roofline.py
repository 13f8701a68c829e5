"""The roofline: its formulas against loops and torch's own counters, the machine's numbers against what holds anywhere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_lib.measure import roofline
from course_lib.measure.roofline import (
    Machine,
    Work,
    fastest_s,
    layer_works,
    linear_work,
    measure_machine,
    predicted_latency_s,
    tokens_per_second,
)
from course_lib.models import lenet_5, lenet_300_100

MACHINE = Machine(peak_flops=100e9, bandwidths={10**6: 80e9, 10**8: 20e9}, overhead_s=5e-6)
works = st.builds(Work, st.floats(1, 1e12), st.floats(1, 1e12))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.sampled_from([4, 8, 16, 32]))
def test_linear_work_is_the_loops_counted(B, n_in, n_out, n_bits):
    """Walk over every multiplication and every number that must be fetched or stored once."""
    flops = bits = 0
    for _ in range(B):
        for _ in range(n_out):
            for _ in range(n_in):
                flops += 2
    for _ in range(n_out):
        bits += n_in * n_bits + 32  # a row of weights, a bias
    for _ in range(B):
        bits += 32 * n_in + 32 * n_out
    assert linear_work(B, n_in, n_out, n_bits) == Work(flops, bits / 8)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_layer_works_count_the_flops_that_torch_counts(B, channels, out, kernel):
    model = nn.Sequential(nn.Conv2d(channels, out, kernel), nn.Flatten(), nn.Linear(out * (7 - kernel) ** 2, 3))
    x = torch.rand(B, channels, 6, 6)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    assert sum(w.flops for w in layer_works(model, x).values()) == counter.get_total_flops()


def test_layer_works_of_a_linear_layer_is_the_formula_and_a_view_is_free():
    model = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
    found = layer_works(model, torch.rand(5, 4), n_bits=8)
    assert list(found) == ["2", "3", "4"]
    assert found["2"] == linear_work(5, 4, 3, 8)
    assert found["3"] == Work(15, 4 * 30) and found["4"] == Work(60, 6 + 4 * 5 * 5)


def test_hand_example_of_a_convolution():
    """1x1x3x3 image, one 2x2 filter: 4 outputs of 4 MACs; 4 weights, 1 bias, 9 pixels in, 4 out."""
    found = layer_works(nn.Sequential(nn.Conv2d(1, 1, 2)), torch.rand(1, 1, 3, 3))
    assert found == {"0": Work(32, 4 * (4 + 1 + 9 + 4))}


def test_a_layer_used_twice_counts_twice_and_the_model_is_left_alone():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.Dropout(0.5), layer).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = layer_works(model, torch.rand(2, 3))
    assert found["0"].flops == 2 * 2 * 2 * 9
    assert model.training and model[1].training and not layer._forward_hooks
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


def test_known_networks():
    """LeNet-300-100: 266,200 MACs. LeNet-5: 2,293,000 (the number in Han et al., 2015, table 4, is twice that)."""
    assert sum(w.flops for k, w in layer_works(lenet_300_100(), torch.rand(1, 784)).items() if k in "024") == 2 * 266_200
    assert sum(w.flops for k, w in layer_works(lenet_5(), torch.rand(1, 784)).items() if k in "1368") == 2 * 2_293_000


@given(works)
def test_time_is_the_longer_of_the_two_and_the_roof_is_the_same_statement(work):
    """Eqs. (3) and (4): flops / time = min(P, I beta), whatever the work."""
    for touched, beta in [(1e5, 80e9), (5e7, 20e9), (1e12, 20e9)]:
        t = MACHINE.time_s(work, touched)
        assert t == max(work.flops / 100e9, work.n_bytes / beta)
        assert math.isclose(work.flops / t, MACHINE.attainable_flops(work.intensity, touched), rel_tol=1e-9)
        assert (MACHINE.bound_by(work, touched) == "memory") == (work.intensity < 100e9 / beta) or math.isclose(
            work.intensity, 100e9 / beta
        )


def test_ridge_separates_memory_from_arithmetic():
    assert MACHINE.ridge == 5.0 and MACHINE.bandwidth == 20e9
    assert MACHINE.bound_by(Work(4.9, 1.0), 1e9) == "memory" and MACHINE.bound_by(Work(5.1, 1.0), 1e9) == "arithmetic"


@pytest.mark.parametrize(("n_bytes", "beta"), [(1, 80e9), (10**6, 80e9), (10**6 + 1, 20e9), (10**8, 20e9), (10**9, 20e9)])
def test_bandwidth_is_that_of_the_smallest_size_that_holds_the_bytes(n_bytes, beta):
    assert MACHINE.bandwidth_at(n_bytes) == beta


def test_prediction_adds_layers_and_the_cost_of_each_call():
    """Two layers of 10 kB, together in the fast size: 10e3/80e9 each, and 5 us a call."""
    layers = {"a": Work(1.0, 1e4), "b": Work(1.0, 1e4)}
    assert math.isclose(predicted_latency_s(layers, MACHINE), 2 * (1e4 / 80e9 + 5e-6))


def test_prediction_uses_the_bandwidth_of_all_bytes_together():
    """Each layer alone would fit the fast size; in a loop over both, neither stays in it."""
    layers = {"a": Work(1.0, 9e5), "b": Work(1.0, 9e5)}
    assert math.isclose(predicted_latency_s(layers, MACHINE), 2 * (9e5 / 20e9 + 5e-6))


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_intensity_grows_with_the_batch_and_shrinks_with_the_bits(n_in, n_out):
    one, many = linear_work(1, n_in, n_out), linear_work(64, n_in, n_out)
    assert one.intensity < many.intensity
    assert linear_work(1, n_in, n_out, 8).intensity > one.intensity
    assert one.intensity < 0.5 < 2 / (32 / 8) + 1e-9  # at batch 1 the limit is half a flop a byte


@given(st.floats(1e6, 1e12), st.floats(1, 32), st.floats(1e9, 1e13))
def test_tokens_per_second_is_bandwidth_over_bytes(n, n_bits, beta):
    """Halving the bits doubles the bound; a model read once a token moves exactly the bandwidth."""
    rate = tokens_per_second(n, n_bits, beta)
    assert math.isclose(rate * n * n_bits / 8, beta) and math.isclose(tokens_per_second(n, n_bits / 2, beta), 2 * rate)


def test_seven_billion_parameters_by_hand():
    """fp16: 14 GB, at 28 GB/s two tokens a second; 4 bits: eight."""
    assert tokens_per_second(7e9, 16, 28e9) == 2.0 and tokens_per_second(7e9, 4, 28e9) == 8.0


def test_fastest_takes_the_minimum_of_a_faked_clock(monkeypatch):
    times = iter([0.0, 5.0, 10.0, 12.0, 20.0, 29.0])
    monkeypatch.setattr(roofline, "_clock", lambda: next(times))
    calls = []
    assert fastest_s(lambda: calls.append(1), 3) == 2.0 and len(calls) == 4  # one call to warm up


def test_fastest_runs_on_one_thread_and_puts_the_setting_back():
    torch.set_num_threads(2)
    try:
        seen = []
        fastest_s(lambda: seen.append(torch.get_num_threads()), 2)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_measured_machine_is_plausible():
    """Between a pocket calculator and a supercomputer; and a product must beat what its bytes alone would allow a sum to do."""
    machine = measure_machine(sizes=(10**6, 8 * 10**6), n=256, n_repeats=5)
    assert 1e8 < machine.peak_flops < 1e13 and machine.overhead_s < 1e-2
    assert list(machine.bandwidths) == [10**6, 8 * 10**6] and all(1e8 < b < 1e13 for b in machine.bandwidths.values())
    assert machine.peak_flops > machine.bandwidth / 4  # flop/s of the sum itself


def test_work_adds_and_empty_work_has_no_intensity():
    assert Work(1, 2) + Work(3, 4) == Work(4, 6) and Work(0, 0).intensity == 0.0
    assert linear_work(1, 1, 1) == Work(2, 4 + 4 + 8)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: linear_work(0, 1, 1), ValueError, "batch_size"),
        (lambda: linear_work(1, 1.5, 1), ValueError, "n_in"),
        (lambda: linear_work(1, 1, 1, 0), ValueError, "n_bits"),
        (lambda: layer_works("net", torch.rand(1)), TypeError, "nn.Module"),
        (lambda: layer_works(nn.ReLU(), torch.empty(0, 3)), ValueError, "empty"),
        (lambda: predicted_latency_s({}, MACHINE), ValueError, "empty"),
        (lambda: tokens_per_second(7e9, 0, 1e9), ValueError, "n_bits"),
        (lambda: tokens_per_second(float("nan"), 4, 1e9), ValueError, "n_parameters"),
        (lambda: fastest_s(3), TypeError, "lambda"),
        (lambda: fastest_s(int, 0), ValueError, "n_repeats"),
        (lambda: measure_machine(()), ValueError, "empty"),
        (lambda: measure_machine((3,)), ValueError, ">= 4"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, error, says):
    with pytest.raises(error, match=says):
        call()
