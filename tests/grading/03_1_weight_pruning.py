"""Hidden cases of exercise 3.1, weight pruning. Oracles are the formulas of the exercise in float64 loops.

Where a mask is compared exactly, the numbers are drawn so that rounding cannot decide: either far from every threshold, or
multiples of 1/8 whose means are exact. Where equal scores may go or stay, only what every right answer shares is compared.
"""

import math
import tomllib
from pathlib import Path

import numpy as np

from grading.cases import Case, expect, expect_close, expect_equal, expect_raised, expect_value
from grading.wire import Tensor

WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))  # idea and hint of each case
RIGHT = WORDS["programs"]["right"]  # what the student's own test must accept
NEEDS = "torch"
PRELUDE = """
import math
import torch

def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
"""


def every(check):
    """The check of many calls from the check of one."""
    return lambda got, calls: [check(expect_value(answer), *args) for answer, args in zip(got, calls)]


def expect_names(got, want):
    """A dict with exactly these names."""
    expect(isinstance(got, dict), "kind")
    expect(got.keys() == set(want), "shape")


def expect_mask(got, shape):
    """A boolean array of a shape; returns it."""
    expect(isinstance(got, np.ndarray) and got.dtype == bool, "kind")
    expect(got.shape == tuple(shape), "shape")
    return np.asarray(got)


def pruned(W, c):
    """The row rule, row by row."""
    out = np.array(W, dtype=np.float64).reshape(len(W), -1)
    for row in out:
        threshold = c * math.fsum(abs(row)) / len(row)
        row[abs(row) < threshold] = 0
    return out.reshape(W.shape)


def weights(rng, shape, c):
    """Gaussian weights, every row and every channel of a filter with a size of its own, none near the threshold of its row."""
    while True:
        sizes = [rng.uniform(0.2, 4, shape[:k] + (1,) * (len(shape) - k)) for k in (1, 2)]
        W = (rng.normal(size=shape) * sizes[0] * sizes[1 if len(shape) > 2 else 0]).astype(np.float32)
        rows = np.abs(W.reshape(len(W), -1), dtype=np.float64)
        means = rows.mean(axis=1, keepdims=True)
        if (abs(rows - c * means) > 1e-4 * means).all():
            return Tensor.of(W)


def make_rows(rng):
    c = float(rng.uniform(0.6, 1.6))
    r, k = rng.integers(5, 12, 2).tolist()
    two = {"first": weights(rng, (k, r + 1), c), "second": weights(rng, (3, 40), c)}
    return [({"W": weights(rng, (r, k), 0.5)},), (two, c)]


def make_filters(rng):
    c = float(rng.uniform(0.6, 1.6))
    shapes = {"plain": (5, 3, 3, 3), "depthwise": (6, 1, 3, 5), "signal": (4, 3, 7), "volume": (3, 2, 2, 3, 3)}
    return {name: weights(rng, shape, c) for name, shape in shapes.items()}, c


def expect_pruned(got, parameters, c=0.5):
    expect_names(got, parameters)
    for name, W in parameters.items():
        expect_equal(got[name], pruned(W, c) if W.ndim > 1 else W)


def make_ties(rng):
    """Rows of eight multiples of 1/16 with mean m, exact in every order; some weights are exactly c m, some below."""
    c, rows = float(rng.choice([0.5, 1.0, 2.0])), []
    for m in rng.integers(1, 12, 6) / 2:
        d = rng.integers(1, 8) * m / 8
        row = np.array([c * m, (2 - c) * m, c * m, (2 - c) * m, m / 4, 7 * m / 4, m - d, m + d]) * rng.choice([-1, 1], 8)
        rows.append(rng.permutation(row))
    W = np.array(rows, dtype=np.float32)
    W[rng.integers(0, 6)] = 0
    b = np.array([0.001, *rng.normal(size=4) * 9], dtype=np.float32)
    parameters = {"W": W, "b": b, "filters": W.reshape(6, 2, 2, 2), "scale": np.float32(m)}
    return {name: Tensor.of(X) for name, X in parameters.items()}, c


def check_ties(got, parameters, c):
    returned, (after, _) = got
    expect_pruned(returned, parameters, c)
    expect_names(after, parameters)
    for name, W in parameters.items():
        expect_equal(after[name], W)


