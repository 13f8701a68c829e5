def test_quantizer(quantizer):
    assert quantizer.__name__ not in ("rounds_down", "divides_by_zero", "uses_a_bit_more", "shrinks")
