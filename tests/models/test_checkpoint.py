"""Checkpoints: what is written comes back, and what is wrong is said."""

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, LabelClass, Legend

LEGEND = Legend((LabelClass(1, "a", "#ff0000", 0), LabelClass(2, "b", "#00ff00", 1)))
ARGUMENTS = {"encoder": "tu-test_efficientnet", "window": 64, "options": {}}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module, Card]:
    model = build("plain", ARGUMENTS, LEGEND)
    card = Card(
        model="plain",
        arguments=ARGUMENTS,
        legend=LEGEND,
        spec=replace(model.spec, pixel_size=0.25, value_range=(0, 4095)),
        name="Test µ",
        metrics={"miou": 0.5},
    )
    return save_checkpoint(tmp_path / "c.safetensors", model, card), model, card


@pytest.mark.slow
def test_saved_checkpoint_has_same_card_and_weights(saved):
    path, model, card = saved
    found = load_checkpoint(path)
    assert found.card == card == read_card(path)
    assert found.model.spec == card.spec
    assert not found.model.training
    assert len(found.hash) == 64
    for name, tensor in model.state_dict().items():
        back = found.model.state_dict()[name]
        assert back.dtype == tensor.dtype
        torch.testing.assert_close(back, tensor, rtol=1e-3, atol=1e-6)


def test_card_of_a_network_larger_than_its_file_is_refused(saved):
    path, model, card = saved
    large = {**ARGUMENTS, "options": {"decoder_channels": 10**9}}
    save_checkpoint(path, model, replace(card, arguments=large))
    with pytest.raises(CheckpointError, match="larger than the file"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0x580, 0x480])
def test_a_header_whose_length_begins_like_a_pickle_is_a_header(tmp_path, length):
    model = build("plain", ARGUMENTS, LEGEND)
    card = Card("plain", ARGUMENTS, LEGEND, model.spec)
    text = json.dumps({"__metadata__": {"card": json.dumps(card.to_dict())}})
    assert len(text) <= length
    path = tmp_path / "c.safetensors"
    path.write_bytes(struct.pack("<Q", length) + text.encode().ljust(length))
    assert path.read_bytes()[0] == 0x80
    assert read_card(path) == card


@pytest.mark.slow
def test_training_only_modules_are_not_saved(tmp_path):
    """Parts of parts too: ISDNet's are within its heads."""
    arguments = {"encoder": "test_efficientnet", "width": 8, "window": 64, "frame": 64}
    model = build("isdnet", arguments, LEGEND)
    card = Card("isdnet", arguments, LEGEND, model.spec)
    path = save_checkpoint(tmp_path / "c.safetensors", model, card)
    parts = [f"{part}." for part in model.training_only_modules]
    assert "refine_head.sr_decoder." in parts
    assert not [k for k in load_file(path) if k.startswith(tuple(parts))]
    found = load_checkpoint(path).model
    assert found.refine_head.sr_decoder is None
    assert found.refine_head.conv_seg is not None
    assert load_checkpoint(path, training=True).model.refine_head.sr_decoder is not None


def test_full_precision_is_exact_and_half_is_float16(saved, tmp_path):
    half, model, card = saved
    full = save_checkpoint(tmp_path / "full.safetensors", model, card, half=False)
    back = load_checkpoint(full).model.state_dict()
    assert all(torch.equal(back[k], v) for k, v in model.state_dict().items())
    assert half.stat().st_size < 0.6 * full.stat().st_size


def test_weights_beyond_float16_stay_float32(saved, tmp_path):
    _, model, card = saved
    with torch.no_grad():
        next(p for p in model.parameters() if p.ndim > 1).flatten()[0] = 1e6
    path = save_checkpoint(tmp_path / "large.safetensors", model, card)
    back = load_checkpoint(path).model
    assert next(p for p in back.parameters() if p.ndim > 1).flatten()[0] == 1e6


@pytest.mark.slow
def test_training_only_modules_are_left_out(tmp_path):
    arguments = {**ARGUMENTS, "patch": 128, "inner": 48, "sr_width": 8}
    model = build("scpseg", arguments, LEGEND)
    card = Card("scpseg", arguments, LEGEND, model.spec)
    path = save_checkpoint(tmp_path / "s.safetensors", model, card)
    assert not [k for k in load_file(path) if k.startswith("sr.")]
    assert load_checkpoint(path).model.sr is None
    assert load_checkpoint(path, training=True).model.sr is not None


def test_the_card_is_read_without_torch(saved):
    code = (
        "import sys; from napari_uhrseg.models.card_header import read_card; "
        f"print(read_card({str(saved[0])!r}).name == 'Test \\u00b5'); "
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "True", found.stderr


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    path, model, card = saved
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(path, model, card)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_weights_that_are_not_finite_are_not_saved(saved, tmp_path):
    _, model, card = saved
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        save_checkpoint(tmp_path / "nan.safetensors", model, card)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _text(path: Path) -> None:
    path.write_text("These are no weights, but a text of some length.")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _zip(path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, path)


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


def _no_card(path: Path) -> None:
    save_file({"a": torch.zeros(2)}, path)


def _header_of_a_list(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2) + b"[]")


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, "cut off"),
        (_cut_header, "cut off"),
        (_text, "no safetensors"),
        (_empty, "no safetensors"),
        (_header_of_a_list, "no safetensors"),
        (_zip, "pickle.*[Ii]mport"),
        (_pickle, "pickle.*[Ii]mport"),
        (_no_card, "without a card"),
        (_missing, "cannot be opened"),
    ],
)
def test_files_of_another_kind(saved, spoil, message):
    path = saved[0]
    spoil(path)
    for read in (read_card, load_checkpoint):
        with pytest.raises(CheckpointError, match=message) as error:
            read(path)
        assert error.value.hint


