"""Official ISDNet files: the layout of mmcv, the outputs of the authors' code."""

import re
from pathlib import Path

import pytest
import torch
from parity.fill import arrays, difference, filled, keys
from torch import Tensor

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.models.importers import import_checkpoint
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import LabelClass, Legend

STDC = "refine_head.stdc_net."
PLACES = {0: 2, 1: 4, 2: 8, 3: 8, 4: 16, 5: 16}  # of a layer of the STDC


def alias(key: str) -> str | None:
    """The second name of a tensor of the light branch."""
    match = re.fullmatch(re.escape(STDC) + r"features\.(\d)\.(.+)", key)
    if match is None:
        return None
    return f"{STDC}x{PLACES[int(match[1])]}.0.{match[1]}.{match[2]}"


def doubled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict as the authors' code has it."""
    return {**state, **{a: v for k, v in state.items() if (a := alias(k))}}


def written(path: Path, state: dict[str, Tensor]) -> Path:
    """As mmcv saves it."""
    meta = {"mmcv_version": "1.3.9", "epoch": 12, "CLASSES": ("a", "b")}
    torch.save({"meta": meta, "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """A narrow ISDNet of three classes, under the official names."""
    legend = Legend(tuple(LabelClass(i + 1, f"c{i}", "#112233") for i in range(3)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return doubled(build("isdnet", {"width": 8}, legend).state_dict())


@pytest.mark.slow
def test_outputs_are_those_of_the_authors_code(tmp_path):
    shapes = keys("isdnet")
    names = {alias(k) for k in shapes}
    state = doubled(filled({k: v for k, v in shapes.items() if k not in names}))
    assert set(state) == set(shapes)
    model, card = import_checkpoint(
        written(tmp_path / "deepglobe.pth", state), "isdnet"
    )
    assert card.legend == LEGENDS["deepglobe"]
    path = save_checkpoint(tmp_path / "c.safetensors", model, card, half=False)
    ours = load_checkpoint(path).model
    images, theirs = arrays("isdnet", "input"), arrays("isdnet", "output")
    for name in ("even", "odd"):
        image = torch.from_numpy(images[f"image_{name}"])
        with torch.inference_mode():
            logits = ours(Batch({"local": image}))["logits"]
        assert difference(logits, theirs[f"logits_{name}"]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["mmcv", "bare", "DataParallel", "old torch"])
def test_layouts_people_have(tmp_path, small, layout):
    path = tmp_path / "net.pth"
    state = dict(small)
    if layout == "old torch":
        state = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    if layout == "DataParallel":
        state = {f"module.{k}": v for k, v in state.items()}
    written(path, state) if layout == "mmcv" else torch.save(state, path)
    model, card = import_checkpoint(path, "isdnet")
    assert [c.name for c in card.legend] == ["class 1", "class 2", "class 3"]
    found = model.state_dict()
    assert all(torch.equal(v, small[k]) for k, v in found.items())
    assert not model.training
    assert card.arguments == {"width": 8}
    assert "Apache-2.0" in card.licence
    assert "CVPR 2022" in card.citation
    assert "net.pth" in card.source


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["features", "x"])
def test_one_copy_of_the_light_branch_is_enough(tmp_path, small, kept):
    state = {
        k: v
        for k, v in small.items()
        if not k.startswith(STDC) or k.startswith(f"{STDC}{kept}")
    }
    model, _ = import_checkpoint(written(tmp_path / "a.pth", state), "isdnet")
    assert all(torch.equal(v, small[k]) for k, v in model.state_dict().items())


def test_differing_aliases_are_refused(tmp_path, small):
    key = f"{STDC}x16.0.5.conv_list.0.bn.bias"
    state = {**small, key: small[key] + 1}
    with pytest.raises(CheckpointError, match="contradicts itself") as error:
        import_checkpoint(written(tmp_path / "a.pth", state), "isdnet")
    assert "features.5.conv_list.0.bn.bias" in str(error.value)


@pytest.mark.slow
def test_heads_for_training_may_be_missing_and_are_not_kept(tmp_path, small):
    heads = ("auxiliary_head.", "decode_head.conv_seg.", "refine_head.sr_decoder.")
    state = {k: v for k, v in small.items() if not k.startswith(heads)}
    model, card = import_checkpoint(written(tmp_path / "a.pth", state), "isdnet")
    path = save_checkpoint(tmp_path / "c.safetensors", model, card)
    names = load_checkpoint(path).model.state_dict()
    assert not [k for k in names if k.startswith((*heads, "refine_head.conv_seg_aux"))]


def test_unknown_and_missing_keys_are_listed(tmp_path, small):
    state = dict(small)
    for key in ("backbone.layer1.0.conv1.weight", "refine_head.fuse8.g1"):
        del state[key]
    state["auxiliary_head.extra.bias"] = torch.zeros(3)
    state["backbone.stem.0.weight"] = torch.zeros(2, 3, 3, 3)
    with pytest.raises(CheckpointError) as error:
        import_checkpoint(written(tmp_path / "a.pth", state), "isdnet")
    for part in (
        "2 missing: backbone.layer1.0.conv1.weight, refine_head.fuse8.g1",
        "1 unknown: auxiliary_head.extra.bias",
        "1 of another shape: backbone.stem.0.weight is (2, 3, 3, 3), not (32, 3, 3, 3)",
    ):
        assert part in str(error.value)
    assert error.value.hint


def test_file_of_another_network_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(1, 3, 3, 3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"not of ISDNet.*It has conv\.weight"):
        import_checkpoint(tmp_path / "a.pth", "isdnet")


@pytest.mark.slow
def test_weights_that_are_not_finite_are_refused(tmp_path, small):
    state = {**small, "refine_head.fuse8.g1": torch.tensor([float("nan")])}
    with pytest.raises(CheckpointError, match=r"not finite: refine_head\.fuse8\.g1"):
        import_checkpoint(written(tmp_path / "a.pth", state), "isdnet")
