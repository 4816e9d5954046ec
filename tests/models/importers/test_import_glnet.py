"""Official GLNet files, one or two, in the layout of DataParallel."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from parity.fill import keys
from torch import Tensor

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.models.importers import import_checkpoint

State = dict[str, Tensor]


def state_of(shapes: Mapping[str, tuple[int, ...]], seed: str) -> State:
    """A number of its own for each tensor, repeated, so that files are small."""
    state = {}
    for key, shape in shapes.items():
        number = zlib.crc32((seed + key).encode()) % 10_007
        counts = key.endswith("num_batches_tracked")
        value = torch.tensor(number) if counts else torch.tensor(number / 10_007)
        state[key] = value.expand(shape)
    return state


@pytest.fixture(scope="module")
def trained() -> State:
    """The file of the last step, local2global."""
    return state_of(
        {k.removeprefix("module."): v for k, v in keys("glnet").items()}, ""
    )


@pytest.fixture(scope="module")
def first(trained) -> State:
    """The file of the first step, global: nothing but the overview has learned."""
    state = state_of({k: v.shape for k, v in trained.items()}, "first")
    untouched = [k for k in state if k.startswith("fpn_local.") and k.endswith("bias")]
    return {**state, **{k: torch.zeros_like(state[k]) for k in untouched}}


def written(path: Path, state: State) -> Path:
    """As the authors' code saves it, in a torch of its time."""
    torch.save(
        {f"module.{k}": v for k, v in state.items()},
        path,
        _use_new_zipfile_serialization=False,
    )
    return path


def same(model: torch.nn.Module, state: State) -> bool:
    """Every tensor of the model is the state's of that name."""
    return all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@pytest.mark.slow
def test_two_files_make_the_published_method(tmp_path, trained, first):
    model, card = import_checkpoint(
        written(tmp_path / "local2global.pth", trained),
        "glnet",
        written(tmp_path / "global.pth", first),
    )
    assert card.arguments["mode"] == 3
    assert card.legend == LEGENDS["deepglobe"]
    assert "local2global.pth and global.pth" in card.source
    assert "MIT" in card.licence
    assert "CVPR 2019" in card.citation
    names = set(model.state_dict())
    assert trained.keys() <= names
    assert {k for k in names if not k.startswith("fixed.")} == trained.keys()
    fixed = {f"fixed.{k}": v for k, v in first.items()}
    assert same(model, {**trained, **fixed})
    assert [k for k in names if k.startswith("fixed.resnet_global.")]
    path = save_checkpoint(tmp_path / "c.safetensors", model, card, half=False)
    assert same(load_checkpoint(path).model, {**trained, **fixed})
    path.unlink()  # it is large


@pytest.mark.slow
def test_one_file_makes_the_mode_it_was_trained_for(tmp_path, trained, first):
    for state, mode in ((first, 1), (trained, 2)):
        path = written(tmp_path / "one.pth", state)
        model, card = import_checkpoint(path, "glnet")
        assert card.arguments["mode"] == mode
        assert same(model, state)
        assert not model.training
    assert import_checkpoint(path, "glnet", mode=1)[1].arguments["mode"] == 1


@pytest.mark.slow
def test_files_without_counts_of_batches_are_read(tmp_path, trained):
    old = {k: v for k, v in trained.items() if "num_batches_tracked" not in k}
    model, _ = import_checkpoint(written(tmp_path / "old.pth", old), "glnet")
    assert same(model, {**model.state_dict(), **old})


@pytest.mark.slow
def test_unknown_and_missing_keys_of_both_files_are_listed(tmp_path, trained, first):
    gone, new = "resnet_local.layer4.2.conv3.weight", "fpn_local.more.bias"
    for spoilt in (0, 1):
        states = [dict(trained), dict(first)]
        del states[spoilt][gone]
        states[spoilt][new] = torch.zeros(2)
        paths = [written(tmp_path / f"{i}.pth", s) for i, s in enumerate(states)]
        with pytest.raises(CheckpointError) as error:
            import_checkpoint(paths[0], "glnet", paths[1])
        assert f"1 missing: {gone}" in str(error.value)
        assert f"1 unknown: {new}" in str(error.value)


@pytest.mark.slow
def test_files_and_modes_that_do_not_go_together(tmp_path, trained, first):
    last = written(tmp_path / "local2global.pth", trained)
    start = written(tmp_path / "global.pth", first)
    for arguments, message in (
        ({"source": last, "mode": 3}, "made from two files"),
        ({"source": last, "second": start, "mode": 2}, "made from one file"),
        ({"source": start, "second": last}, "has not learned to label windows"),
        ({"source": start, "mode": 2}, "has not learned to label windows"),
        ({"source": last, "mode": 4}, "no mode 4"),
        ({"source": last, "legend": LEGENDS["fbp"]}, "labels 7 classes"),
    ):
        with pytest.raises(CheckpointError, match=message) as error:
            import_checkpoint(model="glnet", **arguments)
        assert error.value.hint


def test_file_of_another_network_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(1, 3, 3, 3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"not of GLNet.*It has conv\.weight"):
        import_checkpoint(tmp_path / "a.pth", "glnet")
