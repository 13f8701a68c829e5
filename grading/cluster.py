"""Grade on the workers of a Dask cluster. Each of them needs this checkout, its environment, and bubblewrap.

What travels is a notebook's bytes and the secret one way, a result (plain data) the other way. The gradebook stays here, with
one writer. A worker that is lost gives its submissions to another one; that is Dask's own doing.
"""

from collections.abc import Iterator
from functools import cache

from grading.doctor import require_sound
from grading.grade import Desk, Exam, digest_of, exam_for, failed, judge
from grading.notebook import Found, tasks_of
from grading.sandbox import ROOT, Limits, SandboxError, find_isolation


@cache
def _exam_here(stem: str, digest: str, secret: bytes, isolation: str, limits: Limits) -> Exam:
    """The exam on a worker, from its own checkout; probed once. ValueError when the checkout is another one."""
    require_sound(find_isolation(isolation))
    exam = exam_for(stem, tasks_of(stem, ROOT), ROOT / f"tests/grading/{stem}.py", secret, isolation, limits)
    if exam.file.digest != digest:
        raise ValueError(f"the hidden cases of {stem} on this worker are not those of the grader: update its checkout")
    return exam


def judge_here(raw: bytes, student: str, stem: str, digest: str, secret: bytes, isolation: str, limits: Limits) -> dict:
    """What a worker does: judge one notebook. Its desk is closed at once, since the next task may come to another thread."""
    exam = _exam_here(stem, digest, secret, isolation, limits)
    desk = Desk(exam)
    try:
        return judge(raw, student, exam, desk)
    finally:
        desk.clear()


def grade_on_cluster(found: list[Found], exam: Exam, address: str) -> Iterator[dict]:
    """Results in the order in which they are ready. SandboxError with the cure when there is no Dask or no scheduler."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise SandboxError("Dask is not installed here: pip install -e '.[classroom]', or leave --scheduler out") from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise SandboxError(f"no Dask scheduler answers at {address} ({type(error).__name__})") from None
    with client:
        futures = []
        for item in found:
            raw, _, problem = digest_of(item)
            if problem:
                yield failed(item.student, exam, problem)
                continue
            args = (exam.stem, exam.file.digest, exam.secret, exam.isolation, exam.limits)
            futures.append(client.submit(judge_here, raw, item.student, *args, pure=False, retries=2))
        for future in as_completed(futures):
            try:
                yield future.result()
            except (RuntimeError, ImportError, ValueError) as error:
                raise SandboxError(
                    f"a Dask worker could not grade ({type(error).__name__}: {str(error).splitlines()[0]}). Start the workers "
                    "in this checkout and its environment: PYTHONPATH=. .venv/bin/dask worker ADDRESS"
                ) from None
