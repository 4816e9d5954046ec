"""Tests of trained models that are stored with the labels; needs no window."""

from pathlib import Path

import pytest

from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.ui.finetune.drafts import (
    FOLDER,
    delete_draft,
    find_draft,
    new_draft,
    save_draft,
)


def draft_in(store: Path, name: str) -> FineTuneFinished:
    """Save a draft with one score, and return its result."""
    path = new_draft(store, f"{name}.safetensors", store)
    path.write_bytes(b"weights")
    result = FineTuneFinished({"miou": 0.4}, {"miou": 0.5}, f"{name} is better", path)
    save_draft(result, store / "start.safetensors")
    return result


def test_draft_is_found_with_its_start_and_scores(tmp_path):
    saved = draft_in(tmp_path, "a")
    assert find_draft(tmp_path) == (saved, tmp_path / "start.safetensors")
    delete_draft(saved.path)
    assert find_draft(tmp_path) is None
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"start": 3}'])
def test_damaged_note_is_reported_and_the_model_stays(tmp_path, content):
    saved = draft_in(tmp_path, "a")
    note = saved.path.with_suffix(".json")
    note.write_text(content)
    with pytest.raises(CheckpointError) as error:
        find_draft(tmp_path)
    assert note.name in error.value.message
    assert saved.path.name in error.value.hint
    assert saved.path.exists()


def test_damaged_note_does_not_hide_another_draft(tmp_path):
    other = draft_in(tmp_path, "a")
    draft_in(tmp_path, "b").path.with_suffix(".json").write_text("")
    assert find_draft(tmp_path) == (other, tmp_path / "start.safetensors")
