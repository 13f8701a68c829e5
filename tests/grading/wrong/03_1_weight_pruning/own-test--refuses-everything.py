def test_pruning(prune):
    raise AssertionError("no program is right")
