"""The library of the course: each algorithm of model optimization, written from its formula.

`pruning`, `quantization` and `distillation` hold functions on tensors, in the order of the document's section 3. `training`,
`models`, `data` and `assets` bring networks and digits; `measure`, `coding` and `storage` say what was gained, in real bytes.
NOTATION.md has the letters.
"""

__version__ = "0.1.0"
