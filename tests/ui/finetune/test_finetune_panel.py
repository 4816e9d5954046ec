"""The Fine-tune part: real corrections, a network that learns."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QWidget

from helpers.contrast import contrast
from helpers.corrections import LEGEND, checkpoint, dark_checkpoint, squares
from helpers.finetune_panel import (
    PLACES,
    paint,
    set_custom,
    train,
    wait_for_summary,
    wait_for_training,
)
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.engine.finetuning.model_selection import comparison_text
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.types import FineTuneSettings, Roi, TrainingSummary
from napari_uhrseg.ui.finetune import drafts
from napari_uhrseg.ui.finetune.state import FineTuneState
from napari_uhrseg.ui.finetune.worker import FineTuneRequest
from napari_uhrseg.ui.finetune.worker import train as train_in_worker
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.panel import Panel
from napari_uhrseg.ui.widgets.layout import CollapsibleSection
from napari_uhrseg.ui.workers.import_torch import keep_triton_out

STEPS, BATCH = 10, 3


@pytest.fixture(scope="session")
def scene():
    return squares((704, 832))


@pytest.fixture(scope="session")
def labelled(scene, tmp_path_factory) -> Path:
    """Return a folder with a network that says dark everywhere, and its labels."""
    keep_triton_out()
    from napari_uhrseg.engine.inference.segment import segment

    folder = tmp_path_factory.mktemp("labelled")
    made = dark_checkpoint(folder)
    with LabelStore.create(folder / "labels.zarr", scene[1], LEGEND) as store:
        for _ in segment(scene[1], made, store):
            pass
    return folder


@pytest.fixture(scope="session")
def painted(labelled, tmp_path_factory) -> Path:
    """Return a copy of the folder with corrections.

    All say light, so that every step of a training makes every pixel lighter.
    """
    folder = tmp_path_factory.mktemp("painted")
    shutil.copytree(labelled, folder, dirs_exist_ok=True)
    with LabelStore.open(folder / "labels.zarr") as store:
        paint(store, 2, *PLACES)
    return folder


@pytest.fixture
def parent(labelled, request, tmp_path) -> Path:
    """Return the network, beside its labels; they are corrected for `corrected`."""
    corrects = "corrected" in request.fixturenames
    made = request.getfixturevalue("painted") if corrects else labelled
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "plain0.safetensors"


@pytest.fixture(scope="session")
def trained(painted, scene, tmp_path_factory) -> Path:
    """Return a copy of the folder with corrections and a model trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(painted, folder, dirs_exist_ok=True)
    path, start = folder / "labels.zarr", folder / "plain0.safetensors"
    settings = FineTuneSettings(
        device="cpu", steps=STEPS, batch_size=BATCH, learning_rate=0.005
    )
    budget = MemoryBudget.default("cpu").device_bytes
    request = FineTuneRequest(scene[1], path, start, settings, budget)
    draft = drafts.new_draft(path, "plain0_2.safetensors", folder)
    *_, finished = train_in_worker(lambda: False, request, draft)
    drafts.save_draft(finished, start)
    return folder


def show_labelled(viewer, panel, scene, parent, qtbot):
    """Show the labelled scene, and the tab Train."""
    panel.segment.model.use(parent)
    add_image(viewer, scene[1])
    panel.labels.open(parent.with_name("labels.zarr"))
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=30_000)
    wait_for_plan(panel, qtbot)
    panel.show_step("Train")


@pytest.fixture
def segmented(viewer, panel, scene, parent, qtbot):
    """Return the panel with the labelled scene."""
    show_labelled(viewer, panel, scene, parent, qtbot)
    return panel


@pytest.fixture
def corrected(segmented):
    """Return the panel with the labelled scene and corrections, ready to train."""
    set_custom(segmented.finetune, steps=STEPS, batch_size=BATCH, learning_rate=0.005)
    return segmented


