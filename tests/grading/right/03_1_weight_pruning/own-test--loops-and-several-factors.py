import torch


def test_pruning(prune):
    generator = torch.Generator().manual_seed(3)
    for c in (0.5, 1.0, 1.25, 2.0):
        for shape in ((3, 4), (2, 2, 2, 2), (2, 4, 2), (5,), ()):
            X = torch.randint(-6, 7, shape, generator=generator) / 2
            X = X * (2.0 ** torch.arange(len(X))).reshape(-1, *[1] * (X.ndim - 1)) if X.ndim else X
            given = {"some": X.clone()}
            got = prune(given, c)["some"]
            assert torch.equal(given["some"], X), "the input was changed"
            rows = X.reshape(len(X), -1).tolist() if X.ndim > 1 else []
            want = [[w if len(row) * abs(w) >= c * sum(map(abs, row)) else 0.0 for w in row] for row in rows]
            assert got.shape == X.shape
            assert got.reshape(len(X), -1).tolist() == want if X.ndim > 1 else torch.equal(got, X)
