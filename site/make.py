"""The reading version: every chapter with its outputs, in both languages, as pages that need no server and no network.

    python site/make.py              site/_build/html/index.html

A notebook runs once: both languages share its code, so the outputs of the English run are put into the Chinese page too, and
are kept in `_work` until the code or the library changes. Exercises are shown as they are handed out, solutions with outputs.
Widgets need a kernel; a page shows the state in which the run left them. Links between notebooks become links between pages.
"""

import hashlib
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupyter_server_mathjax
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

from static_widgets import still  # noqa: E402

WORK, HTML = HERE / "_work", HERE / "_build/html"
FOLDERS = {"notebooks": "", "exercises": "exercises/", "solutions": "solutions/"}
MATHJAX = ("MathJax.js", "config", "extensions", "fonts", "jax/element", "jax/input", "jax/output/HTML-CSS")
WORDS = {
    "en": {
        "title": "Model Optimization from the Formulas Up",
        "text": "Pruning, quantization and knowledge distillation: derived, written from the formula, tested and measured.",
        "captions": {"notebooks": "Chapters", "exercises": "Exercises", "solutions": "Solutions"},
        "notation": "Notation",
    },
    "zh": {
        "title": "从公式出发的模型优化",
        "text": "剪枝、量化与知识蒸馏：每一种方法都先推导，再照公式写成代码，经过测试，最后在真实模型上测量。",
        "captions": {"notebooks": "章节", "exercises": "练习", "solutions": "参考答案"},
        "notation": "记号表",
    },
}


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with outputs, from `_work` if neither its code nor the library has changed since."""
    notebook = nbformat.read(path, as_version=4)
    digest = hashlib.sha256("\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code").encode())
    for file in sorted((ROOT / "course_lib").rglob("*.py")):
        digest.update(file.read_bytes())
    kept = WORK / "executed" / f"{path.parent.parent.name}-{path.stem}-{digest.hexdigest()[:16]}.ipynb"
    if not kept.exists():
        print(f"running {path.relative_to(ROOT)}", flush=True)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
        kept.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, kept)
    return nbformat.read(kept, as_version=4)


def page_of(link: str, folder: str, lang: str) -> str | None:
    """Where a link of the notebook in `folder` leads on the site; None if what it names is no page there."""
    path, _, anchor = link.partition("#")
    anchor = "#" + re.sub(r"[^\w\- ]", "", anchor.lower()) if anchor else ""  # as MyST writes the anchor of a heading
    if re.match(r"[a-z]+:", link) or not path:
        return link if path else anchor
    target = posixpath.normpath(posixpath.join(folder, lang, path))
    up = "../" if FOLDERS[folder] else ""
    if m := re.fullmatch(rf"(notebooks|exercises|solutions)/{lang}/(\w+)\.ipynb", target):
        return f"{up}{FOLDERS[m[1]]}{m[2]}.ipynb{anchor}"
    return f"{up}notation.md{anchor}" if target == "NOTATION.md" else None


def relinked(text: str, folder: str, lang: str) -> str:
    """Markdown whose links fit the site; a link to a file that is no page there keeps its words and loses its target."""

    def change(m: re.Match) -> str:
        page = page_of(m[2], folder, lang)
        return f"[{m[1]}]({page})" if page else m[1]

    return re.sub(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)", change, text)


def write_page(path: Path, outputs: nbformat.NotebookNode | None, target: Path, lang: str) -> None:
    """One notebook for Sphinx: prose of its language, outputs of the run (by the ids that both languages share)."""
    notebook = nbformat.read(path, as_version=4)
    by_id = {cell.id: cell for cell in outputs.cells} if outputs else {}
    widgets = outputs.metadata.get("widgets", {}) if outputs else {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, path.parent.parent.name, lang)
        elif cell.id in by_id:
            cell.outputs = still(by_id[cell.id].outputs, widgets)
            cell.execution_count = by_id[cell.id].execution_count
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def write_language(lang: str, runs: dict[Path, nbformat.NotebookNode]) -> None:
    """Every page of a language, its first page, its settings."""
    work, words = WORK / lang, WORDS[lang]
    shutil.rmtree(work, ignore_errors=True)
    lines = [f"# {words['title']}", "", words["text"], ""]
    for folder, place in FOLDERS.items():
        paths = sorted((ROOT / folder / lang).glob("*.ipynb"))
        for path in paths:
            write_page(path, runs.get(path.parent.parent / "en" / path.name), work / place / path.name, lang)
        entries = [f"{place}{path.stem}" for path in paths] + (["notation"] if folder == "notebooks" else [])
        lines += ["```{toctree}", ":maxdepth: 1", f":caption: {words['captions'][folder]}", "", *entries, "```", ""]
    (work / "index.md").write_text("\n".join(lines), "utf-8")
    notation = (ROOT / "NOTATION.md").read_text("utf-8")
    (work / "notation.md").write_text(re.sub(r"\A# .*", f"# {words['notation']}", notation), "utf-8")
    for name in ("conf.py", "_templates", "_static"):
        copy = shutil.copytree if (HERE / name).is_dir() else shutil.copy
        copy(HERE / name, work / name)
    static = Path(jupyter_server_mathjax.__file__).parent / "static"
    for name in MATHJAX:
        (work / "_static/mathjax" / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (static / name).is_dir() else shutil.copy
        copy(static / name, work / "_static/mathjax" / name)


def main() -> int:
    """Run, write, hand over to Sphinx; 0 if every page was made without a warning."""
    paths = [path for folder in ("notebooks", "solutions") for path in sorted((ROOT / folder / "en").glob("*.ipynb"))]
    os.environ |= {"OMP_NUM_THREADS": "1"}
    with ThreadPoolExecutor(2) as pool:
        try:
            runs = dict(zip(paths, pool.map(executed, paths)))
        except CellExecutionError as error:
            print(f"a notebook stopped:\n{error}", file=sys.stderr)
            return 1
    for lang in WORDS:
        write_language(lang, runs)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", WORK / lang, HTML / lang]
        if subprocess.run(command, env=os.environ | {"COURSE_LANG": lang}).returncode:
            return 1
    shutil.copy(HERE / "landing.html", HTML / "index.html")
    n_pages = len(list(HTML.rglob("*.html")))
    print(json.dumps({"pages": n_pages, "open": str((HTML / "index.html").relative_to(ROOT))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
