"""SGNet against its paper: context, its alignment, the losses, the fast variant."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from napari_uhrseg.engine.network.activation_memory import activation_bytes
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.losses import cross_entropy
from napari_uhrseg.models.blocks.surrounding_branch import ContextIntegration, align
from napari_uhrseg.models.sgnet import SGNet

SMALL = {"encoder": "tu-test_efficientnet", "options": {"decoder_channels": 16},
         "window": 64, "width": 8, "heads": 2, "shallow_width": 8}  # fmt: skip
FAST = {**SMALL, "fast": True, "window": 128, "frame": 200}
CENTRE = (32.0, 32.0, 96.0, 96.0)
ASIDE = (48.0, 5.0, 112.0, 69.0)


def batch_of(model: SGNet, box: tuple[float, ...] = CENTRE, size: int = 2) -> Batch:
    """Noise whose surrounding holds the local view in the box."""
    generator = torch.Generator().manual_seed(0)
    shape = (size, model.spec.channels)
    target = torch.randint(0, 3, (size, 128, 128), generator=generator)
    around = torch.randn(*shape, 128, 128, generator=generator)
    if model.fast:
        return Batch({"local": around}, target=target)
    y0, x0, y1, x1 = (int(v) for v in box)
    return Batch(
        {"local": around[..., y0:y1, x0:x1].clone(), "surrounding": around},
        {"surrounding": torch.tensor([box] * size)},
        target[:, y0:y1, x0:x1].clone(),
        target,
    )


def logits(model: SGNet, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return model(batch)["logits"]


# --- context ---------------------------------------------------------------------


@pytest.mark.parametrize("box", [CENTRE, ASIDE])
def test_what_lies_around_the_window_changes_its_labels(box):
    model = SGNet(3, **SMALL).eval()
    batch = batch_of(model, box)
    before = logits(model, batch)
    y0, x0, y1, x1 = (int(v) for v in box)
    moved = batch.views["surrounding"].roll(7, dims=-1)
    moved[..., y0:y1, x0:x1] = batch.views["local"]
    batch.views["surrounding"].copy_(moved)
    assert not torch.allclose(logits(model, batch), before)


def test_the_box_says_which_context_a_window_gets():
    model = SGNet(3, **SMALL).eval()
    batch = batch_of(model)
    before = logits(model, batch)
    batch.boxes["surrounding"][:] = torch.tensor(ASIDE)
    assert not torch.allclose(logits(model, batch), before)


@pytest.mark.slow
def test_each_window_gets_its_own_box():
    model = SGNet(3, **SMALL).eval()
    batch = batch_of(model)
    batch.boxes["surrounding"][1] = torch.tensor(ASIDE)
    together = logits(model, batch)
    for i, box in enumerate((CENTRE, ASIDE)):
        batch.boxes["surrounding"][:] = torch.tensor(box)
        torch.testing.assert_close(logits(model, batch)[i], together[i])


@pytest.mark.parametrize("size", [(16, 16), (19, 13), (4, 8)])
def test_attention_crosses_windows(size):
    """Through the windows' means, however many windows there are."""
    block = ContextIntegration(8, 2)
    maps = torch.randn(1, 8, *size, requires_grad=True)
    found = block(maps)
    assert found.shape == maps.shape
    found[0, :, 0, 0].square().sum().backward()
    assert (maps.grad.abs().sum(dim=1) > 0).all()


def test_without_the_means_windows_are_apart():
    block = ContextIntegration(8, 2)
    torch.nn.init.zeros_(block.among.out_proj.weight)
    maps = torch.randn(1, 8, 16, 16, requires_grad=True)
    block(maps)[0, :, 0, 0].square().sum().backward()
    seen = maps.grad.abs().sum(dim=1)[0] > 0
    assert seen[:8, :8].all()
    assert not seen[8:].any()
    assert not seen[:, 8:].any()


def test_the_block_is_equations_1_to_5():
    """One window, written out."""
    block = ContextIntegration(8, 2).eval()
    maps = torch.randn(2, 8, 8, 8)
    tokens = maps.flatten(2).transpose(1, 2)
    first = block.within(block.norm(tokens)) + tokens
    mean = first.mean(dim=1, keepdim=True)
    second = first + block.among(mean, mean, mean)[0]
    third = block.forward_layer(block.forward_norm(second)) + second
    found = block(maps).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, third, rtol=1e-4, atol=1e-5)


def test_padding_to_whole_windows_adds_nothing():
    """A map of equal cells stays one of equal cells, up to the border."""
    block = ContextIntegration(8, 2).eval()
    with torch.inference_mode():
        found = block(torch.randn(1, 8, 1, 1).expand(-1, -1, 11, 21))
        whole = block(torch.randn(1, 8, 1, 1).expand(-1, -1, 16, 24))
    for maps in (found, whole):
        torch.testing.assert_close(maps, maps[..., :1, :1].expand_as(maps))


# --- alignment -------------------------------------------------------------------


