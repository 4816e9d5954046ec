"""SCPSeg against its paper: squeezing, super-resolution, feature alignment."""

import pytest
import torch
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.context_squeezing import squeeze
from napari_uhrseg.models.blocks.losses import cross_entropy
from napari_uhrseg.models.scpseg import SCPSeg, local_feature_alignment

SMALL = {"encoder": "tu-test_efficientnet", "options": {"decoder_channels": 16},
         "sr_width": 8, "patch": 128, "window": 64, "inner": 48}  # fmt: skip


def batch_of(model: SCPSeg, size: int = 2) -> Batch:
    side = model.spec.views["surrounding"].side
    generator = torch.Generator().manual_seed(0)
    return Batch(
        {"surrounding": torch.randn(size, 3, side, side, generator=generator)},
        target=torch.randint(0, 3, (size, 64, 64), generator=generator),
    )


def matrix(source: int, target: int) -> torch.Tensor:
    """Bilinear weights, half-pixel centres, clamped at the ends: (target, source)."""
    places = (
        (torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5
    ).clamp(0)
    low = places.floor().long().clamp(max=source - 1)
    high = (low + 1).clamp(max=source - 1)
    weights = torch.zeros(target, source, dtype=torch.float64)
    weights.scatter_add_(1, low[:, None], (1 - (places - low))[:, None])
    weights.scatter_add_(1, high[:, None], (places - low)[:, None])
    return weights


@pytest.mark.parametrize("sizes", [(512, 256, 192), (1024, 512, 384), (100, 40, 22)])
def test_squeezing_is_one_matrix_from_each_side(sizes):
    patch, local, inner = sizes
    image = torch.randn(1, 2, patch, patch, dtype=torch.float64)
    margin, rim = (patch - local) // 2, (local - inner) // 2
    one = torch.block_diag(
        matrix(margin, rim), matrix(local, inner), matrix(margin, rim)
    )
    torch.testing.assert_close(
        squeeze(image, local, inner), one @ image @ one.T, rtol=1e-5, atol=1e-5
    )


def test_cells_do_not_bleed():
    """Each cell of a picture with one colour a cell keeps its colour."""
    image = torch.arange(9.0).view(1, 1, 3, 3)
    sides = torch.tensor([128, 256, 128])
    image = image.repeat_interleave(sides, 2).repeat_interleave(sides, 3)
    small = squeeze(image, 256, 192)
    sides = torch.tensor([32, 192, 32])
    expected = torch.arange(9.0).view(1, 1, 3, 3)
    expected = expected.repeat_interleave(sides, 2).repeat_interleave(sides, 3)
    torch.testing.assert_close(small, expected)


@pytest.mark.parametrize("antialias", [False, True])
def test_the_centre_is_the_window_resized(antialias):
    image = torch.randn(2, 3, 512, 512)
    kwargs = {"mode": "bilinear", "align_corners": False, "antialias": antialias}
    centre = F.interpolate(image[..., 128:-128, 128:-128], size=(192, 192), **kwargs)
    found = squeeze(image, 256, 192, antialias)[..., 32:-32, 32:-32]
    assert torch.equal(found, centre)


def test_without_room_for_context_it_is_the_window():
    image = torch.randn(1, 3, 512, 512)
    assert torch.equal(squeeze(image, 256, 256), image[..., 128:-128, 128:-128])
    assert torch.equal(squeeze(image, 512, 512), image)


@pytest.mark.parametrize(
    "sizes", [(256, 512, 192), (512, 256, 300), (511, 256, 192), (512, 256, 191),
              (256, 256, 192), (512, 256, 0)]
)  # fmt: skip
def test_sizes_that_cannot_be(sizes):
    patch, window, inner = sizes
    with pytest.raises(CheckpointError, match="do not fit"):
        SCPSeg(3, **{**SMALL, "patch": patch, "window": window, "inner": inner})


def test_logits_show_the_window_and_not_its_rim():
    """Crop, then resize: the classifier's centre alone decides."""
    model = SCPSeg(3, **SMALL)
    maps = torch.randn(1, 3, 16, 16)  # a quarter of 64: rim 2, centre 12
    expected = F.interpolate(
        maps[..., 2:-2, 2:-2], size=(64, 64), mode="bilinear", align_corners=False
    )
    assert torch.equal(model._centre(maps, resize=True), expected)
    # at 1/32 the rim is a quarter pixel: resized first, then cropped
    coarse = model._centre(torch.randn(1, 3, 2, 2))
    assert coarse.shape[-2:] == (48, 48)


def test_super_resolution_is_held_to_the_window_at_full_resolution():
    model = SCPSeg(3, **SMALL).train()
    batch = batch_of(model)
    outputs = model(batch)
    local = batch.views["surrounding"][..., 32:-32, 32:-32]
    outputs["sr_image"] = local + 0.25
    assert model.loss(outputs, batch)["super_resolution"].item() == pytest.approx(0.25)


def test_the_loss_is_equation_9():
    model = SCPSeg(3, **SMALL).train()
    batch = batch_of(model)
    terms = model.loss(model(batch), batch)
    expected = (
        terms["segmentation"]
        + 0.5 * terms["super_resolution"]
        + 0.5 * terms["feature_alignment"]
    )
    torch.testing.assert_close(terms["loss"], expected)


def test_alignment_is_equations_7_and_8():
    guide, features = torch.randn(2, 5, 14, 14), torch.randn(2, 8, 14, 14)
    total, count = 0.0, 0
    for n in range(2):
        for y in (0, 7):
            for x in (0, 7):
                pair = []
                for maps in (guide, features):
                    pixels = maps[n, :, y : y + 7, x : x + 7].reshape(-1, 49)
                    pixels = pixels / pixels.norm(dim=0, keepdim=True)
                    pair.append(pixels.T @ pixels)
                total += float((pair[0] - pair[1]).abs().sum())
                count += 49 * 49
    found = local_feature_alignment(guide, features)
    assert found.item() == pytest.approx(total / count, rel=1e-4)


def test_alignment_of_equal_features_is_nothing():
    maps = torch.randn(1, 4, 48, 48)
    assert local_feature_alignment(3 * maps, maps).item() == pytest.approx(0, abs=1e-6)
    assert local_feature_alignment(maps[..., :3, :3], maps[..., :3, :3]).item() == 0


@pytest.mark.parametrize("mutual", [False, True])
def test_alignment_teaches_the_decoder_only_if_mutual(mutual):
    model = SCPSeg(3, **SMALL, mutual=mutual).train()
    batch = batch_of(model)
    model.loss(model(batch), batch)["feature_alignment"].backward()
    assert model.sr is not None
    trained = any(p.grad is not None for p in model.sr.parameters())
    assert trained is mutual
    assert any(p.grad is not None for p in model.decoder.parameters())


def test_without_training_the_super_resolution_costs_nothing():
    model = SCPSeg(3, **SMALL).eval()
    batch = batch_of(model)
    with torch.inference_mode():
        outputs = model(batch)
        assert set(outputs) == {"logits"}
        model.sr = None
        assert torch.equal(model(batch)["logits"], outputs["logits"])
    model.train()  # a stripped one still trains, by cross entropy alone
    assert set(model.loss(model(batch), batch)) == {"loss"}


def test_cross_entropy_ignores_255():
    logits = torch.randn(1, 3, 4, 4)
    target = torch.randint(0, 3, (1, 4, 4))
    expected = F.cross_entropy(logits[..., :2], target[..., :2])
    target[..., 2:] = 255
    torch.testing.assert_close(cross_entropy(logits, target), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("FPN", "resnet18"),
        ("PSPNet", "resnet18"),
        ("UPerNet", "resnet18"),
        ("Segformer", "mit_b0"),
        ("Unet", "tu-test_efficientnet"),
    ],
)
def test_around_any_segmenter(architecture, encoder):
    small = {**SMALL, "architecture": architecture, "encoder": encoder, "options": {}}
    model = SCPSeg(3, **small).train()
    batch = batch_of(model)
    outputs = model(batch)
    assert outputs["logits"].shape == (2, 3, 64, 64)
    assert outputs["sr_image"].shape == (2, 3, 64, 64)
    assert outputs["sr_features"].shape[-2:] == outputs["ss_features"].shape[-2:]
    assert model.loss(outputs, batch)["loss"].isfinite()


