"""An answer cell without IPython: Jupyter runs what plain Python refuses, and right work scores with it too.

    %matplotlib inline    %timeit f(x)    !pip list    ?f    f?     nothing remains, or `pass` where a block needs a line
    %%time    %%capture   (any cell magic)                          nothing remains of this line; the cell below it counts
    %time y = f(x)                                                  y = f(x)
    x = !ls    x = %timeit -o f()    x = %time f()                  x = None    x = None    x = f()
    the whole cell indented                                         not indented

A line is IPython's only where a statement could begin: not inside a string or a bracket, and not after a backslash. There no
Python begins with %, ! or ?, so what was Python stays as it is, character by character; line numbers stay too. The lines are
looked at by a small scanner: `tokenize` stops at the odd quotes of a shell line, and `ast` can be made to crash.
"""

import re

LINE = re.compile(r"([ \t\f]*)(.*)", re.S)
ASSIGNED = re.compile(r"([^\W\d][\w.]*\s*=\s*)((?:!|%(?=\w)).*)", re.S)
HELP = re.compile(r"%{0,2}[\w.*\[\]]+\?\??")
TIME = re.compile(r"%time[ \t]+(?![-\s])(.*)", re.S)


def as_python(text: str) -> str:
    """The text of a cell as plain Python. Lines end with a newline character alone."""
    kept, quote, depth, goes_on = [], "", 0, False
    swallowing = False  # a line of IPython's that ends with a backslash takes the next one along
    for line in _dedented(text.split("\n")):
        new = "" if swallowing else line if quote or depth or goes_on else _without(line)
        swallowing = line.endswith("\\") and not new.endswith("\\")
        quote, depth, goes_on = _scan(new, quote, depth)
        kept.append(new)
    return "\n".join(kept)


def _dedented(lines: list[str]) -> list[str]:
    """The lines without the indent of the first statement, as IPython removes it."""
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    indent = LINE.match(first)[1]
    return [line.removeprefix(indent) for line in lines] if indent else lines


def _without(line: str) -> str:
    """A line at which a statement could begin, without what is IPython's."""
    indent, code = LINE.match(line).groups()
    if timed := TIME.fullmatch(code):
        return indent + timed[1]
    if code.startswith(("%", "!", "?")) or HELP.fullmatch(code.rstrip()):
        return f"{indent}pass" if indent else ""
    if assigned := ASSIGNED.fullmatch(code):
        timed = TIME.fullmatch(assigned[2])
        return indent + assigned[1] + (timed[1] if timed else "None")
    return line


def _scan(line: str, quote: str, depth: int) -> tuple[str, int, bool]:
    """(open quote, open brackets, does a backslash join the next line) after a line, from what was open before it."""
    i, joined = 0, False
    while i < len(line):
        c = line[i]
        if c == "\\":
            joined = i == len(line) - 1
            i += 2
        elif quote:
            closes = line.startswith(quote, i)
            i += len(quote) if closes else 1
            quote = "" if closes else quote
        elif c == "#":
            break
        elif c in "'\"":
            quote = c * 3 if line.startswith(c * 3, i) else c
            i += len(quote)
        else:
            depth = max(0, depth + (c in "([{") - (c in ")]}"))
            i += 1
    if len(quote) == 1 and not joined:  # a string of one line, not closed: whatever it is, it ends here
        quote = ""
    return quote, depth, joined and not quote
