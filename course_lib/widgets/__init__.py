"""Interactive figures, one file a chapter. An idea that can be turned like a knob is understood sooner than one that is read.

    start.py        00    prune and quantize one image of a digit
    background.py   01    the roofline: batch size and bits against time
    concepts.py     02_1  two limits, and the model that each of them chooses
    training.py     02_2  a step size and a momentum in a valley
    pruning.py      03_1  a threshold over the histogram of the weights, with live accuracy
    quantization.py 03_2  bits and granularity against error, bytes and accuracy
    distillation.py 03_3  a teacher's soft targets at any temperature
    practice_pruning.py 04_1  a sparsity for each layer, against one threshold for all
    practice_quantization.py 04_2  channels of unequal size under one scale, and equalized
    _base.py              what all share: a Matplotlib figure as the picture of a widget

A figure is a function that returns an ipywidgets `VBox`: sliders above, picture and text below. Its numbers come from a pure
function `..._values(...)` in the same file, which tests call without any front end. Each chapter shows a static figure beside
the interactive one, so that a page printed or read on the web loses nothing.
"""
