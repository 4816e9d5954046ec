"""EHSNet against its paper, its parts against the code they come from."""

import math

import pytest
import timm
import torch
from parity.fill import arrays, difference, filled, keys
from torch import nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.losses import border_weights
from napari_uhrseg.models.blocks.timm_features import (
    concatenate_maps,
    make_hrnet,
    widened,
)
from napari_uhrseg.models.ehsnet import (
    CrossCorrelation,
    EfficientAttention,
    EHSNet,
    LongRangeDependency,
    hardest,
)

SMALL = {"encoder": "hrnet_w18_small", "width": 8, "window": 128, "frame": 256}


@pytest.fixture(scope="module")
def hr48():
    """The maps and logits of HRNet-W48 with its FCN head, at stride 4."""
    weights = filled(keys("hrnet"))
    net = make_hrnet("hrnet_w48", 3, stride=4).eval()
    net.load_state_dict(
        {
            k.removeprefix("backbone."): v
            for k, v in weights.items()
            if k.startswith("backbone.")
        }
    )
    with torch.inference_mode():
        maps = net(torch.from_numpy(arrays("hrnet", "input")["image"]))
    return maps, weights


@pytest.mark.slow
def test_the_backbone_is_that_of_the_reference(hr48):
    theirs = arrays("hrnet", "output")
    for i, found in enumerate(hr48[0]):
        assert difference(found[:, :8], theirs[f"backbone{i}_first8ch"]) < 1e-4


def test_the_branches_are_joined_as_in_the_reference(hr48):
    maps, weights = hr48
    head = nn.Sequential(
        nn.Conv2d(720, 720, 1, bias=False), nn.BatchNorm2d(720), nn.ReLU(),
        nn.Conv2d(720, 24, 1),
    ).eval()  # fmt: skip
    names = {"convs.0.conv": "0", "convs.0.bn": "1", "conv_seg": "3"}
    head.load_state_dict(
        {
            f"{ours}.{k.rpartition('.')[2]}": v
            for theirs, ours in names.items()
            for k, v in weights.items()
            if k.startswith(f"decode_head.{theirs}.")
        }
    )
    with torch.inference_mode():
        logits = head(concatenate_maps(maps))
    assert difference(logits, arrays("hrnet", "output")["logits_raw"]) < 1e-4


def test_efficient_attention_is_that_of_the_authors_code():
    net = EfficientAttention(256, 64, 256)
    net.load_state_dict(filled(keys("efficient_attention")))
    x = torch.from_numpy(arrays("efficient_attention", "input")["x"])
    with torch.inference_mode():
        theirs = arrays("efficient_attention", "output")["y"]
        assert difference(net(x, x), theirs) < 1e-4
        few = net(x, x[:, :, 2:3, 3:7])  # fewer may ask, and get the same answers
        torch.testing.assert_close(few, net(x, x)[:, :, 2:3, 3:7])


def test_at_stride_8_every_branch_is_halved_and_every_weight_fits():
    net = make_hrnet("hrnet_w18_small", 3, stride=8)
    with torch.inference_mode():
        sides = [tuple(m.shape[-2:]) for m in net(torch.zeros(1, 3, 128, 192))]
    assert sides == [(16, 24), (8, 12), (4, 6), (2, 3)]
    stock = timm.create_model(
        "hrnet_w18_small", features_only=True, feature_location=""
    ).state_dict()
    own = net.state_dict()
    assert {k: v.shape for k, v in own.items()} == {
        k: v.shape for k, v in stock.items()
    }


def test_a_fourth_band_starts_as_the_mean_of_the_others():
    conv = nn.Conv2d(3, 64, 3, 2, padding=1, bias=False)
    wide = widened(conv, 4)
    image = torch.randn(2, 4, 16, 16)
    expected = conv(image[:, :3] + image[:, 3:] / 3)
    torch.testing.assert_close(wide(image), expected, rtol=1e-4, atol=1e-5)


