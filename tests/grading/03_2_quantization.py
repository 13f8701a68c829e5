"""Hidden cases of exercise 3.2, quantization.

A tie between two marks may go either way, and float32 turns near ties into ties. So no number lies within 0.1 of a step of the
middle between two marks: W = s (code + d) with |d| <= 0.4. The one case that sits on ties looks only at what both ways share.
"""

import tomllib
from functools import partial
from pathlib import Path

import numpy as np

from grading.cases import Case, expect, expect_close, expect_equal, expect_raised, expect_value
from grading.wire import Tensor

NEEDS = "torch"
PRELUDE = """
import math
import torch
def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
"""

# The words of each case, and the quantizers that a student's test is tried on, stand beside this file.
SAID = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
QUANTIZERS = SAID.pop("quantizers")
GOOD = {QUANTIZERS["frame"].format(body) for body in QUANTIZERS["good"].values()}


def case(task: str, name: str, points: float, make, check, call, **options) -> Case:
    """A case with the texts that belong to it."""
    return Case(task, name, points, make, check, call, **SAID[task][name], **options)


def near(rng, codes):
    """Numbers that are rounded to these codes, away from the ties."""
    return codes + rng.uniform(-0.4, 0.4, np.shape(codes))


def symmetric_weights(rng, shape, n_bits, scale, sign=1):
    """float32 weights; one of this sign is the largest by a third of a step and sits on the last mark."""
    q_max = 2 ** (n_bits - 1) - 1
    U = np.clip(near(rng, rng.integers(-q_max, q_max + 1, shape)), 0.3 - q_max, q_max - 0.3)
    U.flat[rng.integers(U.size)] = sign * q_max
    return np.float32(scale * U)


def scale_of(W, n_bits):
    """The symmetric scale, in float64."""
    return float(np.abs(np.float64(W)).max()) / (2 ** (n_bits - 1) - 1) or 1.0


def codes_calls(rng):
    kinds = [((5, 7), 2, 1), ((40,), 3, -1), ((3, 2, 5), int(rng.integers(4, 8)), -1), ((17,), 8, 1), ((6, 4), 12, -1)]
    return [(Tensor.of(symmetric_weights(rng, shape, b, 10 ** rng.uniform(-3, 2), sign)), b) for shape, b, sign in kinds]


def tiny_calls(rng):
    tiny = symmetric_weights(rng, (4, 5), 5, 10 ** rng.uniform(-14, -10))
    single = np.float32(rng.uniform(1, 9, 1) * [-1])
    return [(Tensor.of(W), 5) for W in (tiny, np.zeros((2, 3), np.float32), single, -single, np.zeros(1, np.float32))]


def check_symmetric(got, calls):
    for answer, (W, n_bits) in zip(got, calls):
        q, s = expect_value(answer)
        want = scale_of(W, n_bits)
        expect_close(s, want, rtol=1e-6)  # one division, at worst in float32
        expect_equal(q, np.rint(np.float64(W) / want))
        expect(q.dtype == np.int64, "kind")


def zero_inside(rng):
    calls = []
    for b in (1, 2, 3, 4, 6, 8, 16):
        for part in (rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.9)):  # -l / s is rounded down and up
            u, s = int(rng.integers(2**b - 1)) + part, 10 ** rng.uniform(-3, 2)
            calls.append((-s * u, s * (2**b - 1 - u), b))
    return calls


def stretched_calls(rng):
    a, h = rng.uniform(0.5, 2), rng.uniform(3, 9)
    return [(*ends, b) for b in (3, 8) for ends in ((a, h), (-h, -a), (0.0, h), (-h, 0.0))]


def point_calls(rng):
    a, b = rng.uniform(0.5, 9), int(rng.integers(3, 9))
    return [(0.0, 0.0, b), (a, a, b), (-a, -a, b)]


def check_affine(got, calls):
    for answer, (low, high, n_bits) in zip(got, calls):
        (s, z), (s_want, z_want) = expect_value(answer), affine_of(low, high, n_bits)
        expect_close(s, s_want, rtol=1e-6)
        expect(isinstance(z, int), "kind")
        expect_equal(z, z_want)


