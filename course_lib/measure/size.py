r"""How large a network is: parameters, zeros, bytes, multiply-accumulate operations (sections 1 and 2).

"Smaller" has several meanings, and a method can change one and leave the others:

    (1)  n_parameters                                               what is stored
    (2)  sparsity  =  1 - n_nonzero / n_parameters                  what pruning changes; no byte is saved by it alone
    (3)  dense_bytes  =  ceil(n_parameters n_bits / 8)              what quantization changes
    (4)  MACs of a linear layer       =  (rows of its input) * in * out
         MACs of a convolution        =  (numbers in its output) * (in / groups) * (kernel size)

(4) counts what a dense kernel does, so a masked weight still counts: it is multiplied by zero and takes its time. A MAC is one
multiplication and one addition; FLOP counts of other tools are about twice as large (theirs count the two apart).

What counts as a weight is what the layer computes with: the value of a parametrized tensor (`torch.nn.utils.parametrize`) or
of one masked by `torch.nn.utils.prune`, not the hidden original. A tensor shared by two layers is stored, and counted, once.

Left out of (1)-(3): buffers such as the running mean of a batch normalization, which are not trained but lie in the file.
Left out of (4): additions of the bias, activations, and products outside Linear and Conv layers, for instance in attention.
`torch.utils.flop_counter` sees those too, by counting inside the dispatcher; where both apply, the tests hold them equal.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from course_lib._check import check_n_bits, check_tensor
from course_lib.measure._hooks import run_observed


def _weights(model: nn.Module) -> Iterator[Tensor]:
    """Every trained tensor once, as the layers see it: parametrizations and pruning masks applied."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"measure: model must be a torch.nn.Module, got {type(model).__name__}")
    seen: set[int] = set()
    inside: set[int] = set()  # modules that belong to a parametrization: their own parameters are not what the layer uses
    for module in model.modules():
        if id(module) in inside:
            continue
        if isinstance(module, parametrize.ParametrizationList):
            inside.update(id(part) for part in module.modules())
            yield module()
            continue
        for name, W in module.named_parameters(recurse=False):
            if id(W) in seen:
                continue
            seen.add(id(W))
            mask = getattr(module, name.removesuffix("_orig") + "_mask", None) if name.endswith("_orig") else None
            yield W if mask is None else W * mask


def n_parameters(model: nn.Module) -> int:
    r"""The number of trained numbers in `model`, eq. (1); a tensor shared by two layers counts once.

    $$ n = \sum_{\text{tensors}} \text{number of elements} $$

    A model without parameters (a ReLU) has 0.
    Raises TypeError for what is no nn.Module.
    Source: counting; LeNet-300-100 and LeNet-5, LeCun et al. 1998, in Caffe's version.
    Notebook: 02_2_training.
    """
    return sum(W.numel() for W in _weights(model))


@torch.no_grad()
def n_nonzero(model: nn.Module) -> int:
    r"""How many of the `n_parameters` are not zero, biases included.

    $$ \lVert \theta \rVert_0 = \#\{ i : \theta_i \ne 0 \} $$

    A NaN is not zero and is counted. Not a size: where the zeros are must be stored too, see `course_lib.storage`.
    Raises TypeError for what is no nn.Module.
    Source: counting.  Notebook: 02_2_training.
    """
    return sum(int(torch.count_nonzero(W)) for W in _weights(model))


def sparsity(model: nn.Module) -> float:
    r"""The share of zeros among all parameters, a fraction, eq. (2).

    $$ p = 1 - \lVert \theta \rVert_0 / n $$

    Biases are in the denominator, so a network whose weight matrices are pruned to 90 % shows slightly less.
    Raises TypeError for what is no nn.Module; ValueError for a model without parameters.
    Source: counting.  Notebook: 02_2_training.
    """
    n = n_parameters(model)
    if n == 0:
        raise ValueError("sparsity: the model has no parameters, so no share of them is zero")
    return 1 - n_nonzero(model) / n


def dense_bytes(model: nn.Module, n_bits: int = 32) -> int:
    r"""Bytes of all parameters at `n_bits` each, packed without gaps, eq. (3).

    $$ \text{size} = \lceil n \cdot b / 8 \rceil \ \text{bytes} $$

    A yardstick and not a file: no scales, codebooks, masks, names, checksum.
    Raises TypeError for what is no nn.Module; ValueError unless n_bits is a whole number from 1 to 64.
    Source: counting.  Notebook: 02_2_training.
    """
    check_n_bits("dense_bytes", n_bits, low=1, high=64)
    return -(-n_parameters(model) * n_bits // 8)


def _macs_of(module: nn.Module, output: Tensor) -> int:
    """Eq. (4): each output number is one inner product, of this many terms."""
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return output.numel() * (module.in_channels // module.groups) * math.prod(module.kernel_size)


@torch.no_grad()
def macs(model: nn.Module, x: Tensor) -> dict[str, int]:
    r"""Multiply-accumulate operations of each Linear and Conv layer when `model` runs on `x`, eq. (4).

    $$ \text{MACs} = \underbrace{B\, n_{\text{out}}\, h'w'}_{\text{outputs}} \cdot
       \underbrace{n_{\text{in}}/\text{groups} \cdot k_h k_w}_{\text{terms of each}} $$

    with $h'w' = k_h k_w = 1$ for a Linear layer. x: a batch; give one sample, `X[:1]`, for the cost of one sample. Returns
    {name of the layer: MACs} in the order of the run; a layer used twice counts twice. Masked weights count (see above). The
    model runs once, in eval mode, and is left as it was.

    Raises TypeError for what is no nn.Module; ValueError for an empty x.
    Source: counting; the LeNet-5 numbers are in Han et al. 2015, table 4 (theirs are FLOPs, twice ours).
    Notebook: 02_2_training.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"macs: model must be a torch.nn.Module, got {type(model).__name__}")
    check_tensor("macs", "x", x)
    counts: dict[str, int] = {}

    def hook(name: str):
        def count(module, inputs, output):
            counts[name] = counts.get(name, 0) + _macs_of(module, output)

        return count

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    run_observed(model, x, layers, hook)
    return counts
