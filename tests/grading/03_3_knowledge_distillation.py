"""Hidden cases of exercise 3.3. Oracles: formulas in float64, gradients by central differences, a network's step by hand."""

import functools
import os
import tomllib
from pathlib import Path

import numpy as np
import platformdirs

from grading.cases import Case, array_of, expect, expect_close, expect_equal, expect_value
from grading.wire import Tensor

WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))  # idea and hint of each case
NEEDS = "torch"
PRELUDE = """import math, torch
from course_lib.measure import n_errors, n_parameters, predict
from course_lib.models import mlp
from course_lib.optimizers import Adam
from course_lib.training import train
torch.set_num_threads(1)
def normal(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
"""


def log_shares(rows, T):
    """log softmax(rows / T), row by row."""
    X = np.asarray(rows, dtype=np.float64) / T
    X = X - X.max(axis=1, keepdims=True)
    return X - np.log(np.exp(X).sum(axis=1, keepdims=True))


def losses(u, v, y, alpha, T):
    """Hinton's loss of each sample."""
    log_s, log_t = log_shares(u, T), log_shares(v, T)
    kl = (np.exp(log_t) * (log_t - log_s)).sum(axis=1)
    return (1 - alpha) * -log_shares(u, 1)[np.arange(len(y)), np.asarray(y)] + alpha * T * T * kl


def slope(u, v, y, alpha, T):
    """The gradient of the batch's mean by u: central differences, wrong by less than 1e-7 for logits of 200."""
    u, h = np.asarray(u, dtype=np.float64), 1e-5
    steps = h * np.eye(u.shape[1])
    columns = [(losses(u + e, v, y, alpha, T) - losses(u - e, v, y, alpha, T)) / (2 * h) for e in steps]
    return np.stack(columns, axis=1) / len(u)


