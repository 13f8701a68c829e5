r"""One training loop, from its formulas (section 2: "optimization is closely tied to training").

Every later chapter trains something: a network after pruning, a network under fake quantization, a student. All of them call
`train` below, which is the loop everybody writes, kept short and made repeatable:

    (1)  loss  =  1/B sum_i ( log sum_c exp(u_ic) - u_{i, y_i} )        cross-entropy from the logits u
    (2)  d loss / d u_ic  =  ( softmax(u_i)_c - [c = y_i] ) / B         its gradient: what is predicted minus what is true
    (3)  lr_t  =  lr (t + 1) / n_warmup                                 for t < n_warmup: warm-up, then the half cosine
         lr_t  =  lr_min + (lr - lr_min)/2 (1 + cos(pi (t - n_warmup) / (n_steps - n_warmup)))
    (4)  G  <-  G min(1, max_norm / |G|)                                clipping: |G| is the norm of all gradients together
    (5)  grad of the mean over B samples  =  sum_k B_k/B grad of the mean over piece k       accumulation

(5) is linearity and nothing more: a batch too large for the memory can be walked in pieces, and the update is the same up to
rounding. `n_accumulate` therefore changes the memory and not the result. (It is not true of a layer that mixes the samples of a
batch, such as batch normalization in training mode: there the pieces are seen one by one.)

Repeatable means: the order of the samples, and the seed of the random numbers drawn in step t (dropout, augmentation), are a
function of `seed` alone. So a run stopped after step k and resumed there is bit for bit the run that was never stopped (see
`checkpoint.py`), and the caller's random numbers are as they were before the call.

Left out: several devices, parallel data loading, early stopping, logging. Production loops (Lightning, transformers.Trainer)
are mostly those; the update in the middle is the same five lines.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from course_lib._check import check_count, check_number, check_tensor
from course_lib.optimizers import Adam


def cross_entropy(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    r"""Mean negative log-probability of the true class, in nats, eq. (1).

    $$ L = \frac1B \sum_{i=1}^{B} \Bigl( \log \sum_{c=1}^{C} e^{u_{ic}} - u_{i y_i} \Bigr) $$

    where $u$ are the logits (nats, any real number) and $y$ the class numbers. The logarithm of the sum is taken after
    subtracting the row's largest logit, which changes nothing in exact arithmetic and keeps e^1000 out of the computer. A
    network that knows nothing (equal logits) has L = log C. A NaN logit gives a NaN loss: `train` says at which step.

    Raises ValueError for empty or mismatched input and for labels outside 0..C-1, TypeError for what is no tensor.
    Source: the softmax loss, Bridle 1990; log-sum-exp, Blanchard, Higham & Higham 2021, eq. (1.3).
    Notebook: 02_2_training.
    """
    check_tensor("cross_entropy", "logits", logits, ndim=2, finite=False)
    check_tensor("cross_entropy", "labels", labels, ndim=1)
    if labels.is_floating_point() or labels.shape[0] != logits.shape[0]:
        raise ValueError(
            f"cross_entropy: labels must be {logits.shape[0]} whole class numbers, got {tuple(labels.shape)} {labels.dtype}"
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"cross_entropy: labels must lie in 0..{logits.shape[1] - 1}, got {labels.min()} to {labels.max()}")
    largest = logits.detach().amax(dim=1, keepdim=True)  # (B, 1); detached: its two appearances cancel in the gradient
    log_sum = largest.squeeze(1) + (logits - largest).exp().sum(dim=1).log()  # (B,)
    return (log_sum - logits.gather(1, labels.long()[:, None]).squeeze(1)).mean()


def warmup_cosine(step: int, n_steps: int, lr: float, n_warmup: int = 0, lr_min: float = 0.0) -> float:
    r"""The learning rate of step 0, 1, ..., n_steps - 1: a linear climb, then half a cosine down to `lr_min`, eq. (3).

    $$ \eta_t = \eta_{\min} + \frac{\eta - \eta_{\min}}{2}\Bigl(1 + \cos \pi \frac{t - t_w}{N - t_w}\Bigr), \qquad
       \eta_t = \eta\, \frac{t+1}{t_w} \;\; (t < t_w) $$

    where $t$ is `step`, $N$ `n_steps`, $t_w$ `n_warmup`. The first step is already larger than 0 (a step of size 0 is wasted),
    the peak `lr` is reached at the last step of the warm-up, and `lr_min` would be reached at step N, where it stays.

    Raises ValueError for a negative step, a warm-up longer than the run, or lr_min > lr.
    Source: Loshchilov & Hutter 2017 (SGDR), eq. (5), one period; warm-up, Goyal et al. 2017, section 2.2.
    Notebook: 02_2_training.
    """
    who = "warmup_cosine"
    check_count(who, "step", step, low=0)
    check_count(who, "n_steps", n_steps)
    check_count(who, "n_warmup", n_warmup, low=0)
    check_number(who, "lr", lr, low=0.0)
    check_number(who, "lr_min", lr_min, low=0.0)
    if n_warmup > n_steps or lr_min > lr:
        raise ValueError(f"{who}: need n_warmup <= n_steps and lr_min <= lr, got {n_warmup}, {n_steps}, {lr_min}, {lr}")
    if step < n_warmup:
        return lr * (step + 1) / n_warmup
    if step >= n_steps:
        return lr_min
    return lr_min + (lr - lr_min) / 2 * (1 + math.cos(math.pi * (step - n_warmup) / (n_steps - n_warmup)))


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> float:
    r"""Shorten all gradients, in place, by one common factor so that their joint norm is at most `max_norm`, eq. (4).

    $$ G \leftarrow G \cdot \min\Bigl(1, \frac{\text{max norm}}{\lVert G \rVert + 10^{-6}}\Bigr), \qquad
       \lVert G \rVert = \sqrt{\textstyle\sum_{\text{all parameters}} g^2} $$

    One factor for all, so the direction stays. The 1e-6 is torch's guard against 0/0. Returns the norm before clipping;
    parameters without a gradient count as 0.

    Raises FloatingPointError for a NaN or infinite norm, gradients untouched; ValueError unless max_norm > 0.
    Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.  Notebook: 02_2_training.
    """
    check_number("clip_gradients", "max_norm", max_norm, above=0.0)
    if isinstance(parameters, Tensor):
        raise TypeError("clip_gradients: parameters is one tensor; give a list of tensors, or model.parameters()")
    gradients = [W.grad for W in parameters if W.grad is not None]
    if not gradients:
        return 0.0
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(G) for G in gradients])))
    if not math.isfinite(norm):
        raise FloatingPointError(f"clip_gradients: the norm of the gradients is {norm}; a shorter NaN would still be NaN")
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        for G in gradients:
            G.mul_(factor)
    return norm


def n_updates(n_samples: int, n_epochs: int = 1, batch_size: int = 128) -> int:
    r"""How many times `train` will call the optimizer: the last, smaller batch of an epoch counts.

    $$ N = n_{\text{epochs}} \, \lceil n_{\text{samples}} / B \rceil $$

    Raises ValueError for counts below 1.
    Source: counting.  Notebook: 02_2_training.
    """
    for name, value in (("n_samples", n_samples), ("n_epochs", n_epochs), ("batch_size", batch_size)):
        check_count("n_updates", name, value)
    return n_epochs * -(-n_samples // batch_size)


@dataclass
class History:
    """What `train` saw: `losses` (nats, the mean of each batch, before its update), `lrs` (the rate of each update), `seconds`.

    Source: bookkeeping.  Notebook: 02_2_training.
    """

    losses: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    seconds: float = 0.0


def _plan(n_samples: int, n_epochs: int, batch_size: int, seed: int) -> Iterator[tuple[Tensor, int]]:
    """For each update: which samples (B,), and the seed of its random numbers. A function of its arguments alone."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_epochs):
        order = torch.randperm(n_samples, generator=generator)
        seeds = torch.randint(2**31, (n_updates(n_samples, 1, batch_size),), generator=generator)
        yield from zip(order.split(batch_size), seeds.tolist())


