import math

import torch


def test_pruning(prune):
    W = torch.randn(200, 500, generator=torch.Generator().manual_seed(0))
    zeros = float((prune({"W": W}, 0.5)["W"] == 0).double().mean())
    assert abs(zeros - math.erf(0.5 / math.sqrt(math.pi))) < 0.01
