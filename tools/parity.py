r"""Does the Chinese say what the English says? What can be compared between the two cells of a pair is compared.

Levels of the headings (in order), formulas, backticked code, fenced listings, link targets (each as a multiset: word order
differs between the languages) and the number of `<details>` must be equal. A formula is compared byte for byte, with line
breaks read as spaces; a link into the English notebooks (`/en/`) equals its Chinese twin (`/zh/`), and an anchor after `#`
may differ, because it is made from a heading. What no program can compare, the prose, is for a reader of both languages.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from tools.source import CJK, Block, Cell, Source

FENCE = re.compile(r"^ {0,3}(```+|~~~+)[^\n]*\n.*?^ {0,3}\1[ \t]*$", re.M | re.S)
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.S)
INLINE = re.compile(r"\$((?:[^$\n]|\n(?!\s*\n))+?)\$")
TARGET = r"((?:[^()\s]|\([^()\s]*\))+)"
LINK = re.compile(rf'\]\({TARGET}(?:\s+"[^"]*")?\)|(?:href|src)="([^"]+)"|<(https?://[^>\s]+)>|^\[[^\]]+\]:\s*(\S+)', re.M)
HEADING = re.compile(r"^(#{1,6})\s", re.M)


@dataclass
class Parts:
    """What a prose cell is made of: (value, offset in the text) each."""

    headings: list[tuple[str, int]] = field(default_factory=list)
    formulas: list[tuple[str, int]] = field(default_factory=list)
    displays: list[tuple[str, int]] = field(default_factory=list)
    code: list[tuple[str, int]] = field(default_factory=list)
    links: list[tuple[str, int]] = field(default_factory=list)
    details: list[tuple[str, int]] = field(default_factory=list)
    stray_dollar: int | None = None


def parts_of(text: str) -> Parts:
    """Take a prose cell apart. What was recognized is blanked, at equal length, so that a `$` in code is no formula."""
    parts = Parts()

    def take(pattern: re.Pattern, store: list, value) -> None:
        nonlocal text
        for m in pattern.finditer(text):
            store.append((value(m), m.start()))
        text = pattern.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)

    take(FENCE, parts.code, lambda m: m[0])
    take(CODE, parts.code, lambda m: " ".join(m[2].split()))
    text = text.replace(r"\$", "  ")
    take(DISPLAY, parts.displays, lambda m: "$$ " + " ".join(m[1].split()) + " $$")
    take(INLINE, parts.formulas, lambda m: "$" + " ".join(m[1].split()) + "$")
    parts.formulas += parts.displays
    parts.stray_dollar = text.find("$") if "$" in text else None
    parts.headings = [(m[1], m.start()) for m in HEADING.finditer(text)]
    parts.links = [(next(filter(None, m.groups())), m.start()) for m in LINK.finditer(text)]
    parts.details = [(m[0], m.start()) for m in re.finditer(r"</?details>", text)]
    return parts


def language_free(link: str) -> str:
    """The target of a link without its language and without the name of its anchor."""
    path, anchor, _ = link.partition("#")
    return re.sub(r"(^|/)(en|zh)/", r"\1*/", path) + ("#" if anchor else "")


def problems_of_pair(block: Block) -> list[str]:
    """Every difference between the two cells of a prose pair, each a sentence that begins with `file:line`."""
    en, zh = parts_of(block.en.text), parts_of(block.zh.text)
    problems = [p for cell, parts in ((block.en, en), (block.zh, zh)) for p in _problems_alone(cell, parts)]
    if [h for h, _ in en.headings] != [h for h, _ in zh.headings]:
        levels = [" ".join(h for h, _ in parts.headings) or "none" for parts in (en, zh)]
        problems.append(
            f"{block.zh.where}: headings differ (English: {levels[0]}; Chinese: {levels[1]}); give both the same levels"
        )
    for what in ("formulas", "code", "links"):
        problems += _differences(what, block, getattr(en, what), getattr(zh, what))
    if len(en.details) != len(zh.details):
        counts = f"English {len(en.details) // 2}, Chinese {len(zh.details) // 2}"
        problems.append(f"{block.zh.where}: number of <details> differs ({counts}); give both the same hints")
    return problems


def _problems_alone(cell: Cell, parts: Parts) -> list[str]:
    """One cell alone: an open formula, Chinese inside one, a <details> that never ends, a link to the other language."""
    problems = []
    if parts.stray_dollar is not None:
        problems.append(
            rf"{cell.at(parts.stray_dollar)}: a formula opens with $ and does not close; close it, or write \$ for money"
        )
    for formula, offset in parts.formulas:
        if CJK.search(formula):
            problems.append(f"{cell.at(offset)}: Chinese inside the formula {formula}; take it out, MathJax has no font for it")
    depth = 0
    for tag, offset in parts.details:
        depth += 1 if tag == "<details>" else -1
        if depth not in (0, 1):
            problems.append(f"{cell.at(offset)}: {tag} does not match; open and close each hint once")
            break
    if depth == 1:
        problems.append(f"{cell.at(parts.details[-1][1])}: <details> is not closed; write </details> in the same cell")
    other = "zh" if cell.lang == "en" else "en"
    for link, offset in parts.links:
        if re.search(rf"(^|/){other}/", link) and "://" not in link:
            problems.append(f'{cell.at(offset)}: the lang="{cell.lang}" cell links to {link}; link to /{cell.lang}/')
    return problems


def _differences(what: str, block: Block, en: list[tuple[str, int]], zh: list[tuple[str, int]]) -> list[str]:
    """What stands in one language only, at the line where it stands; compared as multisets."""
    key = language_free if what == "links" else str
    counts = [Counter(key(value) for value, _ in parts) for parts in (en, zh)]
    problems = []
    for cell, parts, more, name, other in (
        (block.zh, zh, counts[1] - counts[0], "Chinese", "English"),
        (block.en, en, counts[0] - counts[1], "English", "Chinese"),
    ):
        for value, offset in parts:
            if more[key(value)] > 0:
                more[key(value)] -= 1
                sibling = block.en if cell is block.zh else block.zh
                problems.append(
                    f"{cell.at(offset)}: {what} differ: {value} stands in the {name} cell only; "
                    f"make the {other} sibling (line {sibling.line}) agree"
                )
    return problems


def problems_of_headings(source: Source) -> list[str]:
    """The title opens the first cell and is the only '# ' heading; below it no level is skipped. (The site needs both.)"""
    if not source.blocks:
        return [] if source.problems else [f"{source.file}:1: no cells; write a title cell"]
    title = source.blocks[0].en
    if title.kind != "markdown" or not title.text.startswith("# "):
        return [f'{title.where}: the first cell must be prose that opens with the title, "# 3.1 · Weight pruning"']
    problems, above = [], 0
    for cell in (block.en for block in source.blocks if block.en.kind == "markdown"):
        for heading, offset in parts_of(cell.text).headings:
            if heading == "#" and above:
                problems.append(f"{cell.at(offset)}: a second '# ' heading; a notebook has one title, write '## '")
            elif len(heading) > above + 1:
                problems.append(f"{cell.at(offset)}: heading {heading} below {'#' * above}; no level may be skipped")
            above = len(heading)
    return problems
