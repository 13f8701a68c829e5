r"""When to prune: gradually, at once, in rounds, or back to the start (section 3.1).

A network that loses 90 % of its weights in one blow is far from any minimum; one that loses them little by little, and trains
in between, repairs itself as it goes. A schedule gives the sparsity p_t that is due at step t:

    (1)  cubic       p_t = p_f + (p_i - p_f) (1 - u)^3,   u = (t - t_0) / n  clipped to [0, 1]
    (2)  linear      p_t = p_f + (p_i - p_f) (1 - u)
    (3)  rounds      p_r = 1 - (1 - a)^r                  a share `a` of what is left goes in each round

(1) prunes fast at first, when plenty of weights are idle, and slowly at the end, when each removal hurts: its slope is
3 (p_f - p_i) / n at the start and 0 at the end. One shot is the case n -> 0: the final sparsity from the first step on.

The lottery ticket hypothesis turns the question round: the surviving weights are set back to what they were *before* training
(`rewind`), and trained again. If that works as well as the dense network, the ticket was in the initial draw.

Left out: regrowth (RigL), and rewinding to an early step instead of step 0, which large networks need (Frankle et al. 2020);
`rewind` takes any state, so the second only needs another argument.
"""

import copy

from jaxtyping import Bool
from torch import Tensor, nn

from course_lib._check import check_count, check_fraction
from course_lib.pruning.masks import attach_masks, make_permanent


def _ramp(who: str, step: int, n_steps: int, final: float, initial: float, start: int) -> float:
    """Check the arguments of a schedule and return u of eq. (1), in [0, 1]."""
    check_count(who, "step", step, low=0)
    check_count(who, "n_steps", n_steps)
    check_count(who, "start", start, low=0)
    check_fraction(who, "final", final)
    check_fraction(who, "initial", initial)
    if initial > final:
        raise ValueError(f"{who}: pruning only removes, so initial <= final; got initial {initial} > final {final}")
    return min(max((step - start) / n_steps, 0.0), 1.0)


def cubic_sparsity(step: int, n_steps: int, final: float, initial: float = 0.0, start: int = 0) -> float:
    r"""The sparsity due at a step: fast first, slow at the end, eq. (1).

    $$ p_t = p_f + (p_i - p_f) \Bigl(1 - \frac{t - t_0}{n}\Bigr)^3 \quad\text{for } t_0 \le t \le t_0 + n $$

    where $p_i$ = `initial` holds before $t_0$ = `start`, $p_f$ = `final` after $t_0 + n$, and $n$ = `n_steps` is the length of
    the ramp in steps (the paper writes $n \Delta t$: it prunes every $\Delta t$ steps only).

    step, n_steps, start: whole numbers of steps.  final, initial: fractions.  Returns a fraction.
    Raises ValueError for fractions outside [0, 1], initial > final, n_steps < 1, or negative steps.
    Source: Zhu & Gupta 2017, "To prune, or not to prune", eq. (1).  Notebook: 03_1_weight_pruning.
    """
    u = _ramp("cubic_sparsity", step, n_steps, final, initial, start)
    return final + (initial - final) * (1 - u) ** 3


def linear_sparsity(step: int, n_steps: int, final: float, initial: float = 0.0, start: int = 0) -> float:
    r"""The sparsity due at a step, equally much at each, eq. (2): what the cubic schedule is compared with.

    $$ p_t = p_f + (p_i - p_f) \Bigl(1 - \frac{t - t_0}{n}\Bigr) \quad\text{for } t_0 \le t \le t_0 + n $$

    where the letters are those of `cubic_sparsity`.

    step, n_steps, start: whole numbers of steps.  final, initial: fractions.  Returns a fraction.
    Raises ValueError for fractions outside [0, 1], initial > final, n_steps < 1, or negative steps.
    Source: eq. (1) of Zhu & Gupta 2017 with exponent 1.  Notebook: 03_1_weight_pruning.
    """
    u = _ramp("linear_sparsity", step, n_steps, final, initial, start)
    return final + (initial - final) * (1 - u)


def round_sparsity(n_rounds: int, share: float = 0.2) -> float:
    r"""The sparsity after rounds of "prune a share of what is left, train again", eq. (3).

    $$ p_r = 1 - (1 - a)^r $$

    where $a$ = `share` goes in each of $r$ = `n_rounds` rounds. Han et al. and the lottery ticket paper prune this way.

    n_rounds: whole number >= 0.  share: fraction, 0.2 in the lottery ticket paper.  Returns a fraction.
    Raises ValueError for a share outside [0, 1] or a negative number of rounds.
    Source: Frankle & Carbin 2019, section 1 (p^(1/n) % a round, turned round).  Notebook: 03_1_weight_pruning.
    """
    check_count("round_sparsity", "n_rounds", n_rounds, low=0)
    check_fraction("round_sparsity", "share", share)
    return 1 - (1 - share) ** n_rounds


def rewind(model: nn.Module, initial_state: dict[str, Tensor], masks: dict[str, Bool[Tensor, "..."]]) -> nn.Module:
    r"""A new network: the mask of the trained one, the weights of the untrained one. The model given is not changed.

    $$ W \leftarrow M \odot W_0, \qquad b \leftarrow b_0 $$

    where $M$ is the mask found after training and $W_0, b_0$ are the values before it. The masks are attached, so training the
    result keeps the zeros.

    model: the architecture (masked or not).  initial_state: `state_dict()` of the unmasked network at the step to return to;
    keep a *clone*, because state_dict shares memory with the network.  masks: as for `attach_masks`.
    Raises ValueError when the state does not belong to the model, or a mask to no layer.
    Source: Frankle & Carbin 2019, "The Lottery Ticket Hypothesis", section 1.  Notebook: 03_1_weight_pruning.
    """
    ticket = copy.deepcopy(model)
    make_permanent(ticket)
    try:
        ticket.load_state_dict(initial_state)
    except RuntimeError as error:
        raise ValueError(
            f"rewind: initial_state is not a state of this model ({error}); save it before masks are attached"
        ) from error
    attach_masks(ticket, masks)
    return ticket
