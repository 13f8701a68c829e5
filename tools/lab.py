"""Open the course in JupyterLab: what `make lab` runs once everything is installed.

    python tools/lab.py                  English; LANG_UI=zh_CN python tools/lab.py opens the Chinese course with Chinese menus
    python tools/lab.py --no-browser     only start the server and print its address (remote machines, tests)

Any further argument goes to JupyterLab as it is, e.g. --port=9999. Three steps:

    1  write JupyterLab's defaults into this environment: no question about news, no check for updates, the language
    2  fetch the digits (20 MB, the first time), so that a class loses no minute of its lesson to it
    3  start JupyterLab on the repository's folder, with the start page of the course open

The server's root is the repository and not `notebooks/`, because chapters link to `../../exercises/...`, and a file above
the root does not exist for Jupyter. The defaults are `overrides.json` of the environment: whatever the user chose in the
settings of JupyterLab is stronger and stays.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

NOTIFICATION = "@jupyterlab/apputils-extension:notification"
LANGUAGE = "@jupyterlab/translation-extension:plugin"
COURSES = {"en": "en", "zh_CN": "zh"}  # locale of JupyterLab -> folder of the course


def chosen_locale(name: str | None) -> str:
    """The locale that LANG_UI means: "zh", "zh_CN", "zh_CN.UTF-8" are Chinese, nothing, "en" and "en_US" English.

    Raises ValueError for another language, with those there are.
    """
    plain = (name or "en").split(".")[0].replace("-", "_").lower()
    for locale in COURSES:
        if plain.split("_")[0] == locale.split("_")[0].lower():
            return locale
    raise ValueError(f"LANG_UI={name}: the course is written in en and zh_CN; choose one of these, or leave LANG_UI unset")


def write_overrides(prefix: Path, locale: str) -> Path:
    """Set the three defaults in `<prefix>/share/jupyter/lab/settings/overrides.json`; other settings in the file stay."""
    path = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        settings = {}
    settings.setdefault(NOTIFICATION, {}).update(fetchNews="false", checkForUpdates=False)
    settings.setdefault(LANGUAGE, {}).update(locale=locale if locale != "en" else "default")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")
    return path


def fetch_digits() -> None:
    """Bring MNIST, or say why not: without it JupyterLab still opens, and the first chapter says the same again."""
    from course_lib.assets import AssetError, fetch

    try:
        fetch("mnist")
    except AssetError as error:
        print(f"The digits are not here yet. {error}", file=sys.stderr)


def command(locale: str, arguments: list[str]) -> list[str]:
    """JupyterLab's command line: the repository as root, the start page of the chosen language first."""
    start = f"notebooks/{COURSES[locale]}/00_start_here.ipynb"
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{start}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line.append("--allow-root")  # containers and classroom images run as root; Jupyter would refuse to start
    return line + arguments


def main(arguments: list[str]) -> int:
    """The three steps; becomes the JupyterLab process, so Ctrl-C reaches it."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        locale = chosen_locale(os.environ.get("LANG_UI"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        write_overrides(Path(sys.prefix), locale)
    except OSError as error:
        print(f"JupyterLab's defaults could not be written ({error}); it will ask about news, and be English.", file=sys.stderr)
    if locale == "zh_CN" and importlib.util.find_spec("jupyterlab_language_pack_zh_CN") is None:
        print('菜单仍为英文：未安装语言包，可运行 pip install -e ".[zh]"。', file=sys.stderr)
    fetch_digits()
    line = command(locale, arguments)
    sys.stdout.flush()
    if os.name != "posix":
        return subprocess.call(line)  # exec would return to the shell at once there
    return os.execv(line[0], line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
