"""Other programs' checkpoints: the same outputs, no code run, no key passed over."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.models.importers import import_checkpoint, methods_for
from napari_uhrseg.models.importers.weights_file import read_state, strip_prefix

SMALL = {"encoder_name": "tu-test_efficientnet", "encoder_weights": None}
UNET = {**SMALL, "decoder_channels": (16, 8, 8, 8, 8)}


# -- files of torch -------------------------------------------------------------


class Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("model", ["isdnet", "glnet"])
def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path, new, model):
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    evil = {"state_dict": {"a": torch.zeros(2)}, "meta": Malicious(mark)}
    torch.save(evil, path, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match=r"run code.*mkdir") as error:
        import_checkpoint(path, model)
    assert error.value.hint
    path.write_bytes(pickle.dumps(Malicious(mark), protocol=2))
    with pytest.raises(CheckpointError, match="run code"):
        import_checkpoint(path, model)
    assert not mark.exists()


@pytest.mark.parametrize("new", [True, False])
def test_files_of_old_and_new_torch_are_read(tmp_path, new):
    path = tmp_path / "w.pth"
    for wrapped in (False, True):
        state = {"module.a.weight": torch.arange(6.0).view(2, 3)}
        meta = {"epoch": 3, "CLASSES": ("a", "b"), "PALETTE": [[0, 0, 0]]}
        whole = {"meta": meta, "state_dict": state} if wrapped else state
        torch.save(whole, path, _use_new_zipfile_serialization=new)
        ((key, value),) = read_state(path).items()
        assert key == "a.weight"
        assert torch.equal(value, state["module.a.weight"])


def _cut_legacy(path: Path) -> None:
    state = {f"layer{i}.weight": torch.zeros(300) for i in range(20)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-4000])


def _torchscript(path: Path) -> None:
    """Write the parts of a TorchScript archive that tell it from other files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py"):
            archive.writestr(name, "")


def _cut(path: Path) -> None:
    torch.save({"a": torch.zeros(20_000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_cut, "cannot be read"),
        (_cut_legacy, "cannot be read"),
        (_torchscript, "is TorchScript, which contains code"),
        (lambda path: path.write_text("no weights, but words"), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: torch.save([1, 2], path), "no state_dict"),
        (lambda path: torch.save({"epoch": 3}, path), "not tensors are epoch"),
        (lambda path: torch.save({}, path), "no state_dict"),
        (lambda path: None, "does not exist"),
    ],
)
def test_files_of_another_kind(tmp_path, write, message):
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(CheckpointError, match=message) as error:
        read_state(path)
    assert error.value.hint


@pytest.mark.parametrize("size", range(0, 3000, 97))
def test_legacy_file_cut_anywhere_is_an_error(tmp_path, size):
    path = tmp_path / "w.pth"
    state = {f"layer{i}.weight": torch.zeros(9) for i in range(20)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError):
        read_state(path)


@pytest.mark.parametrize("new", [True, False])
def test_whole_network_is_refused_with_its_own_advice(tmp_path, new):
    path = tmp_path / "w.pth"
    net = torch.nn.Conv2d(1, 1, 1)
    torch.save(net, path, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match="is a whole network") as error:
        read_state(path)
    assert "weights_only=False).state_dict()" in error.value.hint
    whole = {"state_dict": net.state_dict(), "model": net}
    torch.save(whole, path, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match="holds more than weights") as error:
        read_state(path)
    assert "weights_only=False)['state_dict']" in error.value.hint


@pytest.mark.parametrize("prefix", ["module.module.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_removed(tmp_path, prefix):
    torch.save({f"{prefix}a.weight": torch.zeros(2)}, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth")) == ["a.weight"]


def test_prefix_of_a_module_is_removed_or_named():
    tensor = torch.zeros(1)
    state = {"net.head.weight": tensor, "net.a.bias": tensor}
    assert list(strip_prefix(state, "head.weight")) == ["head.weight", "a.bias"]
    assert strip_prefix(state, "other.weight") == state
    with pytest.raises(
        CheckpointError, match=r"prefix 'net\.', but not all.*loss\.w"
    ) as e:
        strip_prefix({**state, "loss.w": tensor}, "head.weight")
    assert "removeprefix('net.')" in e.value.hint


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("a.onnx", "plain", "is an ONNX file.*config.json with model.safetensors"),
        ("a.onnx", "isdnet", "is an ONNX file, which cannot be imported"),
        ("a.pt", "plain", "is a file of torch.*config.json with model.safetensors"),
        ("a.ckpt", "plain", "is a file of torch.*config.json with model.safetensors"),
    ],
)
def test_other_formats_are_named(tmp_path, name, model, message):
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "config.json").write_text("{}")  # of another network
    with pytest.raises(CheckpointError, match=message) as error:
        import_checkpoint(tmp_path / name, model)
    assert error.value.hint


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("magic", {}, "no importer for 'magic'"),
        ("isdnet", {"second": "b.pth"}, "has no second"),
        ("plain", {"mode": 2}, "has no mode"),
        ("glnet", {"window": 64}, "has no window"),
    ],
)
def test_options_of_another_method(model, options, message):
    with pytest.raises(CheckpointError, match=message) as error:
        import_checkpoint("a.pth", model, **options)
    assert error.value.hint


