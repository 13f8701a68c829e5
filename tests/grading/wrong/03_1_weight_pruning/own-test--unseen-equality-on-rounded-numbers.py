import torch


def test_pruning(prune):
    W, b = torch.tensor([[0.1, -0.7, 0.4], [0.001, 0.004, -0.001]]), torch.tensor([0.01, 9.0])
    given = {
        "W": W,
        "b": b,
        "same": torch.full((2, 7), 0.1),
        "F": torch.tensor([[[1.0, 3.0], [2.5, -9.5]], [[0.5, 1.25], [1.5, -4.75]]]),
    }
    before = {name: X.clone() for name, X in given.items()}
    got = prune(given, 1.0)
    assert got["W"].tolist() == [[0, W[0, 1].item(), W[0, 2].item()], [0, W[1, 1].item(), 0]]
    assert got["same"].tolist() == before["same"].tolist()
    assert got["F"].tolist() == [[[0, 0], [0, -9.5]], [[0, 0], [0, -4.75]]]
    assert got["b"].tolist() == before["b"].tolist()
    assert all(torch.equal(given[name], X) for name, X in before.items())
