"""``napari-uhrseg project``: many images with one set of classes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import tifffile
from typer.testing import CliRunner

from helpers.corrections import correct
from napari_uhrseg.cli import app
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.project_file import ProjectFile
from napari_uhrseg.types import LabelClass, Legend, Roi

LEGEND = Legend((LabelClass(1, "dark", "#101010"), LabelClass(2, "light", "#f0f0f0")))
CPU = ("--device", "cpu", "--precision", "fp32")


def project(command: str, *arguments: object):
    words = ["project", command, *(str(a) for a in arguments)]
    return CliRunner().invoke(app, words)


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def file(tmp_path) -> ProjectFile:
    """A project of three small images, of which one has labels beside it."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 255, (96, 128, 3), np.uint8)
        tifffile.imwrite(folder / f"{seed}.tif", pixels, photometric="rgb")
    image = open_image(folder / "1.tif")
    with LabelStore.create(folder / "1.zarr", image, LEGEND) as store:
        correct(store, Roi(0, 0, 48, 128), 1)
        correct(store, Roi(48, 0, 16, 128), 2)
    path = tmp_path / "p.uhrproject.json"
    assert project("new", tmp_path / "p").exit_code == 0
    result = project("add", path, folder / "*.tif")
    assert result.exit_code == 0, result.output
    return ProjectFile(path)


def test_added_images_have_their_labels_and_states(file):
    found = file.read()
    assert [(i.path, i.labels, i.state) for i in found.images] == [
        ("images/0.tif", "labels/0.tif.labels.zarr", "new"),
        ("images/1.tif", "images/1.zarr", "corrected"),
        ("images/2.tif", "labels/2.tif.labels.zarr", "new"),
    ]
    assert found.legend == LEGEND
    again = project("add", file.folder, file.folder / "images/0.tif", "--json")
    assert lines(again)[-1]["skipped"] == [str(file.folder / "images/0.tif")]
    assert file.read() == found


def test_image_that_cannot_be_opened_is_reported_and_the_others_are_added(file):
    (file.folder / "images/bad.tif").write_text("no image")
    shutil.copy(file.folder / "images/0.tif", file.folder / "images/more.tif")
    result = project("add", file.path, file.folder / "images/*.tif")
    assert result.exit_code == 1
    assert "bad.tif" in result.stderr
    assert "images/more.tif" in [i.path for i in file.read().images]
    assert "images/bad.tif" not in [i.path for i in file.read().images]