@pytest.fixture
def learnt(viewer, panel, scene, parent, trained, qtbot):
    """Return the panel with a trained model to keep or discard."""
    store = parent.with_name("labels.zarr")
    shutil.copytree(trained / store.name, store, dirs_exist_ok=True)
    (record,) = (store / drafts.FOLDER).glob("*.json")
    record.write_text(record.read_text().replace(str(trained), str(parent.parent)))
    show_labelled(viewer, panel, scene, parent, qtbot)
    set_custom(panel.finetune, steps=STEPS, batch_size=BATCH, learning_rate=0.005)
    part = panel.finetune
    qtbot.waitUntil(lambda: part.state is FineTuneState.UNDECIDED, timeout=20_000)
    return panel


# before it starts


@pytest.mark.slow
def test_without_labels_it_says_what_to_do(viewer, panel, qtbot):
    part = panel.finetune
    panel.show_step("Train")
    qtbot.waitUntil(lambda: "no labels" in part.bar.status.text(), timeout=10_000)
    assert not part.bar.start.isEnabled()
    assert not part.new_model.model_button.isEnabled()


@pytest.mark.slow
def test_it_says_what_it_will_learn_from_and_warns(segmented, scene, qtbot):
    part, store = segmented.finetune, segmented.segment.view.store
    status = part.bar.status
    qtbot.waitUntil(lambda: "Nothing was corrected" in status.text(), timeout=30_000)
    assert not part.bar.start.isEnabled()
    paint(store, 2, Roi(64, 64, 24, 24))
    said = wait_for_summary(part, qtbot)
    assert said.startswith("Training data: 1 window, 0 for validation, 1 region.")
    assert "Light: only 1 window" in said
    assert "ccuracy cannot be estimated" in said
    paint(store, scene[0], *PLACES)
    said = wait_for_summary(part, qtbot)
    assert "only" not in said
    assert "cannot be estimated" not in said
    assert " 0 for validation" not in said


@pytest.mark.slow
def test_expected_time_is_shown_before_the_training(corrected, qtbot):
    part = corrected.finetune

    def expected():
        return [x for x in part.summary.text().splitlines() if "Expected time" in x]

    with_summary = []  # times that are shown when a summary appears

    def found(_):
        if part.state is FineTuneState.READY:
            with_summary.append(expected())

    part.reader.found.connect(found)
    wait_for_summary(part, qtbot)
    qtbot.waitUntil(lambda: expected() != [], timeout=120_000)
    assert re.fullmatch(r"Expected time of the training: \d+ (s|min)\.", *expected())
    assert part.bar.start.isEnabled()
    wait_for_summary(part, qtbot)  # after a change it is measured again
    qtbot.waitUntil(lambda: expected() != [], timeout=120_000)
    assert len(with_summary) >= 2
    assert not any(with_summary)


@pytest.mark.slow
def test_corrections_in_view_alone_can_teach(viewer, corrected, qtbot):
    part = corrected.finetune
    everything = wait_for_summary(part, qtbot)
    part.form.corrections.setCurrentIndex(1)
    viewer.scene.camera.zoom = 8
    viewer.scene.camera.center = (32, 32)  # one place
    qtbot.waitUntil(
        lambda: part.bar.start.isEnabled() and "1 region." in part.summary.text(),
        timeout=30_000,
    )
    assert part.summary.text() != everything


@pytest.mark.slow
def test_it_follows_the_checkpoint_of_the_segment_part_until_told(
    segmented, tmp_path, qtbot
):
    part, model = segmented.finetune, segmented.segment.model
    other, third = (checkpoint(tmp_path, seed=s).path for s in (1, 2))
    model.use(other)
    qtbot.waitUntil(lambda: part.form.start == other, timeout=10_000)
    part.form.use(third)
    model.use(model.path.with_name("plain0.safetensors"))
    qtbot.waitUntil(lambda: model.path != other, timeout=10_000)
    assert part.form.start == third


# while it goes on


