"""Project files: what is written is read, what is damaged is refused."""

import json

import pytest

from helpers.label_stores import LEGEND
from helpers.processes import start_python
from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.project.project import Project, ProjectImage
from napari_uhrseg.io.project.project_file import ProjectFile, project_schema


def two_images() -> Project:
    images = (
        ProjectImage("a/one.tif", "labels/one.labels.zarr", "corrected", "blurred"),
        ProjectImage("b/two.tif", "labels/two.labels.zarr"),
    )
    return Project(images, LEGEND, {2: 1}, ("net.safetensors",))


@pytest.fixture
def file(tmp_path) -> ProjectFile:
    made = ProjectFile(tmp_path / "p.uhrproject.json")
    made.create(two_images())
    return made


def test_read_returns_what_was_written(file):
    assert file.read() == two_images()
    assert file.name == "p"


def test_create_keeps_an_existing_project(file):
    with pytest.raises(ProjectError, match="exists already"):
        file.create()
    assert file.read() == two_images()


def test_missing_project_is_reported_without_leaving_a_lock(tmp_path):
    missing = ProjectFile(tmp_path / "none.json")
    for act in (missing.read, lambda: missing.update(lambda p: p)):
        with pytest.raises(ProjectError, match="does not exist"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_state_and_notes_of_one_image_change(file):
    file.update(lambda p: p.with_image("b/two.tif", state="reviewed", notes="ok"))
    one, two = file.read().images
    assert one == two_images().images[0]
    assert (two.state, two.notes) == ("reviewed", "ok")


def test_failed_change_keeps_the_file(file):
    text = file.path.read_text()

    def fail(project: Project) -> Project:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        file.update(fail)
    with pytest.raises(ProjectError, match="no image"):
        file.update(lambda p: p.with_image("none.tif", state="new"))
    assert file.path.read_text() == text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(format="other"), "not a project"),
        (lambda d: d.update(format_version=2), "format version 2"),
        (lambda d: d.update(format_version="1"), "damaged: format_version"),
        (lambda d: d.pop("images"), "damaged: 'images' is a required property"),
        (lambda d: d["images"][0].update(state="lost"), "images/0/state: 'lost'"),
        (lambda d: d["images"][0].update(path=7), "images/0/path: 7"),
        (lambda d: d["images"][0].update(path="a\0b"), "images/0/path"),
        (lambda d: d["images"][1].update(path="a/one.tif"), "listed twice"),
        (lambda d: d["classes"][0].update(id=256), "classes/0/id: 256"),
        (lambda d: d["classes"][0].update(id=2), "class id twice"),
        (lambda d: d["classes"][0].update(color="red"), "classes/0/color"),
        (lambda d: d.update(merged={"1": 9}), "not in the classes"),
        (lambda d: d.update(merged={"x": 1}), "merged"),
        (lambda d: d.update(further=1), "further"),
    ],
)
def test_damaged_project_is_refused_with_the_reason(file, change, reason):
    data = json.loads(file.path.read_text())
    change(data)
    file.path.write_text(json.dumps(data))
    with pytest.raises(ProjectError) as error:
        file.read()
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "\udce9".encode("utf-8", "surrogateescape").decode("latin-1"),
     "[" * 100_000, '{"format": ' * 100_000],
)  # fmt: skip
def test_file_that_is_no_project_is_refused(file, text):
    file.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ProjectError):
        file.read()


def test_very_large_file_is_refused_unread(file):
    with file.path.open("r+b") as opened:
        opened.truncate(200_000_000_000)
    with pytest.raises(ProjectError, match="200,000,000,000 bytes"):
        file.read()


def test_schema_is_valid_itself():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(project_schema())


def test_locked_project_is_reported(file):
    impatient = ProjectFile(file.path, lock_timeout_s=0.05)

    def other(project: Project) -> Project:
        with pytest.raises(ProjectError, match="another window or process"):
            impatient.update(lambda p: p.without("a/one.tif"))
        return project

    file.update(other)
    assert file.read() == two_images()


ADD = """
import sys
from napari_uhrseg.io.project.project import ProjectImage
from napari_uhrseg.io.project.project_file import ProjectFile
file = ProjectFile(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    name = f"{sys.argv[2]}{n}"
    image = ProjectImage(f"{name}.tif", f"labels/{name}.labels.zarr")
    file.update(lambda project: project.with_images([image]))
"""


@pytest.mark.slow
def test_two_processes_lose_no_change_of_each_other(file):
    processes = [start_python(ADD, file.path, name) for name in "xy"]
    for process in processes:
        process.stdout.readline()
    for process in processes:  # both begin now
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    paths = {i.path for i in file.read().images}
    assert {f"{name}{n}.tif" for name in "xy" for n in range(40)} <= paths
    assert len(paths) == 82
    assert not list(file.folder.glob(".*partial*"))