def test_outside_image_is_added_only_if_allowed(file, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.tif"
    shutil.copy(file.folder / "images/0.tif", outside)
    result = project("add", file.path, outside)
    assert result.exit_code == 1
    assert "outside the folder of the project" in result.stderr
    assert project("add", file.path, outside, "--allow-outside").exit_code == 0
    assert project("list", file.path).exit_code == 1
    assert project("list", file.path, "--allow-outside").exit_code == 0


def test_list_refreshes_states_and_reports_missing_images(file):
    image = open_image(file.folder / "images/2.tif")
    store = file.folder / "labels/2.tif.labels.zarr"
    with LabelStore.create(store, image, LEGEND) as labels:
        correct(labels, Roi(0, 0, 8, 8), 2)
    (file.folder / "images/0.tif").unlink()
    (file.folder / "moved").mkdir()
    (file.folder / "images/1.tif").rename(file.folder / "moved/1.tif")
    result = project("list", file.path, "--json")
    assert result.exit_code == 1
    assert [(r["state"], bool(r["problem"])) for r in lines(result)] == [
        ("new", True),
        ("corrected", False),
        ("corrected", False),
    ]
    assert file.read().images[2].state == "corrected"


def test_mark_sets_state_and_notes_and_removes(file):
    notes = ("--as", "reviewed", "--notes", "good")
    assert project("mark", file.path, "--image", "2.tif", *notes).exit_code == 0
    assert [(i.state, i.notes) for i in file.read().images][2] == ("reviewed", "good")
    assert project("list", file.path).exit_code == 0  # a reviewed image stays so
    assert file.read().images[2].state == "reviewed"
    assert project("mark", file.path, "--state", "new", "--remove").exit_code == 0
    assert [i.path for i in file.read().images] == ["images/1.tif", "images/2.tif"]
    assert (file.folder / "images/0.tif").exists()


def test_class_changes_reach_all_stores(file):
    changes = ("--rename", "light=bright", "--color", "dark=#000001", "--add", "grey",
               "--merge", "grey=dark")  # fmt: skip
    result = project("classes", file.path, *changes)
    assert result.exit_code == 0, result.output
    with LabelStore.open(file.folder / "images/1.zarr") as store:
        assert [(c.name, c.color) for c in store.legend][:2] == [
            ("dark", "#000001"),
            ("bright", "#f0f0f0"),
        ]
        assert store.aliases == {3: 1}
        assert store.legend == file.read().legend
    wrong = project("classes", file.path, "--rename", "none=x")
    assert wrong.exit_code == 1
    assert "no class 'none'" in wrong.stderr


def test_deleted_class_leaves_all_stores(file):
    result = project("classes", file.path, "--delete", "light=dark")
    assert result.exit_code == 0, result.output
    assert [c.name for c in file.read().legend] == ["dark"]
    with LabelStore.open(file.folder / "images/1.zarr") as store:
        assert [c.name for c in store.legend] == ["dark"]
        assert set(np.unique(store.coarsest_displayed())) == {0, 1}
    again = project("classes", file.path, "--delete", "light")
    assert again.exit_code == 1
    assert "no class 'light'" in again.stderr


def test_added_labels_with_a_deleted_class_are_reported(file):
    assert project("classes", file.path, "--delete", "light").exit_code == 0
    image = open_image(file.folder / "images/1.tif")
    more = file.folder / "images/more.tif"
    shutil.copy(file.folder / "images/1.tif", more)
    store = file.folder / "more.zarr"
    LabelStore.create(store, image, LEGEND).close()
    result = project("add", file.path, more, "--labels", store)
    assert result.exit_code == 0, result.output
    assert "exist again: 'light'" in " ".join(result.stderr.split())
    assert [c.name for c in file.read().legend] == ["dark", "light"]
    assert file.read().deleted == {}


def test_json_output_of_classes_has_no_progress_bar(file):
    result = project("classes", file.path, "--add", "grey", "--json")
    assert [e["event"] for e in lines(result)] == ["classes", "report"]
    assert result.stderr == ""


def test_labels_at_a_url_keep_their_address(file, tmp_path):
    shutil.copy(file.folder / "images/1.tif", file.folder / "images/more.tif")
    url = "memory://labels/more.zarr"
    result = project("add", file.path, file.folder / "images/more.tif",
                     "--labels", url, "--allow-outside")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert file.read().images[-1].labels == url


def test_class_change_reports_a_store_in_use(file):
    with LabelStore.open(file.folder / "images/1.zarr", write=True):
        result = project("classes", file.path, "--rename", "light=bright")
    assert result.exit_code == 1
    assert "being written by another" in result.stderr
    assert file.read().legend.named("bright").id == 2


def test_report_lists_states_notes_and_shares(file):
    project("mark", file.path, "--image", "0.tif", "--notes", 'a "b", c')
    table = file.folder / "out/report.csv"
    assert project("report", file.path, "--output", table).exit_code == 0
    rows = list(csv.DictReader(table.open(newline="")))
    assert [r["image"] for r in rows] == [f"images/{n}.tif" for n in range(3)]
    assert rows[0] == {"image": "images/0.tif", "labels": "labels/0.tif.labels.zarr",
                       "state": "new", "notes": 'a "b", c', "dark": "",
                       "light": ""}  # fmt: skip
    assert (rows[1]["dark"], rows[1]["light"]) == ("0.750000", "0.250000")
    again = project("report", file.path, "--output", table)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    inside = project("report", file.path, "--output", table / "report.csv")
    assert inside.exit_code == 1
    assert "cannot be written" in inside.stderr


def test_export_reports_images_without_labels_and_exports_the_others(file):
    out = file.folder / "out"
    result = project("export", file.path, "--output", out, "--format", "cog")
    assert result.exit_code == 1
    assert "0.tif.labels.zarr does not exist" in result.stderr
    assert sorted(f.name for f in out.iterdir()) == ["1.tif", "1.tif.aux.xml"]
    written = tifffile.imread(out / "1.tif")
    assert (written[:48] == 1).all()


def test_export_cleans_up_and_smooths(file, tmp_path):
    options = ("--format", "qupath", "--output", tmp_path / "out", "--min-object",
               128 * 20, "--smooth", 1)  # fmt: skip
    result = project("export", file.path, "--image", "images/1.tif", *options)
    assert result.exit_code == 0, result.output
    (feature,) = json.loads((tmp_path / "out" / "1.geojson").read_text())["features"]
    assert feature["properties"]["classification"]["name"] == "dark"
    refused = project("export", file.path, "--format", "confidence", "--output",
                      tmp_path / "out", "--majority", 1)  # fmt: skip
    assert refused.exit_code == 2
    assert "cannot be cleaned up" in " ".join(refused.stderr.split())


def test_export_of_one_file_needs_a_coordinate_system(file):
    target = file.folder / "all.tif"
    result = project("export", file.path, "--output", target, "--format", "cog",
                     "--merge")  # fmt: skip
    assert result.exit_code == 1
    assert "needs a coordinate system" in result.stderr
    assert not target.exists()


def test_export_of_one_file_writes_all_images(tmp_path):
    made = ProjectFile(tmp_path / "p.uhrproject.json")
    paths = []
    for i in range(2):
        paths.append(tmp_path / f"{i}.tif")
        transform = rasterio.Affine(2, 0, 500_000 + 40 * i, 0, -2, 5_300_000)
        with rasterio.open(
            paths[-1], "w", driver="GTiff", width=20, height=10, count=1,
            dtype="uint8", crs="EPSG:32632", transform=transform,
        ) as raster:  # fmt: skip
            raster.write(np.full((1, 10, 20), 7, np.uint8))
    assert project("new", tmp_path / "p").exit_code == 0
    assert project("add", made.path, *paths).exit_code == 0
    for entry in made.read().images:
        opened = open_image(tmp_path / entry.path)
        with LabelStore.create(tmp_path / entry.labels, opened, LEGEND) as store:
            store.prediction[0][:] = 1
    for name, target in (("cog", "all.tif"), ("geopackage", "all.gpkg")):
        result = project("export", made.path, "--output", tmp_path / target, "--format",
                         name, "--merge")  # fmt: skip
        assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "all.tif") as raster:
        assert (raster.read(1) == np.ones((10, 40))).all()
    meta, _, _, fields = pyogrio.raw.read(tmp_path / "all.gpkg", layer="labels")
    images = dict(zip(meta["fields"], fields, strict=True))["image"]
    assert sorted(images) == ["0.tif", "1.tif"]


