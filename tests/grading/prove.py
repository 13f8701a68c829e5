"""How the hidden cases are proven: answers of all kinds are run by a worker's `Bench` in this process, without a sandbox.

Mutants of a solution loop, allocate and recurse; `Patience` stops them by a signal after some seconds, which the code under
test cannot catch by `except Exception`. Nothing here is used when real submissions are graded.
"""

import ast
import copy
import signal
from functools import cache
from pathlib import Path

from grading import cases, wire
from grading.judge import play
from grading.worker import Bench
from tools import build
from tools.source import EXERCISE, Cell, read_source

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
STEMS = sorted(path.stem for path in HERE.glob("[0-9]*.py"))


class OutOfPatience(BaseException):
    """The answer ran too long."""


class Patience:
    """`with Patience(5):` ends what computes longer, in processor time of this process: a busy machine is no excuse."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __enter__(self):
        def ring(*_):
            raise OutOfPatience

        self.old = signal.signal(signal.SIGVTALRM, ring)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds, 0.5)  # again and again: a bare `except:` may swallow the first

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, self.old)


@cache
def cells_of(stem: str) -> list[Cell]:
    """The cells of an exercise's solution in English, in order."""
    source = read_source(ROOT / f"solutions/source/{stem}.py", ROOT, EXERCISE)
    assert not source.problems, source.problems
    return [block.en for block in source.blocks]


@cache
def answers_of(stem: str) -> dict[str, Cell]:
    """The answer cells of an exercise in code, in order."""
    return {cell.id: cell for cell in cells_of(stem) if cell.role == "answer" and cell.kind == "code"}


@cache
def points_of(stem: str) -> dict[str, float]:
    """Points of each answer in code: the sum over its check cells."""
    checks = [cell for cell in cells_of(stem) if cell.role == "check"]
    return {
        task: sum(c.points for c in checks if c.id == f"{task}-check" or c.id.startswith(f"{task}-check-"))
        for task in answers_of(stem)
    }


@cache
def case_file(stem: str) -> cases.CaseFile:
    """The hidden cases of an exercise."""
    return cases.load(HERE / f"{stem}.py")


def setup(stem: str) -> str:
    """The text of the setup cell of an exercise."""
    return next((cell.text for cell in cells_of(stem) if cell.role == "setup"), "")


def solution(stem: str, task: str) -> str:
    """The text of one answer of the solution."""
    return build.solved(answers_of(stem)[task].text)


def stub(stem: str, task: str) -> str:
    """The text of one answer as students get it."""
    return build.cut(answers_of(stem)[task].text, "en")


def verdicts(
    stem: str, task: str, code: str, secret: bytes, patience: float = 20.0, first_only: bool = False
) -> dict[str, str | None]:
    """{case: category or None} for one answer of a task; all other answers are the solution's."""
    file = case_file(stem)
    bench = Bench(file.prelude, file.needs)

    def ask(request):
        return wire.decode(bench.answer(wire.encode(request)))

    found: dict[str, str | None] = {}
    try:
        with Patience(patience):
            for other in answers_of(stem):
                text = code if other == task else solution(stem, other)
                if ask({"op": "define", "cell": other, "code": text})["raised"] is not None:
                    return {case.name: "undefined" for case in file.of_task(task)}
    except OutOfPatience:
        return {case.name: "time" for case in file.of_task(task)}
    for case in file.of_task(task):
        try:
            with Patience(patience):
                found[case.name] = play(case, ask, cases.rng_for(secret, stem, "someone", case))
        except OutOfPatience:
            found[case.name] = "time"
        if first_only and found[case.name]:
            return found
    return found


def earned(stem: str, task: str, found: dict[str, str | None]) -> float:
    """The points that verdicts are worth."""
    return sum(case.points for case in case_file(stem).of_task(task) if found.get(case.name, "undefined") is None)


SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def mutants(text: str) -> dict[str, str]:
    """{description: text} of every one-step change: an operator swapped, a number moved, a condition turned, a statement left
    out, an argument dropped. The description is stable, so that a reviewed list of equivalents can name it."""
    tree = ast.parse(text)
    found: dict[str, str] = {}

    def keep(what: str, changed: ast.AST) -> None:
        new = ast.unparse(ast.fix_missing_locations(changed))
        if new != ast.unparse(tree):
            k = sum(name.partition(" #")[0] == what for name in found)
            found[what if k == 0 else f"{what} #{k + 1}"] = new

    nodes = list(ast.walk(tree))
    for i, node in enumerate(nodes):
        for what, change in _changes(node):
            copied = copy.deepcopy(tree)
            change(list(ast.walk(copied))[i])
            keep(what, copied)
    return found


def _changes(node: ast.AST):
    """(description, function that makes the change in a copy of the node) for one node."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPS:
        new = SWAPS[type(node.op)]
        yield f"{type(node.op).__name__} -> {new.__name__} in `{ast.unparse(node)}`", lambda n: setattr(n, "op", new())
    if isinstance(node, ast.Compare):
        for k, op in enumerate(node.ops):
            if type(op) in SWAPS:
                new = SWAPS[type(op)]
                yield (
                    f"{type(op).__name__} -> {new.__name__} in `{ast.unparse(node)}`",
                    lambda n, k=k, new=new: n.ops.__setitem__(k, new()),
                )
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield f"{node.value} -> {node.value + 1}", lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        twice = type(node.op)
        yield f"undone: `{ast.unparse(node)}`", lambda n: setattr(n, "operand", ast.UnaryOp(twice(), n.operand))
    if isinstance(node, ast.If | ast.IfExp):
        yield f"condition turned: `{ast.unparse(node.test)}`", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
    if isinstance(node, ast.Call):
        for k in range(len(node.keywords)):
            if node.keywords[k].arg is not None:
                yield f"keyword {node.keywords[k].arg} dropped in `{ast.unparse(node)}`", lambda n, k=k: n.keywords.pop(k)
    for name in ("body", "orelse"):
        block = getattr(node, name, None)
        if isinstance(block, list) and not isinstance(node, ast.Module):
            for k, statement in enumerate(block):
                if not isinstance(statement, ast.Pass | ast.FunctionDef) and not (
                    isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                ):
                    yield (
                        f"left out: `{ast.unparse(statement)[:60]}`",
                        lambda n, name=name, k=k: getattr(n, name).__setitem__(k, ast.Pass()),
                    )
