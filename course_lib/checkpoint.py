r"""Stopping a training and going on as if nothing had happened (section 2: training as a process that must survive a night).

A checkpoint is everything the next step depends on:

    (1)  the parameters and buffers of the network
    (2)  the state of the optimizer: lr, and for Adam m, v and the step count of each parameter
    (3)  which step comes next, from which `train` derives the order of the samples and its random numbers

Leave (2) out and Adam starts again from m = v = 0: the run goes on, plausibly, and is another run. Because (3) is a number and
not the state of a generator, a run resumed with `train(..., first_step=...)` equals the uninterrupted one bit for bit.

    (4)  size  ~  4 bytes (1 + number of state tensors) n_parameters         SGD 1, momentum 2, Adam 3 numbers a parameter

The file is written beside its place and then renamed, which the system does all or nothing: a crash in the middle leaves the
old checkpoint whole. Left out: keeping the last k files, several devices, asynchronous writing.
"""

import os
import tempfile
from pathlib import Path

import torch
from torch import nn

from course_lib._check import check_count


def save_checkpoint(path: str | Path, model: nn.Module, optimizer, next_step: int) -> int:
    r"""Write model, optimizer and the number of the step that comes next; returns the size of the file in bytes.

    $$ \text{size} \approx 4\,(1 + n_{\text{state}})\, n_{\text{parameters}} \ \text{bytes} $$

    Inside `train`'s `after_step(step)`, `next_step` is step + 1. The folder must exist; an old file is replaced in one piece.

    Raises ValueError for a negative step, FileNotFoundError for a missing folder.
    Source: what eq. (1)-(3) of this file list; atomic replacement, POSIX rename.  Notebook: 02_2_training.
    """
    check_count("save_checkpoint", "next_step", next_step, low=0)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save_checkpoint: the folder {path.parent} does not exist; make it first")
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "next_step": int(next_step)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path.stat().st_size


def load_checkpoint(path: str | Path, model: nn.Module, optimizer) -> int:
    r"""Fill `model` and `optimizer` (in place) from a file of `save_checkpoint`; returns the step that comes next.

    $$ (\theta, \text{state}, t) \leftarrow \text{file} $$

    The two must be built as they were: same layers, same kind of optimizer. Only tensors, numbers, strings and containers are
    read (`weights_only=True`): a checkpoint from a stranger cannot run code.

    Raises FileNotFoundError; ValueError for a file that is no checkpoint; RuntimeError (torch's) for other layers.
    Source: as `save_checkpoint`.  Notebook: 02_2_training.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"load_checkpoint: there is no file {path}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or set(content) != {"model", "optimizer", "next_step"}:
        raise ValueError(f"load_checkpoint: {path} was not written by save_checkpoint")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return content["next_step"]
