"""The Pareto explorer without a front end: the front by its definition, the choices by exhaustion, the sliders by text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.widgets.concepts import Candidate, choice_text, choice_values, pareto_explorer, pareto_front

points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=12)
N = 1000
CLOUD = [
    Candidate("large", "dense", 90_000, 20, 23),
    Candidate("middle", "dense", 30_000, 30, 28),
    Candidate("worse", "dense", 60_000, 40, 41),
    Candidate("small", "pruned", 9_000, 30, 35),
    Candidate("tiny", "pruned", 2_000, 120, 131),
]


def dominates(a, b):
    """Eq. (1), literally."""
    return a[0] <= b[0] and a[1] <= b[1] and (a[0] < b[0] or a[1] < b[1])


@given(points)
def test_the_front_is_what_nothing_dominates(cloud):
    front = pareto_front([c for c, _ in cloud], [e for _, e in cloud])
    assert sorted(front) == [i for i, p in enumerate(cloud) if not any(dominates(q, p) for q in cloud)]
    assert [cloud[i][0] for i in front] == sorted(cloud[i][0] for i in front)


@given(points, st.integers(0, 8), st.integers(0, 8))
def test_every_choice_is_on_the_front_and_no_other_within_the_limit_is_better(cloud, size, error):
    """Eq. (3) lands on (2): whatever dominated the choice would lie within the limit too, and be better."""
    candidates = [Candidate(str(i), "", c, e, 0) for i, (c, e) in enumerate(cloud)]
    by_size, by_error = choice_values(candidates, 8, size, error / 8)
    front = pareto_front([c for c, _ in cloud], [e for _, e in cloud])
    if by_size is None:
        assert all(c > size for c, _ in cloud)
    else:
        assert int(by_size.name) in front and by_size.validation_errors == min(e for c, e in cloud if c <= size)
    if by_error is None:
        assert all(e > error for _, e in cloud)
    else:
        assert int(by_error.name) in front and by_error.size_bytes == min(c for c, e in cloud if e <= error)


def test_hand_example():
    assert pareto_front([c.size_bytes for c in CLOUD], [c.validation_errors for c in CLOUD]) == [4, 3, 0]
    by_size, by_error = choice_values(CLOUD, N, 50_000, 0.03)
    assert by_size.name == by_error.name == "small"  # the same errors as "middle", in fewer bytes
    assert choice_values(CLOUD, N, 1_999, 0.019) == (None, None)


def test_the_text_reports_the_test_set_with_its_interval():
    """Wilson for 35 of 1,000 wrong: 2.53 % to 4.83 % (checked by hand with z = 1.96)."""
    text = choice_text(CLOUD[3], N)
    assert "small: 9,000 bytes, 30 validation errors; test error 3.50%, 95 % interval 2.53% to 4.83%" in text
    assert choice_text(None, N) == "nothing fits"


def test_moving_the_sliders_changes_text_and_picture_to_the_right_models():
    box = pareto_explorer(CLOUD, N)
    (size, error), text, image = box.children[0].children, box.children[1], box.children[2]
    for kilobytes, percent, name in [(95, 2.0, "large"), (5, 12.0, "tiny"), (30, 4.0, "small")]:
        picture = bytes(image.value)
        size.value, error.value = kilobytes, percent
        by_size, by_error = choice_values(CLOUD, N, 1000 * kilobytes, percent / 100)
        assert by_size.name == by_error.name == name
        assert re.findall(r"</b> (\w+):", text.value) == [name, name]
        assert f"in {kilobytes:.1f} kB" in text.value and f"at most {percent:.1f} %" in text.value
        assert bytes(image.value) != picture and bytes(image.value).startswith(b"\x89PNG")
    size.value, error.value = 1.8, 0
    assert text.value.count("nothing fits") == 2


@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="2 costs and 1 errors"):
        pareto_front([1, 2], [1])
    with pytest.raises(ValueError, match=r"errors\[0\]"):
        pareto_front([1], [float("nan")])
    with pytest.raises(ValueError, match="max_error"):
        choice_values(CLOUD, N, 1, 5)
    with pytest.raises(ValueError, match="n must be"):
        choice_values(CLOUD, 0, 1, 0.5)
