r"""Weight sharing: a few numbers for all weights (section 3.2).

A scale and a zero point space the levels evenly; weights are not spread evenly. A codebook puts its levels where the weights
are: every weight is replaced by one of K shared values, and the file holds K numbers and one short code a weight.

    (1)  w_hat_i  =  c_{q_i}                                     code q_i in {0, ..., K-1}, codebook c_0 <= ... <= c_{K-1}
    (2)  q_i      =  argmin_k |w_i - c_k|                        each weight goes to its nearest centroid
    (3)  c_k      =  mean of the weights with code k             each centroid goes to the middle of its weights
    (4)  D        =  (1/n) sum_i (w_i - c_{q_i})^2               neither (2) nor (3) can raise D: k-means is their alternation
    (5)  dL/dc_k  =  sum over {i : q_i = k} of dL/dw_i           a shared weight feels the sum of its members' gradients
    (6)  ratio    =  32 n / (n log2 K + 32 K)                    against fp32, before any entropy code

In one dimension, nearest means "between the two midpoints", so the clusters of a sorted list are runs, and one `searchsorted`
plus differences of prefix sums makes a whole iteration. A million weights take a few tenths of a second on one core, nearly all
of it for sorting once and looking up codes at the end. K-means ends in a local optimum that depends on its start; Han et al.
compared three and found the linear one best for accuracy, because the few large weights keep a centroid of their own. Pruned
weights take no part: they carry the code -1 and stay exactly zero.

Left out: vectors of weights (product quantization, QuIP#'s E8 lattice) and codebooks weighted by the Hessian (SqueezeLLM).
Production: `sklearn.cluster.KMeans` costs O(nK) an iteration; coremltools' "palettization" is this file with 1 to 8 bits.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.utils import parametrize

from course_lib._check import check_choice, check_count, check_tensor

PRUNED = -1
STARTS = ("linear", "density", "random")


def initial_codebook(
    W: Float[Tensor, "*shape"], n_codes: int, start: str = "linear", generator: torch.Generator | None = None
) -> Float[Tensor, "n_codes"]:
    r"""Where k-means begins: K sorted values, by one of three rules.

    $$ \text{linear: } c_k = w_{\min} + \tfrac{k}{K-1}(w_{\max} - w_{\min}), \qquad
       \text{density: } c_k = F^{-1}\!\bigl(\tfrac{k + 1/2}{K}\bigr), \qquad \text{random: } c_k = w_{i_k} $$

    where $F$ is the empirical distribution of the weights and $i_k$ are distinct random positions. With K = 1, `linear`
    takes the middle of the range.  W: any shape.  n_codes: K >= 1; `random` needs K <= number of weights.
    Raises ValueError for empty or non-finite W, K < 1 or an unknown start.
    Source: Han et al. 2016 (Deep Compression), section 3.2, figure 6.  Notebook: 03_2_quantization.
    """
    check_tensor("initial_codebook", "W", W)
    check_count("initial_codebook", "n_codes", n_codes)
    check_choice("initial_codebook", "start", start, STARTS)
    w = W.detach().flatten()
    share = (torch.arange(n_codes, dtype=torch.float64, device=W.device) + 0.5) / n_codes
    if start == "linear":
        if n_codes > 1:
            share = (share * n_codes - 0.5) / (n_codes - 1)
        low, high = w.min().double(), w.max().double()
        return (low + share * (high - low)).to(W.dtype)
    if start == "density":
        return w.sort().values[(share * w.numel()).long()]  # torch.quantile stops at 16 million values
    if n_codes > w.numel():
        raise ValueError(f"initial_codebook: cannot draw {n_codes} distinct positions from {w.numel()} weights")
    return w[torch.randperm(w.numel(), generator=generator)[:n_codes]].sort().values


def nearest_codes(
    W: Float[Tensor, "*shape"], codebook: Float[Tensor, "n_codes"], mask: Bool[Tensor, "*shape"] | None = None
) -> Int64[Tensor, "*shape"]:
    r"""The code of the nearest centroid, eq. (2); -1 where the mask says pruned.

    $$ q_i = \arg\min_k |w_i - c_k| = \#\{\,k : \tfrac12 (c_k + c_{k+1}) < w_i \,\} $$

    A weight exactly half-way goes to the lower centroid.  codebook: ascending.
    Raises ValueError for empty or non-finite input, or a codebook that is not ascending.
    Source: Han et al. 2016, section 3.2, equation 2.  Notebook: 03_2_quantization.
    """
    check_tensor("nearest_codes", "W", W)
    check_tensor("nearest_codes", "codebook", codebook, ndim=1)
    if bool((codebook.diff() < 0).any()):
        raise ValueError("nearest_codes: the codebook must be ascending; codebook.sort().values makes it so")
    c = codebook.detach().double()
    codes = torch.searchsorted((c[:-1] + c[1:]) / 2, W.detach().double().contiguous())
    return codes if mask is None else codes.masked_fill(~_checked("nearest_codes", mask, W), PRUNED)


def kmeans_codebook(
    W: Float[Tensor, "*shape"],
    n_codes: int,
    start: str = "linear",
    n_iterations: int = 30,
    mask: Bool[Tensor, "*shape"] | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "n_codes"], Int64[Tensor, "*shape"]]:
    r"""Share weights: a codebook and one code a weight, by alternating eq. (2) and (3).

    $$ \min_{c,\,q} \; \sum_{i : M_i} \bigl(w_i - c_{q_i}\bigr)^2 $$

    n_iterations: the most rounds of (2), (3); it ends sooner once the codebook stands still. 0 keeps the start.
    mask: `True` = the weight stays; pruned weights take no part and get the code -1.
    An empty cluster moves its centroid onto the weight that is worst off, which cannot raise D either. With fewer distinct
    weights than codes, the surplus centroids repeat a value.
    Returns the codebook (ascending, dtype of W) and the codes.
    Raises ValueError for empty or non-finite W, K < 1, an unknown start, or a mask that keeps nothing.
    Source: Han et al. 2016, section 3; Lloyd 1982.  Notebook: 03_2_quantization.
    """
    check_tensor("kmeans_codebook", "W", W)
    check_count("kmeans_codebook", "n_iterations", n_iterations, low=0)
    kept = W.detach() if mask is None else W.detach()[_checked("kmeans_codebook", mask, W)]
    if kept.numel() == 0:
        raise ValueError("kmeans_codebook: the mask keeps no weight, so there is nothing to share")
    w = kept.flatten().double().sort().values
    prefix = torch.cat([w.new_zeros(1), w.cumsum(0)])  # prefix[b] - prefix[a] = sum of w[a:b]
    c = initial_codebook(w, n_codes, start, generator).double()
    for _ in range(n_iterations):
        moved = _one_round(w, prefix, c)
        if moved.equal(c):
            break
        c = moved
    codebook = c.to(W.dtype)
    return codebook, nearest_codes(W, codebook, mask)


def _one_round(w: Tensor, prefix: Tensor, c: Tensor) -> Tensor:
    """Eq. (2), (3) on sorted weights: clusters are runs between midpoints. Empty clusters move to the largest errors."""
    edge = torch.searchsorted(w, (c[:-1] + c[1:]) / 2, right=True)  # a weight on the midpoint stays below, as in (2)
    edge = torch.cat([edge.new_zeros(1), edge, edge.new_full((1,), w.numel())])  # (K + 1)
    count = edge.diff()
    moved = torch.where(count > 0, (prefix[edge[1:]] - prefix[edge[:-1]]) / count.clamp(min=1), c)
    if n_empty := int((count == 0).sum()):
        error = (w - moved.repeat_interleave(count)).abs()
        worst = error.topk(min(n_empty, w.numel())).indices
        moved[(count == 0).nonzero().flatten()[: len(worst)]] = w[worst]
    return moved.sort().values


def apply_codebook(codebook: Float[Tensor, "n_codes"], codes: Int64[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Look every code up, eq. (1); the code -1 gives zero. Differentiable in the codebook.

    $$ \hat w_i = c_{q_i}, \qquad \hat w_i = 0 \text{ where } q_i = -1 $$

    Raises ValueError for codes outside -1 ... K-1, or that are no whole numbers.
    Source: Han et al. 2016, section 3.3.  Notebook: 03_2_quantization.
    """
    check_tensor("apply_codebook", "codebook", codebook, ndim=1)
    check_tensor("apply_codebook", "codes", codes)
    _check_codes("apply_codebook", codes, codebook.numel())
    codes = codes.long()  # uint8 would be read as a mask
    return torch.cat([codebook, codebook.new_zeros(1)])[codes]  # index -1 is the appended zero


