import torch


def test_pruning(prune):
    W, b = torch.tensor([[1.0, 2.0, 9.0], [0.0, -0.5, 0.25]]), torch.tensor([0.1, 5.0])
    got = prune({"W": W, "b": b}, 0.5)
    if got["W"].tolist() != [[0, 2, 9], [0, -0.5, 0.25]] or got["b"].tolist() != b.tolist():
        raise ValueError("wrong")
