"""The doctor works where the course does not, names each fault with its cure, and its exit status can be trusted."""

import errno
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

from course_lib import __main__, assets, doctor, pretrained
from course_lib.doctor import Finding, examine, report

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def full_cache(monkeypatch, empty_cache):
    monkeypatch.setattr(assets, "missing", list)
    monkeypatch.setattr(pretrained, "is_trained", lambda name: True)


def by_name(findings, part):
    (found,) = [f for f in findings if part in f.what]
    return found


def test_a_machine_with_everything_is_well(full_cache, capsys):
    findings = examine()
    assert not [f for f in findings if f.status == "broken"]
    assert doctor.main() == 0 and capsys.readouterr().out.endswith("The course runs here.\n")


def test_without_the_digits_the_course_cannot_run_and_the_cure_is_a_command(empty_cache, capsys):
    mnist = by_name(examine(), "MNIST")
    assert mnist.status == "broken" and "-m course_lib fetch mnist" in mnist.cure
    assert doctor.main() == 1 and "1 to mend" in capsys.readouterr().out


def test_untrained_networks_are_optional(empty_cache):
    for name in pretrained.RECIPES:
        found = by_name(examine(), f"trained {name}")
        assert found.status == "optional" and "prepare" in found.cure


def version_faked(monkeypatch, package, version):
    real = importlib.metadata.version

    def fake(name):
        if name != package:
            return real(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", fake)


@pytest.mark.parametrize(("version", "seen"), [(None, "missing"), ("1.13.1", "needs 2.6 or newer")])
def test_a_missing_or_old_package_is_broken_with_its_cure(full_cache, monkeypatch, version, seen):
    version_faked(monkeypatch, "torch", version)
    torch = by_name(examine(), "torch")
    assert torch.status == "broken" and seen in torch.seen and 'pip install "torch>=2.6"' in torch.cure
    assert doctor.main() == 1


def test_a_missing_package_of_an_extra_is_optional(full_cache, monkeypatch):
    version_faked(monkeypatch, "hypothesis", None)
    found = by_name(examine(), "the tests")
    assert found.status == "optional" and "hypothesis" in found.seen and f'"{ROOT}[test]"' in found.cure
    assert doctor.main() == 0


def test_the_course_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-distribution")
    assert by_name(examine(), "the course").cure.endswith(f"-m pip install -e {ROOT}") and doctor.main() == 1


def test_an_old_python_is_said_first(full_cache, monkeypatch):
    version = namedtuple("version", "major minor micro releaselevel serial")(3, 10, 4, "final", 0)
    monkeypatch.setattr(doctor.sys, "version_info", version)
    assert examine()[0] == Finding("broken", "Python", "3.10.4", examine()[0].cure) and "3.11" in examine()[0].cure


@pytest.mark.parametrize(("free", "status"), [(100e6, "broken"), (50e9, "ok")])
def test_a_full_disk_is_broken(full_cache, monkeypatch, free, status):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(1e12, 0, free))
    found = by_name(examine(), "disk")
    assert found.status == status and ("COURSE_CACHE" in found.cure) == (status == "broken")


def test_disk_is_asked_even_before_the_cache_exists(full_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "not" / "yet"))
    assert by_name(examine(), "disk").status == "ok"