def affine_of(low, high, n_bits):
    """Scale and zero point of a range, by the formula of Task 2."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    s = (high - low) / (2**n_bits - 1) or 1.0
    return s, round(-low / s)


def affine_weights(rng, shape, n_bits, kind):
    """float32 weights, both ends of the range among them: it holds zero, -l / s rounded "up" or "down", or lies beside it."""
    n, s = 2**n_bits - 1, 10 ** rng.uniform(-2, 1) * (-1 if kind == "below" else 1)
    u = int(rng.integers(1, n)) + rng.uniform(0.1, 0.4) * (-1 if kind == "up" else 1)
    low, high = (-u, n - u) if kind in ("up", "down") else (0.8, n)
    U = np.clip(near(rng, rng.integers(round(low), round(high) + 1, shape)), low, high)
    U.flat[rng.permutation(U.size)[:2]] = low, high
    return Tensor.of(np.float32(s * U))


def check_parameters(got, parameters, n_bits):
    expect(isinstance(got, dict), "kind")
    expect(got.keys() == parameters.keys(), "shape")
    for name, W in parameters.items():
        if W.ndim < 2:
            expect_equal(got[name], W)
            continue
        s, z = affine_of(W.min(), W.max(), n_bits)
        codes = np.clip(np.rint(np.float64(W) / s) + z, 0, 2**n_bits - 1)
        expect_close(got[name], s * (codes - z), atol=1e-3 * s)  # float32: at most 256 s * 2e-7


def matrices(rng):
    b, shapes = int(rng.integers(3, 9)), [(4, 3, 3, 3), (9, 7), (5, 6), (3, 8)]
    kinds = ["up", "down", "above", "below"]
    return {f"{kind}.kernel": affine_weights(rng, shape, b, kind) for kind, shape in zip(kinds, shapes)}, b


def others(rng):
    b, shapes = int(rng.integers(2, 5)), {"norm.weight": (7,), "gate.weight": (1,), "temperature": ()}
    vectors = {name: Tensor.of(np.float32(rng.normal(size=shape))) for name, shape in shapes.items()}
    return {"relative_bias": affine_weights(rng, (6, 5), b, "up"), **vectors}, b


def with_constants(rng):
    b, c = int(rng.integers(3, 7)), rng.uniform(1, 3)
    constants = {"zeros": np.zeros((3, 2)), "plus": np.full((2, 2), c), "minus": np.full((1, 1), -c)}
    return {"a": affine_weights(rng, (6, 9), b, "down"), **{k: Tensor.of(np.float32(W)) for k, W in constants.items()}}, b


def check_unchanged(got, parameters, n_bits):
    returned, after = got
    check_parameters(returned, parameters, n_bits)
    expect_equal(after[0], parameters)


def both_ends_on_ties(rng):
    """All numbers are multiples of a power of two, so that float32 reaches the ties exactly."""
    b = int(rng.integers(2, 5))
    m, s = 2 * int(rng.integers(0, 2 ** (b - 1) - 1)) + 1, 2.0 ** int(rng.integers(-4, 3))
    ends = np.array([-m - 0.5, 2**b - 1.5 - m])
    inner = rng.integers(-m, 2**b - 1 - m, 10) + rng.choice([-0.25, 0.0, 0.25], 10)
    return {"tie": Tensor.of(np.float32(s * np.concatenate([ends, inner]).reshape(3, 4)))}, b


def check_clip(got, parameters, n_bits):
    W = np.float64(parameters["tie"]).ravel()
    s = (W.max() - W.min()) / (2**n_bits - 1)
    W_hat = np.float64(np.reshape(got["tie"], -1))
    expect_close(W_hat[2:], s * np.rint(W[2:] / s), atol=1e-5 * s)
    expect_close(W_hat[:2], W[:2], atol=s * (1 + 1e-5))  # half a step for the rounding, half a step for the clip
    expect(W_hat.max() - W_hat.min() <= s * (2**n_bits - 1 + 1e-5))


def row_weights(rng, shape, n_bits):
    """A matrix whose rows have scales of their own, far apart; every second row has its largest weight below zero."""
    scales = 10 ** rng.permutation(np.linspace(-6, 3, shape[0]))
    return np.stack([symmetric_weights(rng, shape[1], n_bits, s, (-1) ** i) for i, s in enumerate(scales)])


def row_calls(rng):
    few, many = int(rng.integers(2, 5)), int(rng.integers(5, 9))
    return [(Tensor.of(row_weights(rng, (5, 9), few)), few), (Tensor.of(row_weights(rng, (6, 6), many)), many, True)]


def whole_calls(rng):
    kinds = [((4, 7), 3), ((8, 8), 6), ((9, 1), 4)]
    return [(Tensor.of(symmetric_weights(rng, shape, b, 10 ** rng.uniform(-2, 2), -1)), b, False) for shape, b in kinds]


def zero_row_calls(rng):
    W = row_weights(rng, (5, 4), 4)
    W[rng.permutation(5)[:2]] = 0
    column = np.float32(rng.normal(size=(6, 1)) * [[1], [1], [0], [1], [1], [9]])
    zeros = np.zeros((3, 5), np.float32)
    return [(Tensor.of(X), 4, way) for X, way in [(W, True), (column, True), (zeros, True), (zeros, False)]]


def check_rounded(got, calls):
    for answer, (W, n_bits, *way) in zip(got, calls):
        parts = [W] if way == [False] else W
        scales = [scale_of(part, n_bits) for part in parts]
        want = np.stack([s * np.rint(np.float64(part) / s) for s, part in zip(scales, parts)]).reshape(W.shape)
        expect_close(expect_value(answer), want, atol=1e-4 * np.array(scales)[:, None])


def ratio_calls(rng, factors=(1, 1, 1)):
    """(W, W_hat) times a factor; the noise of the last is larger than its signal."""
    calls = []
    for c, shape, noise in zip(factors, [(9,), (5, 6), (2, 3, 4)], [1e-3, 0.1, 3.0]):
        W, E = rng.normal(size=(2, *shape))
        calls.append(tuple(Tensor.of(np.float32(c * X)) for X in (W, W + noise * E)))
    return calls


def error_free_calls(rng):
    W = Tensor.of(np.float32(rng.normal(size=(3, 4))))
    close, zeros = W.copy(), Tensor.of(np.zeros(5, np.float32))
    close.flat[7] += np.float32(1e-2)
    return [(W, W), (W, close), (zeros, zeros)]


def check_snr(got, calls):
    for answer, (W, W_hat) in zip(got, calls):
        W, W_hat = np.float64(W), np.float64(W_hat)
        noise = ((W - W_hat) ** 2).sum()
        want = np.inf if noise == 0 else 10 * np.log10((W**2).sum() / noise)
        expect_close(expect_value(answer), want, atol=1e-4)  # W - W_hat may be rounded to float32: 1e-6 dB


def ladder(rng, shape, weighted=True):
    """(x, weights, s, q_min, q_max) for some ranges of codes; x lies inside, at both ends and outside."""
    calls = []
    for q_min, q_max in ((-8, 7), (0, 255), (-3, 2)):
        s = 10 ** rng.uniform(-1.5, 1)
        codes = rng.integers(q_min - 3, q_max + 4, shape)
        codes.flat[:4] = q_min - 1, q_min, q_max, q_max + 1
        x, weights = (Tensor.of(np.float32(X)) for X in (s * near(rng, codes), rng.normal(size=shape)))
        calls.append((x, *[weights] * weighted, s, q_min, q_max))
    return calls


def staircase_of(x, s, q_min, q_max):
    """(value, 1 where the gradient passes) by the formula of Task 6."""
    codes = np.rint(np.float64(x) / s)
    return s * np.clip(codes, q_min, q_max), (codes >= q_min) & (codes <= q_max)


def check_value(got, calls):
    for answer, (x, s, q_min, q_max) in zip(got, calls):
        expect_close(expect_value(answer), staircase_of(x, s, q_min, q_max)[0], atol=1e-5 * s, rtol=1e-6)


def run_gradient(answers, x, weights, s, q_min, q_max):
    """The gradient at x of a weighted sum."""
    x.requires_grad_(True)
    (answers.fake_quantize(x, s, q_min, q_max) * weights).sum().backward()
    return x.grad


def check_gradient(got, calls):
    for answer, (x, weights, *ruler) in zip(got, calls):
        expect_close(expect_value(answer), weights * staircase_of(x, *ruler)[1], rtol=1e-6)


def run_graph(answers, w, weights, s, q_min, q_max):
    """The gradient at w of a loss in which x = w was computed, and is used beside its quantized square."""
    w.requires_grad_(True)
    x = w * 1.0
    (answers.fake_quantize(x, s, q_min, q_max) ** 2 + weights * x).sum().backward()
    return w.grad


def check_graph(got, calls):
    for answer, (w, weights, *ruler) in zip(got, calls):
        x_hat, inside = staircase_of(w, *ruler)
        expect_close(expect_value(answer), 2 * x_hat * inside + weights, atol=1e-5, rtol=1e-5)


def bytes_calls(rng):
    return [(rng.integers(0, 2**b, int(rng.integers(9, 40))).tolist(), b) for b in (1, 2, 3, 4, 5, 6, 7, 8, 11, 15)]


def length_calls(rng):
    codes = rng.integers(1, 8, int(rng.integers(3, 9))).tolist()
    return [(codes + [0] * k, 3) for k in range(1, 9)] + [([], 5), ([1], 1)]


def refusal_calls(rng):
    calls = []
    for b in (1, 3, 7):
        codes = rng.integers(0, 2**b, 9).tolist()
        for place in (0, int(rng.integers(1, 8)), 8):
            calls += [(codes[:place] + [code] + codes[place + 1 :], b) for code in (2**b, -1, 2**b - 1)]
    return calls


def check_packed(got, calls):
    for answer, (codes, b) in zip(got, calls):
        if not all(0 <= code < 2**b for code in codes):
            expect_raised(answer, "ValueError")
            continue
        number = sum(code * 2 ** (b * i) for i, code in enumerate(codes))
        expect_equal(list(expect_value(answer)), list(number.to_bytes(-(-len(codes) * b // 8), "little")))


def quantizer_calls(broken, rng):
    """Good quantizers and such that break one property, in random order, with a number C that some of them use."""
    bodies = [QUANTIZERS["good"][name] for name in QUANTIZERS["beside"][broken]] + list(QUANTIZERS[broken].values())
    return [(QUANTIZERS["frame"].format(bodies[i]), rng.uniform(0.2, 0.3)) for i in rng.permutation(len(bodies))]


def run_test(answers, source, c):
    """The student's test, applied to one quantizer."""
    space = {"C": c}
    exec(source, space)
    answers.test_quantizer(space["quantizer"])


