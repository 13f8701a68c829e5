"""A resumed run is the uninterrupted one, bit for bit; a checkpoint is written whole or not at all."""

import pytest
import torch
from torch import nn

from course_lib.checkpoint import load_checkpoint, save_checkpoint
from course_lib.optimizers import SGD, Adam
from course_lib.training import train, warmup_cosine


def small_problem(n=50, dtype=torch.float32, dropout=0.0):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(n, 6, generator=generator, dtype=dtype)
    labels = torch.randint(3, (n,), generator=generator)
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)).to(dtype), X, labels


def weights_of(model):
    return torch.cat([W.detach().flatten() for W in model.parameters()])


@pytest.mark.parametrize("make", [lambda p: SGD(p, lr=0.1, momentum=0.9), Adam, torch.optim.AdamW])
@pytest.mark.parametrize("stop", [0, 3, 5])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(make, stop, tmp_path):
    """Stopped inside the first epoch, at its end and in the second; dropout and augmentation on."""
    path = tmp_path / "run.pt"

    def run(model, optimizer, **more):
        settings = {"n_epochs": 2, "batch_size": 16, "schedule": lambda t: warmup_cosine(t, 8, 0.05), "progress": False}
        return train(model, X, labels, optimizer=optimizer, augment=lambda x: x + torch.randn_like(x), **settings, **more)

    whole, X, labels = small_problem(dropout=0.3)
    optimizer = make(whole.parameters())

    def save(step):
        if step == stop:
            save_checkpoint(path, whole, optimizer, step + 1)

    losses = run(whole, optimizer, after_step=save).losses
    resumed, _, _ = small_problem(dropout=0.3)
    with torch.no_grad():
        resumed[0].weight.zero_()  # whatever was there is replaced
    optimizer = make(resumed.parameters())
    history = run(resumed, optimizer, first_step=load_checkpoint(path, resumed, optimizer))
    assert weights_of(resumed).equal(weights_of(whole)) and history.losses == losses[stop + 1 :]


def test_a_checkpoint_of_adam_holds_three_numbers_a_parameter(tmp_path):
    """Eq. (4): weight, m and v. Names and the zip format add kilobytes, not megabytes."""
    model = nn.Linear(500, 500)
    optimizer = Adam(model.parameters())
    model(torch.ones(1, 500)).sum().backward()
    optimizer.step()
    size = save_checkpoint(tmp_path / "a.pt", model, optimizer, 1)
    assert size == (tmp_path / "a.pt").stat().st_size and 0 < size - 4 * 3 * (500 * 500 + 500) < 10_000


def test_a_crash_while_writing_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    model = nn.Linear(2, 2)
    optimizer = Adam(model.parameters())
    save_checkpoint(tmp_path / "a.pt", model, optimizer, 1)
    before = (tmp_path / "a.pt").read_bytes()

    def crash(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path / "a.pt", model, optimizer, 2)
    assert (tmp_path / "a.pt").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_bad_checkpoints_are_refused_in_words(tmp_path):
    model = nn.Linear(2, 2)
    optimizer = Adam(model.parameters())
    with pytest.raises(FileNotFoundError, match="no file"):
        load_checkpoint(tmp_path / "a.pt", model, optimizer)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        save_checkpoint(tmp_path / "no" / "a.pt", model, optimizer, 0)
    with pytest.raises(ValueError, match="next_step"):
        save_checkpoint(tmp_path / "a.pt", model, optimizer, -1)
    torch.save({"weights": torch.zeros(2)}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="not written by"):
        load_checkpoint(tmp_path / "b.pt", model, optimizer)