def test_missing_tools_are_named_and_optional(full_cache, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = by_name(examine(), "Chromium")
    assert found.status == "optional" and "apt-get install chromium" in found.cure
    assert doctor.main() == 0


def test_wanted_versions_are_those_of_pyproject():
    """Read through the metadata, so that no version is typed twice."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = {f"{name}>={lowest}" for name, lowest, extra in doctor._requirements() if not extra}
    assert found == set(project["dependencies"])
    groups = {extra for _, _, extra in doctor._requirements()} - {""}
    assert groups == set(project["optional-dependencies"]) and set(doctor.EXTRAS) <= groups


def test_no_finding_speaks_of_a_chapter_that_does_not_exist(empty_cache, monkeypatch):
    """What only later chapters would use is not asked of a learner today."""
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert not any(word in f.what for f in examine() for word in ("espeak", "sandbox", "toolkits", "real models"))


@pytest.fixture
def read_only(monkeypatch, tmp_path):
    """Permissions do not stop root, so the attempt to write raises what a disk mounted for reading raises."""

    def refuse(**arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)


def test_a_read_only_cache_with_everything_in_it_is_well(full_cache, read_only, monkeypatch):
    """Also on a disk image, which has no byte free."""
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(1e9, 1e9, 0))
    found = by_name(examine(), "cache")
    assert found.status == "ok" and "read-only" in found.seen and "complete" in found.seen and doctor.main() == 0


@pytest.mark.parametrize("lacking", ["data", "networks"])
def test_a_read_only_cache_that_lacks_something_is_broken_with_its_cure(full_cache, read_only, monkeypatch, capsys, lacking):
    if lacking == "data":
        monkeypatch.setattr(assets, "missing", lambda: ["mnist"])
    else:
        monkeypatch.setattr(pretrained, "is_trained", lambda name: name != "lenet_5")
    lacked = by_name(examine(), {"data": "MNIST", "networks": "lenet_5"}[lacking])
    for found in (by_name(examine(), "cache"), lacked):  # `fetch` here would not help
        assert found.cure.startswith("read-only: run `python -m course_lib prepare` where the cache is owned")
    assert by_name(examine(), "cache").status == "broken" and "Read-only" in by_name(examine(), "cache").seen
    assert doctor.main() == 1 and "The course runs here." not in capsys.readouterr().out


def test_a_cache_below_a_file_cannot_be_written_and_is_no_traceback(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file" / "cache"))
    assert by_name(examine(), "cache").status == "broken"


@pytest.mark.parametrize("part", ["assets", "trained"])
def test_each_folder_of_the_cache_is_tried(empty_cache, part):
    """The cache may be mine and a folder in it another's; a file in the folder's place refuses even root."""
    (empty_cache / part).write_text("")
    assert by_name(examine(), "cache").status == "broken"


def test_trying_to_write_leaves_nothing(empty_cache):
    assert by_name(examine(), "cache").status == "ok" and not list(empty_cache.iterdir())


@pytest.mark.parametrize(
    ("version", "number"),
    [("2.13.0+cpu", (2, 13)), ("4", (4,)), ("0.0.2.post1", (0, 0, 2)), ("3.0rc1", (3,)), ("10.2", (10, 2))],
)
def test_versions_compare_as_numbers(version, number):
    assert doctor._number(version) == number


def test_report_has_a_line_each_and_the_cure_under_what_is_not_well():
    text = report([Finding("ok", "a", "1.0"), Finding("broken", "longer", "gone", "mend it")])
    assert text.splitlines() == [
        "ok        a       1.0",
        "BROKEN    longer  gone",
        "                  -> mend it",
        "The course does not run yet: 1 to mend, see the arrows.",
    ]


def test_doctor_runs_without_torch(tmp_path):
    """Only Python's own library at the top: with torch hidden, a report and status 1 come out, no traceback."""
    (tmp_path / "torch.py").write_text("raise ImportError('hidden')")
    code = (
        "import importlib.metadata as m, sys; real = m.version\n"
        "def version(name):\n    if name == 'torch': raise m.PackageNotFoundError(name)\n    return real(name)\n"
        "m.version = version\nfrom course_lib.__main__ import main; sys.exit(main(['doctor']))"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin", "COURSE_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "BROKEN    torch" in done.stdout and not done.stderr


def test_help_names_every_command_and_where_things_are_kept(capsys):
    with pytest.raises(SystemExit) as leaving:
        __main__.main(["--help"])
    text = capsys.readouterr().out
    assert leaving.value.code == 0 and all(word in text for word in ("doctor", "fetch", "prepare", "COURSE_CACHE"))


def test_commands_reach_their_functions(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "main", lambda: 7)
    assert __main__.main(["doctor"]) == 7
    monkeypatch.setattr(assets, "main", lambda names: len(names))
    assert __main__.main(["fetch", "a", "b"]) == 2
    asked = []
    monkeypatch.setattr(pretrained, "n_test_errors", lambda name, seed: asked.append((name, seed)) or 150)
    assert __main__.main(["prepare", "--seed", "3"]) == 0
    assert asked == [(name, 3) for name in pretrained.RECIPES] and "lenet_5: ready, 1.50 %" in capsys.readouterr().out


def test_prepare_takes_names_and_refuses_those_it_does_not_know(monkeypatch, capsys):
    trained_names = []
    monkeypatch.setattr(assets, "main", lambda names: 0)
    monkeypatch.setattr(pretrained, "n_test_errors", lambda name, seed: trained_names.append(name) or 172)
    assert __main__.main(["prepare", "lenet_5"]) == 0 and trained_names == ["lenet_5"]
    assert __main__.main(["prepare", "lenet_6"]) == 2 and "lenet_300_100" in capsys.readouterr().err
    assert trained_names == ["lenet_5"]


def test_prepare_stops_where_the_data_cannot_be_had(monkeypatch):
    monkeypatch.setattr(assets, "main", lambda names: 1)
    monkeypatch.setattr(pretrained, "n_test_errors", lambda name, seed: pytest.fail("trained without data"))
    assert __main__.main(["prepare"]) == 1


def test_ctrl_c_ends_without_a_traceback(monkeypatch, capsys):
    def interrupt(names):
        raise KeyboardInterrupt

    monkeypatch.setattr(assets, "main", interrupt)
    assert __main__.main(["fetch"]) == 130 and "Interrupted" in capsys.readouterr().err
