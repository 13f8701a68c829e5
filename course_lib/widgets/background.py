r"""The interactive figure of chapter 01: a linear layer under the roofline, with batch size and bits to turn.

    (1)  I = flops / bytes,   time >= max(flops / P, bytes / beta)          `course_lib.measure.roofline`
    (2)  share = in out b / 8 / bytes                                       how much of the traffic is weights

Turning up the batch moves the point to the right along the slope until it meets the flat roof; turning down the bits does the
same, without making the user wait for others. The text says which roof holds it and how long it takes at least.
"""

import ipywidgets as widgets
import numpy as np

from course_lib.measure.roofline import Machine, Work, linear_work
from course_lib.plots import COLORS, MARKERS
from course_lib.widgets._base import figure_image, new_figure, update_image

LAYERS = {
    "LeNet-300-100, layer 1: 784 x 300": (784, 300),
    "large layer: 4096 x 4096": (4096, 4096),
    "one matrix of a 7-billion model: 4096 x 11008": (4096, 11008),
}


def roofline_values(machine: Machine, n_in: int, n_out: int, batch_size: int, n_bits: int) -> tuple[Work, float, str, float]:
    """What the figure shows for one position of the sliders: (work, shortest time in s, "memory" or "arithmetic", eq. (2)).

    Raises ValueError for counts below 1 or n_bits outside 1...64.
    Source: Williams, Waterman and Patterson, 2009.  Notebook: 01_background.
    """
    work = linear_work(batch_size, n_in, n_out, n_bits)
    return work, machine.time_s(work), machine.bound_by(work), n_in * n_out * n_bits / 8 / work.n_bytes


def roofline_figure(machine: Machine, points: dict[str, tuple[float, float, float]], axes=None):
    """The roof of memory, that of the fastest cache, and points {label: (flop/byte, flop/s, size in bytes)}; returns the Axes.

    A point's third number only decides which slope it is drawn against by a thin line up to its own roof.
    Source: Williams, Waterman and Patterson, 2009, figure 1a.  Notebook: 01_background.
    """
    if axes is None:
        axes = new_figure(1, (9, 4))[1][0]
    intensities = np.logspace(-1.5, 3.5, 200)
    fastest = max(machine.bandwidths, key=machine.bandwidths.get)
    for size, name, style in ((float("inf"), "memory", "-"), (fastest, "fastest cache", "--")):
        roof = [machine.attainable_flops(i, size) / 1e9 for i in intensities]
        axes.loglog(intensities, roof, style, color=COLORS[3], label=f"{name}: {machine.bandwidth_at(size) / 1e9:.0f} GB/s")
    axes.axvline(machine.ridge, color=COLORS[2], linewidth=1)
    for k, (label, (intensity, flops, size)) in enumerate(points.items()):
        roof = machine.attainable_flops(intensity, size) / 1e9
        axes.plot([intensity, intensity], [flops / 1e9, roof], color=COLORS[k % 10], linewidth=1)
        axes.plot(intensity, flops / 1e9, MARKERS[k % 10], color=COLORS[k % 10], markersize=10, linestyle="none", label=label)
    axes.set(xlabel="intensity (flop per byte)", ylabel="GFLOP/s", title=f"peak {machine.peak_flops / 1e9:.0f} GFLOP/s")
    axes.legend(fontsize=9, loc="lower right")
    return axes


def roofline_explorer(machine: Machine, batch_size: int = 1, n_bits: int = 32) -> widgets.VBox:
    """A slider for the batch size, a choice of bits and layer, a line with the numbers, and the roofline with the point.

    batch_size: a power of two up to 4096.  n_bits: 32, 16, 8 or 4.
    Raises ValueError for other start values.
    Source: Williams, Waterman and Patterson, 2009.  Notebook: 01_background.
    """
    powers, bit_choices = [2**k for k in range(13)], [32, 16, 8, 4]
    if batch_size not in powers or n_bits not in bit_choices:
        raise ValueError(
            f"roofline_explorer: batch_size in {powers} and n_bits in {bit_choices}, got {batch_size} and {n_bits}"
        )
    batch = widgets.SelectionSlider(options=powers, value=batch_size, description="batch size", continuous_update=False)
    bits = widgets.SelectionSlider(options=bit_choices, value=n_bits, description="bits", continuous_update=False)
    layer = widgets.Dropdown(options=list(LAYERS), description="layer", layout=widgets.Layout(width="26em"))
    text = widgets.Label()

    def draw():
        work, seconds, bound, share = roofline_values(machine, *LAYERS[layer.value], batch.value, bits.value)
        text.value = (
            f"{work.flops / 1e6:.3g} MFLOP, {work.n_bytes / 1e6:.3g} MB ({share:.0%} weights): {work.intensity:.2f} flop/byte, "
            f"at least {1e6 * seconds:.3g} µs, bound by {bound}"
        )
        figure, (axes,) = new_figure(1, (9, 4))
        roofline_figure(machine, {layer.value.split(":")[0]: (work.intensity, work.flops / seconds, work.n_bytes)}, axes)
        axes.set(xlim=(10**-1.5, 10**3.5), ylim=(0.5, 3e-9 * machine.peak_flops))
        return figure

    image = figure_image(draw())
    for control in (batch, bits, layer):
        control.observe(lambda change: update_image(image, draw()), names="value")
    return widgets.VBox([widgets.HBox([batch, bits, layer]), text, image])
