"""Files that a project names: moved ones are found, those elsewhere are refused."""

import pytest

from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.project.image_paths import ProjectPaths


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "project"
    for name in ("a/one.tif", "b/two.tif", "c/two.tif"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (tmp_path / "elsewhere.tif").write_text("elsewhere")
    return made


def test_image_is_found_at_its_path(folder):
    assert ProjectPaths(folder).image("a/one.tif") == folder / "a/one.tif"


def test_moved_image_is_found_by_its_name(folder):
    assert ProjectPaths(folder).image("old/one.tif") == folder / "a/one.tif"


def test_common_end_of_the_path_decides_between_equal_names(folder):
    assert ProjectPaths(folder).image("old/c/two.tif") == folder / "c/two.tif"
    with pytest.raises(ProjectError, match=r"2 files have its name: b/two\.tif"):
        ProjectPaths(folder).image("old/two.tif")


def test_file_of_another_image_is_not_taken_for_a_missing_one(folder):
    listed = {"old/one.tif", "a/one.tif"}
    with pytest.raises(ProjectError, match="apart from other images of the project"):
        ProjectPaths(folder).image("old/one.tif", listed)
    found = ProjectPaths(folder).image("old/two.tif", {"old/two.tif", "b/two.tif"})
    assert found == folder / "c/two.tif"


def test_missing_image_is_reported(folder):
    with pytest.raises(ProjectError, match=r"three.tif does not exist, and no file"):
        ProjectPaths(folder).image("three.tif")


def test_files_inside_label_stores_are_not_searched(folder):
    hidden = folder / "labels/x.labels.zarr/four.tif"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("")
    with pytest.raises(ProjectError, match="no file"):
        ProjectPaths(folder).image("four.tif")


def test_path_outside_is_refused_unless_allowed(folder):
    (folder / "link").symlink_to(folder.parent)
    outside = folder.parent / "elsewhere.tif"
    for path in ("../elsewhere.tif", str(outside), "link/elsewhere.tif", "a/../../x",
                 "s3://bucket/x.zarr"):  # fmt: skip
        with pytest.raises(ProjectError, match="outside the folder of the project"):
            ProjectPaths(folder).image(path)
    allowed = ProjectPaths(folder, allow_outside=True)
    assert allowed.image("../elsewhere.tif").read_text() == "elsewhere"
    assert allowed.image(str(outside)) == outside


def test_moved_image_is_not_found_behind_a_link_outside(folder):
    (folder / "d").mkdir()
    (folder / "d/elsewhere.tif").symlink_to(folder.parent / "elsewhere.tif")
    with pytest.raises(ProjectError, match="no file"):
        ProjectPaths(folder).image("x/elsewhere.tif")


def test_paths_are_listed_relative_to_the_project(folder):
    paths = ProjectPaths(folder)
    assert paths.relative(folder / "a/one.tif") == "a/one.tif"
    outside = folder.parent / "elsewhere.tif"
    assert paths.relative(outside) == outside.as_posix()
