"""The reading version: links lead from page to page, a widget becomes a picture of its state. (`make site` builds it whole.)"""

import base64
import importlib.util
import sys
from pathlib import Path

import ipywidgets
import pytest
from nbformat.v4 import new_output

SITE = Path(__file__).resolve().parents[1] / "site"


def load(name):
    """A file of site/, which is no package: the standard library has a module of that name."""
    pytest.importorskip("jupyter_server_mathjax", reason="the extra 'site' is not installed")
    sys.path.insert(0, str(SITE))
    try:
        spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(SITE))


@pytest.mark.parametrize(
    ("link", "folder", "page"),
    [
        ("02_2_training.ipynb", "notebooks", "02_2_training.ipynb"),
        ("../../exercises/en/03_1_a.ipynb", "notebooks", "exercises/03_1_a.ipynb"),
        ("../../notebooks/en/03_1_a.ipynb#The-error", "exercises", "../03_1_a.ipynb#the-error"),
        ("../../solutions/en/03_1_a.ipynb", "exercises", "../solutions/03_1_a.ipynb"),
        ("../../NOTATION.md", "solutions", "../notation.md"),
        ("#A-figure", "notebooks", "#a-figure"),
        ("https://arxiv.org/abs/1510.00149#S2", "notebooks", "https://arxiv.org/abs/1510.00149#S2"),
        ("../../course_lib/data.py", "notebooks", None),
        ("../zh/03_1_a.ipynb", "notebooks", None),
    ],
)
def test_a_link_between_notebooks_becomes_a_link_between_pages(link, folder, page):
    assert load("make").page_of(link, folder, "en") == page


def test_a_link_without_a_page_keeps_its_words_and_images_stay():
    text = "[a `b`](../../Makefile) ![figure](x.png) [c](../../exercises/zh/03_1_a.ipynb)"
    assert load("make").relinked(text, "notebooks", "zh") == "a `b` ![figure](x.png) [c](exercises/03_1_a.ipynb)"


def saved(*widgets):
    """Outputs that show the widgets, and the state that a run saves with the notebook."""
    state = ipywidgets.Widget.get_manager_state(widgets=None)["state"]
    view = "application/vnd.jupyter.widget-view+json"
    outputs = [new_output("display_data", {view: {"model_id": w.model_id}, "text/plain": "VBox()"}) for w in widgets]
    return outputs, {"application/vnd.jupyter.widget-state+json": {"state": state}}


def test_a_widget_becomes_a_picture_of_its_state():
    png = b"\x89PNG not really"
    slider = ipywidgets.FloatSlider(value=0.75, min=0, max=1, description="sparsity <b>")
    choice = ipywidgets.Dropdown(options=["row", "tensor"], value="tensor", description="mean over")
    box = ipywidgets.VBox([slider, choice, ipywidgets.Image(value=png, format="png"), ipywidgets.Label("1 < 2")])
    outputs, widgets = saved(box)
    for model in widgets["application/vnd.jupyter.widget-state+json"]["state"].values():
        for buffer in model.get("buffers", []):
            assert buffer["encoding"] == "base64"
    (still,) = load("static_widgets").still(outputs, widgets)
    html = still.data["text/html"]
    assert 'type="range" disabled' in html and 'value="0.75"' in html and "sparsity &lt;b&gt;" in html
    assert "mean over <b>tensor</b>" in html and "1 &lt; 2" in html
    assert f"data:image/png;base64,{base64.b64encode(png).decode()}" in html and list(still.data) == ["text/html"]


def test_progress_bars_go_and_other_outputs_stay():
    bar = ipywidgets.HBox([ipywidgets.HTML("100%"), ipywidgets.FloatProgress(value=1, max=1), ipywidgets.HTML("[00:01]")])
    outputs, widgets = saved(bar)
    text = new_output("stream", name="stdout", text="loss 0.1\n")
    assert load("static_widgets").still([*outputs, text], widgets) == [text]