@pytest.mark.slow
def test_the_papers_sizes_are_the_default():
    model = SCPSeg(6)
    assert model.spec.views["surrounding"].side == 512
    assert (model.spec.window, model.inner) == (256, 192)
    assert model.encoder.output_stride == 8
    assert model.recipe.batch_size == 16
    assert model.recipe.stages[0].steps == 40_000
    large = SCPSeg(6, patch=1024, window=512, inner=384, sr_width=8)
    assert large.recipe.batch_size == 8


def test_super_resolution_is_learned_at_full_resolution():
    """The image is no enlargement of the squeezed window, which has 48 columns."""
    model = SCPSeg(3, **SMALL).train()
    with torch.no_grad():
        image = model(batch_of(model))["sr_image"]
    enlarged = F.interpolate(torch.randn(1, 1, 48, 48), (64, 64), mode="bilinear")
    assert torch.linalg.matrix_rank(enlarged[0, 0].double(), rtol=1e-6) == 48
    assert torch.linalg.matrix_rank(image[0, 0].double(), rtol=1e-6) > 48


@pytest.mark.parametrize("weights", [(0.5, 0.0), (0.0, 0.5), (0.0, 0.0)])
def test_super_resolution_and_alignment_can_be_left_out(weights):
    """Table 5 of the paper: without LFA, without SRD."""
    first, second = weights
    model = SCPSeg(3, **SMALL, sr_weight=first, alignment_weight=second).train()
    batch = batch_of(model)
    terms = model.loss(model(batch), batch)
    assert (model.sr is None) == (not any(weights))
    if any(weights):
        expected = (
            terms["segmentation"]
            + first * terms["super_resolution"]
            + second * terms["feature_alignment"]
        )
        torch.testing.assert_close(terms["loss"], expected)
