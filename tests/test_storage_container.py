"""The file: a fresh process reads what was saved, no damaged file is ever misread, and a write is whole or not at all."""

import hashlib
import os
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.storage import CODECS, decode_tensor, encode_tensor, file_sections, load_tensors, save_tensors

ROOT = Path(__file__).resolve().parents[1]
CODEC_OF = {name: name for name in CODECS}


def pruned_and_shared(shape, density=0.1, seed=0):
    """Zeros and 15 other values that fp16 does not hold exactly."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(15, generator=generator)[torch.randint(0, 15, shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < density, W, 0.0)


@pytest.fixture
def saved(tmp_path):
    """One tensor for each codec, in one file; and what must come back."""
    W = {name: pruned_and_shared((3, 14), 0.2, seed=k) for k, name in enumerate(CODECS)}
    path = tmp_path / "model.mof"
    size_bytes = save_tensors(path, W, CODEC_OF)
    return path, size_bytes, {n: decode_tensor(encode_tensor(X, n), n, (3, 14)) for n, X in W.items()}


def test_the_size_is_the_length_of_the_file_and_every_byte_has_a_place(saved):
    path, size_bytes, _ = saved
    assert size_bytes == path.stat().st_size == len(path.read_bytes())
    sections = file_sections(path)
    assert list(sections) == list(CODECS) and all(s.codec == n and s.shape == (3, 14) for n, s in sections.items())
    header = size_bytes - sum(s.size_bytes for s in sections.values())
    length_bytes = sum(1 + (s.size_bytes > 127) for s in sections.values())
    assert header == 10 + sum(1 + len(n) + 2 + 1 + 2 for n in CODECS) + length_bytes  # eq. (1), spelled out
    assert sections["bitmask"].size_bytes == len(encode_tensor(load_tensors(path)["bitmask"], "bitmask"))


def test_a_network_comes_back(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(9, 4), torch.nn.BatchNorm1d(4))
    state = model.state_dict()
    path = tmp_path / "network"
    save_tensors(path, state, {n: "fp32" if X.is_floating_point() else "raw" for n, X in state.items()})
    back = load_tensors(path)
    assert list(back) == list(state) and all(back[n].equal(X) and back[n].dtype == X.dtype for n, X in state.items())
    torch.nn.Sequential(torch.nn.Linear(9, 4), torch.nn.BatchNorm1d(4)).load_state_dict(back)


def test_no_tensors_and_odd_names(tmp_path):
    path = tmp_path / "a"
    assert save_tensors(path, {}) == 10 and load_tensors(path) == {}
    save_tensors(path, {"": torch.ones(1), "权重.0 ": torch.ones(2), "x" * 300: torch.ones(200, 3)}, "bitmask")
    assert [X.numel() for X in load_tensors(path).values()] == [1, 2, 600] and "权重.0 " in load_tensors(path)


def test_other_files_and_other_versions_are_named(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="not a file of save_tensors"):
        load_tensors(path)
    save_tensors(path, {"a": torch.ones(2)})
    body = path.read_bytes()[:4] + b"\x02" + path.read_bytes()[5:-4]
    path.write_bytes(body + zlib.crc32(body).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="version 2, this library reads 1"):
        load_tensors(path)
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "nothing")


# ---- when the disk says no


def test_paths_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for path, error in [("no/such/folder", FileNotFoundError), ("folder", IsADirectoryError), ("file/x", NotADirectoryError)]:
        with pytest.raises(error, match=rf"save_tensors: could not write .*{path}.*nothing was left behind"):
            save_tensors(tmp_path / path, {"a": torch.ones(3)})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"] and not os.listdir(tmp_path / "folder")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    save_tensors(path, {"a": torch.ones(3)})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, {"a": torch.zeros(3)})
    assert load_tensors(path)["a"].tolist() == [1, 1, 1] and os.listdir(tmp_path) == ["model"]


def test_the_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    save_tensors(tmp_path / "ours", {})
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_refused_tensor_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"tensor 'b': .*1 NaN"):
        save_tensors(tmp_path / "m", {"a": torch.ones(2), "b": torch.tensor([float("nan")])})
    assert not os.listdir(tmp_path)


def test_a_codec_table_names_the_same_tensors(tmp_path):
    with pytest.raises(ValueError, match="only one of them has a, b"):
        save_tensors(tmp_path / "m", {"a": torch.ones(2)}, {"b": "csr"})


W = torch.ones(2)


@pytest.mark.parametrize(
    ("tensors", "codec", "says"),
    [
        (W, "fp32", r"tensors must be a dict \{name: tensor\}, got Tensor"),
        ([W], "fp32", "tensors must be a dict .*got list"),
        ({"a": [1.0]}, "fp32", "tensor 'a': a torch.Tensor is needed, got list"),
        ({"a": None}, "fp32", "tensor 'a': .*got NoneType"),
        ({3: W}, "fp32", "every name must be text, got 3"),
        ({"a": W}, None, "codec must be a name or a dict .*got None"),
    ],
)
def test_what_is_no_dict_of_tensors_is_refused_in_words_and_writes_nothing(tmp_path, tensors, codec, says, as_a_user):
    with pytest.raises(TypeError, match=says):
        save_tensors(tmp_path / "m", tensors, codec)
    assert not os.listdir(tmp_path)


def test_a_codec_table_with_mixed_keys_is_refused_in_words(tmp_path, as_a_user):
    """Numbers and text cannot be sorted together; the message must not fail on them."""
    with pytest.raises(ValueError, match="only one of them has 3, b"):
        save_tensors(tmp_path / "m", {"a": W}, {"a": "csr", "b": "csr", 3: "csr"})


def test_each_reader_speaks_under_its_own_name(tmp_path):
    (tmp_path / "m").write_bytes(b"not ours at all")
    for reader in (load_tensors, file_sections):
        with pytest.raises(ValueError, match=f"{reader.__name__}: .* is not a file of save_tensors"):
            reader(tmp_path / "m")


def test_the_header_is_as_long_as_its_formula_below_128_tensors(tmp_path):
    """Eq. (1): 10 + 4 + len(name) + a byte each for 2 dimensions and the length. 128 tensors: the count takes 2 bytes."""
    assert save_tensors(tmp_path / "m", {"abc": torch.ones(2, 3)}) == 10 + (4 + 3 + 3) + 24
    assert save_tensors(tmp_path / "m", {f"{i:03}": W for i in range(128)}) == 10 + 1 + 128 * (4 + 3 + 2 + 8)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_with_a_mended_checksum_is_a_value_error_or_a_set_of_tensors(saved, seed):
    """No signature: who mends the sum may change weights. But no other exception, no crash, whatever the bytes say."""
    path, size_bytes, _ = saved
    good, rng = path.read_bytes(), np.random.default_rng(seed)
    start = size_bytes - 4 - sum(s.size_bytes for s in file_sections(path).values())
    for _ in range(100):
        body = bytearray(good[:-4])
        at = int(rng.integers(5, start)) if rng.random() < 0.3 else int(rng.integers(start, len(body)))
        body[at] = int(rng.integers(128)) if at < start else int(rng.integers(256))
        path.write_bytes(bytes(body) + zlib.crc32(body).to_bytes(4, "little"))
        try:
            assert isinstance(load_tensors(path), dict)
        except ValueError as refusal:
            assert "load_tensors" in str(refusal)


def test_every_altered_byte_is_noticed(saved):
    """Each byte of the file, all its bits or single ones: always a ValueError, never other tensors."""
    path, size_bytes, _ = saved
    good = path.read_bytes()
    for at in range(size_bytes):
        for change in (255, 1 << at % 8, 1 << (at + 3) % 8):
            path.write_bytes(good[:at] + bytes([good[at] ^ change]) + good[at + 1 :])
            with pytest.raises(ValueError, match="load_tensors"):
                load_tensors(path)
    path.write_bytes(good)
    load_tensors(path)


def test_every_cut_and_every_growth_is_noticed(saved):
    path, size_bytes, _ = saved
    good = path.read_bytes()
    for length in range(size_bytes):
        path.write_bytes(good[:length])
        with pytest.raises(ValueError, match="load_tensors"):
            load_tensors(path)
    for more in (b"\0", b"x" * 100, good):
        path.write_bytes(good + more)
        with pytest.raises(ValueError, match="damaged"):
            load_tensors(path)


def test_a_fresh_process_reads_every_codec(saved):
    """Only the file and the library cross: names, order, types and every bit must be what the writer would decode itself."""
    path, _, expected = saved
    program = (
        "import hashlib, sys\nfrom course_lib.storage import load_tensors\n"
        "for name, X in load_tensors(sys.argv[1]).items():\n"
        "    print(name, X.dtype, tuple(X.shape), hashlib.sha256(X.numpy().tobytes()).hexdigest())\n"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, cwd=ROOT)
    digest = {n: hashlib.sha256(X.numpy().tobytes()).hexdigest() for n, X in expected.items()}
    assert run.stdout.splitlines() == [f"{n} torch.float32 (3, 14) {digest[n]}" for n in CODECS], run.stderr


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    """A limit on file size stands in for the full disk: the write stops half-way with an OSError of the system."""
    pytest.importorskip("resource", reason="limits on file size exist on Unix only")
    path = tmp_path / "model"
    save_tensors(path, {"a": torch.ones(3)})
    program = (
        "import resource, sys, torch\nfrom course_lib.storage import save_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n    save_tensors(sys.argv[1], {'a': torch.ones(9000)})\n"
        "except OSError as error:\n    print(type(error).__name__, error.errno, error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, cwd=ROOT)
    assert "could not write" in run.stdout and "File too large; nothing was left behind" in run.stdout, run.stderr
    assert load_tensors(path)["a"].tolist() == [1, 1, 1] and os.listdir(tmp_path) == ["model"]
