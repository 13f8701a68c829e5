"""Networks are trained once, kept safely, and never served stale, damaged or twice."""

import errno
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_lib import data, models, pretrained
from course_lib.assets import AssetError
from course_lib.data import Digits, mnist
from course_lib.pretrained import is_trained, n_test_errors, trained


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A network of one layer on digits that a ruler can tell apart, in a cache of its own; training takes a moment."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 10
    images = torch.zeros(400, 784)
    images[torch.arange(400), labels] = 1
    images += 0.1 * torch.rand(400, 784, generator=generator)
    labels[300:303] = (labels[300:303] + 1) % 10  # three test labels are wrong: the errors of the two parts differ
    digits = Digits(images[:300], labels[:300], images[300:], labels[300:])
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "mnist", lambda progress: digits)
    monkeypatch.setitem(pretrained.MAKERS, "tiny", lambda seed: models.mlp(784, 10, seed=seed))
    monkeypatch.setitem(pretrained.RECIPES, "tiny", pretrained.Recipe(n_epochs=8, batch_size=10, lr=0.01))
    monkeypatch.setitem(pretrained.MAX_ERRORS, "tiny", 5)
    return digits


@pytest.fixture
def trainings(monkeypatch):
    """How often a training really ran."""
    calls, real = [], pretrained.train
    monkeypatch.setattr(pretrained, "train", lambda *a, **k: calls.append(k["seed"]) or real(*a, **k))
    return calls


def state(model):
    return torch.cat([W.flatten() for W in model.state_dict().values()])


def files(tmp_path, suffix=".npz"):
    return list((tmp_path / "trained").glob(f"*{suffix}"))


def test_first_call_trains_and_the_second_loads_the_same_weights(tiny, trainings, tmp_path):
    first = trained("tiny", progress=False)
    assert not first.training and is_trained("tiny") and len(files(tmp_path)) == 1
    second = trained("tiny", progress=False)
    assert trainings == [0] and state(first).equal(state(second)) and first is not second
    assert not files(tmp_path, ".part")


def test_the_errors_kept_with_the_weights_are_those_of_the_weights(tiny):
    model = trained("tiny", progress=False)
    wrong = (model(tiny.test_images).argmax(1) != tiny.test_labels).sum().item()
    assert n_test_errors("tiny", progress=False) == wrong and 3 <= wrong <= 5


def test_training_is_repeatable_and_the_seed_matters(tiny, tmp_path):
    one, other = trained("tiny", progress=False), trained("tiny", seed=1, progress=False)
    assert not state(one).equal(state(other)) and len(files(tmp_path)) == 2
    for path in files(tmp_path):
        path.unlink()
    assert state(trained("tiny", progress=False)).equal(state(one))


def test_another_recipe_or_another_torch_is_another_file(tiny, trainings, monkeypatch):
    trained("tiny", progress=False)
    monkeypatch.setitem(pretrained.RECIPES, "tiny", replace(pretrained.RECIPES["tiny"], lr=0.02))
    assert not is_trained("tiny")
    trained("tiny", progress=False)
    monkeypatch.setattr(pretrained.torch, "__version__", "99.0")
    assert not is_trained("tiny")
    assert trainings == [0, 0]


def test_two_builds_of_one_torch_share_their_networks(tiny, trainings, monkeypatch):
    for version in ("2.13.0+cpu", "2.13.0", "2.13.0+cu130"):
        monkeypatch.setattr(pretrained.torch, "__version__", version)
        trained("tiny", progress=False)
    assert trainings == [0]
    monkeypatch.setattr(pretrained.torch, "__version__", "2.13.1+cpu")
    assert not is_trained("tiny")


def test_a_network_that_is_there_is_loaded_without_a_lock_or_a_write(tiny, trainings, monkeypatch, capsys):
    good = state(trained("tiny", progress=False))
    monkeypatch.setattr(data, "FileLock", lambda path: pytest.fail("locked to read"))
    monkeypatch.setattr(data.os, "replace", lambda *paths: pytest.fail("written to read"))
    assert state(trained("tiny", progress=False)).equal(good) and trainings == [0] and capsys.readouterr().err == ""


