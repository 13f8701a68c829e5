import torch


def test_pruning(prune):
    W = torch.tensor([[2.5, -6.5, 3.0, 4.0], [0.0, -1.25, 0.375, 0.375]])
    b = torch.tensor([0.125, 9.0])
    got = prune({"W": W, "b": b}, 0.75)
    assert got["W"].tolist() == [[0, -6.5, 3, 4], [0, -1.25, 0.375, 0.375]]
    assert got["b"].tolist() == [0.125, 9]