def test_alignment_is_roi_align():
    maps = torch.randn(3, 5, 9, 8)
    boxes = torch.tensor([[32.0, 32, 96, 96], [5, 48, 69, 112], [80, 0, 144, 64.0]])
    rois = torch.cat((torch.arange(3.0)[:, None], boxes[:, [1, 0, 3, 2]]), dim=1)
    theirs = roi_align(maps, rois, (16, 16), 1 / 16, sampling_ratio=1, aligned=True)
    torch.testing.assert_close(
        align(maps, boxes, (16, 16)), theirs, rtol=1e-4, atol=1e-5
    )


def test_alignment_is_exact_at_half_pixels():
    """A map of each cell's own centre shows each sample's own centre."""
    rows = (torch.arange(8.0) * 16 + 8)[:, None].expand(8, 8)
    maps = torch.stack((rows, rows.T))[None]
    cut = align(maps, torch.tensor([[37.0, 21.0, 101.0, 85.0]]), (16, 16))[0]
    steps = torch.arange(16.0) * 4 + 2
    torch.testing.assert_close(cut[0], (37 + steps)[:, None].expand(16, 16))
    torch.testing.assert_close(cut[1], (21 + steps)[None].expand(16, 16))


def test_the_concentric_box_is_the_central_half():
    maps = torch.randn(1, 2, 64, 64)
    cut = align(maps, torch.tensor([[256.0, 256.0, 768.0, 768.0]]), (32, 32))
    torch.testing.assert_close(cut, maps[..., 16:48, 16:48], rtol=1e-4, atol=1e-5)


def test_the_whole_map_is_resized_as_ever():
    maps = torch.randn(1, 2, 8, 8)
    theirs = F.interpolate(maps, (32, 32), mode="bilinear", align_corners=False)
    ours = align(maps, torch.tensor([[0.0, 0.0, 128.0, 128.0]]), (32, 32))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# --- loss ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [SMALL, FAST])
def test_the_loss_is_equation_7(arguments):
    model = SGNet(3, **arguments).train()
    batch = batch_of(model)
    terms = model.loss(model(batch), batch)
    expected = (
        terms["segmentation"] + 0.4 * terms["auxiliary"] + 0.1 * terms["consistency"]
    )
    torch.testing.assert_close(terms["loss"], expected)


def test_the_auxiliary_head_learns_from_all_the_surroundings():
    model = SGNet(3, **SMALL).train()
    batch = batch_of(model)
    outputs = model(batch)
    whole = F.interpolate(outputs["surrounding"], (128, 128), mode="bilinear")
    torch.testing.assert_close(
        model.loss(outputs, batch)["auxiliary"],
        cross_entropy(whole, batch.surrounding_target),
    )


def test_without_their_label_it_learns_from_the_window():
    model = SGNet(3, **SMALL).train()
    batch = batch_of(model)
    alone = Batch(batch.views, batch.boxes, batch.target)
    outputs = model(batch)
    whole = F.interpolate(outputs["surrounding"], (128, 128), mode="bilinear")
    torch.testing.assert_close(
        model.loss(outputs, alone)["auxiliary"],
        cross_entropy(whole[..., 32:96, 32:96], batch.target),
    )


