"""GLNet against its authors' code in all modes, and what the paper only describes."""

import numpy as np
import pytest
import torch
from parity.fill import arrays, difference, filled, keys

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.coarse_to_fine import common_corners, foreground_box
from napari_uhrseg.models.blocks.glnet.fpn import Maps, Seen, resized
from napari_uhrseg.models.blocks.glnet.patches import Merged, Patches
from napari_uhrseg.models.blocks.glnet.patches import overview as make_overview
from napari_uhrseg.models.glnet import GLNet
from napari_uhrseg.types import Roi

SMALL = {"encoder": "test_efficientnet", "width": 8, "patch": 64, "overview": 64,
         "frame": 256}  # fmt: skip
LIMIT = 1e-4
THEIRS = arrays("glnet", "output")
SHAPES = {k.removeprefix("module."): v for k, v in keys("glnet").items()}


def make(mode: int, **arguments: object) -> GLNet:
    """The published network with the weights of the reference."""
    with torch.device("meta"):  # no time for weights that are replaced
        net = GLNet(7, patch=128, overview=128, frame=2448, mode=mode, **arguments)
    weights = filled(SHAPES)
    if mode == 3:
        fixed = filled(SHAPES, "fixed.")
        own = net.state_dict()
        weights |= {f"fixed.{k}": v for k, v in fixed.items() if f"fixed.{k}" in own}
    net.load_state_dict(weights, assign=True)
    return net.eval()


@pytest.fixture(scope="module")
def net() -> GLNet:
    return make(3)


@pytest.fixture(scope="module")
def two() -> GLNet:
    return make(2)


@pytest.fixture(scope="module")
def frame() -> torch.Tensor:
    image = arrays("glnet", "input")["image"]
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def overview() -> torch.Tensor:
    return torch.from_numpy(THEIRS["global_input"])


@pytest.fixture(scope="module", autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def test_overview_equals_pillow(frame, overview):
    torch.testing.assert_close(make_overview(frame, 128), overview)


def test_overview_of_16_bit_image_is_not_rounded():
    frame = picture(200, 150)
    expected = torch.nn.functional.interpolate(
        frame, size=(64, 64), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(make_overview(frame, 64), expected)


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "labels"), [(2, "mode2_argmax"), (3, "mode3_pred")])
def test_image_gets_published_labels(mode, labels, frame, request):
    network = request.getfixturevalue("net" if mode == 3 else "two")
    found = network(Batch({"local": frame}))["logits"][0].argmax(0).numpy()
    assert (found == THEIRS[labels]).mean() >= 0.999


def test_patches_have_published_positions():
    patches = Patches(320, 290, 128)
    places = [(y / 320, x / 290) for _, y, x in patches.places(0)]
    np.testing.assert_allclose(places, THEIRS["coords"])
    counts = patches.counts((320, 290))[::4, ::4]
    np.testing.assert_array_equal(counts.numpy(), THEIRS["template_sub4"])
    assert len(Patches(2448, 2448, 508).places(0)) == 36
    assert len(Patches(5000, 5000, 508).places(0)) == 121


def test_mode_1_equals_published_logits(net, overview):
    seen = net.fpn_global(net.resnet_global(overview))
    assert difference(seen.logits, THEIRS["mode1_logits"]) < LIMIT


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_mode_2_equals_published_logits(two, frame, overview):
    seen = two._globally(overview)
    assert difference(seen.logits, THEIRS["mode2_global_logits"]) < LIMIT
    patches = Patches(320, 290, 128)
    places = [patches.places(0)[i] for i in (0, 7, 15)]
    local = two._locally(frame, seen.maps, patches, places)
    assert difference(local.logits, THEIRS["mode2_local_patches_0_3"]) < LIMIT
    together = two._together(local.ps3, seen.ps3, patches, places)
    assert difference(together, THEIRS["mode2_ens_patches_0_3"]) < LIMIT
    logits = two.label(frame, overview)
    scores = logits[0] * patches.counts((320, 290))
    assert difference(scores[:, ::4, ::4], THEIRS["mode2_scores_sub4"]) < LIMIT
    agree = logits[0].argmax(0).numpy() == THEIRS["mode2_argmax"]
    assert agree.mean() > 0.999


