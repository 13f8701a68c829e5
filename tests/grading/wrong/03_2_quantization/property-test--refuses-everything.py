def test_quantizer(quantizer):
    raise AssertionError("no good")