def batch(rng, B, C, dtype=np.float32, large=False):
    """Logits of student and teacher, and labels. Large: +-200, each row with both signs, in another order for the two."""
    u, v = 3 * rng.normal(size=(2, B, C))
    if large:
        signs = np.where(np.arange(C) < (C + 1) // 2, 200.0, -200.0)
        u, v = (rng.permuted(np.tile(signs, (B, 1)), axis=1) for _ in range(2))
    return Tensor.of(u.astype(dtype)), Tensor.of(v.astype(dtype)), Tensor.of(rng.integers(C, size=B))


def many_shares(rng):
    shapes = [(5, 3, np.float32), (3, 8, np.float64), (7, 2, np.float32)]
    return [(Tensor.of((4 * rng.normal(size=(B, C))).astype(d)), rng.uniform(0.3, 5)) for B, C, d in shapes]


def far_rows(rng):
    calls = []
    for T in (1, 2.0, 4.0):
        rows = rng.permutation([1e4, -1e4, 0.0, 1e4, -1e4])[:, None] + rng.integers(0, 7, size=(5, 4))
        rows[rng.integers(5)] = rng.permutation([1e4, -1e4, -1e4, 0.0])
        calls.append((Tensor.of(rows.astype(np.float32)), T))
    return calls


def odd_batches(rng):
    shapes, temperatures = [(1, 6), (4, 1), (2, 40), (3, 5)], (2, 3.0, 1e5, 0.01)
    return [(Tensor.of(rng.integers(-4, 5, size=s).astype(np.float32)), T) for s, T in zip(shapes, temperatures)]


def check_shares(got, calls, atol=1e-5):
    """Near 10^4 the logarithm of a sum has steps of 1e-3 in float32, of which half may be lost: there atol is 1e-3."""
    for outcome, (logits, T) in zip(got, calls):
        expect_close(expect_value(outcome), np.exp(log_shares(logits, T)), atol=atol)


def check_untouched(got, calls):
    for outcome, (logits, _) in zip(got, calls):
        expect_equal(expect_value(outcome)[1][0], np.asarray(logits))
    check_shares([outcome[0] for outcome in got], calls)


def check_losses(got, calls):
    """float32: a log-share is off by about 1e-7 of its logit; T^2 and the batch multiply that."""
    for outcome, (u, v, y, alpha, T, *reduction) in zip(got, calls):
        want = losses(u, v, y, alpha, T)
        want = {"none": want, "sum": want.sum(), "batchmean": want.mean()}[reduction[0] if reduction else "batchmean"]
        expect_close(expect_value(outcome), want, atol=1e-5 + 2e-6 * T * T * len(y), rtol=1e-4)


def all_reductions(rng):
    shapes = [(7, 3, np.float32), (2, 9, np.float64), (1, 5, np.float32)]
    endings = [("none",), ("sum",), ("batchmean",), ()]
    return [(*batch(rng, *shape), rng.uniform(0.2, 0.8), rng.uniform(1.5, 4), *end) for shape in shapes for end in endings]


def both_gradients(answers, u, v, y, alpha, T):
    u, v = u.clone().requires_grad_(), v.clone().requires_grad_()
    loss = answers.hinton(u, v, y, alpha, T)
    loss.backward()
    return [loss.detach(), u.grad, [] if v.grad is None else v.grad]


def check_gradients(got, calls):
    for outcome, call in zip(got, calls):
        loss, by_student, by_teacher = expect_value(outcome)
        check_losses([loss], [call])
        check_slopes([by_student], [call])
        expect_close(by_teacher, np.zeros(0 if isinstance(by_teacher, list) else call[1].shape))


def check_slopes(got, calls):
    """float32 knows a logit to 6e-8 of its size, and so a share; the gradient's T and the logit's 1/T cancel."""
    for outcome, (u, v, y, alpha, T) in zip(got, calls):
        expect_close(expect_value(outcome), slope(u, v, y, alpha, T), atol=2e-6 + 3e-7 * max(np.abs(u).max(), np.abs(v).max()))


def odd_slopes(rng):
    """More samples than classes, one sample, one label for all."""
    shapes = [(9, 3, "f4"), (1, 6, "f8"), (4, 7, "f4")]
    calls = [(*batch(rng, *shape), rng.uniform(0.2, 0.8), T) for shape, T in zip(shapes, (2, 3.5, 1.5))]
    calls[0][2][:] = rng.integers(3)
    return calls


def large_ones(rng):
    settings = ((4, rng.uniform(0.2, 0.8), 1.0), (5, 1.0, 2.0), (3, 0.0, 4))
    return [(*batch(rng, 6, C, large=True), alpha, T) for C, alpha, T in settings]


def networks(rng, alpha=None, dropout=False, training=False, old=None, n_steps=1, dtype=np.float32):
    """The arguments of `steps`: a teacher and a student, as (weight, bias) of each layer, and how they come."""
    n, h, C, B = (int(k) for k in rng.integers(3, 7, size=4))

    def draw(*shape):
        return Tensor.of(rng.normal(size=shape).astype(dtype))

    teacher, student = ([(draw(k, n), draw(k)), (draw(C, k), draw(C))] for k in (h + 1, h))
    how = {"dropout": dropout, "training": training, "old": old, "n_steps": n_steps}
    alpha = rng.uniform(0.2, 0.8) if alpha is None else alpha
    y = Tensor.of(rng.integers(C, size=B))
    return teacher, student, draw(B, n), y, rng.uniform(0.05, 0.3), alpha, rng.uniform(1.5, 3), how


def steps(answers, teacher_layers, student_layers, x, y, lr, alpha, T, how):
    import torch

    def network(layers, dropout):
        modules = [torch.nn.Dropout(0.5)] if dropout else []
        for W, b in layers:
            linear = torch.nn.Linear(W.shape[1], W.shape[0])
            linear.weight.data, linear.bias.data = W.clone(), b.clone()
            modules += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*modules[:-1])

    teacher, student = network(teacher_layers, how["dropout"]).train(how["training"]), network(student_layers, False)
    if how["old"] is not None:
        for W in [*teacher.parameters(), *student.parameters()]:
            W.grad = torch.full_like(W, how["old"])
    told = [answers.distill_step(teacher, student, x, y, lr, alpha, T) for _ in range(how["n_steps"])]
    held = list(teacher.parameters())
    return [told, list(student.parameters()), held, [W.grad for W in held], teacher.training]


def chain(layers, x):
    """What goes into each layer, and what comes out of the last: linear layers with ReLU between them."""
    values = [np.asarray(x, dtype=np.float64)]
    for k, (W, b) in enumerate(layers):
        z = values[-1] @ np.asarray(W, dtype=np.float64).T + b
        values.append(z if k == len(layers) - 1 else np.maximum(z, 0))
    return values


def check_steps(got, calls):
    """Loss and student's weights after the steps, the gradient carried back by hand; lr < 1 keeps float32 errors below 1e-5."""
    for outcome, (teacher, student, x, y, lr, alpha, T, how) in zip(got, calls):
        (got_losses, got_layers, *_), v, told = expect_value(outcome), chain(teacher, x)[-1], []
        layers = [(np.float64(W), np.float64(b)) for W, b in student]
        for _ in range(how["n_steps"]):
            values = chain(layers, x)
            told.append(losses(values[-1], v, y, alpha, T).mean())
            d = slope(values[-1], v, y, alpha, T)
            for k in reversed(range(len(layers))):
                W, b = layers[k]
                layers[k] = (W - lr * d.T @ values[k], b - lr * d.sum(axis=0))
                d = (d @ W) * (values[k] > 0)
        expect_close(got_losses, told, atol=1e-4, rtol=1e-4)
        for W, want in zip(got_layers, [W for layer in layers for W in layer], strict=True):
            expect_close(W, want, atol=2e-5, rtol=1e-5)