@pytest.mark.slow
def test_regularisation_equals_published_value(two, frame, overview):
    seen = two._globally(overview)
    patches = Patches(320, 290, 128)
    places = patches.places(0)[:6]
    local = two._locally(frame, seen.maps, patches, places).ps3
    crop = torch.nn.functional.interpolate(
        patches.crop(seen.ps3, places), size=local.shape[-2:], mode="bilinear"
    )
    found = float(torch.nn.functional.mse_loss(local, crop))
    assert found == pytest.approx(float(THEIRS["mode2_fmreg_first"]), rel=LIMIT)


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_mode_3_equals_published_logits(net, frame, overview):
    given = net._globally(overview)
    patches = Patches(320, 290, 128)
    maps, halves = net._merged(frame, given.maps, patches)
    merged = Maps.unflat(maps)
    for ours, theirs, channels in (
        (merged.c[0], "c2_local_merged_c8", 8),
        (merged.c[3], "c5_local_merged_c64", 64),
        (merged.ps0[0], "ps0_p5_merged", 64),
        (merged.ps2[3], "ps2_p2_merged_c8", 8),
    ):
        assert difference(ours[:, :channels], THEIRS[f"mode3_{theirs}"]) < LIMIT
    seen = net.fpn_global(net.resnet_global(overview), merged)
    assert difference(seen.logits, THEIRS["mode3_global_logits"]) < LIMIT
    assert difference(seen.ps3[:, :8], THEIRS["mode3_ps3_global_c8"]) < LIMIT
    places = [patches.places(0)[i] for i in (0, 7, 15)]
    local = torch.cat(halves)[[0, 7, 15]]
    crop = resized(patches.crop(seen.ps3, places), local)
    together = local + net._half(crop, 1)
    assert difference(together, THEIRS["mode3_ens_patches_0_7_last"]) < LIMIT
    found = net._labelled(seen.ps3, patches, halves).argmax(0).numpy()
    assert (found == THEIRS["mode3_pred"]).mean() > 0.999


def small(**arguments: object) -> GLNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GLNet(3, **{**SMALL, **arguments}).eval()


def picture(height: int, width: int, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))


def counted(net: GLNet, monkeypatch) -> list[int]:
    """The numbers of patches that the local branch is run on, as it is."""
    seen: list[int] = []
    run = net.resnet_local.forward
    monkeypatch.setattr(
        net.resnet_local, "forward", lambda x: seen.append(len(x)) or run(x)
    )
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("mode", [2, 3])
def test_each_patch_is_computed_once_in_sub_batches(mode, monkeypatch):
    net, frame = small(mode=mode, sub_batch=5), picture(200, 150)
    seen = counted(net, monkeypatch)
    expected = net.label(frame, net.look(frame))
    assert sum(seen) == len(Patches(200, 150, 64).places(0)) == 6 * 4
    assert max(seen) == 5
    net.sub_batch = 100
    torch.testing.assert_close(net.label(frame, net.look(frame)), expected)


@pytest.mark.slow
def test_stored_part_of_patch_is_small():
    """Less than its share of the frame's logits, whatever the network's width."""
    for width in (8, 32):
        net, frame = small(width=width), picture(200, 150)
        given = net._globally(net.look(frame)).maps
        _, halves = net._merged(frame, given, Patches(200, 150, 64))
        assert sum(half.numel() for half in halves) < 3 * 200 * 150 / 4


def test_ensemble_is_sum_of_both_halves():
    net, frame = small(), picture(200, 150)
    seen = net._globally(net.look(frame))
    patches = Patches(200, 150, 64)
    places = patches.places(0)[3:5]
    local = net._locally(frame, seen.maps, patches, places).ps3
    crop = resized(patches.crop(seen.ps3, places), local)
    whole = net._together(local, seen.ps3, patches, places)
    torch.testing.assert_close(net._half(local, 0) + net._half(crop, 1), whole)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [1, 2, 3])
