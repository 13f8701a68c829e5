"""Hidden cases of exercise 2.2, training from the formulas. How to read them: grading/cases.py.

Tolerances: a few operations in float64 round in the 15th digit; a millionth lets float32 pass as well, and every fault that is
tested here moves a number by more than a thousandth of itself. Task 7 is judged by a run that this file makes itself.
"""

import math
import tomllib
from pathlib import Path

import numpy as np

from grading.cases import Case, array_of, expect, expect_close, expect_equal, expect_raised, expect_value

NEEDS = "numpy"
PRELUDE = "import math\nimport numpy as np\ndef normal(*shape, seed=0): return np.random.default_rng(seed).normal(size=shape)"
NEAR = 1e-6
WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))  # idea and hint of each case; steps of task 3
STEPS = WORDS["steps"]
RIGHT = [STEPS["head"] + body for body in STEPS["right"]]


def close(got, want):
    """Relative to each number; numbers near 0 relative to the largest."""
    want = np.asarray(want, dtype=float)
    expect_close(got, want, atol=NEAR * np.abs(want).max(initial=0.0), rtol=NEAR)


def pair(got, n=2):
    """The n results of one call."""
    expect(isinstance(got, tuple | list) and len(got) == n, "shape")
    return got


def every(check):
    """The check of a case with many calls: each must give a value that passes."""

    def check_all(got, calls):
        for outcome, args in zip(got, calls):
            check(expect_value(outcome), *args)

    return check_all


def untouched(check):
    """The check of a case with echo: it passes, and the arrays that went in came back as they were."""

    def check_both(got, *args):
        returned, after = pair(got)
        check(returned, *args)
        for a, b in zip(args, after):
            expect_equal(b, a)

    return check_both


def shape_of(rng):
    """One to three dimensions, none of the same length."""
    return tuple(int(n) for n in rng.permutation([2, 3, 5, 7])[: rng.integers(1, 4)])


def momentum(rng):
    """(W, V, G, lr, momentum, weight_decay)."""
    W, V, G = rng.normal(size=(3, *shape_of(rng)))
    return W, V, G, rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.8), rng.uniform(0.2, 2.0)


def check_momentum(got, W, V, G, lr, momentum, weight_decay=0.0):
    """By the formula."""
    got, V = pair(got), momentum * V + (G + weight_decay * W)
    close(got[1], V)
    close(got[0], W - lr * V)