def check_modes(got, calls):
    check_steps(got, calls)
    for outcome, call in zip(got, calls):
        expect(outcome[-1] is call[-1]["training"])


def check_traces(got, calls):
    check_steps(got, calls)
    for (*_, held, grads, _), call in zip(got, calls):
        for W, G, was in zip(held, grads, [W for layer in call[0] for W in layer], strict=True):
            expect_equal(W, np.asarray(was))
            expect_equal(G, None if call[-1]["old"] is None else np.full(was.shape, call[-1]["old"]))


def check_smoothing(got, calls):
    for outcome, (u, y, epsilon) in zip(got, calls):
        target = (1 - epsilon) * np.eye(u.shape[1])[np.asarray(y)] + epsilon / u.shape[1]
        want = -(target * log_shares(u, 1)).sum(axis=1).mean()
        expect_close(expect_value(outcome), want, atol=1e-5, rtol=1e-5)


def smoothed(*shapes, ends=False, large=False):
    """make of calls of two shapes, with epsilon at both ends or in between."""
    epsilons = lambda rng: (0, 1.0) if ends else rng.uniform(0.1, 0.7, size=2).tolist()  # noqa: E731
    return lambda rng: [(*batch(rng, *s, d, large)[::2], e) for s, d in zip(shapes, ("f4", "f8")) for e in epsilons(rng)]


LIMIT, N_TEACHER, N_TRAIN, N_FEW, N_ALL = 0.15, 20_000, 60_000, 100, 3_000


@functools.cache
def digits():
    """All digits, a row of 784 bytes and the label each; from the course's cache, and not all of it in memory."""
    chosen = os.environ.get("COURSE_CACHE")
    cache = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("model-optimization-course", appauthor=False)
    if not (cache / "assets/mnist-uint8.npy").is_file():
        from course_lib.data import mnist  # fetches them and keeps that file; imports torch, the first time only

        mnist(progress=False)
    return np.load(cache / "assets/mnist-uint8.npy", mmap_mode="r", allow_pickle=False)


def drawn(rows):
    """(images, labels) of some rows."""
    table = np.asarray(digits()[rows])
    return table[:, :784].astype(np.float32) / 256, table[:, 784].astype(np.int64)


@functools.cache
def trained_teacher():
    """Weights and biases of a 784-100-10 network, trained on the first 20,000 digits: momentum, falling rate, a second."""
    rng, (X, y) = np.random.default_rng(0), drawn(slice(N_TEACHER))
    W1, W2 = (rng.normal(0, (2 / s[1]) ** 0.5, size=s).astype(np.float32) for s in ((100, 784), (10, 100)))
    P = [W1, np.zeros(100, np.float32), W2, np.zeros(10, np.float32)]
    V = [np.zeros_like(W) for W in P]
    orders = np.concatenate([rng.permutation(N_TEACHER).reshape(-1, 100) for _ in range(3)])
    for t, i in enumerate(orders):
        h = np.maximum(X[i] @ P[0].T + P[1], 0)
        d = np.exp(log_shares(h @ P[2].T + P[3], 1)).astype(np.float32)
        d[np.arange(100), y[i]] -= 1
        dh = (d @ P[2]) * (h > 0)
        for W, M, G in zip(P, V, (dh.T @ X[i], dh.sum(0), d.T @ h, d.sum(0))):
            M *= 0.9
            M += G / 100
            W -= 0.1 * (1 - t / len(orders)) * M
    return P


def a_customer(rng):
    """The teacher's arrays, 100 images with labels, 2,900 without: class c is the digit order[c]."""
    order = rng.permutation(10)
    W1, b1, W2, b2 = trained_teacher()
    X, y = drawn(rng.choice(np.arange(N_TEACHER, N_TRAIN), N_ALL, replace=False))
    few = np.argsort(order)[y[:N_FEW]]
    return tuple(Tensor.of(a) for a in (W1, b1, W2[order], b2[order], X[:N_FEW], few, X[N_FEW:]))