def test_bfloat16_labels_agree_with_float32(mode):
    net, frame = small(mode=mode), picture(150, 200)
    expected = net.label(frame, net.look(frame))
    with torch.autocast("cpu", torch.bfloat16):
        found = net.label(frame, net.look(frame))
    assert float((found.float() - expected).abs().max()) < 0.1 * float(expected.std())


@pytest.mark.parametrize("mode", [1, 2, 3])
@pytest.mark.parametrize("sides", [(40, 33), (64, 64), (65, 200), (32, 500)])
def test_image_smaller_than_patch(mode, sides):
    logits = small(mode=mode)(Batch({"local": picture(*sides)}))["logits"]
    assert logits.shape == (1, 3, *sides)
    assert logits.isfinite().all()


def test_merged_maps_of_a_constant_are_constant_where_patches_fit():
    patches = Patches(192, 192, 64)
    like = torch.zeros(1, 2, 48, 48)
    merged = Merged(patches, like)
    for place in patches.places(0):
        merged.add(torch.full((1, 2, 16, 16), 3.0), [place])
    inner = merged.finish()[:, 1:-1, 1:-1]
    assert inner.median() == pytest.approx(3.0)


class FirstFinds(torch.nn.Module):
    """Global branch, with given coarse logits in its first calls."""

    def __init__(self, inner: torch.nn.Module, logits: list[torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.left = inner, list(logits)

    def forward(self, *inputs: object) -> Seen:
        found = self.inner(*inputs)
        if not self.left:
            return found
        return Seen(found.maps, found.ps3, self.left.pop(0))


def find_first(net: GLNet, logits: list[torch.Tensor]) -> None:
    """Let the global branch find these coarse logits in its first calls."""
    if net.fixed is not None and net.stage == "both":
        net.fixed = FirstFinds(net.fixed, logits)
    else:
        net.fpn_global = FirstFinds(net.fpn_global, logits)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [1, 2, 3])
def test_coarse_to_fine_labels_only_foreground_box(mode, monkeypatch):
    """Under five percent of foreground: a fraction of the patches, the same there."""
    full = small(mode=mode, overview=128)
    fine = small(mode=mode, overview=128, coarse_to_fine=True, background=1)
    fine.load_state_dict(full.state_dict())
    frame = picture(512, 512)
    ran = [counted(net, monkeypatch) for net in (full, fine)]
    spot = torch.full((1, 3, 32, 32), -9.0)
    spot[:, 1] = 0
    spot[:, 2, 10:13, 20:24] = 9.0  # 12 of 32 x 32 cells
    find_first(fine, [spot])
    full(Batch({"local": frame}))
    logits = fine(Batch({"local": frame}))["logits"]
    box = foreground_box(spot[0].argmax(0) != 1, (512, 512), 32)
    assert box.contains(Roi(160, 320, 48, 64))
    outside = torch.ones(512, 512, dtype=torch.bool)
    outside[box.slices] = False
    assert (logits[0].argmax(0)[outside] == 1).all()
    part = frame[..., box.slices[0], box.slices[1]]
    expected = fine.label(part, fine.look(part))
    torch.testing.assert_close(logits[..., box.slices[0], box.slices[1]], expected)
    if mode > 1:
        assert sum(ran[1]) < sum(ran[0]) / 4


def test_coarse_to_fine_without_foreground_is_background():
    net = small(coarse_to_fine=True, background=2)
    with torch.no_grad():
        for pyramid in (net.fpn_global, net.fixed.fpn_global):
            pyramid.classify.bias[2] += 1e6
    logits = net(Batch({"local": picture(256, 256)}))["logits"]
    assert (logits.argmax(1) == 2).all()


@pytest.mark.parametrize("radius", [1, 2, 5, 12, 24])
@pytest.mark.parametrize("centre", [(32, 32), (20, 45), (2, 60)])
@pytest.mark.parametrize("size", [(1024, 1024), (2448, 2448), (1000, 700)])
def test_foreground_box_has_equal_foreground_and_background(radius, centre, size):
    """Footnote 1 of the paper: a ratio of around 1, whatever the object's size."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    found = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    box = foreground_box(found, size, 16)
    assert Roi(0, 0, *size).contains(box)
    cell = size[0] / 64 * size[1] / 64
    fine = torch.nn.functional.interpolate(found[None, None].float(), size=size)[0, 0]
    foreground = float(fine[box.slices].sum())
    assert foreground == pytest.approx(float(found.sum()) * cell, rel=0.05)
    assert 0.9 < foreground / (box.area - foreground) < 1.1


def test_foreground_box_with_more_background_is_tight():
    found = torch.zeros(64, 64, dtype=torch.bool)
    found[[10, 50], [20, 40]] = True
    box = foreground_box(found, (1024, 1024), 32)
    assert box == Roi(160, 320, 41 * 16, 21 * 16)


def test_foreground_box_has_minimum_side_within_frame():
    edge = torch.zeros(64, 64, dtype=torch.bool)
    edge[0, 63] = True
    box = foreground_box(edge, (1000, 700), 508)
    assert Roi(0, 0, 1000, 700).contains(box)
    assert (box.height, box.width) == (508, 508)
    assert foreground_box(edge & False, (1000, 700), 508) is None


def learnt(net: GLNet, stage: int) -> GLNet:
    net.begin_stage(net.recipe.stages[stage], first=True)
    return net.train()


@pytest.mark.slow
def test_three_stages_train_in_order():
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        net = GLNet(3, **SMALL)
        target = torch.randint(0, 3, (2, 192, 160))
        batch = Batch({"local": picture(192, 160, 2).clone()}, target=target)
        names = []
        for number in range(3):
            learnt(net, number)
            terms = net.loss(net(batch), batch)
            names.append(set(terms) - {"loss"})
            net.zero_grad()
            terms["loss"].backward()
            with_gradient = {
                n.partition(".")[0] for n, p in net.named_parameters()
                if p.grad is not None and p.grad.any()
            }  # fmt: skip
            trains = {t.rstrip(".") for t in net.recipe.stages[number].trainable}
            assert with_gradient == trains
        assert names == [
            {"global"},
            {"local", "ensemble", "regularisation"},
            {"global", "ensemble"},
        ]


def spot_logits(rows: slice, columns: slice) -> torch.Tensor:
    """Return 16 x 16 logits of background, with a foreground in some cells."""
    found = torch.zeros(1, 3, 16, 16)
    found[:, 0] = 1
    found[:, 2, rows, columns] = 9
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_coarse_to_fine_trains_on_foreground_boxes(stage):
    """Labels outside of the boxes do not change the loss of the later stages."""
    size = (192, 160)
    spots = [
        spot_logits(slice(0, 2), slice(2, 4)),
        spot_logits(slice(12, 14), slice(10, 12)),
    ]
    boxes = [foreground_box(s[0].argmax(0) != 0, size, 32) for s in spots]
    corners = common_corners(boxes, size)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        net = learnt(GLNet(3, **SMALL, coarse_to_fine=True, patches_per_step=9), stage)
        find_first(net, spots)
        frames = picture(*size, 2).clone()
        target = torch.full((2, *size), 255)
        for number, (y0, x0, y1, x1) in enumerate(corners.tolist()):
            target[number, y0:y1, x0:x1] = number + 1
        outputs = net(Batch({"local": frames}))
        assert torch.equal(outputs["boxes"], corners)
        inside = net.loss(outputs, Batch({"local": frames}, target=target))
        target[target == 255] = 0
        both = net.loss(outputs, Batch({"local": frames}, target=target))
        assert both["loss"] == inside["loss"] > 0
        both["loss"].backward()
        find_first(net, [spots[0], spot_logits(slice(0), slice(0))])
        whole = net(Batch({"local": frames}))["boxes"].tolist()
        assert whole == [[0, 0, *size]] * 2


def test_common_corners_have_one_size_within_frame():
    boxes = [Roi(0, 0, 10, 40), Roi(80, 50, 20, 10)]
    found = common_corners(boxes, (100, 60)).tolist()
    assert found == [[0, 0, 20, 40], [80, 20, 100, 60]]
    assert common_corners([*boxes, None], (100, 60)).tolist() == [[0, 0, 100, 60]] * 3


@pytest.mark.parametrize(("side", "groups"), [(224, 6), (160, 3)])
def test_last_stage_adds_losses_of_all_groups_of_published_step(side, groups):
    """The published step has six frames, and groups of six patches."""
    net = learnt(GLNet(3, **SMALL), 2)
    patches = Patches(side, side, 64)
    places = torch.tensor(patches.places(0))
    outputs = {
        "global": torch.randn(1, 3, 16, 16),
        "ensemble": torch.randn(len(places), 3, 16, 16),
        "places": places,
    }
    target = torch.randint(0, 3, (1, side, side))
    terms = net.loss(outputs, Batch({"local": picture(side, side)}, target=target))
    expected = terms["global"] + 6 * groups * terms["ensemble"]
    torch.testing.assert_close(terms["loss"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_step_learns_from_all_patches_group_by_group(stage):
    """Groups change neither the places nor, with fixed statistics, the gradients."""
    gradients = []
    with torch.inference_mode(False), torch.enable_grad():
        frames = picture(128, 96, 2).clone()
        target = torch.randint(0, 3, (2, 128, 96))
        for sub_batch in (4, 100):
            net = learnt(small(sub_batch=sub_batch), stage)
            net.resnet_local.eval()
            outputs = net(Batch({"local": frames}))
            assert outputs["places"].tolist() == [
                list(place)
                for n in range(2)
                for place in Patches(128, 96, 64).places(n)
            ]
            net.loss(outputs, Batch({"local": frames}, target=target))[
                "loss"
            ].backward()
            gradients.append({n: p.grad for n, p in net.named_parameters()})
    trained = [n for n, value in gradients[0].items() if value is not None]
    assert trained
    for name in trained:
        torch.testing.assert_close(gradients[0][name], gradients[1][name])


@pytest.mark.slow
def test_groups_update_batch_norm_statistics_once():
    with torch.inference_mode(False), torch.enable_grad():
        net = learnt(small(sub_batch=4), 1)
        frames, target = picture(128, 96, 2).clone(), torch.zeros(2, 128, 96).long()
        outputs = net(Batch({"local": frames}))
        net.loss(outputs, Batch({"local": frames}, target=target))["loss"].backward()
        groups = -(-len(outputs["places"]) // 4)
        counts = {
            int(value)
            for name, value in net.resnet_local.state_dict().items()
            if name.endswith("num_batches_tracked")
        }
        assert counts == {groups}


def test_last_stage_keeps_global_branch_of_first():
    net = GLNet(3, **SMALL)
    own = {k: v.clone() for k, v in net.state_dict().items()}
    learnt(net, 2)
    for key, value in net.fixed.state_dict().items():
        assert torch.equal(value, own[key])
    with torch.no_grad():
        net.resnet_global.conv_stem.weight.add_(1)
    net.begin_stage(net.recipe.stages[2], first=False)
    kept = net.fixed.state_dict()["resnet_global.conv_stem.weight"]
    assert torch.equal(kept, own["resnet_global.conv_stem.weight"])


def test_frozen_branches_keep_batch_norm_statistics():
    with torch.inference_mode(False), torch.random.fork_rng():
        net = learnt(GLNet(3, **SMALL), 1)
        before = {k: v.clone() for k, v in net.state_dict().items()}
        net(Batch({"local": picture(128, 128, 2).clone()}))
        changed = {
            k.partition(".")[0]
            for k, v in net.state_dict().items()
            if not torch.equal(v, before[k])
        }
        assert changed == {"resnet_local"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": 4},
        {"patch": 10},
        {"sub_batch": 0},
        {"coarse_to_fine": True, "background": 3},
    ],
)
def test_invalid_arguments(arguments):
    with pytest.raises(CheckpointError, match="cannot have") as error:
        GLNet(3, **{**SMALL, **arguments})
    assert error.value.hint


def test_encoder_without_four_scales():
    with pytest.raises(CheckpointError, match=r"cannot be built|no maps at a quarter"):
        GLNet(3, **{**SMALL, "encoder": "vit_tiny_patch16_224"})