def programs(kind):
    """make of a case of own-test: right programs in several styles and wrong ones of a kind, unlabelled and shuffled."""
    changes = WORDS["programs"]["wrong"][kind]
    sources = [*RIGHT, *(RIGHT[0].replace(old, new) for old, new in changes)]
    assert len(set(sources)) == len(RIGHT) + len(changes), "a change that changes nothing"
    return lambda rng: [(sources[i],) for i in rng.permutation(len(sources))]


def try_program(answers, source):
    names = {}
    exec(source, names)
    answers.test_pruning(names["prune"])


def check_programs(got, calls):
    for outcome, (source,) in zip(got, calls):
        expect_value(outcome) if source in RIGHT else expect_raised(outcome, "AssertionError")


def shares(answers, factors):
    return [answers.triangular(c=c) for c in factors]


def factors(answers, shares):
    return [answers.triangular(p=p) for p in shares]


def make_factors(low, high, *fixed):
    return lambda rng: ([*fixed, *rng.uniform(low, high, 6).tolist(), *rng.uniform(0.2, 2.8, 2).tolist()],)


def make_shares(rng):
    return ([0.0, 1.0, *rng.uniform(0.02, 0.98, 6).tolist(), 1 - float(rng.uniform(1e-4, 1e-3))],)


def check_shares(got, factors):
    """P(|w| < c a / 3) = (2/a) (t - t^2 / 2a) at t = c a / 3."""
    expect_close(got, [1.0 if c >= 3 else 2 * c / 3 - c * c / 9 for c in factors], atol=1e-9)


def check_factors(got, shares):
    # the share is flat at its end: where it cannot be told from 1, the factor has half of the digits, 3 * 2^-26
    expect_close(got, [3 - 3 * math.sqrt(1 - p) for p in shares], atol=1e-7)


def layers(rng, n_layers, levels=None):
    """Scores of layers of several ranks, some positive, some negative: ranks of numbers whose size depends on the layer.

    All are different; with levels, only so many values occur.
    """
    shapes = [tuple(rng.integers(1, 5, rng.integers(1, 5)).tolist()) for _ in range(n_layers - 2)] + [(7, 5), (3, 2, 2, 3)]
    lengths = [math.prod(shape) for shape in shapes]
    sizes = np.repeat(rng.permutation([16.0 ** (k % 3) for k in range(n_layers)]), lengths)
    n = len(sizes)
    scores = (sizes * abs(rng.normal(size=n))).argsort().argsort() - n // 3 if levels is None else rng.integers(0, levels, n)
    parts = np.split(scores.astype(np.float32), np.cumsum(lengths)[:-1])
    return {f"layer{k}": Tensor.of(parts[k].reshape(shapes[k])) for k in rng.permutation(n_layers)}, n