def codebook_distortion(
    W: Float[Tensor, "*shape"], codebook: Float[Tensor, "n_codes"], codes: Int64[Tensor, "*shape"]
) -> float:
    r"""Mean squared error over the weights that take part, eq. (4); in double precision.

    $$ D = \frac{1}{\#\{q_i \ge 0\}} \sum_{i : q_i \ge 0} (w_i - c_{q_i})^2 $$

    Raises ValueError where all codes are -1, for codes out of range or of another shape than W.
    Source: Lloyd 1982.  Notebook: 03_2_quantization.
    """
    check_tensor("codebook_distortion", "W", W)
    check_tensor("codebook_distortion", "codes", codes, like=W)
    taking_part = codes >= 0
    if not bool(taking_part.any()):
        raise ValueError("codebook_distortion: every weight is pruned (all codes are -1)")
    W_hat = apply_codebook(codebook.detach().double(), codes)
    return float((W.detach().double() - W_hat)[taking_part].square().mean())


def centroid_gradient(G: Float[Tensor, "*shape"], codes: Int64[Tensor, "*shape"], n_codes: int) -> Float[Tensor, "n_codes"]:
    r"""What a shared value feels: the sum (not the mean) of its members' gradients, eq. (5).

    $$ \frac{\partial L}{\partial c_k} = \sum_i \frac{\partial L}{\partial w_i} \, [\, q_i = k \,] $$

    G: gradient with respect to the (shared) weights, loss per weight.  Pruned weights (-1) are left out.
    Raises ValueError for non-finite G, another shape, or codes outside -1 ... K-1.
    Source: Han et al. 2016, section 3.3, equation 3.  Notebook: 03_2_quantization.
    """
    check_tensor("centroid_gradient", "G", G)
    check_tensor("centroid_gradient", "codes", codes, like=G)
    check_count("centroid_gradient", "n_codes", n_codes)
    _check_codes("centroid_gradient", codes, n_codes)
    total = G.new_zeros(n_codes + 1)  # one place more, for the pruned
    total.index_add_(0, codes.flatten() % (n_codes + 1), G.flatten())  # -1 mod (K + 1) = K
    return total[:n_codes]


