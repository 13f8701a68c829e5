r"""Which columns share a block: a permutation of the inputs, so that 2:4 keeps more (section 4.1).

An N:M mask lets the weights of a block compete with their neighbours only. If four large ones happen to stand side by side,
two of them go; had they stood in different blocks, all four would stay. The order of a layer's inputs is an accident: permute
the columns of W, and the rows of the layer before it likewise, and the network computes what it did. So choose the order

    (1)  kept(pi)  =  sum over rows and blocks of the n highest of (S_pi(bm+1), ..., S_pi(bm+m))         to be made large
    (2)  (n_in)! / (m!^B B!)  ways to deal n_in columns into B = n_in / m blocks                  35 for 8 in fours, 5775 for 12
    (3)  value(block without j, with k)  =  sum over rows of  r_1 + ... + r_(n-1) + max(r_n, S_k)
         where r_1 >= r_2 >= ... are what the row has in the block without j

Order inside a block does not matter, nor does the order of the blocks; (2) counts what is left. `best_permutation` tries them
all. `swap_permutation` exchanges the two columns that gain most, again and again, until no exchange gains. (3) makes that
cheap: of m numbers of which one is new, the n highest are n - 1 old ones and the larger of two; the old ones cancel when two
columns for the same place are compared. An exchange changes two blocks, so only 2 m rows of the table of values are computed
anew. The search starts from the order given and only ever gains.

Left out: escaping from a local optimum (Pool & Yu go on with small losses), and orders that several layers must share.
NVIDIA's `apex.contrib.sparsity` does both.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib._check import check_count, check_tensor
from course_lib.pruning.structure import n_m_mask

MAX_WAYS = 10_000  # of eq. (2): so many are tried in about a second


def _check(who: str, score: Tensor, n: int, m: int) -> None:
    """Refuse what `n_m_mask` refuses, under the caller's name, and all but two dimensions."""
    check_tensor(who, "score", score, ndim=2)
    check_count(who, "m", m)
    check_count(who, "n", n)
    if n > m or score.shape[1] % m:
        raise ValueError(f"{who}: needs n <= m and a multiple of m inputs; got n = {n}, m = {m}, {score.shape[1]} inputs")


def _check_order(who: str, order: Tensor, n_in: int) -> None:
    check_tensor(who, "order", order, ndim=1)
    if order.is_floating_point() or not order.sort().values.equal(torch.arange(n_in, device=order.device)):
        raise ValueError(f"{who}: order must hold each column 0 ... {n_in - 1} once, got {order.tolist()[:12]}")


def permuted_n_m_mask(
    score: Float[Tensor, "out n_in"], order: Int[Tensor, "n_in"], n: int = 2, m: int = 4
) -> Bool[Tensor, "out n_in"]:
    r"""The N:M mask of the permuted columns, brought back to where the columns stand in `score`.

    $$ M_{i,\,\pi(j)} = \mathrm{mask}_{N:M}\bigl(S_{:,\,\pi}\bigr)_{ij} $$

    where $\pi$ = `order`: column $\pi(j)$ stands at place $j$ when the blocks are drawn. So `W * mask` can be tried in the old
    network, and `(W * mask)[:, order]` is in N:M form.

    score: (out, in), low goes first; `in` a multiple of `m`.  order: a permutation of 0 ... in - 1.  n, m: 1 <= n <= m.
    Raises ValueError for empty, NaN or infinite scores, n > m, a remainder, or an order that is no permutation.
    Source: Pool & Yu 2021, "Channel Permutations for N:M Sparsity", section 3.  Notebook: 04_1_pruning_in_practice.
    """
    _check("permuted_n_m_mask", score, n, m)
    _check_order("permuted_n_m_mask", order, score.shape[1])
    mask = torch.empty_like(score, dtype=torch.bool)
    mask[:, order] = n_m_mask(score[:, order], n, m)
    return mask


def kept_score(score: Float[Tensor, "out n_in"], order: Int[Tensor, "n_in"], n: int = 2, m: int = 4) -> float:
    r"""How much score N:M keeps when the columns stand in this order, eq. (1).

    $$ \mathrm{kept}(\pi) = \sum_{i, j} M_{ij}\, S_{ij} $$

    where $M$ is the mask of `permuted_n_m_mask`; the sum runs in float64. The unit is that of the score.

    score, order, n, m: as for `permuted_n_m_mask`.
    Raises ValueError as `permuted_n_m_mask`.
    Source: Pool & Yu 2021, section 3 ("efficacy").  Notebook: 04_1_pruning_in_practice.
    """
    _check("kept_score", score, n, m)
    return score.double()[permuted_n_m_mask(score, order, n, m)].sum().item()


def n_ways(n_in: int, m: int = 4) -> int:
    r"""In how many ways can the columns be dealt into blocks, eq. (2)?

    $$ \frac{n_{\text{in}}!}{(m!)^B\, B!}, \qquad B = n_{\text{in}} / m $$

    where neither the order inside a block nor that of the blocks counts.

    n_in: a multiple of `m`.  m: block length.
    Raises ValueError for counts below 1 or a remainder.
    Source: counting; Pool & Yu 2021, section 3.  Notebook: 04_1_pruning_in_practice.
    """
    check_count("n_ways", "n_in", n_in)
    check_count("n_ways", "m", m)
    if n_in % m:
        raise ValueError(f"n_ways: {n_in} inputs do not divide into blocks of {m}")
    n_blocks = n_in // m
    return math.factorial(n_in) // (math.factorial(m) ** n_blocks * math.factorial(n_blocks))