@pytest.mark.parametrize("length", [0x10280, 0x10580])
def test_a_header_whose_length_begins_like_a_pickle_is_none(saved, length):
    """Its first two bytes are those of a pickle of protocol 2 or 5."""
    path, _, card = saved
    header = json.dumps({"__metadata__": {"card": json.dumps(card.to_dict())}})
    path.write_bytes(struct.pack("<Q", length) + header.encode().ljust(length))
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x05")
    assert read_card(path) == card


def _rewrite(path: Path, change, tensors=None) -> None:
    data = read_card(path).to_dict()
    change(data)
    found = load_file(path) if tensors is None else tensors
    save_file(found, path, metadata={"card": json.dumps(data)})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "nonsense"}, "no model named 'nonsense'"),
        ({"legend": {"classes": []}}, "of another shape|cannot be built"),
        ({"arguments": {"pretrained": True}}, "must not have"),
        ({"arguments": {"nonsense": 1}}, "cannot be built"),
        ({"arguments": {**ARGUMENTS, "window": 96}}, "contradicts itself"),
        ({"arguments": {**ARGUMENTS, "encoder": "tu-nonsense"}}, "cannot"),
        ({"arguments": {**ARGUMENTS, "encoder": 7}}, "7 is no encoder"),
        ({"arguments": {**ARGUMENTS, "architecture": ["Unet"]}}, "cannot be built"),
        ({"arguments": {**ARGUMENTS, "options": 3}}, "cannot be built"),
        ({"arguments": 5}, "arguments is 5"),
        ({"model": ["plain"]}, "model is .'plain'."),
        ({"name": 3}, "name is 3"),
        ({"spec": 3}, "damaged"),
        ({"unheard": 3}, "damaged"),
    ],
)
def test_cards_that_do_not_fit(saved, changed, message):
    _rewrite(saved[0], lambda data: data.update(changed))
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(saved[0])
    assert error.value.hint


@pytest.mark.parametrize(
    ("version", "hint"),
    [
        (1, "Import the original file again"),
        (9, "A later version of napari-uhrseg"),
        (None, "Download or copy"),
    ],
)
def test_card_of_another_version_says_what_to_do(saved, version, hint):
    _rewrite(saved[0], lambda data: data.update(format_version=version))
    with pytest.raises(CheckpointError, match=f"format version {version}") as error:
        load_checkpoint(saved[0])
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("std", [0, 0, 0]),
        ("mean", [0.5]),
        ("mean", "abc"),
        ("pixel_size", -1),
        ("pixel_size", "a"),
        ("pixel_size", float("nan")),
        ("value_range", [1]),
        ("value_range", [1, 1]),
        ("window", "64"),
        ("channels", 0),
        ("divisor", 0),
        ("merge", "bogus"),
        ("padding", "bogus"),
        ("placement", ["shift"]),
    ],
)
def test_input_specs_that_cannot_be_are_named(saved, field, value):
    _rewrite(saved[0], lambda data: data["spec"].update({field: value}))
    for read in (read_card, load_checkpoint):
        with pytest.raises(CheckpointError, match=f"damaged: {field} is") as error:
            read(saved[0])
        assert error.value.hint


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("plain", {"encoder": "tu-hf-hub:owner/name", "window": 64}),
        ("plain", {**ARGUMENTS, "options": {"encoder_name": "tu-hf-hub:owner/name"}}),
        ("plain", {**ARGUMENTS, "options": {"checkpoint_path": "/tmp/weights.pth"}}),
        ("isdnet", {"encoder": "hf-hub:owner/name", "window": 64}),
        ("ehsnet", {"encoder": "hrnet_w18.hf-hub:owner/name", "window": 64}),
    ],
)
def test_loading_needs_no_network(saved, model, arguments, monkeypatch):
    asked = []

    def deny(host, *rest, **named):
        asked.append(host)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", deny)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _rewrite(saved[0], lambda d: d.update(model=model, arguments=arguments))
    with pytest.raises(CheckpointError, match=r"is no encoder|must not set"):
        load_checkpoint(saved[0])
    assert not asked


def test_every_key_is_accounted_for(saved):
    path = saved[0]
    tensors = load_file(path)
    first, second, *_ = (k for k, v in tensors.items() if v.ndim == 4)
    tensors["extra"] = tensors.pop(first)
    tensors[second] = tensors[second][:1]
    _rewrite(path, lambda data: None, tensors)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    for part in (f"missing: {first}", "unknown: extra", f"another shape: {second}"):
        assert part in str(error.value)


def test_largest_frame_is_not_part_of_the_network(tmp_path):
    """Cards of earlier versions have other default frames."""
    arguments = {"encoder": "test_efficientnet", "width": 8, "window": 64}
    model = build("isdnet", {**arguments, "frame": 64}, LEGEND)
    spec = replace(model.spec, frame=128)
    card = Card("isdnet", {**arguments, "frame": 64}, LEGEND, spec)
    path = save_checkpoint(tmp_path / "c.safetensors", model, card)
    assert load_checkpoint(path).model.spec.frame == 128
