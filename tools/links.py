"""Do the words of the course lead somewhere? Links, anchors, names of functions, the ways between library and notebooks.

    python tools/links.py            every broken thread as `file:line: what. cure`, exit status 1 if there is one

- Every relative link in a notebook or a Markdown page reaches a file, and its anchor a heading there.
- Every `course_lib...` in backticks, and every import from it, is a name that exists; every file named there too.
- Every public function says `Source:` and `Notebook:`; the notebook it names exists and mentions it. A chapter that DESIGN
  plans and nobody has written yet may be named beside one that exists, not alone.
- Every chapter opens with goals and minutes and closes with a summary, the functions used, exercises and sources; the functions
  it lists are used in its code.

Everything is read with `ast`: nothing of the library is imported, so this takes a second and works without torch.
"""

import ast
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.parity import parts_of  # noqa: E402
from tools.source import CHAPTER, EXERCISE, STEM, Cell, Source, read_source  # noqa: E402

PLANNED = {
    "04_3_distillation_in_practice", "04_4_deep_compression",
    "05_1_image_recognition", "05_2_natural_language", "05_3_speech_recognition", "05_4_large_language_models",
    "06_1_tensorflow", "06_2_pytorch", "06_3_onnx",
    "07_1_accuracy_and_stability", "07_2_interpretability", "07_3_scalability", "08_faq",
}  # fmt: skip
FULL_NAME = re.compile(r"\bcourse_lib(?:\.[A-Za-z_]\w*)+")
FILE_NAME = re.compile(r"^(?:course_lib|tools|tests|notebooks|solutions|exercises|grading|benchmarks)/[\w./-]+\.\w+$")
ANCHOR = re.compile(r'<a\s+(?:id|name)="([^"]+)"')
CLOSING = ("Summary", "Functions used", "Exercises", "Sources")


class Library:
    """The names of course_lib, read from its files: what is defined, what is imported again under which name."""

    def __init__(self, root: Path):
        self.root = root
        self.tree = cache(self._tree)
        self.names = cache(self._names)

    def file(self, module: str) -> Path | None:
        """The file of a dotted module name, or None."""
        path = self.root.joinpath(*module.split("."))
        return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)

    def _tree(self, module: str) -> ast.Module:
        return ast.parse(self.file(module).read_text("utf-8"))

    def _names(self, module: str) -> dict[str, tuple[str, ast.AST | None]]:
        """Name -> (module that defines it, its node), imports followed one step at a time by `resolves`."""
        found: dict[str, tuple[str, ast.AST | None]] = {}
        package = module if self.file(module).name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(self.tree(module)):
            if isinstance(node, ast.ImportFrom):
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
                source = ".".join(filter(None, (base, node.module)))
                for alias in node.names:
                    found.setdefault(alias.asname or alias.name, (f"{source}:{alias.name}", None))
            elif isinstance(node, ast.Import):
                found |= {alias.asname or alias.name: (f"{alias.name}:", None) for alias in node.names}
        for node in self.tree(module).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = (module, node)
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                for name in ast.walk(target) if target is not None else ():
                    if isinstance(name, ast.Name):
                        found[name.id] = (module, None)
        return found

    def resolves(self, name: str) -> bool:
        """Does the dotted name lead to a module, a function, a class, a constant or a class's attribute?"""
        module, rest = name, []
        while module and self.file(module) is None:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
        if not module or not rest:
            return bool(module)
        where, node = self.names(module).get(rest[0], (None, None))
        if where is None:
            return False
        if ":" in where:
            source, _, original = where.partition(":")
            if not source.startswith("course_lib"):
                return len(rest) == 1
            return source != module and self.resolves(".".join([source, original, *rest[1:]]))
        if len(rest) == 1:
            return True
        return isinstance(node, ast.ClassDef) and len(rest) == 2 and rest[1] in _members(node)

    def reached(self, names: set[str]) -> set[str]:
        """These names, and all that the functions and classes of these names use, and so on."""
        uses: dict[str, set[str]] = {}
        for path in (self.root / "course_lib").rglob("*.py"):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    inside = {getattr(n, "id", None) or getattr(n, "attr", "") for n in ast.walk(node)}
                    uses.setdefault(node.name, set()).update(inside)
        found, new = set(), set(names)
        while new:
            found |= new
            new = set().union(*(uses.get(name, ()) for name in new)) - found
        return found

    def public(self) -> list[tuple[Path, ast.FunctionDef | ast.ClassDef]]:
        """Every public function and class of every public module."""
        return [
            (path, node)
            for path in sorted((self.root / "course_lib").rglob("*.py"))
            if not path.stem.startswith("_")
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]