def test_a_tenth_of_the_pixels_is_hard_those_with_the_smallest_margin():
    logits = torch.randn(3, 5, 7, 9)
    places = hardest(logits, 0.1)
    assert places.shape == (3, math.ceil(6.3))
    best = logits.sort(dim=1, descending=True).values
    margins = (best[:, 0] - best[:, 1]).flatten(1)
    for chosen, margin in zip(places, margins, strict=True):
        assert chosen.unique().numel() == 7
        rest = torch.ones(63, dtype=torch.bool)
        rest[chosen] = False
        assert margin[chosen].max() < margin[rest].min()


@pytest.mark.parametrize(("share", "count"), [(0.1, 3), (0.5, 15), (1.0, 30)])
def test_the_share_is_rounded_up_and_no_further(share, count):
    assert hardest(torch.randn(1, 2, 5, 6), share).shape == (1, count)


def test_with_one_class_the_undecided_are_hard():
    logits = torch.tensor([-9.0, 5.0, 0.1, -0.2, 7.0]).view(1, 1, 1, 5)
    assert set(hardest(logits, 0.4)[0].tolist()) == {2, 3}


def test_attention_changes_the_hard_pixels_alone():
    ecr = CrossCorrelation(6, 0.1)
    features, logits = torch.randn(2, 6, 10, 10), torch.randn(2, 4, 10, 10)
    found = ecr(features, logits)
    changed = (found != features).any(dim=1).flatten(1)
    for row, places in zip(changed, hardest(logits, 0.1), strict=True):
        assert set(row.nonzero()[:, 0].tolist()) == set(places.tolist())


def test_hard_pixels_look_at_all_pixels():
    ecr = CrossCorrelation(6, 0.1)
    features = torch.randn(1, 6, 10, 10, requires_grad=True)
    logits = torch.randn(1, 4, 10, 10)
    place = hardest(logits, 0.1)[0, 0]
    ecr(features, logits).flatten(2)[0, :, place].sum().backward()
    assert (features.grad.abs().sum(dim=1) > 0).all()


def test_the_choice_is_not_learnt_through():
    logits = torch.randn(1, 4, 10, 10, requires_grad=True)
    features = torch.randn(1, 6, 10, 10, requires_grad=True)
    CrossCorrelation(6, 0.1)(features, logits).sum().backward()
    assert logits.grad is None


def test_the_largest_kernel_spans_31_pixels_after_one_of_5():
    lrd = LongRangeDependency(4).eval()
    for weight in lrd.parameters():  # random weights may leave every ReLU at 0
        torch.nn.init.constant_(weight, 0.1)
    features = torch.ones(1, 4, 65, 65, requires_grad=True)
    lrd(features)[..., 32, 32].sum().backward()
    rows = features.grad.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
    assert (rows.min(), rows.max()) == (32 - 17, 32 + 17)


def test_borders_weigh_twice_within_two_pixels():
    target = torch.zeros(1, 12, 12, dtype=torch.int64)
    target[:, :, 6:] = 3
    weight = border_weights(target)
    assert (weight[..., 4:8] == 2).all()
    assert (weight[..., :4] == 1).all()
    assert (weight[..., 8:] == 1).all()


def test_a_change_of_class_is_a_border_whatever_the_numbers():
    """A thin line whose signed differences cancel is a border, too."""
    target = torch.zeros(1, 9, 9, dtype=torch.int64)
    target[:, :, 4] = 1
    assert (border_weights(target)[..., 2:7] == 2).all()


def test_what_is_ignored_has_no_border():
    target = torch.full((1, 9, 9), 255)
    target[:, :, :5] = 2
    assert (border_weights(target) == 1).all()
    assert (border_weights(torch.full((1, 9, 9), 255)) == 1).all()
    target[0, 8, 0] = 0  # nor does it hide one
    assert border_weights(target)[0, 6, 2] == 2


def batch_of(model: EHSNet) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        {"local": torch.randn(2, model.spec.channels, 128, 192, generator=generator)},
        target=torch.randint(0, 3, (2, 128, 192), generator=generator),
    )


@pytest.mark.slow
def test_the_loss_is_equation_9_with_weights():
    model = EHSNet(3, **SMALL).train()
    batch = batch_of(model)
    outputs = model(batch)
    terms = model.loss(outputs, batch)
    torch.testing.assert_close(
        terms["loss"], terms["segmentation"] + 0.4 * terms["auxiliary"]
    )
    each = F.cross_entropy(outputs["logits"], batch.target, reduction="none")
    weighted = (each * border_weights(batch.target)).mean()
    torch.testing.assert_close(terms["segmentation"], weighted)


