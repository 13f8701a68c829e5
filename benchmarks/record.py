"""How a figure is written down: what was measured, against which target, where, and with which versions."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"


@dataclass(frozen=True)
class Row:
    """One measured value and what it must reach: value op target, op ">=" or "<=". seconds: what it cost to measure."""

    name: str
    value: float
    target: float
    op: str
    seeds: int
    seconds: float

    def __post_init__(self) -> None:
        if self.op not in (">=", "<="):
            raise ValueError(f'op is ">=" or "<=", got {self.op!r}')

    @property
    def reached(self) -> bool:
        """True when the target was reached."""
        return self.value >= self.target if self.op == ">=" else self.value <= self.target


def write(figure: str, rows: list[Row], packages: list[str], folder: Path = RESULTS) -> Path:
    """Write FOLDER/FIGURE.json, whole or not at all, and print it as lines."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"figure": figure, "rows": [asdict(row) for row in rows], "machine": machine()}
    content |= {"versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}}
    content["commit"] = commit()
    path = folder / f"{figure}.json"
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    os.replace(draft, path)
    for row in rows:
        print(f"{'reached' if row.reached else 'MISSED '}  {row.name}: {row.value:.4g} (target {row.op} {row.target:g})")
    return path


def machine() -> dict:
    """What the figures were measured on: nothing that names a host."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"system": platform.system(), "processor": model, "processors": os.cpu_count()}


def commit() -> str:
    """The commit that was measured, with "+" when files differ from it; "unknown" outside git."""
    try:
        run = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **run).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")
