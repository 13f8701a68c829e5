r"""Cross-layer equalization and bias correction: better integers without any training (section 4.2).

A network with ReLU has more parameters than functions. For every s > 0, relu(s u) = s relu(u), so channel i of one layer may
be made smaller and the column of the next layer that reads it larger, and nothing changes:

    (1)  W1_i <- W1_i / s_i,     b1_i <- b1_i / s_i,     W2_{:,i} <- s_i W2_{:,i}

Training does not care which of these equal networks it ends with. Quantization with one scale a tensor does: the largest row
decides the step of all. With r1_i = max|W1_i| and r2_i = max|W2_{:,i}|, the choice

    (2)  s_i  =  sqrt(r1_i / r2_i)            gives     r1_i / s_i  =  r2_i s_i  =  sqrt(r1_i r2_i)

which maximizes the sum of the products of the two relative ranges (Nagel et al. 2019, appendix A). A chain of layers is swept
until nothing moves. For a depthwise layer "column i" is its row i, since it reads channel i alone.

Rounding also shifts the *mean* of an output, and few weights an output (9 in a depthwise layer) average little:

    (3)  E[y_hat - y]_i  =  ((W_hat - W) E[x])_i                     so          b_i  <-  b_i - E[y_hat - y]_i

Here the means are measured on calibration data; the paper also derives them from batch normalization's beta and gamma.
The paper's s_i divides W1, as ours does; its r^(1), r^(2) are our r1, r2. Left out: absorbing high biases (its section 4.1.3),
and layers that branch: here a network is a chain.
"""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib._check import check_count, check_number, check_tensor

AFFINE = (nn.Linear, nn.Conv2d)
# relu(s u) = s relu(u), and averages, maxima and new shapes pass a factor of a whole channel on as well.
PASSES_SCALE = (nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout)


def channel_ranges(W1: Float[Tensor, "c *rest"], W2: Tensor) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
    r"""The largest magnitude that leaves each channel, and the largest that reads it.

    $$ r^{(1)}_i = \max_j |W^{(1)}_{ij}|, \qquad r^{(2)}_i = \max_k |W^{(2)}_{ki}| $$

    where i runs over the c rows of W1. W2 may be depthwise (c, 1, kh, kw), ordinary (out, c, ...), or linear behind a flattened
    map (out, c h w), whose columns belong to c channels of h w each.

    Raises ValueError for empty, NaN or infinite weights, and for a W2 that cannot read c channels.
    Source: Nagel et al. 2019, section 4.1.2.  Notebook: 04_2_quantization_in_practice.
    """
    check_tensor("channel_ranges", "W1", W1)
    columns = _by_channel("channel_ranges", W2, len(W1))
    return W1.abs().flatten(1).amax(1), columns.abs().amax((0, 2))


def equalize_pair(
    W1: Float[Tensor, "c *rest"], bias1: Float[Tensor, "c"] | None, W2: Tensor
) -> tuple[Float[Tensor, "c *rest"], Float[Tensor, "c"] | None, Tensor]:
    r"""Two layers that compute the same and have equal ranges on both sides of each channel, equations (1) and (2).

    $$ s_i = \sqrt{r^{(1)}_i / r^{(2)}_i}, \qquad W^{(1)}_i / s_i, \quad b^{(1)}_i / s_i, \quad s_i W^{(2)}_{:,i} $$

    where a channel with a range of 0 on either side (never used, or never read) keeps s = 1.

    Returns new W1, bias1 (None if None) and W2. Exact only where a positively homogeneous function (ReLU) lies between.
    Raises ValueError as `channel_ranges`.
    Source: Nagel et al. 2019, eq. (8)-(11).  Notebook: 04_2_quantization_in_practice.
    """
    r1, r2 = channel_ranges(W1, W2)
    used = (r1 > 0) & (r2 > 0)
    s = torch.where(used, (r1.double() / torch.where(used, r2, 1).double()).sqrt(), 1.0).to(W1.dtype)
    return _scaled_pair(W1, bias1, W2, s)


