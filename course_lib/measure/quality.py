r"""How good a classifier is, and how sure one may be of that number (sections 1, 2 and 7.1).

    (1)  accuracy  =  k / n                                            k right answers among n
    (2)  ( k + z^2/2  +-  z sqrt( k (n - k)/n + z^2/4 ) ) / ( n + z^2 )               its interval (Wilson)
    (3)  ECE  =  sum_b  n_b / n  | accuracy of bin b  -  mean confidence of bin b |    calibration error
    (4)  agreement  =  share of samples on which two models give the same class
    (5)  k_before - k_after  =  broken - mended                        flips: right -> wrong, wrong -> right

(2) is needed because a test set is a sample: 98.0 % on 10,000 images means "between 97.7 % and 98.3 %", and two models 0.2 %
apart have not been told apart by it. The simpler k/n +- z sqrt(k (n - k)/n) / n has width 0 when no error is seen; (2) has not.
(5) is why an unchanged accuracy does not mean an unchanged model: a compressed network can break 50 answers and mend 50.

Left out: top-5 accuracy, ROC curves, regression. `torchmetrics` and scikit-learn have those; both give (1) without (2).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib._check import check_count, check_fraction, check_tensor


def _check_labels(who: str, scores: Tensor, labels: Tensor) -> None:
    check_tensor(who, "labels", labels, ndim=1)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or len(labels) != len(scores):
        raise ValueError(f"{who}: labels must be {scores.shape[0]} whole numbers, got {tuple(labels.shape)} {labels.dtype}")


def _check_classes(who: str, scores: Tensor, labels: Tensor) -> None:
    low, high, n_classes = int(labels.min()), int(labels.max()), scores.shape[1]
    if low < 0 or high >= n_classes:
        raise ValueError(f"{who}: labels must lie in 0 ... {n_classes - 1} ({n_classes} classes), got {low} ... {high}")


@torch.no_grad()
def predict(model: nn.Module, X: Float[Tensor, "n *shape"], batch_size: int = 1000) -> Tensor:
    r"""The outputs of `model` on all of X, in eval mode, without gradients, batch by batch.

    $$ u_i = f_\theta(x_i) $$

    The mode (train or eval) of every module is put back. Eval mode matters: with dropout on, the same image gets a different
    answer each time.

    Raises TypeError for what is no nn.Module; ValueError for empty, NaN or infinite X, or a shape the model does not take.
    Source: the definition of a prediction.  Notebook: 02_2_training.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"predict: model must be a torch.nn.Module, got {type(model).__name__}")
    check_tensor("predict", "X", X)
    check_count("predict", "batch_size", batch_size)
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        return torch.cat([model(x) for x in X.split(batch_size)])
    except RuntimeError as error:
        raise ValueError(
            f"predict: the model fails on X of shape {tuple(X.shape)}; does it take that? It said: {error}"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode


def n_errors(model: nn.Module, X: Float[Tensor, "n *shape"], labels: Int[Tensor, "n"]) -> int:
    r"""How many samples get another class than their label; the class is the largest output.

    $$ n_{\text{errors}} = \#\{ i : \arg\max_c u_{ic} \ne y_i \} $$

    Raises TypeError, ValueError as `predict` does, and ValueError for labels of another length, labels that
    are no class of the model, or NaN outputs.
    Source: counting.  Notebook: 02_2_training.
    """
    _check_labels("n_errors", X, labels)
    logits = predict(model, X)
    check_tensor("n_errors", "the model's output", logits, ndim=2)
    _check_classes("n_errors", logits, labels)
    return int((logits.argmax(dim=1) != labels).sum())


def accuracy(model: nn.Module, X: Float[Tensor, "n *shape"], labels: Int[Tensor, "n"]) -> float:
    r"""The share of right answers, a fraction, eq. (1). Quote it with n, or with `accuracy_interval`.

    $$ \text{accuracy} = 1 - n_{\text{errors}} / n $$

    Raises as `n_errors` does.
    Source: counting.  Notebook: 02_2_training.
    """
    return 1 - n_errors(model, X, labels) / len(labels)


def accuracy_interval(n_correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    r"""Wilson's interval for the accuracy behind `n_correct` right answers of `n`, eq. (2).

    $$ \frac{k + \frac{z^2}{2} \pm z \sqrt{\frac{k (n - k)}{n} + \frac{z^2}{4}}}{n + z^2}, \qquad
       z = \Phi^{-1}\bigl(\tfrac{1 + \text{confidence}}{2}\bigr) $$

    where k is `n_correct` and $\Phi$ the distribution function of the standard Gaussian (z = 1.96 at 0.95). It holds the
    accuracies that would not be surprised by what was seen; it lies inside [0, 1] and never has width 0. For fresh samples of
    the same kind, and one model: two models on one test set are compared by `verdict_on_test_set`.

    Raises ValueError unless 0 <= n_correct <= n, n >= 1 and 0 < confidence < 1.
    Source: Wilson 1927, eq. (4); Brown, Cai & DasGupta 2001.  Notebook: 02_2_training.
    """
    check_count("accuracy_interval", "n", n)
    check_count("accuracy_interval", "n_correct", n_correct, low=0)
    check_fraction("accuracy_interval", "confidence", confidence)
    if n_correct > n or confidence in (0, 1):
        raise ValueError(f"accuracy_interval: need n_correct <= n and 0 < confidence < 1, got {n_correct}, {n}, {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = n_correct + z * z / 2
    half = z * math.sqrt(n_correct * (n - n_correct) / n + z * z / 4)
    # Exact arithmetic gives 0 for no right answer and 1 for all; rounding may land beside them.
    low = 0.0 if n_correct == 0 else (middle - half) / (n + z * z)
    high = 1.0 if n_correct == n else (middle + half) / (n + z * z)
    return low, high


def calibration_error(probabilities: Float[Tensor, "n C"], labels: Int[Tensor, "n"], n_bins: int = 15) -> float:
    r"""Expected calibration error: how far stated confidence and achieved accuracy lie apart, a fraction, eq. (3).

    $$ \mathrm{ECE} = \sum_{b=1}^{n_{\text{bins}}} \frac{n_b}{n} \Bigl| \frac1{n_b} \sum_{i \in b} [\hat y_i = y_i] -
       \frac1{n_b} \sum_{i \in b} \max_c p_{ic} \Bigr| $$

    where bin b holds the samples whose largest probability lies in ((b-1)/n_bins, b/n_bins]. 0 = of the answers given with 80 %
    confidence, 80 % are right. It is biased upward for few samples a bin, so compare models on equal n.

    Raises ValueError for rows that are no probabilities (negative, or a sum further than 1e-3 from 1), NaN, labels that do
    not fit.
    Source: Guo et al. 2017 (ICML), eq. (3); Naeini, Cooper & Hauskrecht 2015.
    Notebook: 02_2_training, 07_1_accuracy_and_stability.
    """
    check_tensor("calibration_error", "probabilities", probabilities, ndim=2)
    _check_labels("calibration_error", probabilities, labels)
    _check_classes("calibration_error", probabilities, labels)
    check_count("calibration_error", "n_bins", n_bins)
    P = probabilities.detach().double()
    if P.min() < 0 or not bool(((P.sum(dim=1) - 1).abs() < 1e-3).all()):
        raise ValueError("calibration_error: rows must be probabilities (>= 0, sum 1); did you pass logits? Use softmax first")
    confidence, predicted = P.max(dim=1)
    right = (predicted == labels).double()
    bins = (confidence * n_bins).ceil().long().clamp(1, n_bins) - 1  # (n,)
    gap = torch.zeros(n_bins, dtype=torch.float64).index_add_(0, bins, right - confidence)  # n_b (accuracy - confidence)
    return float(gap.abs().sum() / len(labels))


def _check_pair(who: str, logits_a: Tensor, logits_b: Tensor) -> None:
    check_tensor(who, "logits_a", logits_a, ndim=2)
    check_tensor(who, "logits_b", logits_b, like=logits_a)


def agreement(logits_a: Float[Tensor, "n C"], logits_b: Float[Tensor, "n C"]) -> float:
    r"""The share of samples on which two models give the same class, right or wrong, eq. (4).

    $$ \frac1n \#\{ i : \arg\max_c u^a_{ic} = \arg\max_c u^b_{ic} \} $$

    Raises ValueError for empty, NaN or differently shaped logits.
    Source: counting; used as "fidelity" by Stanton et al. 2021, eq. (5).  Notebook: 02_2_training.
    """
    _check_pair("agreement", logits_a, logits_b)
    return float((logits_a.argmax(dim=1) == logits_b.argmax(dim=1)).double().mean())


@dataclass(frozen=True)
class Flips:
    """Samples out of `n` that changed sides between model a and model b: `broken` right -> wrong, `mended` wrong -> right.

    Source: counting; Hooker et al. 2019, "What do compressed deep neural networks forget?".
    Notebook: 02_2_training, 07_1_accuracy_and_stability.
    """

    broken: int
    mended: int
    n: int


def flips(logits_a: Float[Tensor, "n C"], logits_b: Float[Tensor, "n C"], labels: Int[Tensor, "n"]) -> Flips:
    r"""Which answers a change of model broke, and which it mended, eq. (5); a is before, b after.

    $$ \text{broken} = \#\{ i : \hat y^a_i = y_i \ne \hat y^b_i \}, \qquad
       \text{mended} = \#\{ i : \hat y^a_i \ne y_i = \hat y^b_i \} $$

    Raises ValueError for empty, NaN or differently shaped input, or labels that are no class.
    Source: counting; Hooker et al. 2019.  Notebook: 02_2_training, 07_1_accuracy_and_stability.
    """
    _check_pair("flips", logits_a, logits_b)
    _check_labels("flips", logits_a, labels)
    _check_classes("flips", logits_a, labels)
    right_a, right_b = (logits.argmax(dim=1) == labels for logits in (logits_a, logits_b))
    return Flips(int((right_a & ~right_b).sum()), int((~right_a & right_b).sum()), len(labels))
