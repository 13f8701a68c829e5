"""Interactive figures, one file a chapter. An idea that can be turned like a knob is understood sooner than one that is read.

    start.py        00    prune and quantize one image of a digit
    background.py   01    the roofline: batch size and bits against time
    _base.py        what all share: a Matplotlib figure as the picture of a widget

A figure is a function that returns an ipywidgets `VBox`: sliders above, picture and text below. Its numbers come from a pure
function `..._values(...)` in the same file, which tests call without any front end. Each chapter shows a static figure beside
the interactive one, so that a page printed or read on the web loses nothing.
"""
