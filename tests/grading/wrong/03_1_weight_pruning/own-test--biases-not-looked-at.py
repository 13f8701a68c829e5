import torch


def test_pruning(prune):
    W = torch.tensor([[2.5, -6.5, 3.0, 4.0], [0.0, -1.25, 0.375, 0.375]])
    got = prune({"W": W}, 0.75)["W"]
    assert got.tolist() == [[0, -6.5, 3, 4], [0, -1.25, 0.375, 0.375]]
