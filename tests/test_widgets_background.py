"""The roofline explorer of chapter 01, without a front end."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.measure.roofline import Machine, linear_work
from course_lib.widgets.background import LAYERS, roofline_explorer, roofline_figure, roofline_values

MACHINE = Machine(peak_flops=100e9, bandwidths={10**6: 80e9, 10**8: 20e9}, overhead_s=5e-6)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.sampled_from([4, 8, 16, 32]))
def test_values_are_the_formulas(n_in, n_out, batch, n_bits):
    work, seconds, bound, share = roofline_values(MACHINE, n_in, n_out, batch, n_bits)
    beta = 80e9 if work.n_bytes <= 1e6 else 20e9
    assert work == linear_work(batch, n_in, n_out, n_bits)
    assert seconds == max(work.flops / 100e9, work.n_bytes / beta)
    assert bound == ("memory" if seconds > work.flops / 100e9 else "arithmetic")
    assert share == pytest.approx(n_in * n_out * n_bits / 8 / work.n_bytes) and 0 < share < 1


def test_at_batch_one_weights_are_the_traffic_and_time_follows_the_bits():
    full, quarter = (roofline_values(MACHINE, 4096, 4096, 1, b) for b in (32, 8))
    assert full[3] > 0.999 and full[2] == quarter[2] == "memory"
    assert full[1] / quarter[1] == pytest.approx(4, rel=0.01)


def test_each_control_changes_text_and_picture_to_the_right_numbers():
    box = roofline_explorer(MACHINE)
    (batch, bits, layer), text, picture = box.children[0].children, box.children[1], box.children[2]
    assert "bound by memory" in text.value
    for control, value in ((batch, 1024), (bits, 4), (layer, list(LAYERS)[1]), (batch, 1)):
        before = bytes(picture.value)
        control.value = value
        work, seconds, bound, share = roofline_values(MACHINE, *LAYERS[layer.value], batch.value, bits.value)
        numbers = re.match(
            r"(\S+) MFLOP, (\S+) MB \((\d+)% weights\): (\S+) flop/byte, at least (\S+) µs, bound by (\w+)", text.value
        )
        expected = [work.flops / 1e6, work.n_bytes / 1e6, 100 * share, work.intensity, 1e6 * seconds]
        assert [float(numbers[k]) for k in range(1, 6)] == pytest.approx(expected, rel=0.01, abs=0.51)
        assert numbers[6] == bound and bytes(picture.value) != before and bytes(picture.value[:4]) == b"\x89PNG"


def test_the_figure_draws_the_two_roofs_and_each_point_below_its_own():
    axes = roofline_figure(MACHINE, {"a": (0.5, 1e9, 1e9), "b": (50.0, 60e9, 1e5)})
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["memory: 20 GB/s", "fastest cache: 80 GB/s", "a", "b"]
    memory, cache = axes.lines[0].get_ydata(), axes.lines[1].get_ydata()
    assert max(memory) == max(cache) == 100 and (cache >= memory).all()
    stems = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] in (0.5, 50.0)]
    assert [list(line.get_ydata()) for line in stems] == [[1.0, 10.0], [60.0, 100.0]]
    assert axes.get_xscale() == axes.get_yscale() == "log"


@pytest.mark.parametrize("start", [{"batch_size": 3}, {"n_bits": 5}])
def test_bad_start_values_are_refused_in_words(start):
    with pytest.raises(ValueError, match=r"roofline_explorer: batch_size in .* and n_bits in"):
        roofline_explorer(MACHINE, **start)
