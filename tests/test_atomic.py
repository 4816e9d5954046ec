"""A file is replaced whole, or stays as it was."""

import os
import time
from pathlib import Path

import pytest

from helpers.processes import python_process
from napari_uhrseg.atomic import remove_abandoned, replacing


def test_replacing_writes_new_content(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first", "second"):
        with replacing(path) as part:
            part.write_text(text)
            assert part.parent == tmp_path
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [None, "a.part"])
def test_replacing_keeps_old_content_on_error(tmp_path, name):
    path = tmp_path / "a.txt"
    path.write_text("first")
    given = None if name is None else tmp_path / name

    def write() -> None:
        with replacing(path, given) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_replaces_folder(tmp_path):
    path = tmp_path / "a.zarr"
    for name in ("one", "two"):
        with replacing(path, sync=False) as part:
            part.mkdir()
            (part / name).write_text(name)
    assert [p.name for p in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def killed_while_writing(path: Path) -> None:
    """Leave what a process leaves that is killed while it writes to the path."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from napari_uhrseg.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with python_process(code, path) as process:
        process.wait(60)


def test_next_writer_removes_what_a_killed_process_left(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    killed_while_writing(path)
    (left,) = tmp_path.iterdir()
    with replacing(other) as part:
        part.write_text("b")
    assert left.exists()  # of another file
    with replacing(path) as first:
        first.write_text("a")
        assert not left.exists()
        with replacing(path) as second:  # a writer of this process is in use
            second.write_text("c")
        assert first.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.txt"]
    assert path.read_text() == "a"


@pytest.mark.parametrize("there", [False, True])
def test_folder_that_a_killed_process_was_replacing_is_put_back(tmp_path, there):
    path = tmp_path / "a.zarr"
    killed_while_writing(path)
    (part,) = tmp_path.iterdir()
    old = tmp_path / f"{part.name}.old"
    old.mkdir()
    (old / "content").write_text("old")
    if there:
        path.mkdir()
    remove_abandoned(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    assert (path / "content").exists() != there


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("days", [1, 8])
def test_rest_of_another_machine_is_removed_after_a_week(tmp_path, days, folder):
    path = tmp_path / "a.zarr"
    rest = tmp_path / ".a.00000000-1-01234567.partial.zarr"
    file = rest / "chunk" if folder else rest
    file.parent.mkdir(exist_ok=True)
    file.write_text("half")
    changed = time.time() - days * 86_400
    os.utime(file, (changed, changed))
    if folder:
        os.utime(rest, (0, 0))
    remove_abandoned(path)
    assert rest.exists() == (days < 7)


def test_rest_whose_process_number_is_used_again_is_removed(tmp_path):
    """The rest is older than this process, which has its number."""
    path = tmp_path / "a.txt"
    with replacing(path) as part:
        part.write_text("half")
        rest = part.with_name(part.name.replace(part.name.split("-")[2][:8], "0" * 8))
        rest.write_text("of a killed process")
        os.utime(rest, (1e9, 1e9))
        remove_abandoned(path)
        assert part.exists()
        assert not rest.exists()


def test_missing_folder_has_nothing_to_remove(tmp_path):
    remove_abandoned(tmp_path / "missing" / "a.txt")
    assert not list(tmp_path.iterdir())