def test_uncertain_regions_of_all_images_are_sorted(file):
    for name, confidence in (("0", 100), ("2", 50)):
        image = open_image(file.folder / f"images/{name}.tif")
        path = file.folder / f"labels/{name}.tif.labels.zarr"
        with LabelStore.create(path, image, LEGEND) as store:
            values = np.full(store.shape, 200, np.uint8)
            values[:32, :32] = confidence
            store.confidence[0][:] = values
    result = project("uncertain", file.path, "--json")
    assert result.exit_code == 0, result.output
    found = [(r["image"], r["roi"]["height"]) for r in lines(result)]
    assert found == [("images/2.tif", 32), ("images/0.tif", 32)]
    assert len(lines(project("uncertain", file.path, "--count", 1, "--json"))) == 1
    (file.folder / "images/1.zarr/zarr.json").write_text("{")
    broken = project("uncertain", file.path, "--json")
    assert broken.exit_code == 1
    assert [f["image"] for f in lines(broken)[-1]["failed"]] == ["images/1.tif"]


def test_folder_with_two_projects_is_refused(file):
    assert project("new", file.folder / "q").exit_code == 0
    result = project("list", file.folder)
    assert result.exit_code == 1
    assert "2 project files" in result.stderr


@pytest.mark.slow
def test_segment_labels_all_images_and_resumes(file, files):
    net = files / "net.safetensors"
    (file.folder / "images/0.tif").unlink()
    command = ("segment", file.path, "--checkpoint", net, *CPU, "--allow-outside")
    result = project(*command, "--json")
    assert result.exit_code == 1  # one image is missing
    found = lines(result)
    report = found[-1]
    assert len(report["done"]) == 2
    assert "images/0.tif does not exist" in report["failed"][0]["reason"]
    progress = [e for e in found if e["event"] == "progress"]
    assert {e["total"] for e in progress} == {1000}
    assert progress[-1]["done"] == 1000
    assert [i.state for i in file.read().images] == ["new", "corrected", "segmented"]
    assert file.read().checkpoints == (str(net),)
    for labels in ("images/1.zarr", "labels/2.tif.labels.zarr"):
        with LabelStore.open(file.folder / labels) as store:
            assert store.legend == file.read().legend
            assert (store.prediction[0][:] > 0).all()
    project("mark", file.path, "--image", "2.tif", "--as", "reviewed")
    again = lines(project(*command, "--image", "2.tif", "--json"))[-1]
    assert len(again["skipped"]) == 1
    assert file.read().images[2].state == "reviewed"
    changed = (*command, "--image", "2.tif", "--overlap", 16, "--json")
    refused = lines(project(*changed))[-1]
    assert "made with other settings" in refused["failed"][0]["reason"]
    assert len(lines(project(*changed, "--replace"))[-1]["done"]) == 1
    assert file.read().images[2].state == "segmented"


