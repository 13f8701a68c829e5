"""A figure is written whole, in the agreed form, and says itself whether a target was reached."""

import json

import pytest

from benchmarks.record import Row, write


def test_a_target_is_reached_on_its_own_side_and_on_the_line():
    assert Row("speed", 0.3, 0.3, "<=", 1, 2.0).reached and not Row("speed", 0.31, 0.3, "<=", 1, 2.0).reached
    assert Row("ratio", 75.0, 75.0, ">=", 3, 2.0).reached and not Row("ratio", 74.9, 75.0, ">=", 3, 2.0).reached
    assert not Row("ratio", float("nan"), 75.0, ">=", 3, 2.0).reached


def test_another_comparison_is_refused():
    with pytest.raises(ValueError, match='op is ">=" or "<="'):
        Row("speed", 1.0, 1.0, "<", 1, 0.0)


def test_a_figure_has_its_rows_machine_versions_and_commit(tmp_path, capsys):
    path = write("speed", [Row("median", 0.2, 0.3, "<=", 1, 2.0)], ["numpy"], tmp_path / "new")
    content = json.loads(path.read_text("utf-8"))
    assert path.name == "speed.json" and set(content) == {"figure", "rows", "machine", "versions", "commit"}
    row = {"name": "median", "value": 0.2, "target": 0.3, "op": "<=", "seeds": 1, "seconds": 2.0}
    assert content["figure"] == "speed" and content["rows"] == [row]
    assert {"python", "numpy"} == set(content["versions"])
    assert "reached  median" in capsys.readouterr().out
    assert [p.name for p in path.parent.iterdir()] == ["speed.json"], "a draft was left"