def _dealings(columns: tuple[int, ...], m: int) -> Iterator[tuple[int, ...]]:
    """Every way to deal the columns into blocks, once, the given order first: the first column picks its m - 1 companions."""
    if not columns:
        yield ()
        return
    first, rest = columns[0], columns[1:]
    for companions in torch.combinations(torch.arange(len(rest)), m - 1).tolist() if m > 1 else [[]]:
        block = (first, *(rest[i] for i in companions))
        left = tuple(column for i, column in enumerate(rest) if i not in companions)
        for others in _dealings(left, m):
            yield block + others


def best_permutation(score: Float[Tensor, "out n_in"], n: int = 2, m: int = 4) -> Int[Tensor, "n_in"]:
    r"""The order of the columns that keeps most, found by trying every one, eq. (1) and (2).

    $$ \pi^* = \arg\max_\pi\, \mathrm{kept}(\pi) $$

    where of equal orders the one nearest to the beginning of the list wins, and the list begins with 0, 1, 2, ...

    score: (out, in), low goes first; small: at most 12 columns for m = 4.  n, m: 1 <= n <= m.
    Raises ValueError for empty, NaN or infinite scores, n > m, a remainder, or more than `MAX_WAYS` ways.
    Source: exhaustive search; Pool & Yu 2021, section 3.  Notebook: 04_1_pruning_in_practice.
    """
    _check("best_permutation", score, n, m)
    n_in = score.shape[1]
    if (ways := n_ways(n_in, m)) > MAX_WAYS:
        raise ValueError(f"best_permutation: {n_in} columns can be dealt in {ways:.3g} ways; swap_permutation searches instead")
    S = score.detach().double()
    orders = list(_dealings(tuple(range(n_in)), m))
    best, most = orders[0], -math.inf
    for order in orders:
        kept = S[:, list(order)].unflatten(1, (-1, m)).topk(n, dim=-1).values.sum().item()
        if kept > most * (1 + 1e-12 * (1 if most > 0 else -1)) or most == -math.inf:  # more than rounding
            best, most = order, kept
    return torch.tensor(best, device=score.device)


def _values(S: Tensor, order: Tensor, places: Tensor, n: int, m: int) -> Tensor:
    """Eq. (3) without r_1 ... r_(n-1): entry (a, k) is what the block around places[a] has when column k takes that place."""
    block = order.reshape(-1, m)[places // m]  # (places, m)
    others = block[order[places].unsqueeze(1) != block].reshape(len(places), m - 1)
    r_n = S[:, others].sort(dim=-1, descending=True).values[..., n - 1 : n]  # (out, places, 1)
    values = torch.empty(len(places), S.shape[1], dtype=S.dtype, device=S.device)
    for a in range(len(places)):  # one place at a time: (out, n_in) numbers in memory, not (out, places, n_in)
        values[a] = torch.maximum(r_n[:, a], S).sum(dim=0)
    return values


def swap_permutation(
    score: Float[Tensor, "out n_in"], n: int = 2, m: int = 4, max_swaps: int = 10_000, start: Int[Tensor, "n_in"] | None = None
) -> Int[Tensor, "n_in"]:
    r"""An order that no exchange of two columns improves: greedy local search, eq. (3). It never keeps less than its start.

    $$ \text{gain}(j, k) = v_{B_j}(k) + v_{B_k}(j) - v_{B_j}(j) - v_{B_k}(k) $$

    where $v_B(k)$ is the value of block $B$ when column $k$ takes the place in question, and $B_j$ the block of column $j$. The
    exchange of largest gain is made, as long as it exceeds rounding. Time: out * in^2 once, then m * out * in an exchange.

    score: (out, in), low goes first.  n, m: 1 <= n <= m.  max_swaps: stop after so many.  start: an order (default 0, 1, ...).
    Raises ValueError for empty, NaN or infinite scores, n > m, a remainder, max_swaps < 0, or a start that is no permutation.
    Source: Pool & Yu 2021, section 4.1 (greedy channel swaps).  Notebook: 04_1_pruning_in_practice.
    """
    _check("swap_permutation", score, n, m)
    check_count("swap_permutation", "max_swaps", max_swaps, low=0)
    n_in = score.shape[1]
    order = torch.arange(n_in, device=score.device) if start is None else start.clone()
    _check_order("swap_permutation", order, n_in)
    if n == m or n_in == m:
        return order  # everything stays, or there is only one block
    S = score.detach()
    V = _values(S, order, torch.arange(n_in, device=S.device), n, m)
    apart = torch.arange(n_in, device=S.device) // m
    apart = apart.unsqueeze(0) != apart.unsqueeze(1)  # places in different blocks
    least = 1e-5 * S.abs().amax().item()  # more than float32 rounding of a sum over rows
    for _ in range(max_swaps):
        at = V[:, order]  # by places on both sides
        own = at.diagonal()
        gain = torch.where(apart, at + at.T - own.unsqueeze(0) - own.unsqueeze(1), 0.0)
        a, b = divmod(int(gain.argmax()), n_in)
        if gain[a, b] <= least:
            break
        order[[a, b]] = order[[b, a]]
        places = torch.cat([torch.arange(p - p % m, p - p % m + m, device=S.device) for p in (a, b)])
        V[places] = _values(S, order, places, n, m)
    return order