@pytest.mark.parametrize("refusal", ["below a file", "read-only", "forbidden"])
def test_where_nothing_can_be_kept_the_network_is_trained_in_memory_and_one_line_says_why(
    tiny, trainings, monkeypatch, tmp_path, capsys, refusal
):
    """Permissions do not stop root: a path below a file, and a lock that raises what such a disk raises, stand for it."""
    good = state(trained("tiny", progress=False))
    numbers = {"below a file": errno.ENOTDIR, "read-only": errno.EROFS, "forbidden": errno.EACCES}
    if refusal == "below a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file" / "cache"))
    else:
        monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "other"))

        def refuse(path):
            raise OSError(numbers[refusal], os.strerror(numbers[refusal]))

        monkeypatch.setattr(data, "FileLock", refuse)
    model = trained("tiny", progress=False)
    said = capsys.readouterr().err
    assert state(model).equal(good) and not model.training and trainings == [0, 0]
    assert said.count("\n") == 1 and said.startswith("tiny: not kept") and os.strerror(numbers[refusal]) in said
    assert "COURSE_CACHE" in said and "`python -m course_lib prepare`" in said and not is_trained("tiny")


def test_a_full_disk_costs_only_the_copy_and_leaves_no_part(tiny, monkeypatch, tmp_path, capsys):
    def full(partial, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(data.os, "replace", full)
    assert n_test_errors("tiny", progress=False) <= 5
    assert "tiny: not kept" in (said := capsys.readouterr().err) and "is full. Free some space" in said
    assert not files(tmp_path) and not files(tmp_path, ".part")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other shape", "pickle", "no errors"])
def test_a_damaged_file_is_trained_anew_and_mended(tiny, trainings, tmp_path, damage):
    good = state(trained("tiny", progress=False))
    path = files(tmp_path)[0]
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "other shape":
        np.savez(path, **{"0.weight": np.zeros((2, 2)), "0.bias": np.zeros(2), "test errors": np.array(0)})
    elif damage == "no errors":
        np.savez(path, **{"0.weight": np.zeros((10, 784), np.float32), "0.bias": np.zeros(10, np.float32)})
    else:
        np.savez(path, **{"0.weight": np.array([{"an": "object"}], dtype=object)})
    assert not is_trained("tiny")
    assert state(trained("tiny", progress=False)).equal(good) and trainings == [0, 0] and is_trained("tiny")


def test_parallel_notebooks_train_once(tiny, trainings):
    results = []
    threads = [threading.Thread(target=lambda: results.append(trained("tiny", progress=False))) for _ in range(3)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert trainings == [0] and len(results) == 3


def test_one_thread_while_training_and_the_callers_setting_afterwards(tiny, monkeypatch):
    seen, real = [], pretrained.train
    monkeypatch.setattr(pretrained, "train", lambda *a, **k: seen.append(torch.get_num_threads()) or real(*a, **k))
    torch.set_num_threads(2)
    try:
        trained("tiny", progress=False)
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_callers_random_numbers_are_left_alone(tiny):
    before = torch.get_rng_state()
    trained("tiny", progress=False)
    assert torch.get_rng_state().equal(before)


def test_a_network_that_did_not_learn_is_not_kept(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(pretrained.MAX_ERRORS, "tiny", -1)
    with pytest.raises(RuntimeError, match=r"more than -1; please report"):
        trained("tiny", progress=False)
    assert not files(tmp_path)


def test_the_error_is_printed_once_and_not_when_loading(tiny, capsys):
    trained("tiny")
    assert "of 100 test images wrong" in capsys.readouterr().out
    trained("tiny")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("lenet",), "unknown network 'lenet'; known: 'lenet_300_100', 'lenet_5', 'hinton_teacher'"), (("lenet_5", -1), ">= 0")],
)
def test_bad_input_is_refused_in_words(as_a_user, arguments, says):
    with pytest.raises(ValueError, match=says):
        trained(*arguments)
    with pytest.raises(ValueError, match=says):
        is_trained(*arguments)


@pytest.mark.parametrize(("name", "most"), [("lenet_300_100", 200), ("lenet_5", 130), ("hinton_teacher", 175)])
def test_the_real_networks_are_as_good_as_the_course_says(name, most):
    """Counted again here on all 10,000 test images. Trained on first use (a minute or so), from the cache afterwards."""
    try:
        model, digits = trained(name, progress=False), mnist(progress=False)
    except AssetError as error:
        pytest.skip(f"needs MNIST: {error}")
    with torch.no_grad():
        wrong = sum(
            int((model(x).argmax(1) != y).sum()) for x, y in zip(digits.test_images.split(500), digits.test_labels.split(500))
        )
    assert wrong == n_test_errors(name, progress=False) and wrong <= most
