def test_adamw(step):
    assert callable(step)
