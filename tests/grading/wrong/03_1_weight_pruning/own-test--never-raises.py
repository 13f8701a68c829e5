def test_pruning(prune):
    return None
