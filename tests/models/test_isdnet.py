"""ISDNet against its authors' own code, and against its paper."""

import json

import pytest
import torch
from parity.fill import HERE, arrays, difference, filled, keys
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.laplacian import LaplacianPyramid
from napari_uhrseg.models.blocks.losses import structure_distillation
from napari_uhrseg.models.blocks.raf import RAF, resized
from napari_uhrseg.models.blocks.timm_features import make_encoder
from napari_uhrseg.models.isdnet import ISDNet

SMALL = {"encoder": "test_efficientnet", "width": 8, "window": 64, "frame": 128}


@pytest.fixture(scope="module")
def published() -> ISDNet:
    """The published network with the weights of the parity data."""
    shapes = {k: v for k, v in keys("isdnet").items() if ".stdc_net.x" not in k}
    model = ISDNet(7).eval()
    model.load_state_dict(filled(shapes))
    return model


def batch_of(model: ISDNet, height: int = 64, width: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, model.spec.channels, height, width, generator=generator)
    target = torch.randint(0, 3, (2, height, width), generator=generator)
    return Batch({"local": image}, target=target)


@pytest.mark.parametrize("size", ["even", "odd"])
def test_logits_and_features_are_those_of_the_authors_code(published, size):
    places = {
        **{f"backbone{i}": f"backbone.layer{i + 1}" for i in range(4)},
        "deep_feat": "decode_head",
        "deep_logits": "decode_head.conv_seg",
        "shallow8": "refine_head.stdc_net.features.3",
        "shallow16": "refine_head.stdc_net.features.5",
        "fuse16": "refine_head.fuse16.smooth",
        "fuse8": "refine_head.fuse8.smooth",
    }
    seen: dict[str, Tensor] = {}
    hooks = [
        published.get_submodule(module).register_forward_hook(
            lambda _, __, out, name=name: seen.__setitem__(name, out)
        )
        for name, module in places.items()
    ]
    image = torch.from_numpy(arrays("isdnet", "input")[f"image_{size}"])
    with torch.inference_mode():
        seen["logits"] = published(Batch({"local": image}))["logits"]
        published.decode_head.classify(seen["deep_feat"])
        for i, residual in enumerate(published.refine_head.pyramid(image)):
            seen[f"lap{i}"] = residual[..., ::4, ::4]
    for hook in hooks:
        hook.remove()
    theirs = {k: v for k, v in arrays("isdnet", "output").items() if size in k}
    assert len(theirs) == len(seen) == 13
    for name, array in theirs.items():
        ours = seen[name.split("_even")[0].split("_odd")[0].removesuffix("_sub4")]
        assert difference(ours[:, : array.shape[1]], array) < 1e-4, name


def test_loss_terms_are_those_of_the_authors_code(published):
    data = arrays("isdnet", "input")
    target = torch.from_numpy(data["label_even"])[:, 0].long()
    batch = Batch({"local": torch.from_numpy(data["image_even"])}, target=target)
    published.training = True  # this module alone: its parts stay in eval mode
    try:
        with torch.inference_mode():
            terms = published.loss(published(batch), batch)
    finally:
        published.training = False
    theirs = json.loads((HERE / "isdnet" / "losses.json").read_text())
    theirs = {k: v for k, v in theirs.items() if not k.endswith("acc_seg")}
    assert len(theirs) == 7
    labelled = float((target != 255).float().mean())
    ours = {k: float(v) for k, v in terms.items()}
    assert ours.pop("loss") == pytest.approx(sum(ours.values()), rel=1e-6)
    # theirs are means over all pixels, ours over the labelled ones
    ours = {k: v * labelled if "loss_seg" in k else v for k, v in ours.items()}
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_the_residuals_are_six_channels_the_finest_first():
    """What goes into the shallow branch: H_0, then H_1 enlarged."""
    model = ISDNet(3, **SMALL).eval()
    seen = []
    model.refine_head.stdc_net.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    batch = batch_of(model, 65, 94)
    with torch.inference_mode():
        model(batch)
        fine, coarse = LaplacianPyramid(3)(batch.views["local"])
    assert seen[0].shape == (2, 6, 65, 94)
    assert coarse.shape == (2, 3, 33, 47)
    assert torch.equal(seen[0][:, :3], fine)
    enlarged = torch.nn.functional.interpolate(coarse, size=(65, 94), mode="bilinear")
    assert torch.equal(seen[0][:, 3:], enlarged)


def test_a_flat_picture_has_no_residuals():
    for residual in LaplacianPyramid(2)(torch.full((1, 2, 67, 80), 3.0)):
        assert residual.abs().max() < 1e-5