class SharedWeights(nn.Module):
    r"""A parametrization: the trainable tensor is the codebook, the layer sees $W = c_q$, eq. (1).

    $$ W = c_q, \qquad c \leftarrow c - \eta \frac{\partial L}{\partial c} \quad \text{moves all members of a code together} $$

    Autograd through the look-up is exactly `centroid_gradient`. `make_permanent` (qat.py) turns the layers back into plain ones
    that hold the shared values.
    Raises ValueError as `apply_codebook`.
    Source: Han et al. 2016, section 3.3.  Notebook: 03_2_quantization.
    """

    def __init__(self, codebook: Tensor, codes: Tensor):
        super().__init__()
        apply_codebook(codebook.detach(), codes)
        self.register_buffer("codes", codes)
        self.start = codebook.detach().clone()

    def forward(self, codebook: Tensor) -> Tensor:
        """The weights that the layer multiplies with."""
        return apply_codebook(codebook, self.codes)

    def right_inverse(self, W: Tensor) -> Tensor:
        """The first codebook: the one k-means found, whatever W holds."""
        return self.start.to(W)


def share_weights_(
    model: nn.Module,
    n_codes: int,
    start: str = "linear",
    n_iterations: int = 30,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""Give every linear and convolutional layer a codebook of its own, in place; exact zeros stay pruned.

    $$ W^{(l)} \leftarrow c^{(l)}_{q^{(l)}}, \qquad M^{(l)} = [\, W^{(l)} \ne 0 \,] $$

    generator: draws the `random` starts, layer after layer.
    Returns the codes, by layer name. Biases stay as they are: there are few, and each is added to a whole sum.
    Raises ValueError where the model has no such layer, a layer has no weight left, or shares its weights already; the model
    is then as it was, in all its layers.
    Source: Han et al. 2016, section 3.  Notebook: 03_2_quantization.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))}
    if not layers:
        raise ValueError("share_weights_: the model has no linear or convolutional layer")
    shared = {}
    for name, layer in layers.items():  # all codebooks first: a layer that is refused must not leave others changed
        if parametrize.is_parametrized(layer, "weight") and any(
            isinstance(step, SharedWeights) for step in layer.parametrizations.weight
        ):
            raise ValueError(f"share_weights_: layer {name!r} is already shared; make_permanent(model) first")
        W = layer.weight.detach()
        if not bool((W != 0).any()):
            raise ValueError(f"share_weights_: layer {name!r} keeps no weight (all are zero), so there is nothing to share")
        codebook, codes = kmeans_codebook(W, n_codes, start, n_iterations, mask=W != 0, generator=generator)
        shared[name] = SharedWeights(codebook, codes)
    for name, parametrization in shared.items():
        parametrize.register_parametrization(layers[name], "weight", parametrization)
    return {name: parametrization.codes for name, parametrization in shared.items()}


def _checked(who: str, mask: Tensor, W: Tensor) -> Tensor:
    check_tensor(who, "mask", mask, like=W)
    if mask.dtype != torch.bool:
        raise TypeError(f"{who}: mask must be boolean (True = the weight stays), got {mask.dtype}")
    return mask


def _check_codes(who: str, codes: Tensor, n_codes: int) -> None:
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise ValueError(f"{who}: codes must be whole numbers (int64), got {codes.dtype}")
    low, high = int(codes.min()), int(codes.max())
    if low < PRUNED or high >= n_codes:
        raise ValueError(f"{who}: codes run from {low} to {high}, but the codebook holds 0 to {n_codes - 1} (-1 = pruned)")
