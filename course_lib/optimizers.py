r"""From a gradient to a step: SGD, momentum, Nesterov, Adam, AdamW (section 2, and the title's "training").

A gradient says which way the loss rises; it does not say how far to walk. Everything in this file is an answer to "how far".
With $G_t$ the gradient at step t = 1, 2, ... and every product taken weight by weight:

    (1)  W  <-  W - lr G_t                                              SGD
    (2)  V  <-  momentum V + G_t,            W  <-  W - lr V            momentum: a running sum of old gradients
    (3)  V  as in (2),                       W  <-  W - lr (G_t + momentum V)       Nesterov: the same, looking one step ahead
    (4)  m  <-  beta1 m + (1 - beta1) G_t                               Adam: mean of the gradients,
         v  <-  beta2 v + (1 - beta2) G_t^2                             and of their squares
    (5)  m_hat = m / (1 - beta1^t),          v_hat = v / (1 - beta2^t)  both start at 0: divide by what they have seen
    (6)  W  <-  W - lr m_hat / (sqrt(v_hat) + eps)
    (7)  G_t  <-  G_t + weight_decay W       before (1)..(6): the gradient of weight_decay/2 |W|^2, "L2"
    (8)  W    <-  W - lr weight_decay W      before (6), G_t untouched: decoupled decay, AdamW

On a parabola of curvature a (loss a w^2 / 2, so G = a w) a step of (1), (2) or (3) is a 2 x 2 matrix applied to (w, V), so
how fast it converges, or diverges, is known before it runs: by its largest eigenvalue, see `contraction`.

A constant gradient makes V grow to G / (1 - momentum): momentum 0.9 walks ten times as far as lr says. In (6) the size of the
gradient cancels: the first step is lr in every coordinate, whatever the loss is multiplied by. That is also why (7) hardly
works under Adam, where the decay is divided by sqrt(v_hat) with the rest, and why (8) exists.

Two decisions. A parameter whose `.grad` is None is skipped whole: no decay, and its step count stands still. A gradient with a
NaN or an infinity is refused before any parameter moves (`torch.optim` would write NaN into the weights and go on).

Left out: sparse gradients, groups of parameters with rates of their own (make two optimizers), AMSGrad, dampening. Production
libraries do the same arithmetic for all parameters in one fused kernel; ours takes a few in-place operations a parameter.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from course_lib._check import check_number, check_tensor


class _Optimizer:
    """What all share: the list of parameters, one dict of state for each, and the checks. A subclass writes `_update`."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float):
        who = self._who = type(self).__name__
        if isinstance(parameters, Tensor):
            raise TypeError(f"{who}: parameters is one tensor; give a list of tensors, or model.parameters()")
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{who}: parameters is empty; was a generator such as model.parameters() used up before?")
        for i, W in enumerate(self.parameters):
            check_tensor(who, f"parameter {i}", W, finite=False)
            if not W.is_leaf:
                raise ValueError(f"{who}: parameter {i} is the result of a computation, not a leaf: no gradient arrives there")
        if len({id(W) for W in self.parameters}) < len(self.parameters):
            raise ValueError(f"{who}: a parameter stands twice in the list and would be moved twice a step")
        check_number(who, "lr", lr, low=0.0)
        check_number(who, "weight_decay", weight_decay, low=0.0)
        self.lr, self.weight_decay = lr, weight_decay
        self.state: list[dict] = [{} for _ in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients (they become None), since backward() adds to what is there."""
        for W in self.parameters:
            W.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient. Raises FloatingPointError, nothing moved, for a NaN or infinite one."""
        check_number(self._who, "lr", self.lr, low=0.0)
        moving = [(W, s) for W, s in zip(self.parameters, self.state) if W.grad is not None]
        for i, W in enumerate(self.parameters):
            if W.grad is not None and not bool(W.grad.isfinite().all()):
                n_bad = int((~W.grad.isfinite()).sum())
                raise FloatingPointError(
                    f"{self._who}: {n_bad} of {W.grad.numel()} gradients of parameter {i} {tuple(W.shape)} are NaN or infinite;"
                    " no parameter was moved. A smaller lr, a warm-up or clip_gradients usually mends it"
                )
        for W, state in moving:
            self._update(W, W.grad, state)

    def _update(self, W: Tensor, G: Tensor, state: dict) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict:
        """lr and the state of each parameter, copied: what a checkpoint needs to go on as if nothing had happened."""
        copied = [{name: v.clone() if isinstance(v, Tensor) else v for name, v in s.items()} for s in self.state]
        return {"kind": self._who, "lr": self.lr, "state": copied}

    def load_state_dict(self, saved: dict) -> None:
        """Take over what `state_dict` gave. Raises ValueError for another kind of optimizer or other shapes."""
        if saved["kind"] != self._who or len(saved["state"]) != len(self.parameters):
            theirs = f"{saved['kind']} with {len(saved['state'])}"
            raise ValueError(f"{self._who} with {len(self.parameters)} parameters cannot go on from a {theirs}")
        for W, s in zip(self.parameters, saved["state"]):
            if any(isinstance(v, Tensor) and v.shape != W.shape for v in s.values()):
                raise ValueError(f"{self._who}: the saved state belongs to parameters of other shapes")
        self.lr = saved["lr"]
        self.state = [{name: v.clone() if isinstance(v, Tensor) else v for name, v in s.items()} for s in saved["state"]]


class SGD(_Optimizer):
    r"""Stochastic gradient descent, with momentum (2) or Nesterov's look-ahead (3) if asked, and L2 decay (7).

    $$ V_t = \mu V_{t-1} + G_t, \qquad W_t = W_{t-1} - \eta\, V_t \quad\text{or}\quad W_t = W_{t-1} - \eta\,(G_t + \mu V_t) $$

    where $\eta$ is `lr`, $\mu$ `momentum` in [0, 1), the right form is `nesterov=True`, and $G_t$ holds $\lambda W_{t-1}$
    already (`weight_decay` $\lambda$). Sutskever et al. keep $v = -\eta V$ as their velocity; the two agree while `lr` is
    constant. With a schedule they differ: here a new rate acts at once on the whole sum, in theirs old steps keep their old
    rate.

    Raises TypeError, ValueError for impossible settings; `.step()` raises FloatingPointError for a NaN or infinite gradient.
    Source: Robbins & Monro 1951; Polyak 1964, eq. (9); Nesterov 1983 in the form of Sutskever et al. 2013, eqs. (3)-(4).
    Notebook: 02_2_training.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        check_number("SGD", "momentum", momentum, low=0.0)
        if momentum >= 1:
            raise ValueError(f"SGD: momentum must be below 1, got {momentum}: the sum of old gradients would never fade")
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov looks ahead along the momentum, so it needs momentum > 0")
        self.momentum, self.nesterov = momentum, nesterov

    def _update(self, W: Tensor, G: Tensor, state: dict) -> None:
        if self.weight_decay:
            G = G + self.weight_decay * W  # (7)
        if self.momentum:
            V = state.setdefault("V", torch.zeros_like(W))
            V.mul_(self.momentum).add_(G)  # (2)
            G = G + self.momentum * V if self.nesterov else V  # (3)
        W.sub_(self.lr * G)  # (1)


class Adam(_Optimizer):
    r"""Adam: a step of about `lr` in every coordinate, whatever the size of the gradient, eqs. (4)-(6); decay is L2 (7).

    $$ W_t = W_{t-1} - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}, \qquad
       \hat m_t = \frac{m_t}{1 - \beta_1^t}, \quad \hat v_t = \frac{v_t}{1 - \beta_2^t} $$

    where $m_t = \beta_1 m_{t-1} + (1-\beta_1) G_t$ and $v_t = \beta_2 v_{t-1} + (1-\beta_2) G_t^2$ start at 0, t counts the
    steps of that parameter from 1, and `eps` keeps a coordinate with no gradient at rest (0 / eps = 0). Two extra numbers a
    parameter: training with Adam holds 4 of them (weight, gradient, m, v), SGD 2.

    Raises TypeError, ValueError for impossible settings; `.step()` raises FloatingPointError for a NaN or infinite gradient.
    Source: Kingma & Ba 2015 (ICLR), algorithm 1.  Notebook: 02_2_training.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            check_number(self._who, name, beta, low=0.0)
            if beta >= 1:
                raise ValueError(f"{self._who}: {name} must be below 1, got {beta}: the average would never see a gradient")
        check_number(self._who, "eps", eps, above=0.0)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def _decay(self, W: Tensor, G: Tensor) -> Tensor:
        return G + self.weight_decay * W if self.weight_decay else G  # (7)

    def _update(self, W: Tensor, G: Tensor, state: dict) -> None:
        if not state:
            state.update(step=0, m=torch.zeros_like(W), v=torch.zeros_like(W))
        G = self._decay(W, G)
        state["step"] += 1
        m, v, step = state["m"], state["v"], state["step"]
        m.mul_(self.beta1).add_(G, alpha=1 - self.beta1)  # (4)
        v.mul_(self.beta2).addcmul_(G, G, value=1 - self.beta2)
        seen1, seen2 = 1 - self.beta1**step, 1 - self.beta2**step  # (5)
        # sqrt(v / seen2) + eps without a tensor for v / seen2.
        W.addcdiv_(m, v.sqrt().div_(math.sqrt(seen2)).add_(self.eps), value=-self.lr / seen1)  # (6)


