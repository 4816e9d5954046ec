"""Worked in bands, a network answers as it does at once."""

import pytest
import torch

from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.banded import apply_banded, resize_rows
from napari_uhrseg.models.ehsnet import EHSNet
from napari_uhrseg.models.isdnet import ISDNet


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(3)


def varied(model):
    """Batch norm that does something, and attention that is not nothing."""
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.7, 1.3)
    for name, value in model.named_parameters():
        if name.endswith((".g1", ".g2")):
            value.data.fill_(0.5)
    return model.eval()


def compare(model, height, width, rows):
    batch = Batch({"local": torch.randn(1, 3, height, width)})
    with torch.inference_mode():
        whole = model(batch)["logits"]
        coarse = model.forward_banded(batch, rows)
        size = (height, width)
        banded = torch.cat(
            [
                resize_rows(coarse, size, (y, min(height, y + 100)))
                for y in range(0, height, 100)
            ],
            dim=2,
        )
    assert banded.shape == whole.shape
    assert ((banded - whole).abs().max() / whole.std()).item() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("size", [(640, 128), (701, 99), (515, 67), (65, 513)])
@pytest.mark.parametrize("rows", [16, 128])
def test_isdnet_in_bands(size, rows):
    compare(varied(ISDNet(4, width=32)), *size, rows)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "rows"), [(640, 128, 64), (576, 192, 200)])
def test_ehsnet_in_bands(height, width, rows):
    model = varied(EHSNet(4, encoder="hrnet_w18_small", width=16))
    compare(model, height, width, rows)


@pytest.mark.parametrize("height", [64, 65, 77, 130])
@pytest.mark.parametrize("stride", [2, 4])
def test_a_convolution_in_bands_is_the_convolution(height, stride):
    conv = torch.nn.Conv2d(2, 3, 5, stride, padding=2)
    maps = torch.randn(1, 2, height, 20)
    with torch.inference_mode():
        (found,) = apply_banded(
            lambda _, part: [conv(part)], [(maps, 1)], (stride,),
            rows=16, reach=2, device=maps.device,
        )  # fmt: skip
        torch.testing.assert_close(found, conv(maps))


@pytest.mark.parametrize("size", [(37, 51), (40, 60), (13, 7)])
def test_a_part_of_enlarged_maps(size):
    maps = torch.randn(1, 2, 9, 13)
    whole = torch.nn.functional.interpolate(
        maps, size=size, mode="bilinear", align_corners=False
    )
    rows, columns = (3, size[0] - 2), (2, size[1])
    part = resize_rows(maps, size, rows, columns)
    torch.testing.assert_close(part, whole[:, :, slice(*rows), slice(*columns)])
