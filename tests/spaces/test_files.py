"""Files are whole or not there."""

import stat

import pytest

from spaces.files import replacing, write_bytes


def test_who_reads_meanwhile_finds_the_old_one_and_later_the_new_one(tmp_path):
    path = tmp_path / "folder" / "name.bin"
    write_bytes(path, b"old")
    with replacing(path) as part:
        part.write_bytes(b"new, half")
        assert path.read_bytes() == b"old"
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "name.bin"
    write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_are_not_in_each_others_way(tmp_path):
    path = tmp_path / "name.bin"
    with replacing(path) as first, replacing(path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]
