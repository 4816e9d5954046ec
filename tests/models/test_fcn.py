"""FCN against mmsegmentation, and as the network of plain and SCPSeg."""

import pytest
import torch
from parity.fill import arrays, difference, filled, keys
from torch.nn import functional as F

from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.smp_network import FCNDecoder
from napari_uhrseg.models.blocks.timm_features import make_encoder
from napari_uhrseg.models.plain import Plain
from napari_uhrseg.models.scpseg import SCPSeg

SMALL = {"architecture": "FCN", "encoder": "resnet18",
         "options": {"decoder_channels": 8}}  # fmt: skip


@pytest.mark.slow
def test_head_equals_published_logits():
    """The encoder here has the stem of mmsegmentation, as the reference has."""
    weights = filled(keys("fcn"))
    with torch.device("meta"):
        encoder, widths = make_encoder("resnet50c", 3)
        decoder = FCNDecoder(widths[-1], 512)
    backbone = {
        k.removeprefix("backbone.")
        .replace("stem.7.", "bn1.")
        .replace("stem.", "conv1."): v
        for k, v in weights.items()
        if k.startswith("backbone.")
    }
    encoder.load_state_dict(backbone, assign=True)
    head = {
        k.removeprefix("decode_head."): v
        for k, v in weights.items()
        if k.startswith("decode_head.")
    }
    last = head.pop("conv_seg.weight"), head.pop("conv_seg.bias")
    decoder.load_state_dict(head, assign=True)
    image = torch.from_numpy(arrays("fcn", "input")["image"])
    with torch.inference_mode():
        logits = F.conv2d(decoder.eval()(encoder.eval()(image)), *last)
    assert difference(logits, arrays("fcn", "output")["logits_raw"]) < 1e-4


@pytest.mark.slow
def test_plain_and_scpseg_take_it():
    plain = Plain(3, **SMALL, window=64)
    assert plain(Batch({"local": torch.randn(2, 3, 64, 64)}))["logits"].shape == (
        2, 3, 64, 64,
    )  # fmt: skip
    scpseg = SCPSeg(3, **SMALL, patch=128, window=64, inner=48, sr_width=8)
    batch = Batch({"surrounding": torch.randn(2, 3, 128, 128)},
                  target=torch.zeros(2, 64, 64).long())  # fmt: skip
    assert scpseg.loss(scpseg(batch), batch)["loss"].isfinite()


def test_defaults_are_those_of_the_paper():
    """Table 1, second configuration: FCN-8s with a ResNet-50 encoder."""
    with torch.device("meta"):
        model = SCPSeg(6, architecture="FCN", encoder="resnet50")
    assert model.encoder.output_stride == 8
    assert model.classifier.in_channels == 512
    assert model.decoder.convs[0].conv.in_channels == 2048