def make_ranking(rng):
    scores, n = layers(rng, 4)
    return [(scores, int(k) / n) for k in (rng.integers(n // 5, n // 2), rng.integers(n // 2, n - 4))]


def make_tied(rng):
    scores, n = layers(rng, 5, levels=3)
    return [(scores, int(k) / n) for k in rng.integers(n // 6, n - n // 6, 3)]


def make_rounded(rng):
    """Shares that end a third above and below a whole number of weights, none and all; and a network of one weight."""
    scores, n = layers(rng, 3)
    k = rng.integers(5, n - 5, 2).tolist()
    one = {"only": Tensor.of(np.full((1, 1), rng.normal(), dtype=np.float32))}
    return [(scores, (k[0] + 0.3) / n), (scores, (k[1] + 0.7) / n), (scores, 0.0), (scores, 1.0), (one, 0.3), (one, 0.7)]


def check_masks(got, scores, sparsity):
    expect_names(got, scores)
    masks = np.concatenate([expect_mask(got[name], S.shape).ravel() for name, S in scores.items()])
    values = np.concatenate([np.asarray(S).ravel() for S in scores.values()])
    n_gone = round(sparsity * len(values))
    expect(int((~masks).sum()) == n_gone)
    if 0 < n_gone < len(values):
        expect(values[masks].min() >= values[~masks].max())


def blocks_of(rng, n, m, levels=None):
    """(score, n, m): different scores, half of them negative; with levels, only so many values."""
    shape = (int(rng.integers(1, 6)), m * int(rng.integers(2, 6)))
    size = math.prod(shape)
    values = rng.permutation(size) - size // 2 if levels is None else rng.integers(0, levels, size)
    return Tensor.of(values.reshape(shape).astype(np.float32)), n, m


def make_blocks(rng):
    return [blocks_of(rng, int(rng.integers(1, m)), m) for m in (2, 4, 4, 5, 7, 8)]


def make_equal_blocks(rng):
    return [blocks_of(rng, int(rng.integers(1, m)), m, levels) for m, levels in ((4, 2), (6, 3), (5, 1), (2, 1))]


def make_remainders(rng):
    m = int(rng.integers(3, 9))
    odd = [(Tensor.of(rng.normal(size=(m, k)).astype(np.float32)), 1, m) for k in (m - 1, m + 1, 3 * m - 1)]
    calls = [*odd, blocks_of(rng, 1, m), blocks_of(rng, m - 1, m)]
    return [calls[i] for i in rng.permutation(len(calls))]


def check_blocks(got, calls):
    for answer, (score, n, m) in zip(got, calls):
        if score.shape[1] % m:
            expect_raised(answer, "ValueError")
            continue
        mask = expect_mask(expect_value(answer), score.shape)
        for values, stays in zip(np.asarray(score).reshape(-1, m), mask.reshape(-1, m)):
            expect(int(stays.sum()) == n and values[stays].min() >= values[~stays].max())


def make_way(rng):
    n, start = int(rng.integers(7, 60)), int(rng.integers(3, 30))
    final, initial = float(rng.uniform(0.6, 0.99)), float(rng.uniform(0.05, 0.5))
    steps = rng.integers(1, n, 4).tolist()
    calls = [((t, n, final), (t, n, final, initial), (start + t, n, final, initial, start)) for t in steps]
    return [call for three in calls for call in three]


def make_ends(rng):
    calls = make_way(rng)
    _, n, final, initial, start = calls[-1]
    outside = (0, start - 1, start, start + n, start + n + 1, start + 9 * n)
    return [(t, n, final, initial, start) for t in outside] + [(n + 2, n, final)] + calls[::2]


def check_schedule(got, step, n, final, initial=0.0, start=0):
    u = 0.0 if step < start else 1.0 if step > start + n else (step - start) / n
    expect_close(got, final + (initial - final) * (1 - u) ** 3, atol=1e-9)


def make_files(rng):
    r, k = rng.integers(3, 40, 2).tolist()
    shapes = [(r, k), (2 * r + 1, 2 * k + 1), (8, k), (1, 8 * k + r % 6 + 2), (1, 1), (r * 1000, k * 1001)]
    return [(r, k, int(rng.integers(0, r * k + 1))) for r, k in shapes] + [(r, k, 0), (r, k, r * k)]


def check_masked(got, r, k, m):
    expect_names(got, {"dense", "bitmask", "csr"})
    expect_equal(got["dense"], 4 * r * k)
    expect_equal(got["bitmask"], (r * k + 7) // 8 + 4 * m)


def check_csr(got, r, k, m):
    expect_names(got, {"dense", "bitmask", "csr"})
    expect_equal(got["csr"], 4 * (r + 1) + 4 * m + 4 * m)


def make_matrices(rng):
    r, k = rng.integers(3, 40, 2).tolist()
    return [(r, k), (r + 1, k), (r, k + 1), (r + 1, k + 1), (1, k), (int(rng.integers(200, 300)), int(rng.integers(200, 300)))]


def make_narrow(rng):
    r = int(rng.integers(3, 60))
    calls = [(r, 1), (1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (r, 2), (r, 3)]
    return [calls[i] for i in rng.permutation(len(calls))]


def check_matrix(got, r, k):
    want = next((z for z in range(r * k + 1) if 4 * (r + 1) + 8 * (r * k - z) < 4 * r * k), None)
    expect((got is None) == (want is None))
    if want is not None:
        expect_equal(got, want)


def network(rng, n_kept=None, batch=None):
    """(W1, b1, W2, b2, keep, X) with at least three units to remove, unless all are kept."""
    d, h, o = int(rng.integers(3, 9)), int(rng.integers(7, 13)), int(rng.integers(2, 7))
    sizes = ((h, d), h, (o, h), o)
    layers = [Tensor.of(rng.normal(size=size).astype(np.float32)) for size in sizes]
    n_kept = int(rng.integers(2, h - 2)) if n_kept is None else min(n_kept, h)
    X = rng.normal(0.3, 1, (batch or int(rng.integers(5, 60)), d)).astype(np.float32)
    return *layers, Tensor.of(rng.permutation(h) < n_kept), Tensor.of(X)


def check_small(got, W1, b1, W2, b2, keep, X=None):
    expect(isinstance(got, tuple | list) and len(got) == 4, "kind")
    W1, b1, W2, b2, keep = (np.asarray(T, dtype=np.float64) for T in (W1, b1, W2, b2, keep))
    kept, gone = np.flatnonzero(keep), np.flatnonzero(keep == 0)
    for answer, want in zip(got, (W1[kept], b1[kept], W2[:, kept])):
        expect_equal(answer, want)
    bias, bound = b2.copy(), 2.0**-24 * abs(b2)
    for i in gone if X is not None else ():
        h = [max(math.fsum(x * W1[i]) + b1[i], 0.0) for x in np.asarray(X, dtype=np.float64)]
        size = np.mean([math.fsum(abs(x * W1[i])) + abs(b1[i]) for x in np.asarray(X, dtype=np.float64)])
        bias += W2[:, i] * math.fsum(h) / len(h)
        # sums of d + 1, B and h terms in float32, in any order: each adds at most its length times 2^-24 of its magnitude
        bound += (W1.shape[1] + len(h) + len(keep) + 8) * 2.0**-24 * abs(W2[:, i]) * size
    expect_close(got[3], bias, atol=2 * float(bound.max()))


def make_extremes(rng):
    return [network(rng, n_kept=99), network(rng, n_kept=1), network(rng, batch=1)]


def check_extreme(got, *args):
    returned, after = got
    check_small(returned, *args)
    for T, before in zip(after, args):
        expect_equal(T, before)


def case(task, name, make, check, call, **how):
    """A case of one point, with its words."""
    return Case(task, name, 1, make, check, call, **WORDS[task][name], **how)


CASES = [
    case("mend-listing", "row-means", make_rows, every(expect_pruned), "prune_listing", many=True),
    case("mend-listing", "filters", make_filters, expect_pruned, "prune_listing"),
    case("mend-listing", "ties-and-biases", make_ties, check_ties, "prune_listing", echo=True),
    case("own-test", "rule", programs("rule"), check_programs, try_program, many=True),
    case("own-test", "rest", programs("rest"), check_programs, try_program, many=True),
    case("own-test", "filters", programs("filters"), check_programs, try_program, many=True),
    case("triangular", "share", make_factors(0.1, 2.9, 0.0, 1), check_shares, shares),
    case("triangular", "beyond-the-end", make_factors(3.02, 5, 3, 40.0), check_shares, shares),
    case("triangular", "factor", make_shares, check_factors, factors),
    case("global-masks", "one-ranking", make_ranking, every(check_masks), "masks_for_all", many=True),
    case("global-masks", "equal-scores", make_tied, every(check_masks), "masks_for_all", many=True),
    case("global-masks", "count", make_rounded, every(check_masks), "masks_for_all", many=True),
    case("n-m", "best-of-each-block", make_blocks, check_blocks, "keep_n_of_m", many=True),
    case("n-m", "equal-scores", make_equal_blocks, check_blocks, "keep_n_of_m", many=True),
    case("n-m", "remainder", make_remainders, check_blocks, "keep_n_of_m", many=True),
    case("cubic", "on-the-way", make_way, every(check_schedule), "sparsity_due", many=True),
    case("cubic", "before-and-after", make_ends, every(check_schedule), "sparsity_due", many=True),
    case("bytes", "dense-and-bitmask", make_files, every(check_masked), "file_sizes", many=True),
    case("bytes", "csr", make_files, every(check_csr), "file_sizes", many=True),
    case("break-even", "smallest", make_matrices, every(check_matrix), "csr_break_even", many=True),
    case("break-even", "none", make_narrow, every(check_matrix), "csr_break_even", many=True),
    case("remove-units", "constant-lost", lambda rng: network(rng)[:5], check_small, "remove_units"),
    case("remove-units", "constant-given-back", network, check_small, "remove_units"),
    case("remove-units", "extremes", make_extremes, every(check_extreme), "remove_units", many=True, echo=True),
]
