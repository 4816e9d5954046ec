"""Passes of ONNX networks, compared with onnxruntime."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from helpers.onnx_networks import DEEPNESS, export, small_network
from napari_uhrseg.errors import CheckpointError, TrainingError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.checkpoint import file_hash, load_checkpoint
from napari_uhrseg.models.onnx.card import write_card
from napari_uhrseg.models.onnx.description import NetworkDescription, named_legend

ABC = {"class_names": ["a", "b", "c"], "tile_size": 64}


def batch(count: int = 3, side: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch({"local": torch.randn(count, 3, side, side, generator=generator)})


def logits(path, given: Batch) -> np.ndarray:
    with torch.inference_mode():
        return load_checkpoint(path).model(given)["logits"].numpy()


def by_hand(path, given: Batch) -> np.ndarray:
    """Return what onnxruntime computes with its defaults."""
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {"image": given.views["local"].numpy()})[0]


def test_logits_equal_those_of_onnxruntime(tmp_path):
    path = export(small_network(), tmp_path / "net.onnx", ABC)
    np.testing.assert_allclose(logits(path, batch()), by_hand(path, batch()), atol=1e-5)
    again = logits(path, batch())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        np.testing.assert_array_equal(logits(path, batch()), again)
    finally:
        torch.set_num_threads(threads)


def test_fixed_number_of_images(tmp_path):
    free = export(small_network(), tmp_path / "free.onnx", ABC)
    for count in (1, 2):
        path = export(
            small_network(), tmp_path / "net.onnx", ABC, window=64, count=count
        )
        np.testing.assert_allclose(
            logits(path, batch()), logits(free, batch()), atol=1e-5
        )


def deepness(values: np.ndarray, threshold: float) -> np.ndarray:
    """Return labels as Deepness makes them from the values of a network."""
    kept = np.where(values < threshold, 0, values)
    return kept.argmax(1) if kept.shape[1] > 1 else (kept[:, 0] != 0).astype(int)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("last", [None, nn.Sigmoid(), nn.Softmax(1)])
@pytest.mark.parametrize("threshold", [0.45, 0.5])
def test_labels_equal_those_of_deepness(tmp_path, classes, last, threshold):
    if classes == 1 and isinstance(last, nn.Softmax):
        return
    metadata = ABC | {"seg_thresh": threshold}
    if classes == 1:
        metadata["class_names"] = ["a", "b"]
    path = export(small_network(classes, last), tmp_path / "net.onnx", metadata)
    expected = deepness(by_hand(path, batch()), threshold)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(logits(path, batch()).argmax(1), expected)


def test_probabilities_become_logits(tmp_path):
    path = export(small_network(3, nn.Softmax(1)), tmp_path / "net.onnx", ABC)
    found = torch.from_numpy(logits(path, batch())).softmax(1).numpy()
    np.testing.assert_allclose(found, by_hand(path, batch()), atol=1e-5)


class Labels(nn.Module):
    """Network that returns labels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_network()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image).argmax(1)


def test_network_that_returns_labels(tmp_path):
    path = export(Labels().eval(), tmp_path / "net.onnx", ABC, window=64)
    found = logits(path, batch(1))
    assert found.shape == (1, 3, 64, 64)
    np.testing.assert_array_equal(found.argmax(1), by_hand(path, batch(1)))


def test_coarse_output_is_enlarged(tmp_path):
    net = nn.Sequential(*small_network(), nn.AvgPool2d(4)).eval()
    path = export(net, tmp_path / "net.onnx", ABC)
    values = torch.from_numpy(by_hand(path, batch()))
    expected = nn.functional.interpolate(values, (64, 64), mode="bilinear")
    np.testing.assert_allclose(logits(path, batch()), expected, atol=1e-5)


def test_output_of_another_size_or_number_is_refused(tmp_path):
    cut = nn.Sequential(*small_network(), nn.AvgPool2d(5, stride=1)).eval()
    path = export(cut, tmp_path / "net.onnx", ABC)
    with pytest.raises(CheckpointError, match="60 x 60 of 64 x 64 pixels"):
        logits(path, batch(1))
    model = onnx.load(export(small_network(), tmp_path / "net.onnx", ABC))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    write_card(path, NetworkDescription(legend=named_legend(("a", "b")), window=64))
    with pytest.raises(CheckpointError, match="its card has 2 classes"):
        logits(path, batch(1))


def test_failed_pass_is_a_checkpoint_error(tmp_path):
    fixed = nn.Sequential(*small_network(), nn.Flatten(2), nn.Unflatten(2, (64, 64)))
    path = export(fixed.eval(), tmp_path / "net.onnx", ABC | {"tile_size": 32})
    with pytest.raises(CheckpointError, match=r"net\.onnx failed"):
        logits(path, batch(1, 32))


def test_hash_covers_weights_and_card(tmp_path):
    path = export(small_network(), tmp_path / "net.onnx", DEEPNESS)
    first = file_hash(path)
    assert load_checkpoint(path).hash == first
    write_card(
        path, NetworkDescription(legend=named_legend(("a", "b", "c")), window=64)
    )
    second = file_hash(path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip
    third = file_hash(path)
    weights = bytearray((tmp_path / "w.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "w.bin").write_bytes(weights)
    assert len({first, second, third, file_hash(path)}) == 4


def test_network_has_no_loss(tmp_path):
    model = load_checkpoint(export(small_network(), tmp_path / "n.onnx", ABC)).model
    with pytest.raises(TrainingError, match="cannot be trained"):
        model.loss({}, batch())


def test_missing_or_unable_onnxruntime_is_reported(tmp_path, monkeypatch):
    path = export(small_network(), tmp_path / "net.onnx", ABC)
    model = onnx.load(path)
    model.graph.node[0].op_type = "Conv9"
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match=r"cannot load net\.onnx"):
        load_checkpoint(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CheckpointError, match=r"napari-uhrseg\[onnx\]"):
        load_checkpoint(path)
