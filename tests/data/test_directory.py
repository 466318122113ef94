"""A directory has one writer at a time, a manifest written last, and is left out again if nothing came of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pgolf.data.directory import MANIFEST, alone, nearest_directory, read_manifest, write_manifest
from pgolf.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def test_one_at_a_time_and_the_next_one_after(tmp_path):
    with alone(tmp_path / "d"):
        with pytest.raises(DataError, match="one command at a time"), alone(tmp_path / "d"):
            pass
        (tmp_path / "d" / "f").touch()
    with alone(tmp_path / "d"):
        pass
    assert [f.name for f in (tmp_path / "d").iterdir()] == ["f"]


def test_a_directory_that_stayed_empty_is_gone_and_one_with_files_stays(tmp_path):
    with pytest.raises(KeyError), alone(tmp_path / "a" / "b"):
        raise KeyError
    assert not (tmp_path / "a" / "b").exists()
    with alone(tmp_path / "c"):
        (tmp_path / "c" / "f").touch()
    assert [f.name for f in (tmp_path / "c").iterdir()] == ["f"]


def test_a_process_that_dies_lets_go(tmp_path):
    code = f"""
import os
from pathlib import Path
from pgolf.data.directory import alone
with alone(Path({str(tmp_path / "d")!r})):
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -9
    assert (tmp_path / "d" / ".lock").exists()
    with alone(tmp_path / "d"):
        pass
    assert not (tmp_path / "d").exists()


def test_a_lock_whose_holder_just_left_is_not_held_twice(tmp_path, monkeypatch):
    """The file that was opened is no longer the one of that name: somebody else may hold the new one."""
    import fcntl

    real = fcntl.flock

    def slow(stream, how):
        (tmp_path / "d" / ".lock").unlink()
        (tmp_path / "d" / ".lock").touch()
        return real(stream, how)

    monkeypatch.setattr("fcntl.flock", slow)
    with pytest.raises(DataError, match="one command at a time"), alone(tmp_path / "d"):
        pass


def test_a_manifest_comes_back_and_is_whole_or_not_there(tmp_path):
    (tmp_path / "f").write_bytes(b"hello")
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, {"made_by": "test"}, [tmp_path / "f"])
    found = read_manifest(tmp_path)
    sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert found == {"layout": 1, "made_by": "test", "files": {"f": {"bytes": 5, "sha256": sha}}}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["f", MANIFEST]


@pytest.mark.parametrize("content", ["{half", "[1, 2]", "7", '"text"'])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(DataError, match="manifest is JSON"):
        read_manifest(tmp_path)


def test_a_manifest_of_another_program_is_none_of_ours(tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({"version": "10B", "datasets": []}))
    assert read_manifest(tmp_path) is None


def test_a_file_in_the_way_of_a_directory_is_named(tmp_path):
    assert nearest_directory(tmp_path / "a" / "b") == tmp_path
    (tmp_path / "f").touch()
    for path in ("f", "f/x"):
        with pytest.raises(DataError, match="f is a file"):
            nearest_directory(tmp_path / path)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DataError, match="can be written to"):
        nearest_directory(tmp_path)
