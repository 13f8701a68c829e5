r"""Is this machine ready for the course? What is there, what is missing, and the exact command that mends it.

A course fails in class for dull reasons: an old Python, a package that was not installed, no network on the day, a full disk.
`examine` looks for these before anyone opens a chapter, and pairs each fault with its cure.

    (1)  the course runs  <=>  no finding has status "broken"
    (2)  "optional" names what only the tests, the reading version or the menus use, or what a chapter makes when it needs it
    (3)  a cache that can only be read is "broken"  <=>  data or a network is missing in it

It must work where the course does not: only Python's own library is imported at the top, and torch's absence is a finding, not
a traceback. The wanted versions are not typed again here; they are read from the installed package's metadata, i.e. from
pyproject.toml. `jupyter --version` and `conda doctor` examine likewise, but cannot know what a course needs.
"""

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTION = "model-optimization-from-the-formulas-up"
EXTRAS = {
    "test": "the tests",
    "site": "the reading version (make site)",
    "zh": "Chinese menus in JupyterLab",
}
TOOLS = ((("chromium", "chromium-browser", "google-chrome"), "Chromium", "the browser test", "chromium"),)
MINIMUM_PYTHON = (3, 11)
NEEDED_BYTES = 300e6  # MNIST twice (packed and plain), three networks, and room for a chapter's temporary files


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its status ("ok", "broken" or "optional"), what it is, what was seen, and the cure if any.

    Source: none, bookkeeping.  Notebook: 00_start_here.
    """

    status: str
    what: str
    seen: str
    cure: str = ""


def examine() -> list[Finding]:
    """Everything that decides whether the course runs here, in the order in which one would mend it.

    Source: the requirements in pyproject.toml, read from the package's metadata.  Notebook: 00_start_here.
    """
    findings = [_python(), *_packages()]
    if any(f.status == "broken" for f in findings):
        return [*findings, *_tools()]  # without its packages the library cannot be asked about its cache
    return [*findings, *_cache(), *_tools()]


def report(findings: list[Finding]) -> str:
    """The findings as a text: one line each, the cure under what is not well, and a last line with the verdict.

    Source: none, formatting.  Notebook: 00_start_here.
    """
    mark = {"ok": "ok      ", "broken": "BROKEN  ", "optional": "optional"}
    width = max(len(f.what) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{mark[f.status]}  {f.what:<{width}}  {f.seen}")
        if f.cure:
            lines.append(f"{'':10}{'':{width}}  -> {f.cure}")
    n_broken = sum(f.status == "broken" for f in findings)
    verdict = "The course runs here." if not n_broken else f"The course does not run yet: {n_broken} to mend, see the arrows."
    return "\n".join([*lines, verdict])


def main() -> int:
    """Print the report; exit status 1 if the course cannot run, eq. (1).

    Source: none, command line.  Notebook: 00_start_here.
    """
    findings = examine()
    print(report(findings))
    return int(any(f.status == "broken" for f in findings))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < MINIMUM_PYTHON:
        wanted = ".".join(map(str, MINIMUM_PYTHON))
        return Finding("broken", "Python", version, f"make a new environment with Python {wanted} or newer (environment.yml)")
    return Finding("ok", "Python", f"{version} in {sys.prefix}")


def _requirements() -> list[tuple[str, str, str]]:
    """(name, lowest version, extra or "") of each requirement; pyproject.toml keeps them as plain lower bounds."""
    found = []
    for text in importlib.metadata.requires(DISTRIBUTION) or []:
        match = re.match(r"""([\w.-]+)\s*>=\s*([\w.]+)(?:\s*;\s*extra\s*==\s*['"]([\w-]+)['"])?""", text)
        if match:
            found.append((match[1], match[2], match[3] or ""))
    return found


def _packages() -> list[Finding]:
    """One finding for each package the course cannot do without, one for each optional group."""
    try:
        wanted = _requirements()
    except importlib.metadata.PackageNotFoundError:
        return [Finding("broken", "the course", "not installed", f"{sys.executable} -m pip install -e {ROOT}")]
    findings = []
    for name, lowest, extra in wanted:
        if not extra:
            seen = _seen_version(name, lowest)
            cure = "" if seen[0] else f'{sys.executable} -m pip install "{name}>={lowest}"'
            findings.append(Finding("ok" if seen[0] else "broken", name, seen[1], cure))
    for extra, purpose in EXTRAS.items():
        lacking = [name for name, lowest, group in wanted if group == extra and not _seen_version(name, lowest)[0]]
        if lacking:
            cure = f'{sys.executable} -m pip install -e "{ROOT}[{extra}]"'
            findings.append(Finding("optional", f"for {purpose}", f"missing: {', '.join(lacking)}", cure))
        else:
            findings.append(Finding("ok", f"for {purpose}", "complete"))
    return findings


def _seen_version(name: str, lowest: str) -> tuple[bool, str]:
    """(new enough, what is there)."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False, "missing"
    if _number(version) < _number(lowest):
        return False, f"{version}, needs {lowest} or newer"
    return True, version


def _number(version: str) -> tuple[int, ...]:
    """The release part, "2.13.0+cpu" -> (2, 13): trailing zeros go, so that 4 and 4.0 compare equal."""
    parts = [int(p) for p in re.match(r"\d+(\.\d+)*", version)[0].split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _cache() -> list[Finding]:
    """The disk of the cache, whether it can be written, the assets and the trained networks."""
    from course_lib import assets, pretrained

    folder = assets.cache_folder()
    missing = assets.missing()
    untrained = [name for name in pretrained.RECIPES if not pretrained.is_trained(name)]
    refusal = _refusal(folder)
    writing = _writing(folder, refusal, is_complete=not missing and not untrained)
    findings = [writing] if refusal else [_disk(folder), writing]  # where nothing is written, no room is needed
    for name, asset in assets.ASSETS.items():
        size = f"{asset.n_bytes / 1e6:.0f} MB"
        if name in missing:
            cure = writing.cure or f"{sys.executable} -m course_lib fetch {name}"
            findings.append(Finding("broken", asset.what, f"not fetched yet ({size}, once, with a network)", cure))
        else:
            findings.append(Finding("ok", asset.what, "there"))
    for name in pretrained.RECIPES:
        if name not in untrained:
            findings.append(Finding("ok", f"trained {name}", "there"))
        else:
            cure = writing.cure or f"{sys.executable} -m course_lib prepare"
            findings.append(Finding("optional", f"trained {name}", "not trained yet; a chapter does it when it needs it", cure))
    return findings


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(p for p in (folder, *folder.absolute().parents) if os.path.exists(p))


def _refusal(folder: Path) -> str:
    """Why nothing can be written into the cache, by trying: permissions do not tell that a disk is mounted for reading only."""
    try:
        for part in (folder, folder / "assets", folder / "trained"):
            tempfile.NamedTemporaryFile(dir=_existing(part), prefix=".doctor-").close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _writing(folder: Path, refusal: str, is_complete: bool) -> Finding:
    """Eq. (3)."""
    if not refusal:
        return Finding("ok", "cache", "can be written")
    if is_complete:
        return Finding("ok", "cache", f"read-only ({refusal}), and complete: nothing has to be written")
    cure = "read-only: run `python -m course_lib prepare` where the cache is owned, or set COURSE_CACHE"
    return Finding("broken", "cache", f"cannot write to {folder} ({refusal}), and not all is there", cure)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    if free < NEEDED_BYTES:
        cure = f"free some space, or set COURSE_CACHE to a folder on another disk ({NEEDED_BYTES / 1e6:.0f} MB are needed)"
        return Finding("broken", "disk", f"{free / 1e6:.0f} MB free in {folder}", cure)
    return Finding("ok", "disk", f"{free / 1e9:.1f} GB free in {folder}")


def _tools() -> list[Finding]:
    """Programs outside Python that single parts use."""
    findings = []
    for commands, name, purpose, package in TOOLS:
        path = next(filter(None, map(shutil.which, commands)), None)
        if path:
            findings.append(Finding("ok", f"{name}, for {purpose}", path))
        else:
            cure = f"sudo apt-get install {package}"
            findings.append(Finding("optional", f"{name}, for {purpose}", "missing", cure))
    return findings