@pytest.mark.parametrize("channels", [3, 4])
def test_frames_need_not_be_square(channels):
    model = EHSNet(3, channels, **SMALL).eval()
    with torch.inference_mode():
        outputs = model(batch_of(model))
    assert set(outputs) == {"logits"}
    assert outputs["logits"].shape == (2, 3, 128, 192)


@pytest.mark.slow
def test_far_pixels_matter():
    """The frame is labelled as a whole: a corner can change the other one."""
    model = EHSNet(3, **{**SMALL, "share": 1.0}).eval()
    batch = batch_of(model)
    view = batch.views["local"].requires_grad_()
    model(batch)["logits"][0, :, 0, 0].sum().backward()
    assert view.grad[0, :, -64:, -64:].abs().sum() > 0


def test_the_auxiliary_head_is_kept():
    """Attention needs it, also without training."""
    assert EHSNet.training_only_modules == ()


@pytest.mark.slow
def test_it_can_be_traced_and_run_in_16_bits():
    model = EHSNet(3, **SMALL)
    batch = batch_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(model(batch), batch)
    assert terms["loss"].isfinite()
    assert terms["loss"].dtype == torch.float32
    meta = torch.device("meta")
    assert model.to(meta)(batch.to(meta))["logits"].shape == (2, 3, 128, 192)


@pytest.mark.slow
def test_the_papers_sizes_are_the_default():
    with torch.device("meta"):
        model = EHSNet(24, 4)
    assert sum(model.encoder.feature_info.channels()) == 720
    assert (model.classifier.in_channels, model.ecr.share) == (256, 0.1)
    assert (model.spec.window, model.spec.frame) == (1024, 1024)  # as it was trained
    with torch.device("meta"):
        papers = EHSNet(24, 4, frame=5000)
    assert papers.spec.frame == 5056  # a multiple of 64
    assert (model.spec.divisor, model.spec.min_side) == (64, 64)
    assert model.recipe.stages[0].steps == 10_000
    assert model.recipe.batch_size == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "resnet18"}, "no HRNet"),
        ({"window": 100}, "multiple of 64"),
        ({"share": -0.1}, "share"),
        ({"share": 1.5}, "share"),
        ({"frame": 0}, "frame"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(CheckpointError, match=message) as error:
        EHSNet(3, **{**SMALL, **arguments})
    assert error.value.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"share": 0}, "ecr."),
        ({"long_range": False}, "lrd."),
        ({"border_weight": 0}, ""),
    ],
)
def test_parts_of_the_ablation_can_be_left_out(arguments, part):
    """Table 4 of the paper: without LRD, without ECR, without BAE."""
    whole, model = EHSNet(3, **SMALL), EHSNet(3, **SMALL, **arguments)
    missing = whole.state_dict().keys() - model.state_dict().keys()
    assert missing == {k for k in whole.state_dict() if part and k.startswith(part)}
    batch = Batch({"local": torch.randn(2, 3, 64, 64)},
                  target=torch.arange(3).repeat(2, 64, 22)[..., :64])  # fmt: skip
    outputs = model(batch)
    loss = model.loss(outputs, batch)["segmentation"]
    plain = F.cross_entropy(outputs["logits"], batch.target)
    # every pixel of these labels is near a border
    assert loss.item() == pytest.approx((1 if not part else 2) * plain.item(), rel=1e-4)
    model.eval()
    with torch.inference_mode():
        banded = model.forward_banded(batch[:1], 32)
        enlarged = F.interpolate(banded, size=(64, 64), mode="bilinear")
        torch.testing.assert_close(
            enlarged, model(batch[:1])["logits"], rtol=1e-3, atol=1e-3
        )


@pytest.mark.slow
def test_default_frame_is_the_training_crop():
    with torch.device("meta"):
        assert EHSNet(3).spec.frame == EHSNet(3).spec.window == 1024
        assert EHSNet(3, window=640).spec.frame == 640
        assert EHSNet(3, window=640, frame=1152).spec.frame == 1152