@pytest.mark.slow
def test_dry_run_reports_missing_images(file, files):
    (file.folder / "images/0.tif").unlink()
    command = ("segment", file.path, "--checkpoint", files / "net.safetensors", *CPU,
               "--image", "0.tif", "--dry-run")  # fmt: skip
    result = project(*command)
    assert result.exit_code == 1
    assert "images/0.tif does not exist" in " ".join(result.stderr.split())
    report = lines(project(*command, "--json"))[-1]
    assert len(report["failed"]) == 1


@pytest.mark.slow
def test_segmenting_again_keeps_a_deleted_class_deleted(file, files):
    net = files / "net.safetensors"
    command = ("segment", file.path, "--checkpoint", net, *CPU, "--allow-outside",
               "--json")  # fmt: skip
    assert project(*command, "--image", "0.tif").exit_code == 0
    assert project("classes", file.path, "--delete", "light=dark").exit_code == 0
    again = project(*command, "--image", "0.tif", "--image", "2.tif")
    assert again.exit_code == 0, again.output
    assert len(lines(again)[-1]["skipped"]) == 1
    assert [c.name for c in file.read().legend] == ["dark"]
    for name in ("0", "2"):
        with LabelStore.open(file.folder / f"labels/{name}.tif.labels.zarr") as store:
            assert [c.name for c in store.legend] == ["dark"]
            assert (store.read_labels(Roi(0, 0, *store.shape)) == 1).all()


@pytest.mark.slow
def test_evaluate_scores_corrected_images_and_reports_the_others(file, files):
    result = project("evaluate", file.path, "--checkpoint", files / "net.safetensors",
                     "--device", "cpu", "--json")  # fmt: skip
    assert result.exit_code == 1
    image, total, report = lines(result)
    assert image["name"] == "images/1.tif"
    assert 0 <= total["metrics"]["miou"] <= 1
    assert total["images"] == 1
    assert report["done"] == ["images/1.tif"]
    assert [Path(f["image"]).name for f in report["failed"]] == ["0.tif", "2.tif"]