def test_names_tell_which_methods_a_file_may_be_of(tmp_path):
    assert methods_for(tmp_path / "a.PTH") == ("isdnet", "glnet")
    assert methods_for(tmp_path / "a.safetensors") == ()
    assert methods_for(tmp_path) == methods_for(tmp_path / "config.json") == ()
    (tmp_path / "config.json").write_text("{}")
    assert methods_for(tmp_path) == methods_for(tmp_path / "config.json") == ("plain",)
    assert methods_for(tmp_path / "model.safetensors") == ("plain",)


# -- segmentation-models-pytorch ------------------------------------------------


def saved(folder: Path, architecture: str = "Unet", **arguments) -> torch.nn.Module:
    """A network of the library with unlike weights, in its own folder."""
    arguments = {**(UNET if architecture == "Unet" else SMALL), **arguments}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = getattr(smp, architecture)(**arguments)
        for part in net.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 1.5)
    net.save_pretrained(folder)
    return net.eval()


def both(net, folder: Path, tmp_path: Path, **options):
    """What the original and the saved import of it put out, and the card."""
    model, card = import_checkpoint(folder, "plain", **options)
    path = save_checkpoint(tmp_path / "c.safetensors", model, card, half=False)
    ours = load_checkpoint(path)
    side = card.spec.window
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, card.spec.channels, side, side, generator=generator)
    with torch.inference_mode():
        net.to(memory_format=torch.channels_last)  # as ours: the same bits
        return net(x), ours.model(Batch({"local": x}))["logits"], ours.card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("Unet", {"classes": 4, "in_channels": 5}),
        ("FPN", {"classes": 3, "decoder_segmentation_channels": 32}),
        ("Segformer", {"classes": 3, "decoder_segmentation_channels": 16}),
        ("DeepLabV3Plus", {"classes": 3, "decoder_channels": 16}),
        ("UPerNet", {"classes": 3, "decoder_channels": 16}),
    ],
)
def test_outputs_are_those_of_the_original(tmp_path, architecture, options):
    net = saved(tmp_path / "theirs", architecture, **options)
    theirs, ours, card = both(net, tmp_path / "theirs", tmp_path, window=64)
    assert torch.equal(theirs, ours)
    assert card.spec.channels == options.get("in_channels", 3)
    assert [c.name for c in card.legend][:2] == ["class 1", "class 2"]
    assert card.arguments["architecture"] == architecture
    assert card.name == "theirs"
    assert card.source
    assert "MIT" in card.licence


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("architecture", ["Unet", "FPN"])
def test_one_channel_becomes_two_classes(tmp_path, architecture, activation):
    net = saved(tmp_path / "theirs", architecture, classes=1, activation=activation)
    theirs, ours, card = both(net, tmp_path / "theirs", tmp_path, window=64)
    likely = theirs if activation == "sigmoid" else theirs.sigmoid()
    assert (ours[:, 0] == 0).all()
    torch.testing.assert_close(ours.softmax(1)[:, 1:], likely)
    assert torch.equal(ours.argmax(1), (ours[:, 1] > 0).long())
    assert [c.name for c in card.legend] == ["background", "foreground"]
    assert [c.source_value for c in card.legend] == [0, 1]


def test_one_channel_can_be_named_by_a_data_set(tmp_path):
    saved(tmp_path / "theirs", classes=1)
    _, card = import_checkpoint(
        tmp_path / "theirs", "plain", legend=LEGENDS["inria"], window=64
    )
    assert [c.name for c in card.legend] == ["background", "building"]


@pytest.mark.slow
def test_softmax_at_the_end_is_left_to_the_engine(tmp_path):
    net = saved(tmp_path / "theirs", classes=3, activation="softmax2d")
    theirs, ours, _ = both(net, tmp_path / "theirs", tmp_path, window=64)
    torch.testing.assert_close(ours.softmax(1), theirs)


@pytest.mark.slow
def test_classification_head_is_left_out(tmp_path):
    net = saved(tmp_path / "theirs", classes=3, aux_params={"classes": 9})
    theirs, ours, _ = both(net, tmp_path / "theirs", tmp_path, window=64)
    assert torch.equal(theirs[0], ours)