def check_verdicts(got, calls):
    for answer, (source, _) in zip(got, calls):
        expect_value(answer) if source in GOOD else expect_raised(answer, "AssertionError")


CASES = [
    case("symmetric", "codes", 2, codes_calls, check_symmetric, "quantize_symmetric", many=True),
    case("symmetric", "zeros-and-tiny", 1, tiny_calls, check_symmetric, "quantize_symmetric", many=True),
    case("affine-range", "holds-zero", 2, zero_inside, check_affine, "affine_qparams", many=True),
    case("affine-range", "stretched", 1, stretched_calls, check_affine, "affine_qparams", many=True),
    case("affine-range", "a-point", 1, point_calls, check_affine, "affine_qparams", many=True),
    case("mend-listing", "matrices", 1, matrices, check_parameters, "quantize_parameters"),
    case("mend-listing", "others", 1, others, check_parameters, "quantize_parameters"),
    case("mend-listing", "clip", 1, both_ends_on_ties, check_clip, "quantize_parameters"),
    case("mend-listing", "new-tensors", 1, with_constants, check_unchanged, "quantize_parameters", echo=True),
    case("granularity", "rows", 1, row_calls, check_rounded, "round_weights", many=True),
    case("granularity", "whole-matrix", 1, whole_calls, check_rounded, "round_weights", many=True),
    case("granularity", "zero-rows", 1, zero_row_calls, check_rounded, "round_weights", many=True),
    case("snr", "ratio", 1, ratio_calls, check_snr, "snr_db", many=True),
    case("snr", "double", 1, partial(ratio_calls, factors=(1e25, 1e-26, 1e-3)), check_snr, "snr_db", many=True),
    case("snr", "no-error", 1, error_free_calls, check_snr, "snr_db", many=True),
    case("straight-through", "value", 1, partial(ladder, shape=(40,), weighted=False), check_value, "fake_quantize", many=True),
    case("straight-through", "gradient", 1, partial(ladder, shape=(6, 7)), check_gradient, run_gradient, many=True),
    case("straight-through", "inside-a-graph", 1, partial(ladder, shape=(2, 3, 6)), check_graph, run_graph, many=True),
    case("pack-codes", "bytes", 2, bytes_calls, check_packed, "pack_codes", many=True),
    case("pack-codes", "length", 1, length_calls, check_packed, "pack_codes", many=True),
    case("pack-codes", "refusal", 1, refusal_calls, check_packed, "pack_codes", many=True),
    *(
        case("property-test", broken, 1, partial(quantizer_calls, broken), check_verdicts, run_test, many=True, seconds=10)
        for broken in QUANTIZERS["beside"]
    ),
]