def adam(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """The formula for one weight, in Python's floats."""
    m, v = beta1 * m + (1 - beta1) * G, beta2 * v + (1 - beta2) * G * G
    step = lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return (1 - lr * weight_decay) * W - step, m, v


def check_adam(got, W, m, v, G, *rest):
    """Weight by weight."""
    got = pair(got, 3)
    want = np.array([adam(*(float(A[k]) for A in (W, m, v, G)), *rest) for k in np.ndindex(W.shape)])
    for a, b in zip(got, want.T):
        close(a, b.reshape(W.shape))


def correction_arguments(rng):
    """An early step with betas of its own; neither eps nor decay matters."""
    W, m, G = rng.normal(size=(3, *shape_of(rng)))
    betas = rng.uniform(0.5, 0.8), rng.uniform(0.9, 0.98)
    return W, m, rng.uniform(0.5, 2.0, W.shape), G, int(rng.integers(1, 5)), rng.uniform(0.1, 0.5), *betas, 1e-12, 0.0


def eps_arguments(rng):
    """Gradients around eps and a 0; the weights are 0, so that W is the step. Late, when nothing is corrected, and early."""
    shape, eps = shape_of(rng), 10.0 ** rng.uniform(-6, -3)
    G = eps * rng.uniform(0.2, 3.0, shape) * rng.choice([-1.0, 1.0], shape)
    G.flat[0] = 0.0
    lr, state = rng.uniform(0.1, 1.0), (np.zeros(shape), G.copy(), np.square(G), G)
    return [(*state, t, lr, 0.9, 0.999, eps, 0.0) for t in (10**6, 40)]


def decay_arguments(rng):
    """Late and without eps, gradients of many sizes, a strong decay; then with all settings left to their defaults."""
    W, m = rng.normal(size=(2, *shape_of(rng)))
    G, v = rng.normal(size=W.shape) * 10.0 ** rng.uniform(-1, 1, W.shape), rng.uniform(0.5, 2.0, W.shape)
    late = (W, m, v, G, 10**6)
    return [(*late, rng.uniform(0.1, 0.5), 0.9, 0.999, 1e-12, rng.uniform(0.3, 1.5)), late]


def steps_of(kind):
    """make(rng) of one kind: all right steps and all wrong ones of this kind, unlabelled and shuffled."""
    changes = STEPS["wrong"][kind]
    assert all(old in RIGHT[0] for old, _ in changes), kind
    texts = RIGHT + [RIGHT[0].replace(old, new) for old, new in changes]
    return lambda rng: [(texts[k],) for k in rng.permutation(len(texts))]


def ask_the_test(answers, text):
    """Make the step and hand it to the student's test; what it raises is its verdict."""
    space = {}
    exec(text, space)
    answers.test_adamw(space["step"])
    return True


def check_verdicts(got, calls):
    """A right step passes, a wrong one is refused with an AssertionError."""
    for outcome, (text,) in zip(got, calls):
        expect_value(outcome) if text in RIGHT else expect_raised(outcome, "AssertionError")


def schedule_arguments(rng):
    """A run with a warm-up of several updates."""
    n_warmup, lr = int(rng.integers(3, 12)), rng.uniform(0.1, 1.0)
    return int(n_warmup + rng.integers(8, 40)), lr, n_warmup, lr * rng.uniform(0.05, 0.4)


def edges(rng):
    """No warm-up, nothing else, one update of it, all but one, a single update, and the defaults."""
    n, lr = int(rng.integers(5, 20)), rng.uniform(0.1, 1.0)
    return [(n, lr, k, lr / 4) for k in (0, n, 1, n - 1)] + [(1, lr, 0, lr / 4), (1, lr, 1, lr / 4), (n, lr)]


def check_schedule(got, n_steps, lr, n_warmup=0, lr_min=0.0):
    """Every update by the formula."""
    want = [lr * (t + 1) / n_warmup for t in range(n_warmup)]
    for t in range(n_warmup, n_steps):
        want.append(lr_min + (lr - lr_min) / 2 * (1 + math.cos(math.pi * (t + 1 - n_warmup) / (n_steps - n_warmup))))
    close(got, want)


def pieces(rng, counts):
    """[(mean gradient, count)] of the pieces of one batch."""
    shape = shape_of(rng)
    return [(rng.normal(loc=rng.normal(), size=(n, *shape)).mean(axis=0), int(n)) for n in counts]


def unequal(rng):
    """Three to six pieces of unequal sizes."""
    return (pieces(rng, rng.permutation([1, 2, 5, 9, 14, 30])[: rng.integers(3, 7)]),)


def with_padding(rng):
    """A batch with pieces of padding at both ends, and the same with a NaN where it counts."""
    good, ill = pieces(rng, (3, 1, 8)), pieces(rng, (4, 2))
    ill[1][0].flat[0] = np.nan
    nothing, nothing_ill = ((np.full(given[0][0].shape, np.nan), 0) for given in (good, ill))
    return [([nothing, *good, nothing],), ([nothing_ill, *ill],), ([good[0], nothing],)]


def check_accumulated(got, given):
    """The sum over all samples, divided by their number; a NaN that counts stays, and stays where it is."""
    total, n = np.zeros(given[0][0].shape), 0
    for G, count in given:
        if count:
            total, n = total + count * G, n + count
    got, want = array_of(got), total / n
    expect(got.shape == want.shape, "shape")
    expect(np.array_equal(np.isnan(got), np.isnan(want)), "nonfinite")
    close(got[~np.isnan(want)], want[~np.isnan(want)])


def gradients(rng, size=1.0):
    """A dict of three arrays of different shapes."""
    return {name: size * rng.normal(size=shape_of(rng)) for name in ("weight", "bias", "scale")}


def check_clipped(got, calls):
    """The joint norm, one factor, values left alone below the limit; refused where a number is not finite."""
    for outcome, (given, max_norm) in zip(got, calls):
        size = math.hypot(*(float(g) for G in given.values() for g in G.flat))  # scales by itself
        if not math.isfinite(size):
            expect_raised(outcome, "FloatingPointError")
            continue
        clipped, norm = pair(expect_value(outcome))
        expect_close(norm, size, rtol=NEAR)
        expect(isinstance(clipped, dict) and set(clipped) == set(given), "shape")
        for name, G in given.items():
            want = G * min(1.0, max_norm / size) if size else G
            expect_close(clipped[name], want, atol=NEAR * 1e-2 * min(size, max_norm), rtol=NEAR)


def ordinary(rng):
    """Above the limit, below it, and one where each array alone is below it; the norm of each is 1."""
    given = {name: G / math.sqrt(np.square(G).sum()) for name, G in gradients(rng).items()}
    return [(given, rng.uniform(0.05, 0.9)), (given, rng.uniform(1.8, 3.0)), (given, rng.uniform(1.1, 1.6))]


def doubtful(rng):
    """Zeros and good gradients among such with a NaN or an infinity, in a random place."""
    calls = [({name: 0 * G for name, G in gradients(rng).items()}, 1.0), (gradients(rng), 0.1)]
    for bad in (np.nan, np.inf, -np.inf, np.nan):
        given = gradients(rng)
        G = given[str(rng.choice(list(given)))]
        G.flat[rng.integers(G.size)] = bad
        calls.append((given, rng.uniform(0.1, 100.0)))
    return calls


def extreme(rng):
    """Squares that overflow, squares that vanish, both beside each other, and a limit that is tiny itself."""
    high, low = 10.0 ** rng.uniform(180, 290), 10.0 ** rng.uniform(-290, -180)
    mixed = gradients(rng, high) | {"bias": gradients(rng, low)["bias"]}
    return [(gradients(rng, high), 1.0), (gradients(rng, low), 1.0), (mixed, high / 10), (gradients(rng, low), low / 10)]


def scaler(G, scale, good, n_good):
    """The two rules: (gradient or None, scale, good). A power of two divides exactly, so every digit counts."""
    if not np.isfinite(G).all():
        return None, max(scale / 2, 1.0), 0
    return G.astype(np.float64) / scale, *((2 * scale, 0) if good + 1 == n_good else (scale, good + 1))


def check_scaler(got, *args):
    """One step by the rules."""
    for a, b in zip(pair(got, 3), scaler(*args)):
        expect_equal(a, b)


def small(rng):
    """Gradients down to the smallest that float16 holds, and a scale that leaves much less of them."""
    G = (rng.normal(size=shape_of(rng)) * 2.0 ** rng.uniform(-20, 5)).astype(np.float16)
    G.flat[0], G.flat[-1] = 2.0**-24, -(2.0**-23)
    return G, 2.0 ** int(rng.integers(8, 20)), 0, 5


def overflows(rng):
    """One bad entry somewhere; also at the lowest scales; and a good gradient, which must not be skipped."""
    calls = []
    for bad, scale in zip((np.inf, -np.inf, np.nan, np.nan, 1.0), (2.0**12, 2.0, 1.0, 2.0 ** int(rng.integers(5, 15)), 1.0)):
        G = rng.normal(size=shape_of(rng)).astype(np.float16)
        G.flat[rng.integers(G.size)] = bad
        calls.append((G, scale, int(rng.integers(1, 6)), 9))
    return calls


def loop(rng):
    """Forty steps with a few overflows; good stretches that are long enough to double the scale several times."""
    steps = [rng.normal(size=3).astype(np.float16) for _ in range(40)]
    for k in rng.choice(np.arange(5, 40), 4, replace=False):
        steps[k][rng.integers(3)] = np.inf
    return steps, 2.0 ** int(rng.integers(6, 12)), int(rng.integers(2, 5))


def run_a_loop(answers, gradients, scale, n_good):
    """State handed from step to step, as in training."""
    seen, good = [], 0
    for G in gradients:
        G, scale, good = answers.unscale(G, scale, good, n_good)
        seen.append((G, scale, good))
    return seen


def check_loop(got, steps, scale, n_good):
    """Each step by the rules."""
    good = 0
    for outcome, G in zip(pair(got, len(steps)), steps):
        check_scaler(outcome, G, scale, good, n_good)
        _, scale, good = scaler(G, scale, good, n_good)


def regression(rng, unit, dependent):
    """(X, y, n_steps): condition number 1000 to 4000; `dependent`: more columns than curvatures above 0."""
    ratio, n = math.exp(rng.uniform(math.log(1000), math.log(4000))), int(rng.integers(6, 20))
    n_columns = n + int(rng.integers(2, 8)) if dependent else n
    n_samples = n_columns + int(rng.integers(5, 60))
    roots = np.sqrt(unit * np.geomspace(1 / ratio, 1.0, n))
    left, right = (np.linalg.qr(rng.normal(size=(rows, n)))[0] for rows in (n_samples, n_columns))
    X = math.sqrt(n_samples) * (left * roots) @ right.T
    y = X @ right @ (rng.choice([-1.0, 1.0], n) / roots) + 0.1 * rng.normal(size=n_samples)
    return X, y, math.ceil(5 * math.sqrt(ratio))


def regressions(dependent):
    """make: one problem in a large unit, one in a small one."""
    return lambda rng: [regression(rng, unit * 10.0 ** rng.uniform(-1, 1), dependent) for unit in (1e5, 1e-5)]


def check_plan(got, X, y, n_steps):
    """Train by the plan, here, and measure the excess loss. The best constant rate leaves 5 %, the best momentum 0.013 %."""
    lrs, momenta = (array_of(part) for part in pair(got))
    expect(lrs.shape == momenta.shape == (n_steps,), "shape")
    best = np.linalg.lstsq(X, y, rcond=1e-9)[0]
    w, V = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    with np.errstate(all="ignore"):  # a plan that diverges ends at infinity or NaN
        for lr, momentum in zip(lrs, momenta):
            V = momentum * V + X.T @ (X @ w - y) / len(X)
            w = w - lr * V
        left = np.square(X @ (w - best)).sum() / np.square(X @ best).sum()
    expect(bool(left <= 1e-3))


def case(task, name, make, check, call, points=1, **how):
    """A case with its words."""
    return Case(task, name, points, make, check, call, **WORDS[task][name], **how)


CASES = [
    case("momentum-step", "memory", lambda rng: momentum(rng)[:5], check_momentum, "momentum_step"),
    case(
        "momentum-step",
        "decay",
        momentum,
        untouched(check_momentum),
        "momentum_step",
        echo=True,
    ),
    case("mend-adam", "correction", correction_arguments, untouched(check_adam), "adamw_step", echo=True),
    case("mend-adam", "eps", eps_arguments, every(check_adam), "adamw_step", many=True),
    case("mend-adam", "decay", decay_arguments, every(check_adam), "adamw_step", many=True),
    case("property-test", "length", steps_of("length"), check_verdicts, ask_the_test, many=True),
    case("property-test", "memory", steps_of("memory"), check_verdicts, ask_the_test, many=True),
    case("property-test", "decay", steps_of("decay"), check_verdicts, ask_the_test, many=True),
    case("schedule", "climb-and-fall", schedule_arguments, check_schedule, "learning_rates"),
    case("schedule", "edges", edges, every(check_schedule), "learning_rates", many=True),
    case("accumulate", "unequal-pieces", unequal, check_accumulated, "accumulate"),
    case("accumulate", "padding", with_padding, every(check_accumulated), "accumulate", many=True),
    case("clip", "joint-norm", ordinary, check_clipped, "clip", many=True),
    case("clip", "not-finite", doubtful, check_clipped, "clip", many=True),
    case("clip", "extreme-sizes", extreme, check_clipped, "clip", many=True),
    case("loss-scaler", "division", small, check_scaler, "unscale"),
    case("loss-scaler", "overflow", overflows, every(check_scaler), "unscale", many=True),
    case("loss-scaler", "loop", loop, check_loop, run_a_loop),
    case("design", "any-unit", regressions(False), every(check_plan), "plan", points=2, many=True),
    case("design", "dependent-columns", regressions(True), every(check_plan), "plan", points=2, many=True),
]