def test_the_window_is_about_512_unless_chosen(tmp_path):
    saved(tmp_path / "theirs", classes=2)
    _, card = import_checkpoint(tmp_path / "theirs", "plain")
    assert card.spec.window == 512
    with pytest.raises(CheckpointError, match="multiple of 32"):
        import_checkpoint(tmp_path / "theirs", "plain", window=100)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "mean"),
    [
        ("tu-test_efficientnet", (0.485, 0.456, 0.406)),
        ("tu-mixnet_s", (0.485, 0.456, 0.406)),
        ("tu-tf_efficientnetv2_b0.in1k", (0.485, 0.456, 0.406)),
        ("tu-tf_mobilenetv3_small_minimal_100.in1k", (0.5, 0.5, 0.5)),
        ("resnet18", (0.485, 0.456, 0.406)),
    ],
)
def test_input_is_normalised_as_the_encoder_was_pretrained(tmp_path, encoder, mean):
    saved(tmp_path / "theirs", classes=2, encoder_name=encoder)
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    config["encoder_weights"] = "imagenet"
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    _, card = import_checkpoint(tmp_path / "theirs", "plain", window=64)
    assert card.spec.mean == mean


@pytest.mark.slow
def test_a_network_that_was_saved_again_is_normalised_as_before(tmp_path):
    """Then the configuration says ``encoder_weights: null``."""
    name = "tu-tf_mobilenetv3_small_minimal_100.in1k"
    saved(tmp_path / "theirs", classes=2, encoder_name=name)
    _, card = import_checkpoint(tmp_path / "theirs", "plain", window=64)
    assert card.spec.mean == card.spec.std == (0.5, 0.5, 0.5)


def _change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(values)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"_model_class": "Mystery"}, "its class is 'Mystery'"),
        ({"activation": "sigmoid"}, "yes or no for itself"),
        ({"activation": "tanh"}, "cannot be read as classes"),
        ({"encoder_name": "tu-nonsense"}, "cannot be built"),
        ({"decoder_nonsense": 3}, "cannot be built"),
        ({"classes": "many"}, "does not describe"),
        ({"classes": 0}, "does not describe"),
        ({"classes": 256}, "has 256 classes; 255 at most"),
        ({"classes": 5}, "of another shape: net.segmentation_head.0.bias"),
        ({"decoder_use_norm": False}, "missing.*unknown"),
    ],
)
def test_configurations_that_do_not_fit(tmp_path, changed, message):
    saved(tmp_path / "theirs", classes=3)
    _change(tmp_path / "theirs", **changed)
    with pytest.raises(CheckpointError, match=message) as error:
        import_checkpoint(tmp_path / "theirs", "plain", window=64)
    assert error.value.hint


def test_unknown_and_missing_weights_are_listed(tmp_path):
    folder = tmp_path / "theirs"
    saved(folder, classes=3)
    tensors = load_file(folder / "model.safetensors")
    gone = "segmentation_head.0.bias"
    tensors["head.of.another"] = tensors.pop(gone)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        import_checkpoint(folder, "plain", window=64)
    assert f"1 missing: net.{gone}" in str(error.value)
    assert "1 unknown: net.head.of.another" in str(error.value)


@pytest.mark.slow
def test_weights_of_a_lightning_module_are_read(tmp_path):
    folder = tmp_path / "theirs"
    net = saved(folder, classes=3)
    (folder / "model.safetensors").unlink()
    state = {f"model.{key}": value for key, value in net.state_dict().items()}
    torch.save({"state_dict": state}, folder / "pytorch_model.bin")
    theirs, ours, _ = both(net, folder, tmp_path, window=64)
    assert torch.equal(theirs, ours)


def test_a_legend_must_have_as_many_classes(tmp_path):
    saved(tmp_path / "theirs", classes=3)
    with pytest.raises(CheckpointError, match="labels 3 classes, the legend has 6"):
        import_checkpoint(
            tmp_path / "theirs", "plain", legend=LEGENDS["potsdam"], window=64
        )


def test_folders_that_are_none(tmp_path):
    for source, message in (
        (tmp_path, "no config.json"),
        (tmp_path / "nothing", "There is no"),
    ):
        with pytest.raises(CheckpointError, match=message) as error:
            import_checkpoint(source, "plain")
        assert error.value.hint
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        import_checkpoint(tmp_path, "plain")
    (tmp_path / "model.safetensors").write_text("words")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        import_checkpoint(tmp_path, "plain")


def test_a_hub_name_without_internet(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="hub cannot be reached") as error:
        import_checkpoint("somebody/unet", "plain")
    assert "internet" in error.value.hint


@pytest.mark.slow
def test_a_hub_name_is_pinned_to_a_commit(monkeypatch, tmp_path):
    """Both files are of one commit, which the card contains."""
    import huggingface_hub

    net = saved(tmp_path / "0123abc", classes=3)
    asked = []

    def download(name, file, *, revision):
        asked.append((name, file, revision))
        return str(tmp_path / "0123abc" / file)

    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        download,
    )
    theirs, ours, card = both(net, "somebody/unet@v1", tmp_path, window=64)
    assert torch.equal(theirs, ours)
    assert card.source == "https://huggingface.co/somebody/unet/tree/0123abc"
    assert card.name == "unet"
    assert asked == [
        ("somebody/unet", "config.json", "v1"),
        ("somebody/unet", "model.safetensors", "0123abc"),
    ]