@pytest.mark.gui
@pytest.mark.slow
def test_a_training_draws_its_curves_and_says_how_it_went(corrected, qtbot, parent):
    part = corrected.finetune
    before = parent.read_bytes()
    train(part, qtbot)
    assert part.bar.status.text() == f"Done: {STEPS} steps."
    curves = part.plot
    assert [s for s, _ in curves.losses][-1] == STEPS
    assert curves.scores[0][0] == 0
    assert curves.scores[-1][0] == STEPS
    qtbot.waitUntil(lambda: curves.miou is not None, timeout=20_000)
    qtbot.wait(600)  # drawn with delay
    x, y = curves.miou.listDataItems()[0].getData()
    assert list(zip(x, y, strict=True)) == curves.scores
    assert part.result.isVisible()
    assert "Better by" in part.result.message.text()
    table = part.result.table
    rows = [table.topLevelItem(i) for i in range(table.topLevelItemCount())]
    assert {r.text(0) for r in rows[1:]} == {"light"}
    assert float(rows[0].text(1)) == pytest.approx(curves.scores[0][1], abs=0.06)
    assert float(rows[0].text(2)) == pytest.approx(curves.scores[-1][1], abs=0.06)
    assert parent.read_bytes() == before  # nothing is replaced by itself
    assert corrected.segment.model.path == parent
    assert not part.bar.start.isEnabled()
    assert "Keep or discard" in part.bar.start.toolTip()


@pytest.mark.slow
def test_worker_pauses_and_continues(corrected, qtbot):
    part = corrected.finetune
    set_custom(part, steps=400)
    wait_for_summary(part, qtbot)
    part.bar.start.click()
    qtbot.waitUntil(lambda: part.bar.bar.value() > 0, timeout=60_000)
    assert not corrected.segment.bar.start.isEnabled()
    assert "A training is running" in corrected.segment.bar.start.toolTip()
    part.bar.pause.click()
    qtbot.waitUntil(lambda: part.bar.status.text() == "Paused.", timeout=20_000)
    before = part.bar.bar.value()
    qtbot.wait(500)
    assert part.bar.bar.value() == before
    part.bar.pause.click()
    qtbot.waitUntil(lambda: part.bar.bar.value() > before, timeout=20_000)
    part.bar.cancel.click()
    wait_for_training(part, qtbot)
    assert part.bar.status.text().startswith("Cancelled after")


@pytest.mark.slow
def test_cancel_offers_the_best_so_far(corrected, qtbot, tmp_path):
    part = corrected.finetune
    set_custom(part, steps=100)
    wait_for_summary(part, qtbot)
    part.bar.start.click()
    qtbot.waitUntil(lambda: len(part.plot.scores) >= 2, timeout=120_000)
    part.bar.cancel.click()
    wait_for_training(part, qtbot)
    assert "The best model so far is offered" in part.bar.status.text()
    assert "Better by" in part.result.message.text()
    target = tmp_path / "best.safetensors"
    part.keep(target)
    qtbot.waitUntil(target.exists, timeout=20_000)
    assert 0 < read_card(target).metrics["step"] < 100


@pytest.mark.slow
@pytest.mark.gui
def test_cancel_before_anything_is_better_leaves_nothing(viewer, corrected, qtbot):
    part = corrected.finetune
    set_custom(part, steps=2000)
    wait_for_summary(part, qtbot)
    part.bar.start.click()
    qtbot.waitUntil(lambda: part.bar.bar.value() > 0, timeout=60_000)
    part.bar.cancel.click()
    wait_for_training(part, qtbot)
    assert "nothing to keep yet" in part.bar.status.text()
    assert part.result.isHidden()
    qtbot.waitUntil(part.bar.start.isEnabled, timeout=20_000)
    part.bar.start.click()
    qtbot.waitUntil(lambda: part.bar.bar.value() > 0, timeout=60_000)
    viewer.window.remove_dock_widget(corrected)  # ends the training too
    assert QThreadPool.globalInstance().waitForDone(600_000)


