"""Exports have the columns that Canvas and Moodle read, run nothing in a spreadsheet, and never turn "no mark" into 0."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading import records
from grading.gradebook import Gradebook
from grading.records import export, statistics
from tests.test_grading_gradebook import STEM, result

names = st.text(st.characters(codec=None), min_size=1)


@pytest.fixture
def rows(tmp_path):
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add(result("ada"))
        book.add(result("bob", earned=0))
        book.add(result("cy", problem="missing", cases=[], prose=[], notebook_sha256=""))
        book.set_mark("ada", STEM, "judge", 2.5, "Good,\nbut <short> & thin", "eve")
        return book.latest(STEM)


def read(text):
    return list(csv.reader(io.StringIO(text)))


def test_the_csv_has_a_column_a_task_and_leaves_empty_what_nobody_marked(rows):
    head, *lines = read(export(rows, "csv", STEM, 7))
    assert head == ["student", "mend", "judge", "total", "max", "awaiting marks", "isolation", "graded_at"]
    assert [line[:-1] for line in lines] == [
        ["ada", "2", "2.5", "4.5", "7", "", "bwrap"],
        ["bob", "0", "", "0", "7", "judge", "bwrap"],
        ["cy", "", "", "", "7", "", "bwrap"],
    ]
    assert all(line[-1] == row["graded_at"] for line, row in zip(lines, rows))


def test_canvas_finds_its_columns_its_row_of_points_and_the_students_by_login(rows):
    lines = read(export(rows, "canvas", STEM, 7))
    assert lines[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", STEM]
    assert lines[1] == ["    Points Possible", "", "", "", "", "7"]
    assert lines[2:] == [["ada", "", "", "ada", "", "4.5"], ["bob", "", "", "bob", "", "0"], ["cy", "", "", "cy", "", ""]]
    assert read(export(rows, "canvas", STEM, 7, assignment="Pruning (123)"))[0][-1] == "Pruning (123)"


def test_a_student_called_like_canvas_row_of_points_does_not_set_the_maximum(rows):
    lines = read(export([rows[0] | {"student": "Points Possible"}], "canvas", STEM, 7))
    assert ["Points Possible" in line[0] for line in lines] == [False, True, False]


def test_moodle_gets_a_user_a_grade_and_feedback_and_a_dash_where_there_is_no_grade(rows):
    lines = read(export(rows, "moodle", STEM, 7))
    assert lines == [
        ["username", STEM, f"{STEM} feedback"],
        ["ada", "4.5", "mend: 2; judge: 2.5; judge: Good, but &lt;short> &amp; thin"],
        ["bob", "0", "mend: 0"],
        ["cy", "-", ""],
    ]


def test_moodle_by_address_needs_an_address_for_everybody(rows):
    emails = {"ada": "ada@x.org", "bob": "bob@x.org", "cy": "cy@x.org"}
    lines = read(export(rows, "moodle", STEM, 7, identity="email", emails=emails))
    assert [line[0] for line in lines] == ["email", *emails.values()]
    with pytest.raises(ValueError, match="'cy' is no address; give"):
        export(rows, "moodle", STEM, 7, identity="email", emails={"ada": "ada@x.org", "bob": "bob@x.org"})
    with pytest.raises(ValueError, match="choose one of username, email"):
        export(rows, "moodle", STEM, 7, identity="phone")


def test_an_unknown_format_names_the_known_ones(rows):
    with pytest.raises(ValueError, match="csv, canvas, moodle, json"):
        export(rows, "xlsx", STEM, 7)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "＝1", '=HYPERLINK("http://x","y")'])
@pytest.mark.parametrize("format", ["csv", "canvas", "moodle"])
def test_no_cell_runs_as_a_formula(rows, name, format):
    made = [rows[0] | {"student": name, "awaiting": [name], "isolation": name}]
    for line in read(export(made, format, STEM, 7)):
        assert not any(cell.strip()[:1] in tuple("=+-@＝＋－＠\t\r") and cell for cell in line if cell.strip())


@given(st.lists(names, min_size=1, max_size=3), st.sampled_from(["csv", "canvas", "moodle"]))
def test_any_name_stays_one_cell_of_one_line(students, format):
    rows = [
        {"student": name, "by_task": {"a": 1}, "total": 1, "awaiting": [], "isolation": "bwrap", "graded_at": "", "marks": {}}
        for name in students
    ]
    text = export(rows, format, STEM, 7)
    text.encode("utf-8")
    lines = read(text)
    assert len(lines) == len(rows) + (2 if format == "canvas" else 1) and len({len(line) for line in lines}) == 1


def test_json_holds_everything_with_versions_seed_and_isolation(rows):
    rows[0]["prose"][0]["text"] = "权重 \ud800"
    text = export(rows, "json", STEM, 7)
    text.encode("utf-8")
    read_back = json.loads(text)
    assert read_back["students"] == rows and "权重" in text
    assert (read_back["stem"], read_back["max_points"], read_back["seeds"]) == (STEM, 7, ["0123abcd"])
    assert read_back["isolation"] == ["bwrap"] and read_back["students"][0]["versions"] == {"python": "3.11"}


def test_numbers_are_short_and_exact():
    assert [records.number(value) for value in (None, 0, 2.0, 2.5, 10, 100, 1 / 3)] == [
        "",
        "0",
        "2",
        "2.5",
        "10",
        "100",
        "0.3333",
    ]


def test_statistics_count_right_students_and_name_the_commonest_failed_case(rows):
    code, prose = statistics(rows)
    assert code == {
        "task": "mend",
        "students": 2,
        "right": 0,
        "share": 2 / 8,
        "commonest": {"case": "bias", "students": 2},
        "awaiting": 0,
    }
    assert prose == {"task": "judge", "students": 1, "right": 0, "share": 2.5 / 3, "commonest": None, "awaiting": 1}
    assert statistics([]) == []


def test_statistics_of_a_task_that_all_have_right_has_no_failed_case(rows):
    for row in rows[:1]:
        row["by_task"]["mend"] = 4
        for case in row["cases"]:
            case["earned"] = case["points"]
    assert statistics(rows[:1])[0] | {"task": ""} == {
        "task": "",
        "students": 1,
        "right": 1,
        "share": 1,
        "commonest": None,
        "awaiting": 0,
    }


def test_tables_are_aligned_also_with_chinese(rows):
    text = records.statistics_table(rows, {"mend": "任务 1 · 修好", "judge": "Judge"})
    assert text.split("\n") == [
        "task           students  right  points  awaiting  commonest failed case",
        "任务 1 · 修好         2    0 %    25 %            bias (2)",
        "Judge                 1    0 %    83 %         1",
    ]
    assert records.table(rows).split("\n") == [
        "student  total  awaiting  problem",
        "ada        4.5",
        "bob          0  judge",
        "cy                        missing",
    ]


@given(st.lists(st.tuples(names, names), min_size=1, max_size=4))
def test_every_line_of_a_table_has_its_columns_at_the_same_place(lines):
    text = records.aligned([(*line, "|") for line in lines])
    assert text.count("\n") == len(lines) - 1
    assert len({records.width(line[: line.rindex("|")]) for line in text.split("\n")}) == 1


def test_the_width_of_a_text_is_what_a_terminal_gives_it():
    assert [records.width(text) for text in ("abc", "权重", "é", "e\u0301", "（）", "a权")] == [3, 4, 1, 1, 4, 3]
