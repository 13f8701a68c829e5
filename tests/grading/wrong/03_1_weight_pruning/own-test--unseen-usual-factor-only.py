import torch


def test_pruning(prune):
    given = {"W": torch.tensor([[1.0, -8.0, 2.0, 5.0], [0.0, -0.25, 0.125, 0.125]]), "b": torch.tensor([0.01, 9.0])}
    before = {name: X.clone() for name, X in given.items()}
    got = prune(given, 0.5)
    assert got["W"].tolist() == [[0, -8, 2, 5], [0, -0.25, 0.125, 0.125]]
    assert torch.equal(got["b"], before["b"])
    assert all(torch.equal(given[name], X) for name, X in before.items())