def equalize(model: nn.Sequential, n_sweeps: int = 50, tolerance: float = 1e-4) -> nn.Sequential:
    r"""Cross-layer equalization of a whole chain: a new network that computes the same, equation (2) on each pair, in sweeps.

    $$ r^{(l)}_i = r^{(l+1)}_i \quad \text{for every pair of neighbours } l,\ l+1 $$

    holds at the end. Changing one pair disturbs its neighbours, so the sweeps go on until no factor is further than `tolerance`
    from 1, at most `n_sweeps` times.

    model: linear layers and convolutions with ReLU, pooling or reshaping between them; batch normalizations folded first.
    Returns a new model in the mode of the given one, which is not changed. A model with one layer is returned as a copy.
    Raises TypeError for what is no `nn.Sequential`; ValueError for a layer that does not pass a scale on, n_sweeps below 1.
    Source: Nagel et al. 2019, section 4.1.  Notebook: 04_2_quantization_in_practice.
    """
    check_count("equalize", "n_sweeps", n_sweeps)
    check_number("equalize", "tolerance", tolerance, low=0.0)
    model, pairs = _copied_chain("equalize", model)
    for _ in range(n_sweeps):
        moved = 0.0
        for first, second in pairs:
            before = first.weight.data
            W1, bias1, W2 = equalize_pair(before, None if first.bias is None else first.bias.data, second.weight.data)
            nonzero = before != 0
            ratio = (W1[nonzero] / before[nonzero]).log().abs()
            moved = max(moved, float(ratio.max())) if ratio.numel() else moved
            _put(first, second, W1, bias1, W2)
        if moved <= tolerance:
            break
    return model


def rescale_channels(model: nn.Sequential, factors: Mapping[int, Float[Tensor, "c"]]) -> nn.Sequential:
    r"""The same function with other weights, equation (1) with factors of your own: what equalization undoes.

    $$ W^{(1)}_i / s_i, \quad b^{(1)}_i / s_i, \quad s_i W^{(2)}_{:,i} $$

    where $s_i > 0$ is entry i of `factors[k]`, and k = 0, 1, ... counts the pairs of neighbouring layers.

    Returns a new model; the given one is not changed.
    Raises TypeError, ValueError as `equalize`, and ValueError for a pair that is not there or factors that are not positive.
    Source: Nagel et al. 2019, eq. (5)-(7).  Notebook: 04_2_quantization_in_practice.
    """
    model, pairs = _copied_chain("rescale_channels", model)
    for k, s in factors.items():
        if k not in range(len(pairs)):
            raise ValueError(f"rescale_channels: there is no pair {k!r}; the model has pairs 0 to {len(pairs) - 1}")
        first, second = pairs[k]
        check_tensor("rescale_channels", f"factors[{k}]", s, ndim=1)
        if len(s) != len(first.weight) or bool((s <= 0).any()):
            raise ValueError(f"rescale_channels: factors[{k}] must be {len(first.weight)} positive numbers")
        bias1 = None if first.bias is None else first.bias.data
        _put(first, second, *_scaled_pair(first.weight.data, bias1, second.weight.data, s.to(first.weight.dtype)))
    return model


def output_shift(
    W: Float[Tensor, "out in"], W_hat: Float[Tensor, "out in"], mean_input: Float[Tensor, "in"]
) -> Float[Tensor, "out"]:
    r"""By how much rounded weights move the mean of each output, equation (3).

    $$ \mathbb{E}[\hat y - y] = (\hat W - W)\, \mathbb{E}[x] $$

    where $\mathbb{E}[x]$ = `mean_input`. Subtracted from the bias, the mean is what it was.

    Returns (out), in the unit of the output.
    Raises ValueError for empty, NaN or infinite input or shapes that do not fit.
    Source: Nagel et al. 2019, eq. (14)-(16).  Notebook: 04_2_quantization_in_practice.
    """
    check_tensor("output_shift", "W", W, ndim=2)
    check_tensor("output_shift", "W_hat", W_hat, like=W)
    check_tensor("output_shift", "mean_input", mean_input, ndim=1)
    if len(mean_input) != W.shape[1]:
        raise ValueError(f"output_shift: mean_input must have {W.shape[1]} entries, one an input, got {len(mean_input)}")
    return ((W_hat.double() - W.double()) @ mean_input.double()).to(W.dtype)


