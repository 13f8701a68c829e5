r"""The roofline: how long must a layer take at least, from two numbers of the machine (section 1).

A layer does two things that take time: it calculates, and it fetches its numbers from memory. A processor does both at once,
so the slower of the two decides:

    (1)  work of a linear layer:   flops  =  2 B in out                     a multiplication, an addition a weight and sample
                                   bytes  =  in out b / 8  +  4 out  +  4 B (in + out)    weights, bias, activations
    (2)  intensity  I  =  flops / bytes                                       calculations that one fetched byte feeds
    (3)  time       >=  max( flops / P,  bytes / beta )                       P: peak flop/s,  beta: bandwidth in byte/s
    (4)  flop/s     <=  min( P,  I beta )                                     the same, drawn: a slope, then a flat roof
    (5)  ridge  I*  =  P / beta                                               left of it memory decides, right of it arithmetic
    (6)  tokens/s   <=  beta / (n b / 8)                       a language model reads all n weights for each token

At batch size 1 a weight is fetched for a single multiplication: I is about 2 / (b / 8), half a flop a byte in fp32, far left of
the ridge of every machine. Then (3) says time = bytes / beta: fewer bits are faster in proportion, and fewer calculations are
not faster at all. That is the whole reason for quantizing weights.

beta depends on where the numbers come from: a network of 1 MB is served by a cache several times faster than memory. So
`Machine` keeps beta for several sizes, and a prediction takes the one for all the bytes that a run touches (a cache keeps what
was used last, and by the next run all of them were used in between). A call costs something by itself: `overhead_s`.

Left out: several threads, more than one level at a time (Ilic et al., 2014, draw one roof a cache), and kernels that reach
less than the roof, such as small convolutions. Vendors' tools (Intel Advisor, Nsight Compute) count the traffic in hardware.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib._check import check_count, check_n_bits, check_number, check_tensor
from course_lib.measure._hooks import run_observed

SIZES = (10**5, 10**6, 4 * 10**6, 16 * 10**6, 64 * 10**6, 192 * 10**6)  # bytes; from the first cache out to memory
# Windows counts a thread's time in steps of 16 ms; there the wall clock must do.
_clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-6 else time.perf_counter


@dataclass(frozen=True)
class Work:
    """What a layer must do: `flops` calculations and `n_bytes` fetched or stored, eq. (1); `intensity` by eq. (2).

    Source: Williams, Waterman and Patterson, 2009, "Roofline", section 3.  Notebook: 01_background.
    """

    flops: float
    n_bytes: float

    @property
    def intensity(self) -> float:
        """Flop per byte, eq. (2); 0 for no work at all."""
        return self.flops / self.n_bytes if self.n_bytes else 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.n_bytes + other.n_bytes)


@dataclass(frozen=True)
class Machine:
    """A machine in three numbers: peak flop/s, byte/s (for several sizes of what is read), seconds that a call costs by itself.

    peak_flops: flop/s.  bandwidths: {size in bytes: byte/s}, at least one.  overhead_s: seconds.
    Source: Williams, Waterman and Patterson, 2009.  Notebook: 01_background.
    """

    peak_flops: float
    bandwidths: dict[int, float]
    overhead_s: float = 0.0

    def bandwidth_at(self, n_bytes: float) -> float:
        """byte/s when `n_bytes` are read repeatedly: that of the smallest measured size that is as large, or of the largest."""
        return self.bandwidths[min((s for s in self.bandwidths if s >= n_bytes), default=max(self.bandwidths))]

    @property
    def bandwidth(self) -> float:
        """byte/s from main memory: that of the largest size."""
        return self.bandwidth_at(float("inf"))

    @property
    def ridge(self) -> float:
        """Flop per byte where memory and arithmetic take equally long, eq. (5), for main memory."""
        return self.peak_flops / self.bandwidth

    def attainable_flops(self, intensity: float, n_bytes: float = float("inf")) -> float:
        """Highest flop/s at this intensity, eq. (4)."""
        return min(self.peak_flops, intensity * self.bandwidth_at(n_bytes))

    def time_s(self, work: Work, touched_bytes: float | None = None) -> float:
        """Shortest time of a layer in seconds, eq. (3), when a whole run touches `touched_bytes` (default: the layer alone)."""
        beta = self.bandwidth_at(work.n_bytes if touched_bytes is None else touched_bytes)
        return max(work.flops / self.peak_flops, work.n_bytes / beta)

    def bound_by(self, work: Work, touched_bytes: float | None = None) -> str:
        """ "memory" or "arithmetic": which of the two terms of eq. (3) is the larger."""
        beta = self.bandwidth_at(work.n_bytes if touched_bytes is None else touched_bytes)
        return "memory" if work.n_bytes / beta > work.flops / self.peak_flops else "arithmetic"


def linear_work(batch_size: int, n_in: int, n_out: int, n_bits: int = 32) -> Work:
    r"""Calculations and bytes of a linear layer with weights of `n_bits`, activations and bias of 32 bits, eq. (1).

    $$ \text{flops} = 2 B\, n_{\text{in}} n_{\text{out}}, \qquad
       \text{bytes} = n_{\text{in}} n_{\text{out}} \tfrac{b}{8} + 4 n_{\text{out}} + 4 B (n_{\text{in}} + n_{\text{out}}) $$

    Raises ValueError for counts below 1, or n_bits outside 1...64.
    Source: counting; Williams et al., 2009, section 3.  Notebook: 01_background.
    """
    for name, value in (("batch_size", batch_size), ("n_in", n_in), ("n_out", n_out)):
        check_count("linear_work", name, value)
    check_n_bits("linear_work", n_bits, 1, 64)
    return Work(2 * batch_size * n_in * n_out, n_in * n_out * n_bits / 8 + 4 * n_out + 4 * batch_size * (n_in + n_out))


@torch.no_grad()
def layer_works(model: nn.Module, x: Tensor, n_bits: int = 32) -> dict[str, Work]:
    r"""The `Work` of each layer when `model` runs on `x`, in order: {name: Work}; layers that only reshape are left out.

    Linear and convolution: 2 flops a MAC, and the bytes of weights (`n_bits` each), bias, input and output (4 bytes each).
    Any other layer: one flop an output number, and its input and output.
    The model runs once, in eval mode, and is left as it was.
    Raises TypeError for what is no nn.Module; ValueError for an empty x, or n_bits outside 1...64.
    Source: counting; Williams et al., 2009, section 3.  Notebook: 01_background.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"layer_works: model must be a torch.nn.Module, got {type(model).__name__}")
    check_tensor("layer_works", "x", x)
    check_n_bits("layer_works", n_bits, 1, 64)
    found: dict[str, Work] = {}

    def hook(name: str) -> Callable:
        def count(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
            if output.untyped_storage().data_ptr() == inputs[0].untyped_storage().data_ptr():
                return  # a view: nothing moves
            activations = 4 * (inputs[0].numel() + output.numel())
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                bias_bytes = 0 if layer.bias is None else 4 * layer.bias.numel()
                n_bytes = layer.weight.numel() * n_bits / 8 + bias_bytes + activations
                work = Work(2 * output.numel() * layer.weight[0].numel(), n_bytes)
            else:
                work = Work(output.numel(), activations)
            found[name] = found[name] + work if name in found else work

        return count

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    run_observed(model, x, leaves, hook)
    return found


def predicted_latency_s(works: dict[str, Work], machine: Machine) -> float:
    r"""Seconds of one run: the sum of eq. (3) over the layers, plus what each call costs by itself.

    $$ t = \sum_{\text{layers}} \max\Bigl(\frac{\text{flops}}{P}, \frac{\text{bytes}}{\beta}\Bigr) + t_{\text{call}} $$

    $\beta$ is the bandwidth for all bytes that the run touches. A lower bound where kernels are worse than the roof.
    Raises ValueError for no layers.
    Source: Williams et al., 2009, eq. (1), summed.  Notebook: 01_background.
    """
    if not works:
        raise ValueError("predicted_latency_s: works is empty; layer_works(model, x) makes it")
    touched = sum(work.n_bytes for work in works.values())
    return sum(machine.time_s(work, touched) + machine.overhead_s for work in works.values())


def tokens_per_second(n_parameters: float, n_bits: float, bandwidth: float) -> float:
    r"""At most so many tokens a second can a language model write for one reader, eq. (6).

    $$ \text{tokens/s} \le \frac{\beta}{n\, b / 8} $$

    n_parameters: n.  n_bits: bits a weight, scales included (4.5 is allowed).  bandwidth: byte/s. Reading the KV cache comes on
    top (chapter 5.4).
    Raises ValueError unless all are positive.
    Source: Pope et al., 2023, "Efficiently scaling transformer inference", section 2.1.  Notebook: 01_background.
    """
    for name, value in (("n_parameters", n_parameters), ("n_bits", n_bits), ("bandwidth", bandwidth)):
        check_number("tokens_per_second", name, value, above=0.0)
    return bandwidth / (n_parameters * n_bits / 8)


def fastest_s(fn: Callable[[], object], n_repeats: int = 30) -> float:
    r"""The shortest of `n_repeats` runs of `fn()`, in seconds that one thread spent on a core.

    $$ t = \min(t_1, \ldots, t_n) $$

    A roof is what the machine *can* do, and other programs only ever add time, so here the minimum is the honest number, and
    waiting for a core is not counted where the system tells it apart. A claim that one method is faster than another takes
    medians and pairs instead: `latency`, `speed_ratio`.
    Raises TypeError for what cannot be called; ValueError for n_repeats below 1.
    Source: Chen and Revels, 2016, "Robust benchmarking in noisy environments".  Notebook: 01_background.
    """
    if not callable(fn):
        raise TypeError(f"fastest_s: fn must be a function without arguments, got {type(fn).__name__}; wrap it in a lambda")
    check_count("fastest_s", "n_repeats", n_repeats)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fn()  # the first call allocates
        fastest = float("inf")
        for _ in range(n_repeats):
            started = _clock()
            fn()
            fastest = min(fastest, _clock() - started)
        return fastest
    finally:
        torch.set_num_threads(n_threads)


def measure_machine(sizes: tuple[int, ...] = SIZES, n: int = 512, n_repeats: int = 20) -> Machine:
    r"""Measure this machine on one thread: peak by an n x n matrix product, bandwidth by summing, overhead by a 1 x 1 layer.

    $$ P = \frac{2 n^3}{t_{\text{product}}}, \qquad \beta(\text{size}) = \frac{\text{size}}{t_{\text{sum}}} $$

    A product does n/6 flops a byte (three matrices of 4 n^2 bytes), so it shows arithmetic alone; a sum does one addition a
    number read, so it shows memory alone. About a second. sizes: bytes.  n: rows of the matrices.
    Raises ValueError for an empty `sizes`, a size below 4 bytes, or counts below 1.
    Source: McCalpin, 1995 (STREAM), for measuring a bandwidth; the product is LINPACK's.  Notebook: 01_background.
    """
    check_count("measure_machine", "n", n)
    if not sizes:
        raise ValueError("measure_machine: sizes is empty; give at least one size in bytes")
    for size in sizes:
        check_count("measure_machine", "each size", size, low=4)
    A, out = torch.ones(n, n), torch.empty(n, n)
    peak = 2 * n**3 / fastest_s(lambda: torch.mm(A, A, out=out), n_repeats)
    bandwidths = {}
    for size in sizes:
        numbers = torch.ones(size // 4)
        n_reads = min(n_repeats, max(5, 10**9 // size))  # a gigabyte is enough to see the memory's best
        bandwidths[size] = 4 * len(numbers) / fastest_s(numbers.sum, n_reads)
    one, layer = torch.ones(1, 1), nn.utils.skip_init(nn.Linear, 1, 1).requires_grad_(False)
    return Machine(peak, bandwidths, fastest_s(lambda: layer(one), 200))