def delivery(answers, W1, b1, W2, b2, few_images, few_labels, other_images):
    import torch

    from course_lib.models import mlp

    teacher = mlp(784, 100, 10)
    for W, values in zip(teacher.parameters(), (W1, b1, W2, b2)):
        W.data = values.clone()
    probes = other_images[:20].clone()
    student = answers.deliver(teacher, few_images, few_labels, other_images).eval()
    linear = [layer for layer in student.modules() if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        return [[layer.weight, layer.bias] for layer in linear], student(probes), list(teacher.parameters())


def check_delivery(got, W1, b1, W2, b2, few_images, few_labels, other_images):
    layers, logits, teacher = got
    layers = [(array_of(W), array_of(b)) for W, b in layers]
    widths = [784, *(len(W) for W, _ in layers)]
    expect(len(layers) > 0 and widths[-1] == 10, "kind")
    expect(all(W.shape == (o, i) and b.shape == (o,) for (W, b), i, o in zip(layers, widths, widths[1:])), "kind")
    expect(all(np.isfinite(W).all() and np.isfinite(b).all() for W, b in layers), "nonfinite")
    probes, logits = other_images[:20], array_of(logits)
    # other architectures give other logits; float32 sums of some 784 terms stay within 2e-4 of the sum of magnitudes
    size = chain([(np.abs(W), np.abs(b)) for W, b in layers], probes)[-1]
    expect(logits.shape == size.shape and bool((np.abs(chain(layers, probes)[-1] - logits) <= 2e-4 * size).all()), "kind")
    expect(sum(W.size + b.size for W, b in layers) <= 8000)
    X, y = drawn(slice(N_TRAIN, None))
    order = (np.asarray(W2)[:, None] == trained_teacher()[2]).all(axis=2).argmax(axis=1)
    expect(float((order[chain(layers, X)[-1].argmax(axis=1)] != y).mean()) <= LIMIT)
    for W, was in zip(teacher, (W1, b1, W2, b2), strict=True):
        expect_equal(W, np.asarray(was))


FUNCTIONS = {"softmax": "soft_targets", "gradient": "hinton_gradient", "smoothing": "smoothing_by_distillation"}
USES = {"gradient": ("softmax",), "mend-listing": ("hinton",), "smoothing": ("hinton",)}


def case(task, name, points, make, check, call=None, many=True, **how):
    """A case with its words."""
    how |= {"many": many, "uses": USES.get(task, ())} | WORDS[task][name]
    return Case(task, name, points, make, check, call or FUNCTIONS.get(task, task), **how)


def parts(alpha, *ending):
    """make of calls with one alpha: other shapes, other types of numbers, T far from 1."""
    shapes = [(5, 3, "f4"), (3, 10, "f8"), (8, 4, "f4")]
    return lambda rng: [(*batch(rng, *shape), alpha, T, *ending) for shape, T in zip(shapes, (2, rng.uniform(2.5, 6), 0.6))]


def taught(modes=(False, False), **how):
    """make of calls of `steps`, one for each mode in which the teacher comes."""
    return lambda rng: [networks(rng, training=bool(mode), **how) for mode in rng.permutation(modes)]


CASES = [
    case("softmax", "shares", 1, many_shares, check_shares),
    case("softmax", "far-rows", 1, far_rows, functools.partial(check_shares, atol=1e-3)),
    case("softmax", "odd-batches", 1, odd_batches, check_untouched, echo=True),
    case("hinton", "soft-part", 2, parts(1.0, "none"), check_losses),
    case("hinton", "label-part", 1, parts(0.0, "none"), check_losses),
    case("hinton", "reductions", 1, all_reductions, check_losses),
    case("hinton", "gradients", 1, parts(0.4), check_gradients, both_gradients),
    case("hinton", "large-logits", 1, large_ones, check_gradients, both_gradients),
    case("gradient", "label-part", 1, parts(0.0), check_slopes),
    case("gradient", "teacher-part", 2, parts(1.0), check_slopes),
    case("gradient", "odd-batches", 1, odd_slopes, check_slopes),
    case("gradient", "large-logits", 1, large_ones, check_slopes),
    case("mend-listing", "teachers-step", 2, taught(alpha=1.0), check_steps, steps, seconds=20.0),
    case("mend-listing", "loss-before", 1, taught(dtype="f8"), check_steps, steps, seconds=20.0),
    case("mend-listing", "teacher-modes", 1, taught((False, True), dropout=True), check_modes, steps, seconds=20.0),
    case("mend-listing", "no-traces", 1, taught(old=0.75, n_steps=3), check_traces, steps, seconds=20.0),
    case("smoothing", "many-classes", 2, smoothed((5, 3), (4, 10)), check_smoothing),
    case("smoothing", "ends", 1, smoothed((1, 6), (7, 2), ends=True), check_smoothing),
    case("smoothing", "confident-student", 1, smoothed((6, 5), (3, 4), large=True), check_smoothing),
    case("design", "another-customer", 5, a_customer, check_delivery, delivery, many=False, seconds=30.0),
]