@pytest.mark.slow
def test_a_training_that_cannot_be_is_told_once(corrected, qtbot):
    part = corrected.finetune
    wait_for_summary(part, qtbot)
    before = len(notification_manager.records)
    corrected.segment.form.hardware.memory.setValue(64)
    part.form.custom.widgets["batch_size"].setValue(1024)
    wait_for_summary(part, qtbot)
    corrected.segment.view.store.path.rename(
        corrected.segment.view.store.path.with_name("gone.zarr")
    )
    part.bar.start.click()
    wait_for_training(part, qtbot)
    told = notification_manager.records[before:]
    assert len(told) == 1
    assert "labels.zarr" in told[0].message
    assert part.bar.status.text().startswith("Ended with an error")


@pytest.mark.slow
def test_without_held_out_places_no_figure_is_shown(segmented, scene, qtbot):
    part = segmented.finetune
    paint(segmented.segment.view.store, scene[0], Roi(64, 64, 60, 60))
    set_custom(part, steps=3, batch_size=BATCH, learning_rate=0.001)
    train(part, qtbot)
    assert part.result.isVisible()
    assert "Accuracy cannot be estimated" in part.result.message.text()
    assert part.result.table.isHidden()
    assert part.plot.losses
    assert not part.plot.scores
    assert not part.plot.held_out


@pytest.mark.slow
@pytest.mark.gui
def test_the_curves_are_readable_in_both_themes(viewer, panel, qtbot):
    curves = panel.finetune.plot
    curves.begin()
    qtbot.waitUntil(lambda: curves.loss is not None, timeout=20_000)
    curves.add_loss(1, 0.5)
    light = {}
    for theme in ("dark", "light"):
        viewer.theme = theme
        ground = curves.canvas.backgroundBrush().color()
        for plot in (curves.loss, curves.miou):
            axis = plot.getAxis("left")
            light[theme] = ground.lightness()
            for ink in (axis.textPen().color(), axis.label.defaultTextColor()):
                assert contrast(ink, ground) >= 4.5
            curve = plot.listDataItems()[0].opts["pen"].color()
            assert contrast(curve, ground) >= 3
    assert light["dark"] < 100 < light["light"]
    assert curves.loss.getAxis("left").labelText == "training loss"
    assert curves.miou.getAxis("left").labelText == "validation mIoU (%)"
    assert curves.miou.getAxis("bottom").labelText == "step"


# afterwards