def test_the_deep_branch_sees_every_fourth_pixel():
    model = ISDNet(3, **SMALL).eval()
    batch = batch_of(model)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(batch)
    assert torch.equal(seen[0], batch.views["local"][..., ::4, ::4])


def test_the_auxiliary_heads_are_crossed():
    """The head named 16 is fed the context of the fusion at an eighth."""
    model = ISDNet(3, **SMALL).train()
    outputs = model(batch_of(model))
    assert outputs["aux_16"].shape[-2:] == (8, 8)
    assert outputs["aux_8"].shape[-2:] == (4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(64, 64), (101, 131), (66, 127)])
def test_any_sides_can_be_labelled_and_learnt_from(sides):
    model = ISDNet(3, **SMALL)
    batch = batch_of(model, *sides)
    assert model.eval()(batch)["logits"].shape == (2, 3, *sides)
    terms = model.train().loss(model(batch), batch)
    assert len(terms) == 8
    assert all(term.isfinite() for term in terms.values())


def naive(features: Tensor, guide: Tensor) -> Tensor:
    pair = []
    for maps in (features, guide.detach()):
        rows = maps.flatten(2)
        rows = rows / (rows.norm(dim=2, keepdim=True) + 1e-6)
        pair.append(torch.einsum("ncp,ncq->npq", rows, rows))
    return (pair[0] - pair[1]).abs().mean()


@pytest.mark.parametrize("affinities", [1, 700, 2**22])
def test_distillation_is_equation_7_however_it_is_cut(affinities):
    features = torch.randn(2, 5, 6, 7, requires_grad=True)
    guide = torch.randn(2, 8, 6, 7, requires_grad=True)
    found = structure_distillation(features, guide, affinities)
    torch.testing.assert_close(found, naive(features, guide))
    (expected,) = torch.autograd.grad(naive(features, guide), features)
    found.backward()
    torch.testing.assert_close(features.grad, expected)
    assert guide.grad is None  # no gradient reaches the super-resolution


