"""The type checker behind the shapes: beartype, with Python's own reading of numbers (an int is welcome where a float is)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
