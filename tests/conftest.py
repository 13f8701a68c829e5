"""What every test shares: shapes checked at each call, one thread, reproducible hypothesis, seeds that do not leak."""

import os

import jaxtyping

import tests.typecheck  # noqa: F401  the hook below names it in text and does not import it

# Before course_lib is imported: from here on every annotated shape and type is enforced at each call.
jaxtyping.install_import_hook("course_lib", "tests.typecheck.checked")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import Phase, settings  # noqa: E402
from hypothesis.internal.conjecture import providers  # noqa: E402

torch.set_num_threads(1)
# Hypothesis mixes numbers that stand in the modules loaded so far into its draws, so what a test sees would depend on which
# tests ran before it in the same worker, derandomized or not. Without them a red run is red again, alone too.
if hasattr(providers, "is_local_module_file"):
    providers.is_local_module_file = lambda path: False
# Derandomized: a red run must be red again. No deadline: these machines are shared, and time is not what is tested.
settings.register_profile("course", derandomize=True, deadline=None, max_examples=40, database=None)
# A mutant needs one failure, not the smallest one: shrinking takes three times as long as finding it.
_FIND = (Phase.explicit, Phase.generate)
settings.register_profile("mutants", settings.get_profile("course"), max_examples=15, phases=_FIND, report_multiple_bugs=False)
settings.load_profile(os.environ.get("COURSE_HYPOTHESIS_PROFILE", "course"))


@pytest.fixture(autouse=True)
def _seeded():
    """Each test starts from the same global seed, so the order of the tests cannot matter."""
    torch.manual_seed(0)


@pytest.fixture
def as_a_user(monkeypatch):
    """Turn the shape checks off: what remains is what a learner's notebook sees, so our own messages must catch the error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
