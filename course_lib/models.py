r"""The networks of the course: small enough for a laptop's processor, and those that the papers measured.

A network here is an `nn.Sequential` that takes images as rows of 784 numbers and gives ten logits. Nothing is hidden in a
class of its own, so a chapter can walk over the layers, cut one out or replace it.

    (1)  h  =  relu(W x + b)                                        a fully connected layer with its nonlinearity
    (2)  w  ~  N(0, g / fan_in),  b = 0,   g = 2 before a ReLU, 1 otherwise
    (3)  parameters of a linear layer       =  out in + out
    (4)  parameters of a convolution        =  out in kh kw + out

(2) keeps the variance of the signal from layer to layer: a sum of fan_in terms multiplies it by fan_in var(w), and a ReLU
halves the second moment of what is symmetric about zero, which g = 2 makes good again. The draw uses a generator of its own,
so making a network neither reads nor moves the global random state.

What is left out: anything that needs more than MNIST. Libraries of
models (torchvision, timm) initialize in the same manner, but draw from the global state.
"""

from itertools import pairwise

import torch
from torch import nn

from course_lib._check import check_count, check_fraction


def mlp(*widths: int, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    r"""A chain of linear layers with ReLU (and dropout) between them, eq. (1), initialized by eq. (2).

    $$ h_{l+1} = \mathrm{relu}(W_l h_l + b_l), \qquad \text{no ReLU after the last layer} $$

    widths: input, hidden..., output, e.g. 784, 300, 100, 10.  dropout: share of hidden units silenced in training, a
    fraction; 0 adds no layer at all.  seed: of the initialization.
    Raises ValueError for fewer than two widths, a width below 1, or a dropout outside [0, 1].
    Source: He et al., 2015, "Delving deep into rectifiers", eq. (10); dropout: Srivastava et al., 2014.
    Notebook: 01_background.
    """
    if len(widths) < 2:
        raise ValueError(f"mlp: needs at least an input and an output width, got {widths}")
    for width in widths:
        check_count("mlp", "each width", width)
    check_fraction("mlp", "dropout", dropout)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [_empty(nn.Linear, n_in, n_out), nn.ReLU()] + [nn.Dropout(dropout)] * (dropout > 0)
    n_after_last = 1 + (dropout > 0)
    return _initialize(nn.Sequential(*layers[:-n_after_last]), seed)


def lenet_300_100(seed: int = 0) -> nn.Sequential:
    """LeNet-300-100: 784-300-100-10, 266,610 parameters, the network on which pruning papers report first.

    (B, 784) -> (B, 10) logits.
    Source: LeCun et al., 1998, table 1; Han et al., 2015, "Learning both weights and connections".  Notebook: 01_background.
    """
    return mlp(784, 300, 100, 10, seed=seed)


def lenet_5(seed: int = 0) -> nn.Sequential:
    """LeNet-5 in the form of the Caffe library: 431,080 parameters, of which one linear layer holds 400,500.

    (B, 784) -> (B, 10) logits: conv 20 of 5x5, max-pool 2, conv 50 of 5x5, max-pool 2, linear 500, ReLU, linear 10. As in
    Caffe, no ReLU follows a convolution: max-pooling is the only nonlinearity there.
    Source: the network that Han et al., 2015, and all compression papers after them call LeNet-5.  Notebook: 01_background.
    """
    return _initialize(
        nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            _empty(nn.Conv2d, 1, 20, 5),  # (B, 20, 24, 24)
            nn.MaxPool2d(2),
            _empty(nn.Conv2d, 20, 50, 5),  # (B, 50, 8, 8)
            nn.MaxPool2d(2),
            nn.Flatten(),  # (B, 800)
            _empty(nn.Linear, 800, 500),
            nn.ReLU(),
            _empty(nn.Linear, 500, 10),
        ),
        seed,
    )


def hinton_teacher(seed: int = 0) -> nn.Sequential:
    """The large net of the first distillation paper: 784-1200-1200-10 with dropout, 2,395,210 parameters.

    (B, 784) -> (B, 10) logits. The dropout share is 0.2, not the paper's 0.5, because we train it for a few epochs only.
    Source: Hinton, Vinyals and Dean, 2015, "Distilling the knowledge in a neural network", section 3.  Notebook: 00_start_here.
    """
    return mlp(784, 1200, 1200, 10, dropout=0.2, seed=seed)


def hinton_student(seed: int = 0) -> nn.Sequential:
    """The small net of the same paper: 784-800-800-10 without dropout, 1,276,810 parameters.

    (B, 784) -> (B, 10) logits.
    Source: Hinton, Vinyals and Dean, 2015, section 3.  Notebook: 00_start_here.
    """
    return mlp(784, 800, 800, 10, seed=seed)


def depthwise_cnn(width: int = 32, seed: int = 0) -> nn.Sequential:
    """A MobileNet for digits: three depthwise-separable blocks with batch normalization; 4,138 parameters at width 32.

    (B, 784) -> (B, 10) logits. A 3x3 convolution with stride 2 to width/2 channels, then three times a depthwise 3x3 (one
    filter a channel) and a pointwise 1x1 convolution to `width` channels, each followed by batch normalization and ReLU; the
    mean over the map, and a linear layer. Convolutions have no bias: the normalization would take it out again.
    Raises ValueError for a width that is odd or below 2.
    Source: Howard et al., 2017, "MobileNets", table 1, made small.  Notebook: 04_2_quantization_in_practice.
    """
    check_count("depthwise_cnn", "width", width, low=2)
    if width % 2:
        raise ValueError(f"depthwise_cnn: width must be even, since the first layer has half of it, got {width}")

    def conv(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        settings = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
        return [nn.utils.skip_init(nn.Conv2d, n_in, n_out, kernel, **settings), nn.BatchNorm2d(n_out), nn.ReLU()]

    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28)), *conv(1, width // 2, 3, stride=2)]  # (B, width/2, 14, 14)
    for n_in, stride in ((width // 2, 2), (width, 1), (width, 1)):  # (B, width, 7, 7) from the first block on
        layers += conv(n_in, n_in, 3, stride, groups=n_in) + conv(n_in, width, 1)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _empty(nn.Linear, width, 10)]
    return _initialize(nn.Sequential(*layers), seed)


def _empty(layer_type: type[nn.Module], *sizes: int) -> nn.Module:
    """The layer with memory but no values: torch's own initialization would draw from the global random state."""
    return nn.utils.skip_init(layer_type, *sizes)


def _initialize(model: nn.Sequential, seed: int) -> nn.Sequential:
    """Fill weights and biases by eq. (2), in place, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    layers = list(model)
    for layer, after in zip(layers, layers[1:] + [None]):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            fan_in = layer.weight[0].numel()
            gain = 2 if isinstance(after, nn.ReLU) else 1
            nn.init.normal_(layer.weight, std=(gain / fan_in) ** 0.5, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model
