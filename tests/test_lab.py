"""`make lab` opens the right page in the right language, asks nothing, and respects what the user has chosen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import lab

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", [None, "", "en", "en_US", "en_GB.UTF-8", "EN"])
def test_english_is_the_default(name):
    assert lab.chosen_locale(name) == "en"


@pytest.mark.parametrize("name", ["zh", "zh_CN", "zh-CN", "zh_CN.UTF-8", "ZH_cn"])
def test_chinese_is_recognized_however_it_is_written(name):
    assert lab.chosen_locale(name) == "zh_CN"


def test_another_language_is_refused_in_words(monkeypatch, capsys):
    monkeypatch.setenv("LANG_UI", "fr_FR")
    assert lab.main([]) == 2 and "en and zh_CN" in capsys.readouterr().err


def test_overrides_switch_off_news_and_updates_and_set_the_language(tmp_path):
    settings = json.loads(lab.write_overrides(tmp_path, "zh_CN").read_text("utf-8"))
    assert settings == {
        "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
        "@jupyterlab/translation-extension:plugin": {"locale": "zh_CN"},
    }
    assert json.loads(lab.write_overrides(tmp_path, "en").read_text("utf-8"))[lab.LANGUAGE] == {"locale": "default"}


def test_the_settings_named_are_settings_of_this_jupyterlab():
    """A misspelt name would be ignored in silence; so look the names up in JupyterLab's own schemas."""
    schemas = Path(sys.prefix) / "share" / "jupyter" / "lab" / "schemas" / "@jupyterlab"
    if not schemas.is_dir():
        pytest.skip("needs JupyterLab installed below sys.prefix")
    news = json.loads((schemas / "apputils-extension" / "notification.json").read_text("utf-8"))["properties"]
    assert "false" in [v["const"] for v in news["fetchNews"]["oneOf"]] and news["checkForUpdates"]["type"] == "boolean"
    assert "locale" in json.loads((schemas / "translation-extension" / "plugin.json").read_text("utf-8"))["properties"]


def test_other_settings_in_the_file_stay(tmp_path):
    path = lab.write_overrides(tmp_path, "en")
    settings = json.loads(path.read_text("utf-8"))
    settings["theme"] = {"dark": True}
    settings[lab.NOTIFICATION]["doNotDisturbMode"] = True
    path.write_text(json.dumps(settings), "utf-8")
    after = json.loads(lab.write_overrides(tmp_path, "zh_CN").read_text("utf-8"))
    assert after["theme"] == {"dark": True} and after[lab.NOTIFICATION]["doNotDisturbMode"] is True


def test_a_damaged_file_of_settings_is_replaced(tmp_path):
    path = lab.write_overrides(tmp_path, "en")
    path.write_text("{", "utf-8")
    assert lab.NOTIFICATION in json.loads(lab.write_overrides(tmp_path, "en").read_text("utf-8"))


@pytest.mark.parametrize(("locale", "folder"), [("en", "en"), ("zh_CN", "zh")])
def test_the_server_sees_chapters_and_exercises_and_opens_the_start(locale, folder):
    """Chapters link to ../../exercises, so the root must lie above both."""
    line = lab.command(locale, ["--no-browser", "--port=9999"])
    assert line[:3] == [sys.executable, "-m", "jupyterlab"] and line[-2:] == ["--no-browser", "--port=9999"]
    assert f"--ServerApp.root_dir={ROOT}" in line
    assert f"--LabApp.default_url=/lab/tree/notebooks/{folder}/00_start_here.ipynb" in line


def test_the_start_page_has_a_source():
    assert (ROOT / "notebooks" / "source" / "00_start_here.py").exists()


def test_without_the_digits_jupyterlab_still_opens(monkeypatch, tmp_path, capsys):
    from course_lib import assets

    def fail(name):
        raise assets.AssetError("mnist: no network today.")

    started = []
    monkeypatch.setattr(assets, "fetch", fail)
    monkeypatch.setattr(lab.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(lab.os, "execv", lambda program, line: started.append(line))
    monkeypatch.delenv("LANG_UI", raising=False)
    lab.main(["--no-browser"])
    assert started == [lab.command("en", ["--no-browser"])] and "no network today" in capsys.readouterr().err


def test_a_read_only_environment_is_no_crash(monkeypatch, capsys):
    def refuse(prefix, locale):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lab, "write_overrides", refuse)
    monkeypatch.setattr(lab, "fetch_digits", lambda: None)
    monkeypatch.setattr(lab.os, "execv", lambda program, line: None)
    monkeypatch.delenv("LANG_UI", raising=False)
    lab.main([])
    assert "could not be written" in capsys.readouterr().err


def test_help_is_the_documentation():
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "lab.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "LANG_UI=zh_CN" in done.stdout and "--no-browser" in done.stdout