def correct_biases(quantized: nn.Sequential, model: nn.Sequential, X: Float[Tensor, "n *shape"]) -> nn.Sequential:
    r"""A copy of the quantized network whose outputs have, layer by layer, the means of the float network on X.

    $$ b_i \leftarrow b_i - \bigl( \overline{\hat y_i} - \overline{y_i} \bigr) $$

    where the bars are means over the samples of X (and the places of a map). Layers are corrected in order, each with the
    corrected ones before it, so shifts that came from earlier layers are taken out too.

    quantized: the same layers as `model`, other weights; hooks on it (`attach_input_quant`) are copied and stay at work.
    X: calibration samples.  Returns a new network; both given ones stay as they are. A layer without bias is given one.
    Raises TypeError for what is no `nn.Sequential`; ValueError for networks of different layers, empty, NaN or infinite X.
    Source: Nagel et al. 2019, section 4.2 and appendix D.  Notebook: 04_2_quantization_in_practice.
    """
    check_tensor("correct_biases", "X", X)
    for network in (quantized, model):
        if not isinstance(network, nn.Sequential):
            raise TypeError(f"correct_biases: a network must be an nn.Sequential, got {type(network).__name__}")
    if [type(a) for a in quantized] != [type(b) for b in model]:
        raise ValueError("correct_biases: the two networks must have the same layers in the same order")
    corrected = copy.deepcopy(quantized)
    x_hat, x = X, X
    with torch.no_grad():
        for layer_hat, layer in zip(corrected, model):
            x_hat, x = layer_hat(x_hat), layer(x)
            if isinstance(layer, AFFINE):
                if x.shape != x_hat.shape:
                    raise ValueError(f"correct_biases: outputs of shape {tuple(x_hat.shape)} and {tuple(x.shape)}")
                axes = [axis for axis in range(x.ndim) if axis != 1]
                shift = (x_hat.double() - x.double()).mean(axes).to(x.dtype)
                old = torch.zeros_like(shift) if layer_hat.bias is None else layer_hat.bias
                layer_hat.bias = nn.Parameter(old - shift)
                x_hat = x_hat - shift.reshape(1, -1, *[1] * (x.ndim - 2))
    return corrected


def _is_depthwise(W2: Tensor, n_channels: int) -> bool:
    """Each of several channels is read by rows of its own."""
    return W2.ndim >= 3 and W2.shape[1] == 1 and n_channels > 1 and len(W2) % n_channels == 0


def _by_channel(who: str, W2: Tensor, n_channels: int) -> Tensor:
    """W2 as (out a channel, channels, the rest): axis 1 is the channel that is read."""
    check_tensor(who, "W2", W2)
    if _is_depthwise(W2, n_channels):
        return W2.reshape(n_channels, -1, 1).transpose(0, 1)
    if W2.ndim < 2 or W2.shape[1] % n_channels or (W2.ndim > 2 and W2.shape[1] != n_channels):
        raise ValueError(f"{who}: W2 of shape {tuple(W2.shape)} cannot read the {n_channels} channels of W1")
    return W2.reshape(len(W2), n_channels, -1)


def _scaled_pair(W1: Tensor, bias1: Tensor | None, W2: Tensor, s: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Equation (1)."""
    columns = _by_channel("equalize", W2, len(s)) * s[None, :, None].to(W2.dtype)
    W2 = (columns.transpose(0, 1) if _is_depthwise(W2, len(s)) else columns).reshape(W2.shape)
    W1 = W1 / s.reshape(-1, *[1] * (W1.ndim - 1))
    return W1, None if bias1 is None else bias1 / s, W2


def _copied_chain(who: str, model: nn.Sequential) -> tuple[nn.Sequential, list[tuple[nn.Module, nn.Module]]]:
    """A copy, and its pairs of neighbouring affine layers; refuses what would change the function."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"{who}: model must be an nn.Sequential, whose order of layers is known, got {type(model).__name__}")
    model = copy.deepcopy(model)
    pairs, first = [], None
    for name, layer in model.named_children():
        if isinstance(layer, AFFINE):
            pairs += [(first, layer)] if first is not None else []
            first = layer
        elif first is not None and not isinstance(layer, PASSES_SCALE):
            cure = "; fold it first" if "BatchNorm" in type(layer).__name__ else ""
            raise ValueError(f"{who}: layer {name} ({type(layer).__name__}) does not pass a scale on{cure}")
    return model, pairs


def _put(first: nn.Module, second: nn.Module, W1: Tensor, bias1: Tensor | None, W2: Tensor) -> None:
    """Write the three tensors into the two layers."""
    with torch.no_grad():
        first.weight.copy_(W1)
        second.weight.copy_(W2)
        if bias1 is not None:
            first.bias.copy_(bias1)