@pytest.mark.slow
def test_keep_asks_for_a_name_and_uses_it(learnt, qtbot, parent, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    asked = []

    def dialog(widget, title, proposed, *_):
        asked.append(Path(proposed))
        return proposed, ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", dialog)
    part = learnt.finetune
    part.result.keep.click()
    kept = parent.with_name("plain0_2.safetensors")
    qtbot.waitUntil(lambda: learnt.segment.model.path == kept, timeout=20_000)
    assert asked == [kept]
    card = read_card(kept)
    assert card.name == "plain0_2"
    assert card.parent
    assert card.metrics["miou"] == 1
    assert part.form.start == kept
    assert part.result.isHidden()
    assert parent.exists()


def check_names(part):
    """Check the names of visible widgets, and return them."""
    seen = set()
    for widget in part.findChildren(QWidget):
        inner = widget.objectName().startswith("qt_")
        reachable = widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        if reachable and not inner and widget.isVisible():
            text = getattr(widget, "text", str)()
            assert widget.accessibleName() or text, widget
            assert widget.toolTip(), widget.accessibleName() or text
            assert "&" not in text
            seen.add(widget.accessibleName() or text)
    return seen


@pytest.mark.slow
def test_discard_leaves_all_as_it_was(learnt, qtbot, parent):
    part = learnt.finetune
    for section in part.findChildren(CollapsibleSection):
        section.heading.setChecked(True)
    seen = check_names(part)
    draft = part.trained.result.path
    part.result.discard.click()
    assert not draft.exists()
    assert part.result.isHidden()
    assert learnt.segment.model.path == parent
    assert sorted(parent.parent.glob("*.safetensors")) == [parent]
    wait_for_summary(part, qtbot)  # another one can be trained
    assert len(seen | check_names(part)) > 15


@pytest.mark.slow
def test_the_map_of_changes_is_right_to_the_pixel(viewer, learnt, scene, qtbot):
    from napari_uhrseg.engine.inference.preview import segment_region
    from napari_uhrseg.models.checkpoint import load_checkpoint

    part = learnt.finetune
    viewer.scene.camera.zoom = 2
    viewer.scene.camera.center = (320, 384)
    part.result.changes.click()
    qtbot.waitUntil(lambda: not part.comparison.running, timeout=60_000)
    layer = part.comparison.layer
    assert layer in viewer.layers
    y, x = (int(v) for v in layer.translate)
    roi = Roi(y, x, *layer.data.shape)
    old, new = (
        segment_region(scene[1], load_checkpoint(path), roi)
        for path in (learnt.segment.model.path, part.trained.result.path)
    )
    assert (old != new).any()
    assert np.array_equal(layer.data, np.where(old != new, new, 0))
    share = 100 * (old != new).mean()
    assert part.result.share.text() == f"{share:.1f} % of the pixels change."
    for c in LEGEND:
        assert tuple(layer.colormap.color_dict[c.id][:3]) == pytest.approx(
            [v / 255 for v in c.rgb]
        )
    assert not learnt.segment.view.layer.visible
    part.discard()
    assert layer not in viewer.layers
    assert learnt.segment.view.layer.visible


@pytest.mark.slow
def test_segment_again_and_go_back_say_what_they_replace(
    viewer, learnt, scene, qtbot, parent, tmp_path
):
    part, segment = learnt.finetune, learnt.segment
    kept = tmp_path / "mine.safetensors"
    part.keep(kept)
    qtbot.waitUntil(lambda: segment.model.path == kept, timeout=20_000)
    note, older = part.rerun.note, part.rerun.older
    qtbot.waitUntil(
        lambda: "mine" in note.text() and bool(older.actions()), timeout=20_000
    )
    assert note.text().startswith("Of 1 block of labels, 1 from plain0")
    assert "Corrected pixels are kept" in note.text()
    assert [a.text() for a in older.actions()] == ["plain0"]
    shown = segment.view.store.path
    part.rerun.segment.menu().actions()[1].trigger()  # everything
    qtbot.waitUntil(lambda: segment.bar.cancel.isEnabled(), timeout=20_000)
    assert "segmentation" in part.bar.status.text() or not part.bar.start.isEnabled()
    assert wait_for_end(learnt, qtbot).startswith("Done")
    with LabelStore.open(shown) as store:
        assert len(store.runs) == 2
        labels = store.read_labels(Roi(0, 0, *store.shape))
    assert (labels == 2).all()
    qtbot.waitUntil(lambda: "All labels come from mine" in note.text(), timeout=20_000)
    older.actions()[0].trigger()
    qtbot.waitUntil(lambda: segment.model.path == parent, timeout=20_000)
    qtbot.waitUntil(lambda: "1 from mine" in note.text(), timeout=20_000)
    (layer,) = (x for x in viewer.layers if isinstance(x, Labels))
    assert ", mine, " in layer.name


def open_again(viewer, panel, qtbot, path):
    """Close the labels, and open them as another day would."""
    viewer.layers.remove(panel.segment.view.layer)
    qtbot.waitUntil(lambda: panel.segment.view is None, timeout=10_000)
    panel.labels.open(path)
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=30_000)