def _members(node: ast.ClassDef) -> set[str]:
    """Methods, fields and `self.x = ...` of a class."""
    names = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    names |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    attributes = (n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
    return names | {n.attr for n in attributes if isinstance(n.value, ast.Name) and n.value.id == "self"}


def sources_of(root: Path) -> list[Source]:
    """Chapters and exercises."""
    kinds = (("notebooks", CHAPTER), ("solutions", EXERCISE))
    return [read_source(path, root, kind) for folder, kind in kinds for path in sorted((root / folder / "source").glob("*.py"))]


def prose_cells(source: Source) -> list[Cell]:
    """Both languages, in order."""
    return [cell for block in source.blocks if block.en.kind == "markdown" for cell in (block.en, block.zh)]


def pages_of(root: Path) -> list[Path]:
    """The Markdown pages of the course: at the root, and in the folders that have some of their own."""
    folders = ("docs", "grading", "benchmarks", "site", "tests")
    deep = (p for folder in folders for p in (root / folder).rglob("*.md") if not {"_build", "_work"} & set(p.parts))
    return sorted(root.glob("*.md")) + sorted(deep)


def anchors_of(text: str, jupyter: bool) -> set[str]:
    """The anchors that a page offers: explicit ones, and its headings as Jupyter (or GitHub) writes them."""
    headings = [m[1].strip() for m in re.finditer(r"^#{1,6}\s+(.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)]
    plain = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", h) for h in headings]
    github = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in plain}
    return set(ANCHOR.findall(text)) | ({h.replace(" ", "-") for h in plain} if jupyter else github)


def broken_links(root: Path, sources: list[Source]) -> list[str]:
    """Relative links that reach nothing, seen from where each built notebook (or page) lies."""
    texts: dict[Path, str] = {page: page.read_text("utf-8") for page in pages_of(root)}
    places: list[tuple[Path, str, str]] = [(page, page.relative_to(root).as_posix(), text) for page, text in texts.items()]
    for source in sources:
        for folder in ("notebooks",) if source.kind == CHAPTER else ("solutions", "exercises"):
            for lang in ("en", "zh"):
                path = root / folder / lang / f"{source.stem}.ipynb"
                texts[path] = "\n\n".join(cell.text for cell in prose_cells(source) if cell.lang == lang)
    problems = []
    for page, name, text in places:
        problems += _broken(page, text, texts, lambda offset, n=name, t=text: f"{n}:{_line(t, offset)}")
    for source in sources:
        for cell in prose_cells(source):
            for folder in ("notebooks",) if source.kind == CHAPTER else ("solutions", "exercises"):
                problems += _broken(root / folder / cell.lang / f"{source.stem}.ipynb", cell.text, texts, cell.at)
    return list(dict.fromkeys(problems))


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _broken(page: Path, text: str, texts: dict[Path, str], at) -> list[str]:
    """The broken links of one text that lies at `page`; `at(offset)` says `file:line`."""
    problems = []
    for link, offset in parts_of(text).links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            problems.append(f"{at(offset)}: link to {link}, but there is no such file; correct the path")
        elif anchor and target in texts and anchor not in anchors_of(texts[target], target.suffix == ".ipynb"):
            known = ", ".join(sorted(anchors_of(texts[target], target.suffix == ".ipynb"))[:8])
            problems.append(f"{at(offset)}: anchor #{anchor} is not in {target.name}; it has {known}")
    return problems


def unknown_names(root: Path, library: Library, sources: list[Source]) -> list[str]:
    """`course_lib.x.y` in backticks or in an import that leads nowhere; files named in backticks that are not there."""
    problems = []
    texts = [(page.read_text("utf-8"), page.relative_to(root).as_posix(), None) for page in pages_of(root)]
    texts += [(cell.text, "", cell) for source in sources for cell in prose_cells(source)]
    for text, name, cell in texts:
        for code, offset in parts_of(text).code:
            at = cell.at(offset) if cell else f"{name}:{_line(text, offset)}"
            for full in [] if code.startswith(("```", "~~~")) else FULL_NAME.findall(code):
                if not library.resolves(full) and not FILE_NAME.match(code):
                    problems.append(f"{at}: `{full}` is no name of the library; correct it")
            if FILE_NAME.match(code) and not (root / code).exists():
                problems.append(f"{at}: `{code}` is no file of the course; correct it")
    for source in sources:
        for cell in (block.en for block in source.blocks if block.en.kind == "code"):
            for full, line in imported_names(cell):
                if not library.resolves(full):
                    problems.append(f"{cell.file}:{cell.first + line - 1}: the library has no {full} to import; correct it")
    return problems


def imported_names(cell: Cell) -> list[tuple[str, int]]:
    """(full name, line in the cell) of everything that a code cell imports from course_lib."""
    found = []
    for node in ast.walk(ast.parse(cell.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "course_lib":
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names if alias.name.startswith("course_lib")]
    return found


def lonely_functions(root: Path, library: Library) -> list[str]:
    """Public functions without `Source:` or `Notebook:`, or whose notebook does not exist or does not mention them."""
    chapters = {p.stem: p.read_text("utf-8") for p in (root / "notebooks/source").glob("*.py")}
    problems = []
    for path, node in library.public():
        at, doc = f"{path.relative_to(root).as_posix()}:{node.lineno}: {node.name}", ast.get_docstring(node) or ""
        for word in ("Source:", "Notebook:"):
            if word not in doc:
                problems.append(f"{at} has no {word!r} in its docstring; say where it comes from and where it is taught")
        stems = [m[0] for m in STEM.finditer(doc.partition("Notebook:")[2].partition("\n\n")[0])]
        if "Notebook:" in doc and not stems:
            problems.append(f"{at}: 'Notebook:' names no chapter; write it like 03_1_weight_pruning")
        for stem in stems:
            if stem in chapters and not re.search(rf"\b{node.name}\b", chapters[stem]):
                problems.append(f"{at}: notebook {stem} does not mention it; use it there, or name the chapter that does")
            elif stem not in chapters and stem not in PLANNED:
                problems.append(f"{at}: there is no notebook {stem}; correct the stem")
        if stems and not set(stems) & set(chapters) and set(stems) <= PLANNED:
            problems.append(f"{at} is taught only in {', '.join(stems)}, not written yet; name a chapter that exists too")
    return problems


def incomplete_chapters(library: Library, sources: list[Source]) -> list[str]:
    """Chapters without an opening (goals, minutes) or a closing, and lists of functions that the code does not use."""
    problems = []
    for source in (s for s in sources if s.kind == CHAPTER and s.blocks):
        cells = [cell for cell in prose_cells(source) if cell.lang == "en"]
        opening = " ".join(cell.text for cell in cells[:3])
        if not re.search(r"\bminutes?\b", opening) or not re.search(r"able to|you can|you will", opening):
            problems.append(f"{source.file}:1: no goals or no minutes in the opening; say 'you will be able to ... minutes'")
        for word in CLOSING:
            if not any(re.search(rf"^(?:#{{2,4}} |\*\*)[^\n]*\b{word}", cell.text, re.M | re.I) for cell in cells):
                problems.append(f"{source.file}:1: no heading {word!r}; a chapter closes with {', '.join(CLOSING)}")
        problems += _unused(library, source, cells)
    return problems


def _unused(library: Library, source: Source, cells: list[Cell]) -> list[str]:
    """Functions listed under 'Functions used' that the code neither names nor reaches through what it names."""
    code = "\n".join(block.en.text for block in source.blocks if block.en.kind == "code")
    reached = library.reached(set(re.findall(r"[A-Za-z_]\w*", code)))
    problems, listing = [], False
    for cell in cells:
        listing = "functions used" in cell.text.lower() or (listing and not re.search(r"^#{1,3}\s", cell.text, re.M))
        start = max(cell.text.lower().find("functions used"), 0)
        for name in re.finditer(FULL_NAME, cell.text[start:]) if listing else ():
            if name[0].rpartition(".")[2] not in reached:
                problems.append(f"{cell.at(start + name.start())}: `{name[0]}` is listed as used, but no code cell comes to it")
    return problems


def main() -> int:
    """Print every broken thread; 0 if there is none."""
    library, sources = Library(ROOT), sources_of(ROOT)
    problems = broken_links(ROOT, sources) + unknown_names(ROOT, library, sources)
    problems += lonely_functions(ROOT, library) + incomplete_chapters(library, sources)
    if problems:
        print("\n".join(problems), file=sys.stderr)
        print(f"{len(problems)} broken thread(s).", file=sys.stderr)
        return 1
    counts = f"{len(sources)} sources, {len(pages_of(ROOT))} pages, {len(library.public())} public functions"
    print(f"{counts}: every thread leads somewhere")
    return 0


if __name__ == "__main__":
    sys.exit(main())
