"""The course as a learner meets it: JupyterLab in a real Chromium, a chapter run, a slider moved by keyboard.

Everything else about the widgets is tested without a front end, in milliseconds; this one test per language holds what only a
browser can show: that nothing pops up, that the menus speak the chosen language, that the start page opens, and that a picture
on the screen changes when a key is pressed.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TOKEN = "a-token-for-the-test"
N_STEPS = 7  # from 80 % to 94 %; image 0 is 85 % background, so fewer steps would rightly leave its picture as it is

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="needs Chromium: none of chromium, chromium-browser, google-chrome is installed"
    ),
    pytest.mark.skipif(os.name != "posix", reason="needs a posix system to end JupyterLab with its kernels"),
    # Playwright and Jupyter leave sockets to the garbage collector; that is theirs to mend.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def jupyterlab(tmp_path, language):
    """JupyterLab as `make lab` starts it, with a home and a workspace of its own; yields its address."""
    port = free_port()
    settings = tmp_path / "settings" / "@jupyterlab" / "docmanager-extension" / "plugin.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"autosave": false}')  # the outputs of this test must not end up in the repository
    overrides = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    defaults_before = overrides.read_bytes() if overrides.exists() else None
    # The user's cache stays (data, networks); all of Jupyter's own state goes to the temporary folder.
    environment = os.environ | {
        "LANG_UI": language,
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "OMP_NUM_THREADS": "1",
    }
    line = [
        sys.executable,
        str(ROOT / "tools" / "lab.py"),
        "--no-browser",
        f"--port={port}",
        f"--IdentityProvider.token={TOKEN}",
    ]
    line += ["--ServerApp.port_retries=0", "--FileCheckpoints.checkpoint_dir=" + str(tmp_path / "checkpoints")]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        if defaults_before is None:
            overrides.unlink(missing_ok=True)
        else:
            overrides.write_bytes(defaults_before)


@contextlib.contextmanager
def page_of(address):
    """JupyterLab's start page in a fresh Chromium, through the server's own redirect to the default page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 1000}, locale="en-US")
            page.set_default_timeout(60_000)
            page.goto(f"{address}/?token={TOKEN}")
            page.wait_for_selector(".jp-NotebookPanel:visible .jp-Cell")
            yield page
        finally:
            browser.close()


def assert_no_pop_up(page):
    """No dialogue, and none of the notices at the lower right: the question about news and the offer of an update are such."""
    assert page.locator(".jp-Dialog").count() == 0
    notices = page.locator(".Toastify__toast").all_inner_texts()
    assert not [text for text in notices if re.search("news|update|新闻|更新", text, re.I)], notices


def run_all_cells(page):
    """By the menu, as a learner would, once the kernel is connected: before that JupyterLab would ask which kernel to take."""
    ready = """() => document.querySelector('.jp-Toolbar-kernelName')?.innerText.includes('Python 3')
        && document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"""
    page.wait_for_function(ready)
    page.locator("#jp-MainMenu >> text=Run").first.click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    prompts = "[...document.querySelectorAll('.jp-InputPrompt')].map(e => e.innerText).join('')"
    page.wait_for_function(f"/[0-9*]/.test({prompts})")


def scroll_to(page, selector, seconds=60):
    """JupyterLab draws only the cells in view: walk down, again and again while cells still run, until it shows."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for top in range(0, 20_000, 500):
            page.evaluate(
                "top => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(e => { e.scrollTop = top })", top
            )
            page.wait_for_timeout(50)
            if page.locator(selector).count() and page.locator(selector).first.is_visible():
                return page.locator(selector).first
    raise AssertionError(f"{selector} is nowhere in the notebook after {seconds} s")


def move_the_slider(page):
    """The first slider of the chapter is the sparsity, in steps of 2 %: to the right by the arrow key, until ink must go."""
    handle = scroll_to(page, ".jp-OutputArea .noUi-handle")
    text = page.locator(".jp-OutputArea .widget-label", has_text="of the pixels erased").first
    picture = page.locator(".jp-OutputArea img.widget-image").first
    before, picture_before = text.text_content(), picture.get_attribute("src")
    share = int(re.match(r"(\d+)%", before)[1])
    handle.focus()
    for _ in range(N_STEPS):
        handle.press("ArrowRight")
    expected = f"{share + 2 * N_STEPS}% of the pixels erased"
    page.wait_for_function("([e, start]) => e.textContent.startsWith(start)", arg=[text.element_handle(), expected])
    page.wait_for_function("([e, source]) => e.src !== source", arg=[picture.element_handle(), picture_before])


def test_the_english_course_opens_runs_and_its_slider_moves_the_picture(tmp_path):
    with jupyterlab(tmp_path, "en") as address, page_of(address) as page:
        assert "/lab/tree/notebooks/en/00_start_here.ipynb" in page.url
        menu = page.locator("#jp-MainMenu")
        menu.locator("text=File").first.wait_for()
        run_all_cells(page)
        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        move_the_slider(page)
        assert_no_pop_up(page)


def test_the_chinese_course_opens_with_chinese_menus(tmp_path):
    pytest.importorskip("jupyterlab_language_pack_zh_CN", reason="needs the language pack: pip install -e '.[zh]'")
    with jupyterlab(tmp_path, "zh_CN") as address, page_of(address) as page:
        assert "/lab/tree/notebooks/zh/00_start_here.ipynb" in page.url
        menu = page.locator("#jp-MainMenu")
        menu.locator("text=文件").first.wait_for()
        assert not menu.locator("text=File").count()
        page.wait_for_selector(".jp-NotebookPanel h1:has-text('从这里开始')")
        assert_no_pop_up(page)
