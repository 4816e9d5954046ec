"""A file is replaced whole, or stays as it was."""

import pytest

from napari_uhrseg.atomic import replacing


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
