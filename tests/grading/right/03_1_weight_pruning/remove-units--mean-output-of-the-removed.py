import torch


def remove_units(W1, b1, W2, b2, keep, X=None):
    gone = (~keep).nonzero().flatten()
    kept = keep.nonzero().flatten()
    lost = torch.zeros_like(b2)
    if X is not None:
        hidden = torch.nn.functional.linear(X, W1[gone], b1[gone]).clamp_min(0)
        lost = torch.nn.functional.linear(hidden, W2[:, gone]).mean(dim=0)
    return W1.index_select(0, kept), b1.index_select(0, kept), W2.index_select(1, kept), b2 + lost