class AdamW(Adam):
    r"""Adam with decoupled weight decay, eq. (8): each weight shrinks by the same share, however large its gradients are.

    $$ W_t = (1 - \eta\lambda)\, W_{t-1} - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} $$

    where $\lambda$ is `weight_decay` and the rest as in `Adam`. With no gradient at all, n steps leave $(1-\eta\lambda)^n W$.
    The paper writes $\eta_t(\alpha \hat m/(\ldots) + \lambda W)$, with the schedule's multiplier $\eta_t$ and the rate $\alpha$
    apart; torch and this file multiply the decay by the rate too, so their `weight_decay` is the paper's $\lambda/\alpha$.

    Raises as `Adam` does.
    Source: Loshchilov & Hutter 2019 (ICLR), algorithm 2.  Notebook: 02_2_training.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(parameters, lr, beta1, beta2, eps, weight_decay)

    def _decay(self, W: Tensor, G: Tensor) -> Tensor:
        W.mul_(1 - self.lr * self.weight_decay)  # (8)
        return G


def contraction(lr: float, curvature: float, momentum: float = 0.0, nesterov: bool = False) -> float:
    r"""The factor per step by which SGD nears the bottom of a parabola in the long run; 1 or more: it never arrives.

    $$ \begin{pmatrix} w_{t+1} \\ V_{t+1} \end{pmatrix} =
       \begin{pmatrix} 1 - \eta a c & -\eta \mu c' \\ a & \mu \end{pmatrix}
       \begin{pmatrix} w_t \\ V_t \end{pmatrix}, \qquad \rho = \max |\text{eigenvalue}| $$

    where $a$ is `curvature` (loss $a w^2/2$), $c = c' = 1$ for momentum (2) and $c = 1 + \mu$, $c' = \mu$ for Nesterov (3).
    Without momentum $\rho = |1 - \eta a|$, below 1 for $\eta < 2/a$; with it the limit is $\eta < 2(1 + \mu)/a$, and where the
    eigenvalues are complex $\rho = \sqrt\mu$, whatever the curvature. A valley with several curvatures is as slow as its
    slowest direction.

    Raises ValueError for lr or curvature below 0, momentum outside [0, 1).
    Source: Polyak 1964, section 3; Goh 2017 (Distill, "Why momentum really works").  Notebook: 02_2_training.
    """
    check_number("contraction", "lr", lr, low=0.0)
    check_number("contraction", "curvature", curvature, low=0.0)
    check_number("contraction", "momentum", momentum, low=0.0)
    if momentum >= 1:
        raise ValueError(f"contraction: momentum must be below 1, got {momentum}")
    c, c_prime = (1 + momentum, momentum) if nesterov else (1.0, 1.0)
    trace = 1 - lr * curvature * c + momentum
    determinant = (1 - lr * curvature * c) * momentum + lr * momentum * c_prime * curvature
    discriminant = trace * trace - 4 * determinant
    if discriminant < 0:  # a complex pair: both have the modulus sqrt(determinant)
        return math.sqrt(determinant)
    return (abs(trace) + math.sqrt(discriminant)) / 2