def _set_lr(optimizer, lr: float) -> None:
    """Ours has one `lr`; torch.optim keeps it in its groups."""
    for group in getattr(optimizer, "param_groups", []):
        group["lr"] = lr
    optimizer.lr = lr


def _get_lr(optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"] if hasattr(optimizer, "param_groups") else optimizer.lr)


def _check_train(X, targets: tuple, n_epochs, batch_size, n_accumulate, first_step, max_norm) -> None:
    check_tensor("train", "X", X)
    for i, target in enumerate(targets):
        check_tensor("train", f"targets[{i}]", target)
        if len(target) != len(X):
            raise ValueError(f"train: X has {len(X)} samples, targets[{i}] has {len(target)}")
    for name, value in (("n_epochs", n_epochs), ("batch_size", batch_size), ("n_accumulate", n_accumulate)):
        check_count("train", name, value)
    check_count("train", "first_step", first_step, low=0)
    if max_norm is not None:
        check_number("train", "max_norm", max_norm, above=0.0)


def _check_classes(model, targets: tuple, loss_fn, forward) -> None:
    """Refuse labels for `cross_entropy` before the first step; the number of classes is known where a Linear comes last."""
    if loss_fn is not cross_entropy or forward is not None or len(targets) != 1:
        return
    labels = targets[0]
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"train: cross_entropy needs whole class numbers as labels, got {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    last = model[-1] if isinstance(model, nn.Sequential) and len(model) else model
    n_classes = last.out_features if isinstance(last, nn.Linear) else high + 1
    if low < 0 or high >= n_classes:
        raise ValueError(f"train: labels must lie in 0..{n_classes - 1}, got {low} to {high}")


def _optimizer_of(model: nn.Module, optimizer):
    """Adam over the trainable parameters if None; refuses an optimizer that holds none of them, since nothing would change."""
    trainable = [W for W in model.parameters() if W.requires_grad]
    if optimizer is None:
        return Adam(trainable)
    groups = getattr(optimizer, "param_groups", None)
    held = [W for group in groups for W in group["params"]] if groups is not None else optimizer.parameters
    if not {id(W) for W in held} & {id(W) for W in trainable}:
        raise ValueError("train: the optimizer holds no parameter of this model; make it from model.parameters()")
    return optimizer


def _inputs(X: Tensor, batch: Tensor, augment: Callable | None) -> Tensor:
    """The batch's samples, changed by `augment`, which must keep their number: targets are matched by position."""
    if augment is None:
        return X[batch]
    x = augment(X[batch])
    if len(x) != len(batch):
        raise ValueError(f"train: augment made {len(x)} samples of {len(batch)}; the targets would belong to others")
    return x


@contextmanager
def _training_mode(model: nn.Module, optimizer) -> Iterator[None]:
    """Train mode inside. Afterwards, whatever happened: modes and random numbers as before, gradients cleared."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(devices=[]):
            model.train()
            yield
    finally:
        optimizer.zero_grad()
        for module, mode in modes:
            module.training = mode


def _backward(model: Callable, x: Tensor, targets: list[Tensor], loss_fn: Callable, n_pieces: int) -> float:
    """Leave the gradient of the batch's mean loss in `.grad`, piece by piece, eq. (5); returns that loss."""
    total = 0.0
    for index in torch.arange(len(x)).chunk(n_pieces):
        share = len(index) / len(x)
        piece = slice(int(index[0]), int(index[-1]) + 1)
        loss = loss_fn(model(x[piece]), *(target[piece] for target in targets))
        (loss if share == 1 else share * loss).backward()
        total += share * loss.item()
    return total


def train(
    model: nn.Module,
    X: Tensor,
    targets: Tensor | tuple[Tensor, ...],
    *,
    loss_fn: Callable = cross_entropy,
    forward: Callable | None = None,
    optimizer=None,
    n_epochs: int = 1,
    batch_size: int = 128,
    schedule: Callable[[int], float] | None = None,
    seed: int = 0,
    n_accumulate: int = 1,
    max_norm: float | None = None,
    augment: Callable | None = None,
    after_step: Callable[[int], object] | None = None,
    first_step: int = 0,
    progress: bool = True,
    description: str = "training",
) -> History:
    r"""Train `model` in place on batches of (X, targets) and return its History.

    $$ \theta_{t+1} = \mathrm{step}(\theta_t, \tfrac1B \textstyle\sum_{i \in \text{batch } t} \nabla L_i(\theta_t)) $$

    X: samples along dim 0.  targets: a tensor, or a tuple of tensors, indexed like X; `loss_fn(outputs, *targets_of_the_batch)`
    must be a mean over the batch.  `outputs = (forward or model)(x)`.  optimizer: ours or torch's; Adam with lr 1e-3 if None.
    schedule(step) -> lr.  batch_size: samples an update.  n_accumulate: pieces in which a batch is walked, eq. (5).  max_norm:
    see `clip_gradients`.  augment(x) -> x changes the inputs of a batch.  after_step(step) is called after each update.
    first_step: start there, as after `load_checkpoint`; the History then begins with that step.

    The same arguments on the same machine give the same weights bit for bit. All random numbers (order, dropout, augment) come
    from `seed`; the global CPU generator of torch is put back at the end, those of numpy and `random` are not touched. The mode
    (train or eval) of each module is put back too, and gradients are cleared. Ctrl-C passes KeyboardInterrupt on and leaves
    all this in order: the model can be used or trained on.

    Raises ValueError for empty, NaN or mismatched data; FloatingPointError when loss or gradient stops being finite, with the
    step: the weights are then still finite, those before the bad update.
    Source: minibatch SGD, Robbins & Monro 1951; the loop is everyone's.  Notebook: 02_2_training.
    """
    targets = targets if isinstance(targets, tuple) else (targets,)
    _check_train(X, targets, n_epochs, batch_size, n_accumulate, first_step, max_norm)
    _check_classes(model, targets, loss_fn, forward)
    optimizer = _optimizer_of(model, optimizer)
    history, started, n_steps = History(), time.perf_counter(), n_updates(len(X), n_epochs, batch_size)
    bar = tqdm(total=n_steps, desc=description, disable=not progress, initial=first_step)
    with _training_mode(model, optimizer), bar:
        for step, (batch, step_seed) in enumerate(_plan(len(X), n_epochs, batch_size, seed)):
            if step < first_step:
                continue
            # The CPU generator alone: torch.manual_seed would also queue a call for every accelerator, each step.
            torch.default_generator.manual_seed(step_seed)
            if schedule is not None:
                _set_lr(optimizer, float(schedule(step)))
            optimizer.zero_grad()
            x = _inputs(X, batch, augment)
            loss = _backward(forward or model, x, [target[batch] for target in targets], loss_fn, n_accumulate)
            if not math.isfinite(loss):
                raise FloatingPointError(f"train: diverged, the loss of step {step} is {loss}, lr {_get_lr(optimizer):g}")
            if max_norm is not None:
                clip_gradients(model.parameters(), max_norm)
            optimizer.step()
            history.losses.append(loss)
            history.lrs.append(_get_lr(optimizer))
            if after_step is not None:
                after_step(step)
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update()
    history.seconds = time.perf_counter() - started
    return history
