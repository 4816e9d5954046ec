"""A project of six slides in the window: segment all, correct three, evaluate three.

The first network says dark everywhere, and the user paints light tissue.
"""

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from helpers.canvas import look_at
from helpers.corrections import dark_checkpoint
from helpers.finetune_panel import set_custom, train
from helpers.message_boxes import answer_boxes
from helpers.window_story import WindowUser, color_at
from napari_uhrseg.cli import app
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import file_hash
from napari_uhrseg.ui.finetune.state import FineTuneState

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
]

SHAPE = 96, 128
ABOUT = "Aperio Image Library v11 |AppMag = 20|MPP = 0.5"


def write_slide(path, seed):
    """Write a slide of dark tissue above light tissue; return the true classes."""
    rng = np.random.default_rng(seed)
    truth = np.ones(SHAPE, np.uint8)
    truth[40 + 4 * seed :] = 2
    pixels = np.array(((0, 0, 0), (100, 50, 130), (200, 130, 180)))[truth]
    pixels += rng.integers(-20, 20, (*SHAPE, 3))
    tifffile.imwrite(path, pixels.astype(np.uint8), photometric="rgb",
                     description=ABOUT, tile=(64, 64), metadata=None)  # fmt: skip
    return truth


def run(*arguments):
    """Run a command as in a terminal; return the events that it prints."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def children(item):
    return [item.child(n) for n in range(item.childCount())]


class ProjectUser(WindowUser):
    """User of the list of a project."""

    @property
    def project(self):
        return self.panel.project

    def entries(self):
        """Return the names and states that the list shows."""
        rows = (self.project.list.item(i) for i in range(self.project.list.count()))
        return [tuple(row.text().split("\n")) for row in rows]

    def states(self):
        return [state for _, state in self.entries()]

    def segment_all(self):
        """Press Segment all, and wait until the run has ended."""
        self.panel.show_step("Image")
        self.until(self.project.segment_all.isEnabled)
        self.project.segment_all.click()
        self.until(lambda: not self.project.segment_all.isEnabled())
        self.until(self.project.segment_all.isEnabled)

    def train_on_all(self, model, title, **values):
        """Train on all corrected images, and keep the model in a file."""
        panel, finetune = self.panel, self.panel.finetune
        panel.show_step("Train")
        box = finetune.form.corrections
        box.setCurrentIndex(box.findText(title))
        set_custom(finetune, **values)
        train(finetune, self.qtbot)
        assert finetune.state is FineTuneState.UNDECIDED
        finetune.keep(model)
        self.until(lambda: panel.segment.model.path == model)

    def evaluate(self):
        """Evaluate on the other images; return the rows and their classes' IoU."""
        part = self.panel.evaluation
        self.panel.show_step("Image")
        self.until(part.start.isEnabled)
        part.start.click()
        self.until(part.start.isEnabled)
        items = [
            part.table.topLevelItem(n) for n in range(part.table.topLevelItemCount())
        ]
        return [
            (item.text(0), {c.text(0): c.text(1) for c in children(item)})
            for item in items
        ]

    def open_next(self):
        """Press Next, and wait until the image and its labels are displayed."""
        self.panel.show_step("Image")
        self.project.next.click()
        name = self.project.list.chosen
        self.until(lambda: self.panel.image.image is not None)
        self.until(lambda: self.panel.image.image.path.name == name)
        self.until(lambda: self.panel.segment.view is not None)
        assert self.panel.segment.view.image.path.name == name


def test_six_slides_are_segmented_corrected_and_trained_on_once(
    open_window, tmp_path, qtbot, monkeypatch, take_picture
):
    names = [f"slide {n}.svs" for n in range(6)]
    truths = [write_slide(tmp_path / name, n) for n, name in enumerate(names)]
    user = ProjectUser(*open_window(), qtbot)
    viewer, panel = user.viewer, user.panel
    first = dark_checkpoint(tmp_path).path
    panel.segment.model.use(first)
    user.until(lambda: user.project.checkpoint == first)
    file = tmp_path / "six.uhrproject.json"
    panel.show_step("Image")
    user.project.new(file)
    user.until(lambda: user.project.file is not None)
    user.project.add([tmp_path / name for name in names])
    user.until(lambda: user.entries() == [(name, "new") for name in names])
    user.segment_all()
    user.until(lambda: user.states() == 6 * ["segmented"])
    assert user.project.status.text() == ""

    for n in range(3):
        user.open_next()
        look_at(viewer, panel.image.layer, SHAPE[0] / 2, SHAPE[1] / 2, zoom=5)
        user.correct()
        user.choose("light")
        user.paint((80, 30), (80, 100))
        panel.correct.correct.click()
        state = (n + 1) * ["corrected"] + (5 - n) * ["segmented"]
        user.until(lambda state=state: user.states() == state)
    panel.show_step("Image")
    assert "3 segmented, 3 corrected" in user.project.summary.text()
    canvas = take_picture(viewer, "project")
    painted, beside, dark = (
        color_at(canvas, viewer, panel.image.layer, y, x)
        for y, x in ((80, 60), (80, 115), (20, 60))
    )  # white, black and black above tissue
    assert min(painted) > max(beside) + 50
    end = color_at(canvas, viewer, panel.image.layer, 80, 100)  # of the last stroke
    assert min(end) > max(beside) + 50
    assert sum(beside) > sum(dark)

    # one model from the three corrected slides
    model = tmp_path / "one.safetensors"
    user.train_on_all(model, "3 corrected images", steps=2, batch_size=2)
    take_picture(viewer, "project-trained")
    assert "slide 2.svs" in read_card(model).trained_on

    # the true classes of the others, and the scores of the model on them
    for n in range(3, 6):
        mask = tmp_path / f"truth {n}.tif"
        tifffile.imwrite(mask, truths[n])
        store = tmp_path / "labels" / f"{names[n]}.labels.zarr"
        run("correct", store, mask, "--values", "ids")
    user.project.refresh()
    user.until(lambda: user.states() == 3 * ["corrected"] + 3 * ["segmented"])
    run("project", "list", file)
    user.project.refresh()
    user.until(lambda: user.states() == 6 * ["corrected"])
    rows = user.evaluate()
    take_picture(viewer, "project-evaluated")
    assert [name for name, _ in rows] == ["all 3 images", *names[3:]]
    assert all(set(classes) == {"dark", "light"} for _, classes in rows)
    others = [part for name in names[3:] for part in ("--image", name)]
    *each, total = run("project", "evaluate", file, "--checkpoint", model, *others,
                       "--device", "cpu")  # fmt: skip
    assert [event["name"] for event in each] == names[3:]
    metrics = total["metrics"]
    dark_and_light = [
        f"{100 * metrics[f'iou/{name}']:.1f}" for name in ("dark", "light")
    ]
    assert list(rows[0][1].values()) == dark_and_light

    # the new model replaces the labels of the first one in all slides
    panel.segment.model.use(model)
    user.until(lambda: user.project.checkpoint == model)
    asked = answer_boxes(monkeypatch, "Replace")
    user.segment_all()
    assert len(asked) == 1
    assert "6 images" in asked[0]
    user.until(lambda: user.states() == 6 * ["corrected"])
    for name in names:
        with LabelStore.open(tmp_path / "labels" / f"{name}.labels.zarr") as store:
            assert store.runs[-1].checkpoint_hash == file_hash(model)
    view = panel.segment.view  # of the last corrected slide
    user.until(lambda: view.store.runs[-1].checkpoint_hash == file_hash(model))
    user.until(lambda: view.store.runs[-1].checkpoint in view.layer.name)
    take_picture(viewer, "project-end")
