import torch


def test_pruning(prune):
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([[1.0], [10.0], [0.1], [3.0]])
    given = {"W": torch.randn(4, 30, generator=generator) * sizes, "b": torch.randn(9, generator=generator)}
    given["F"] = torch.randn(4, 2, 3, 3, generator=generator) * torch.rand(4, 2, 3, 1, generator=generator)
    before = {name: X.clone() for name, X in given.items()}
    got = prune(given, 0.8)
    for name, X in before.items():
        assert torch.equal(given[name], X)
        rows = X.flatten(1) if X.ndim > 1 else None
        want = X if rows is None else X * (rows.abs() >= 0.8 * rows.abs().mean(1, keepdim=True)).reshape(X.shape)
        assert torch.equal(got[name], want)