@pytest.mark.slow
def test_what_was_learnt_is_offered_again_until_it_is_decided_on(
    viewer, learnt, qtbot, tmp_path
):
    part, path = learnt.finetune, tmp_path / "labels.zarr"
    said, draft = part.result.message.text(), part.trained.result.path
    assert path in draft.parents
    open_again(viewer, learnt, qtbot, path)
    qtbot.waitUntil(lambda: not part.result.isHidden(), timeout=20_000)
    assert part.result.message.text() == said
    assert "keep or discard" in part.bar.status.text()
    assert not part.bar.start.isEnabled()
    target = tmp_path / "kept.safetensors"
    part.keep(target)
    qtbot.waitUntil(lambda: learnt.segment.model.path == target, timeout=20_000)
    assert read_card(target).metrics["miou"] == 1
    assert not draft.parent.exists()
    open_again(viewer, learnt, qtbot, path)
    qtbot.wait(1000)
    assert part.result.isHidden()


@pytest.mark.gui
@pytest.mark.slow
def test_closing_the_window_loses_nothing_that_was_learnt(
    viewer, learnt, scene, qtbot, tmp_path
):
    said = learnt.finetune.result.message.text()
    viewer.window.remove_dock_widget(learnt)
    assert QThreadPool.globalInstance().waitForDone(600_000)
    viewer.layers.clear()
    again = Panel(viewer)
    viewer.window.add_dock_widget(again)
    add_image(viewer, scene[1])
    again.labels.open(tmp_path / "labels.zarr")
    qtbot.waitUntil(lambda: not again.finetune.result.isHidden(), timeout=30_000)
    assert again.finetune.result.message.text() == said
    told = [n.message for n in notification_manager.records]
    assert any("not been saved yet" in text for text in told)
    again.finetune.result.discard.click()
    assert not list(tmp_path.rglob(".finetune"))
    again.stop()
    assert QThreadPool.globalInstance().waitForDone(600_000)


@pytest.mark.gui
@pytest.mark.slow
def test_closing_the_window_during_a_training_leaves_nothing_unfinished(
    viewer, corrected, parent, scene, qtbot, tmp_path
):
    part, original = corrected.finetune, parent.read_bytes()
    set_custom(part, steps=1000)
    wait_for_summary(part, qtbot)
    part.bar.start.click()
    qtbot.waitUntil(lambda: len(part.plot.losses) > 1, timeout=60_000)
    viewer.close()
    qtbot.wait(100)
    assert QThreadPool.globalInstance().waitForDone(600_000)
    assert parent.read_bytes() == original
    left = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert not [n for n in left if n.endswith((".state", ".part", ".partial", ".new"))]
    with LabelStore.open(tmp_path / "labels.zarr", write=True) as store:
        assert (store.correction[0][:] != 0).any()
    for draft in (tmp_path / "labels.zarr" / drafts.FOLDER).glob("*.safetensors"):
        assert read_card(draft).metrics  # a whole checkpoint


def test_worse_result_is_described_in_words(panel):
    before, after = ({"miou": v, "iou/dark": v} for v in (0.9, 0.2))
    summary = TrainingSummary(200, 40, 9, {"dark": 200}, (), has_validation=True)
    text = comparison_text(summary, before, after)
    result = panel.finetune.result
    result.show_outcome(FineTuneFinished(before, after, text, Path("n")), LEGEND)
    assert result.message.text().startswith("Worse by 70.0 points")
    assert "the original checkpoint is better" in result.message.text()
    row = result.table.topLevelItem(0)
    assert [row.text(k) for k in (1, 2, 3)] == ["90.0", "20.0", "−70.0"]


@pytest.mark.slow
def test_second_training_replaces_no_file(learnt, qtbot, tmp_path):
    part, segment = learnt.finetune, learnt.segment
    good = tmp_path / "good.safetensors"
    part.keep(good)
    qtbot.waitUntil(lambda: part.form.start == good, timeout=20_000)
    before, files = good.read_bytes(), sorted(tmp_path.glob("*.safetensors"))
    set_custom(part, steps=2)
    train(part, qtbot)
    assert segment.model.path == good
    assert good.read_bytes() == before
    assert sorted(tmp_path.glob("*.safetensors")) == files
    part.result.discard.click()
    assert segment.model.path == good
    assert part.form.start == good