class Largest(TorchDispatchMode):
    """Entries of the largest tensor made."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.entries = max(self.entries, out.numel())
        return out


@pytest.mark.slow
def test_distillation_never_holds_all_pairs_of_places():
    features = torch.randn(2, 4, 40, 40, requires_grad=True)
    with Largest() as largest:
        structure_distillation(features, torch.randn(2, 4, 40, 40), 2**17).backward()
    assert largest.entries <= 2**17 < 2 * 1600**2


def test_stripped_of_what_only_training_needs_it_answers_the_same():
    model = ISDNet(3, **SMALL).eval()
    batch = batch_of(model)
    with torch.inference_mode():
        expected = model(batch)
        assert set(expected) == {"logits"}
        for part in model.training_only_modules:
            owner, _, name = part.rpartition(".")
            setattr(model.get_submodule(owner), name, None)
        assert torch.equal(model(batch)["logits"], expected["logits"])
    terms = model.train().loss(model(batch), batch)  # and trains by the logits alone
    assert set(terms) == {"loss", "refine.loss_seg"}


@pytest.mark.slow
def test_a_small_one_learns():
    """Left half one class, right half another, distinguished by brightness."""
    torch.manual_seed(0)
    model = ISDNet(2, encoder="mobilenetv4_conv_small_050", width=8, window=64,
                   frame=64).train()  # fmt: skip
    image = torch.randn(2, 3, 64, 64) * 0.1
    image[..., 32:] += 1
    target = torch.zeros(2, 64, 64, dtype=torch.int64)
    target[..., 32:] = 1
    batch = Batch({"local": image}, target=target)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    losses = []
    for _ in range(20):
        terms = model.loss(model(batch), batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(float(terms["refine.loss_seg"].detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_it_trains_under_bfloat16():
    model = ISDNet(3, **SMALL).train()
    batch = batch_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(batch)
        terms = model.loss(outputs, batch)
    assert outputs["logits"].dtype == torch.bfloat16
    assert outputs["residual"].dtype == torch.float32
    assert all(t.dtype == torch.float32 and t.isfinite() for t in terms.values())
    terms["loss"].backward()


def test_memory_can_be_traced_without_memory():
    model = ISDNet(7, **SMALL).eval().to("meta")
    image = torch.empty(1, 3, 5000, 4999, device="meta")
    assert model(Batch({"local": image}))["logits"].shape == (1, 7, 5000, 4999)


def test_the_papers_sizes_are_the_default():
    model = ISDNet(7)
    assert (model.spec.window, model.spec.frame) == (1224, 2448)
    assert (model.spec.divisor, model.spec.min_side) == (1, 64)
    assert model.recipe.stages[0].steps == 80_000
    assert model.recipe.stages[0].learning_rate == 0.01
    assert (model.recipe.batch_size, model.recipe.schedule) == (8, "poly")
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(17.78e6, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 64}, "width of 64"),
        ({"width": 2}, "width of 2"),
        ({"window": 32}, "window of 32"),
        ({"frame": 63}, "frame of 63"),
        ({"encoder": "nonsense"}, "'nonsense' cannot be built"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(CheckpointError, match=message) as error:
        ISDNet(3, **{**SMALL, **arguments})
    assert error.value.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "channels"),
    [("resnet18_v1c", 512), ("resnet50c", 2048), ("tu-test_efficientnet", 64)],
)
def test_encoders_stop_at_an_eighth(encoder, channels):
    net, widths = make_encoder(encoder, 4)
    with torch.inference_mode():
        maps = net.eval()(torch.zeros(1, 4, 65, 70))
    assert widths[-1] == channels
    assert [m.shape[1] for m in maps] == list(widths)
    assert maps[-1].shape[-2:] == maps[-2].shape[-2:] == (9, 9)


@pytest.mark.slow
def test_imagenet_weights_fit_any_number_of_bands(monkeypatch):
    kept = make_encoder("resnet18_v1c", 3)[0].state_dict()
    counters = [k for k in kept if k.endswith("num_batches_tracked")]
    file = {k: v for k, v in kept.items() if k not in counters}
    file |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: file)
    same = make_encoder("resnet18_v1c", 3, pretrained=True)[0].state_dict()
    assert all(torch.equal(kept[k], same[k]) for k in kept)
    first = "stem.0.weight"
    one = make_encoder("resnet18_v1c", 1, pretrained=True)[0].state_dict()[first]
    torch.testing.assert_close(one, kept[first].sum(1, keepdim=True))
    del file["layer1.0.conv1.weight"]
    with pytest.raises(CheckpointError, match="another network"):
        make_encoder("resnet18_v1c", 3, pretrained=True)


@pytest.mark.parametrize("encoder", ["resnet18_v1c", "test_efficientnet"])
def test_weights_that_cannot_be_fetched(encoder, monkeypatch, tmp_path):
    import huggingface_hub.constants

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(CheckpointError, match="ImageNet weights") as error:
        make_encoder(encoder, 3, pretrained=True)
    assert "add --no-pretrained" in error.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.1, 0.0), (0.0, 0.0)])
def test_super_resolution_and_distillation_can_be_left_out(weights):
    model = ISDNet(
        3, encoder="test_efficientnet", width=8, window=64, frame=64,
        sr_weight=weights[0], structure_weight=weights[1],
    )  # fmt: skip
    batch = Batch({"local": torch.randn(2, 3, 64, 64)},
                  target=torch.randint(0, 3, (2, 64, 64)))  # fmt: skip
    terms = model.loss(model(batch), batch)
    names = ("aux_3.recon_losses", "aux_4.fa_loss")
    assert [bool(terms.get(n, 0) > 0) for n in names] == [bool(w) for w in weights]
    assert any(weights) == (model.refine_head.sr_decoder is not None)
    terms["loss"].backward()


@pytest.mark.parametrize("argument", ["residuals", "relation"])
def test_residuals_and_relation_can_be_left_out(argument):
    """Tables 6 and 7 of the paper: an image as input, and fusion by addition."""
    whole, model = ISDNet(3, **SMALL), ISDNet(3, **SMALL, **{argument: False})
    assert sum(p.numel() for p in model.parameters()) < sum(
        p.numel() for p in whole.parameters()
    )
    batch = batch_of(model)
    model.loss(model(batch), batch)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    with torch.inference_mode():
        whole_frame = model(batch[:1])["logits"]
        banded = resized(model.forward_banded(batch[:1], 32), whole_frame)
        torch.testing.assert_close(banded, whole_frame, rtol=1e-3, atol=1e-3)


def test_fusion_without_the_relation_is_a_sum():
    fusion = RAF(4, 8, relation=False).eval()
    fine, coarse = torch.randn(1, 4, 16, 16), torch.randn(1, 8, 8, 8)
    context, fused = fusion(fine, coarse)
    maps = fusion.spatial_att.conv_bn_relu(fine)
    torch.testing.assert_close(fused, fusion.smooth(maps + context))