def test_consistency_compares_probabilities_within_the_box():
    model = SGNet(3, **SMALL).train()
    batch = batch_of(model, ASIDE)
    outputs = model(batch)
    whole = F.interpolate(outputs["surrounding"], (128, 128), mode="bilinear")
    part = whole[..., 48:112, 5:69].softmax(1)
    expected = (part - outputs["logits"].softmax(1)).abs().mean()
    found = model.loss(outputs, batch)["consistency"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_consistency_teaches_both_sides():
    model = SGNet(3, **SMALL).train()
    batch = batch_of(model)
    outputs = {k: v.detach().requires_grad_() for k, v in model(batch).items()}
    model.loss(outputs, batch)["consistency"].backward()
    assert all(v.grad.abs().sum() > 0 for v in outputs.values())


def test_two_that_agree_are_consistent():
    model = SGNet(3, **SMALL)
    same = torch.randn(2, 3, 1, 1)
    outputs = {
        "logits": same.expand(-1, -1, 64, 64),
        "surrounding": same.expand(-1, -1, 8, 8),
    }
    terms = model.loss(outputs, batch_of(model))
    assert terms["consistency"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("arguments", [SMALL, FAST])
def test_without_training_the_auxiliary_head_costs_nothing(arguments):
    model = SGNet(3, **arguments).eval()
    batch = batch_of(model)
    with torch.inference_mode():
        outputs = model(batch)
        assert set(outputs) == {"logits"}
        model.auxiliary = None
        assert torch.equal(model(batch)["logits"], outputs["logits"])
    model.train()  # a stripped one still trains, by cross entropy alone
    assert set(model.loss(model(batch), batch)) == {"loss"}


def test_the_label_of_the_surroundings_moves_along_with_its_batch():
    batch = batch_of(SGNet(3, **SMALL)).to(torch.device("meta"))
    assert batch.surrounding_target is not None
    assert batch.surrounding_target.is_meta


# --- around any segmenter ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder", "options"),
    [
        ("FPN", "resnet18", {"decoder_pyramid_channels": 16,
                             "decoder_segmentation_channels": 32}),
        ("PSPNet", "resnet18", {"psp_out_channels": 16}),
        ("DeepLabV3Plus", "tu-test_efficientnet", {"decoder_channels": 16}),
        ("UPerNet", "tu-hrnet_w18_small", {"decoder_channels": 16}),
        ("Segformer", "mit_b0", {"decoder_segmentation_channels": 16}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fast", [False, True])
def test_around_any_segmenter(architecture, encoder, options, fast):
    parts = {"architecture": architecture, "encoder": encoder, "options": options}
    model = SGNet(3, **{**(FAST if fast else SMALL), **parts}).train()
    batch = batch_of(model)
    outputs = model(batch)
    side = 128 if fast else 64
    assert outputs["logits"].shape == (2, 3, side, side)
    assert outputs["surrounding"].shape == (2, 3, 8, 8)
    assert model.loss(outputs, batch)["loss"].isfinite()


# --- the fast variant --------------------------------------------------------------


def test_fast_it_labels_frames():
    model = SGNet(3, **FAST).eval()
    spec = model.spec
    assert {name: view.extent for name, view in spec.views.items()} == {
        "local": "frame"
    }
    assert (spec.frame, spec.divisor, spec.min_side) == (256, 64, 64)
    for size in ((64, 64), (128, 192)):
        with torch.inference_mode():
            found = model(Batch({"local": torch.randn(1, 3, *size)}))["logits"]
        assert found.shape == (1, 3, *size)


def test_fast_the_segmenter_sees_a_quarter_and_the_light_branch_everything():
    model = SGNet(3, **FAST).eval()
    seen = {}
    for name in ("encoder", "surrounding"):
        getattr(model, name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0].shape[-2:]})
        )
    logits(model, batch_of(model))
    assert seen == {"encoder": (32, 32), "surrounding": (128, 128)}
    assert len(model.surrounding.blocks) == 1


@pytest.mark.slow
def test_fast_every_parameter_learns():
    model = SGNet(3, **FAST).train()
    batch = batch_of(model)
    model.loss(model(batch), batch)["loss"].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


# --- sizes -------------------------------------------------------------------------


@pytest.mark.slow
def test_it_can_be_traced_and_run_in_16_bits():
    model = SGNet(3, **SMALL)
    batch = batch_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(model(batch), batch)
    assert terms["loss"].isfinite()
    assert terms["loss"].dtype == torch.float32
    assert activation_bytes(model.eval()) > 0


@pytest.mark.slow
def test_the_papers_sizes_are_the_default():
    model = SGNet(6)
    spec = model.spec
    assert (spec.window, spec.window_overlap, spec.placement) == (512, 64, "shift")
    around = spec.views["surrounding"]
    assert (around.extent, around.side, around.off_centre) == (1024, 1024, True)
    assert model.classifier.in_channels == 512 + 256
    assert model.surrounding.backbone.out_channels[1] == 512
    assert len(model.surrounding.blocks) == 2
    recipe = model.recipe
    assert (recipe.optimizer, recipe.batch_size) == ("adamw", 8)
    assert (recipe.stages[0].steps, recipe.stages[0].learning_rate) == (30_000, 2e-4)


def test_any_window_the_encoder_takes_will_do():
    """Also where the map is no whole number of attention's windows."""
    model = SGNet(2, **{**SMALL, "window": 96}).eval()
    batch = Batch(
        {
            "local": torch.randn(1, 3, 96, 96),
            "surrounding": torch.randn(1, 3, 192, 192),
        },
        {"surrounding": torch.tensor([[48.0, 48, 144, 144]])},
    )
    assert logits(model, batch).shape == (1, 2, 96, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 61}, "multiple of"),
        ({"fast": True, "window": 96}, "multiple of 64"),
        ({"width": 9}, "heads"),
        ({"blocks": -1}, "at least 1"),
        ({"window": 0}, "at least 1"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(CheckpointError, match=message) as error:
        SGNet(3, **{**SMALL, **arguments})
    assert error.value.hint


@pytest.mark.parametrize("weights", [(0.4, 0.0), (0.0, 0.1), (0.0, 0.0)])
@pytest.mark.parametrize("blocks", [0, 1])
def test_parts_of_the_ablation_can_be_left_out(weights, blocks):
    """Table 3 of the paper: without SCI, auxiliary loss, boundary consistency."""
    first, second = weights
    model = SGNet(
        3, **SMALL, blocks=blocks, auxiliary_weight=first, consistency_weight=second
    )
    assert len(model.surrounding.blocks) == blocks
    batch = batch_of(model)
    terms = model.loss(model(batch), batch)
    if any(weights):
        expected = (
            terms["segmentation"]
            + first * terms["auxiliary"]
            + second * terms["consistency"]
        )
        torch.testing.assert_close(terms["loss"], expected)
    else:
        assert model.auxiliary is None
        assert set(terms) == {"loss"}
