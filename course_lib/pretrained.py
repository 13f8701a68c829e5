r"""Three trained networks that every chapter starts from, trained here, by our own loop, once.

Compressing a network needs a network. Downloading one would hide how it came about, and training one in every chapter would
cost each a minute; so the first `trained(name)` trains it with `course_lib.training.train` and keeps the weights, and all later
ones load them in milliseconds. The whole recipe is one row of a table:

    (1)  loss = cross-entropy,   Adam,   lr_t = warm-up over 5 % of the steps, then half a cosine to 0
    (2)  file name = hash of (recipe, seed, torch version, data)       another recipe is another file, never a stale one

Training uses one thread and seeded draws, so everyone who runs the same torch on the same machine gets the same weights to
the last bit; on another processor the sums are rounded in another order and a few of 10,000 answers differ. The number of
test errors is therefore kept with the weights and never quoted in prose as a constant.

What is left out: searching the recipe on a validation set. These networks are where the course starts, not results, and each
recipe is a usual one. Hubs keep weights likewise (a hash in the name, a lock, safe tensors instead of pickles).
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from course_lib import models
from course_lib._check import check_choice, check_count
from course_lib.assets import ASSETS, cache_folder
from course_lib.data import Digits, _keep, _lock_if_writable, mnist
from course_lib.optimizers import Adam
from course_lib.training import n_updates, train, warmup_cosine


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: all that its result depends on, besides the seed, the data and torch itself.

    Source: none, bookkeeping.  Notebook: 00_start_here.
    """

    n_epochs: int
    batch_size: int
    lr: float
    warmup: float = 0.05  # fraction of all steps


MAKERS: dict[str, Callable[[int], nn.Sequential]] = {
    "lenet_300_100": models.lenet_300_100,
    "lenet_5": models.lenet_5,
    "hinton_teacher": models.hinton_teacher,
}
RECIPES: dict[str, Recipe] = {
    "lenet_300_100": Recipe(n_epochs=10, batch_size=128, lr=1e-3),
    "lenet_5": Recipe(n_epochs=2, batch_size=64, lr=2e-3),
    "hinton_teacher": Recipe(n_epochs=4, batch_size=128, lr=1e-3),
}
# Of 10,000 test images; a run of ours with more is broken. Margin: about five standard deviations of the count, sqrt(errors).
MAX_ERRORS = {"lenet_300_100": 240, "lenet_5": 130, "hinton_teacher": 215}


def trained(name: str, seed: int = 0, progress: bool = True) -> nn.Sequential:
    """The network `name`, trained on the 60,000 digits, in eval mode; the first call trains it, later ones load it.

    name: "lenet_300_100", "lenet_5" or "hinton_teacher".  seed: of initialization, order and dropout.  Each call returns a new
    network; still, give a `copy.deepcopy` to whatever changes one, so that the dense one stays for the comparison.
    Two notebooks at once train once: the second waits. A damaged file in the cache is trained anew. Where the cache cannot be
    written, what is in it is loaded all the same; what is not is trained each time, and one line says why it was not kept.
    Raises ValueError for an unknown name or a negative seed, AssetError where MNIST is missing and cannot be fetched.
    Source: Kingma and Ba, 2015 (Adam); Loshchilov and Hutter, 2017, eq. (5) (cosine).  Notebook: 00_start_here, 01_background.
    """
    model, _ = _load_or_train(name, seed, progress)
    return model


def n_test_errors(name: str, seed: int = 0, progress: bool = True) -> int:
    """How many of the 10,000 test images `trained(name, seed)` gets wrong, as counted right after its training.

    Raises as `trained`.
    Source: counting.  Notebook: 00_start_here.
    """
    _, errors = _load_or_train(name, seed, progress)
    return errors


def is_trained(name: str, seed: int = 0) -> bool:
    """Whether a sound file of this network is in the cache.

    Raises ValueError for an unknown name or a negative seed.
    Source: none, bookkeeping.  Notebook: 00_start_here.
    """
    _check(name, seed)
    return _load(_path(name, seed), MAKERS[name](seed)) is not None


def _check(name: str, seed: int) -> None:
    check_choice("trained", "network", name, MAKERS)
    check_count("trained", "seed", seed, low=0)


def _load_or_train(name: str, seed: int, progress: bool) -> tuple[nn.Sequential, int]:
    _check(name, seed)
    path = _path(name, seed)
    model = MAKERS[name](seed)
    errors = _load(path, model)
    if errors is None:
        with _lock_if_writable(name, path) as writable:
            errors = _load(path, model)  # another process may have been faster
            if errors is None:
                errors = _train(name, model, seed, progress)
                if writable:
                    _save(name, path, model, errors)
    return model.eval(), errors


def _path(name: str, seed: int) -> Path:
    """Eq. (2). "2.13.0+cpu" and "2.13.0" are the same torch, built for other processors: they share a cache."""
    version = torch.__version__.split("+")[0]
    ingredients = asdict(RECIPES[name]) | {"seed": seed, "torch": version, "data": ASSETS["mnist"].sha256}
    ingredients["layers"] = str(MAKERS[name](seed))
    digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "trained" / f"{name}-{seed}-{digest[:16]}.npz"


def _train(name: str, model: nn.Sequential, seed: int, progress: bool) -> int:
    """Train in place by the recipe, on one thread; returns the number of test errors."""
    digits = mnist(progress)
    recipe = RECIPES[name]
    n_steps = n_updates(len(digits.train_images), recipe.n_epochs, recipe.batch_size)
    n_warmup = round(recipe.warmup * n_steps)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(
            model,
            digits.train_images,
            digits.train_labels,
            optimizer=Adam(list(model.parameters()), lr=recipe.lr),
            n_epochs=recipe.n_epochs,
            batch_size=recipe.batch_size,
            schedule=lambda step: warmup_cosine(step, n_steps, recipe.lr, n_warmup),
            seed=seed,
            progress=progress,
            description=f"training {name} once",
        )
        errors = _count_errors(model.eval(), digits)
    finally:
        torch.set_num_threads(n_threads)
    if errors > MAX_ERRORS[name]:
        raise RuntimeError(f"trained: {name} ended with {errors} test errors, more than {MAX_ERRORS[name]}; please report it")
    if progress:
        print(f"{name}: {errors} of {len(digits.test_labels)} test images wrong ({errors / len(digits.test_labels):.2%})")
    return errors


@torch.no_grad()
def _count_errors(model: nn.Module, digits: Digits) -> int:
    wrong = [model(x).argmax(1) != y for x, y in zip(digits.test_images.split(1000), digits.test_labels.split(1000))]
    return int(torch.cat(wrong).sum())


def _save(name: str, path: Path, model: nn.Module, errors: int) -> None:
    """One `.npz` of plain arrays, no pickle, put in place by one rename."""
    arrays = {key: W.numpy() for key, W in model.state_dict().items()}
    file = io.BytesIO()
    np.savez(file, **arrays, **{"test errors": np.array(errors)})
    _keep(name, path, file.getbuffer())


def _load(path: Path, model: nn.Module) -> int | None:
    """Fill `model` from the file and return the test errors kept with it; None, and the model as it was, if it is no good."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays_of:
            arrays = {name: arrays_of[name] for name in arrays_of.files}
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile):
        return None
    errors = arrays.pop("test errors", None)
    state: dict[str, Tensor] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    wanted = model.state_dict()
    fits = state.keys() == wanted.keys() and all(state[k].shape == wanted[k].shape for k in wanted)
    if errors is None or not fits:
        return None
    model.load_state_dict(state)
    return int(errors)
