import torch


def test_pruning(prune):
    W = torch.tensor([[7.0, -3.5, 3.0, 2.5], [-1.0, 0.25, 0.25, 0.5]], dtype=torch.float64)
    F = torch.stack([torch.tensor([[[8.0, -4.0]], [[1.0, 3.0]]]), torch.tensor([[[0.5, 2.0]], [[-0.5, 5.0]]])])
    b = torch.tensor([-0.25, 100.0, 0.0])
    given = {"F": F.clone(), "b": b.clone(), "W": W.clone()}
    got = prune(given, c=0.75)
    # thresholds: 3 and 0.375 for the rows of W, 3 and 1.5 for the filters
    kept = {"W": torch.tensor([[1, 1, 1, 0], [1, 0, 0, 1]]), "F": torch.tensor([[[[1, 1]], [[0, 1]]], [[[0, 1]], [[0, 1]]]])}
    for name, X in {"F": F, "W": W}.items():
        torch.testing.assert_close(got[name], X * kept[name], rtol=0, atol=0)
    torch.testing.assert_close(got["b"], b, rtol=0, atol=0)
    for name, X in {"F": F, "b": b, "W": W}.items():
        assert torch.equal(given[name], X), name
