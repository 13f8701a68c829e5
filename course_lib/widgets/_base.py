"""What all interactive figures share: drawing a Matplotlib figure off screen and showing it as the picture of a widget.

Pyplot keeps a global list of figures and decides by itself when to show one; inside a callback that ends in doubled pictures
or none. So widgets make `Figure` objects of their own, turn them into PNG bytes, and hand the bytes to an `ipywidgets.Image`.
Replacing its `value` replaces the picture, in JupyterLab, in Notebook and in a test that has no front end at all.
"""

import io
from collections.abc import Callable

import ipywidgets as widgets
import matplotlib.style
from matplotlib.figure import Figure

from course_lib.plots import STYLE


def new_figure(n_columns: int = 1, size: tuple[float, float] = (9, 3.5)) -> tuple[Figure, list]:
    """A figure in the course's style, outside of pyplot, with `n_columns` panels side by side; returns (figure, list of axes).

    Source: Matplotlib's object interface.  Notebook: 00_start_here.
    """
    with matplotlib.style.context(["default", "tableau-colorblind10", STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        return figure, list(figure.subplots(1, n_columns, squeeze=False)[0])


def figure_bytes(figure: Figure) -> bytes:
    """The figure as PNG bytes: the same figure gives the same bytes, so a test can tell whether a picture changed.

    Source: PNG.  Notebook: 00_start_here.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def figure_image(figure: Figure) -> widgets.Image:
    """A widget that shows the figure. Change it later with `update_image`.

    Source: ipywidgets, `Image`.  Notebook: 00_start_here.
    """
    return widgets.Image(
        value=figure_bytes(figure), format="png", layout=widgets.Layout(max_width="100%", object_fit="contain")
    )


def update_image(image: widgets.Image, figure: Figure) -> None:
    """Replace the picture of `image` by `figure`.

    Source: ipywidgets, `Image`.  Notebook: 00_start_here.
    """
    image.value = figure_bytes(figure)


def redraw_on_change(controls: list[widgets.Widget], redraw: Callable[[], None]) -> None:
    """Call `redraw()` now, and again whenever the value of one of the controls changes.

    Source: ipywidgets, `observe`.  Notebook: 00_start_here.
    """
    for control in controls:
        control.observe(lambda change: redraw(), names="value")
    redraw()
