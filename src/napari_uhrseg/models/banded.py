"""ISDNet and EHSNet by bands of rows: the same answer in a fraction of the memory.

What looks at a whole frame (pooling, attention, the choice of hard pixels) is summed
over the bands; everything else sees as far as it does unsplit. Maps between the steps
lie where the frame lies, in main memory, the work is done on the weights' device.

Both give their logits at an eighth of the frame's sides, (N, K, h, w) float:
``engine.logits`` enlarges them where they are looked at.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.blocks.bands import Band, bands, enlarged, in_bands
from napari_uhrseg.models.blocks.hrnet import joined
from napari_uhrseg.models.blocks.precision import no_autocast
from napari_uhrseg.models.ehsnet import CrossCorrelation, EHSNet, hardest
from napari_uhrseg.models.isdnet import ISDNet

EIGHTH = 8

# rows that a result depends on, in rows of the step's first input
SHALLOW = 208  # pyramid, STDC to a sixteenth and one convolution there: 191
FUSED = 4  # three 3 x 3 convolutions
STEM = 64  # HRNet to its second branch: 39
JOINED = 16  # a row of the coarsest branch (8) and a convolution
LONG = 17  # 5 x 5 and 31 x 31


def isdnet(model: ISDNet, batch: Batch, rows: int) -> Tensor:
    """The shallow branch by bands; the deep one is of a sixteenth of the pixels."""
    image, device = batch.views["local"], _device(model)
    height, width = image.shape[-2:]
    head = model.refine_head
    small = F.interpolate(image, size=(height // 4, width // 4)).to(device)
    deep = model.decode_head(model.backbone(small)[-1])

    def shallow(band: Band, part: Tensor) -> list[Tensor]:
        fine, coarse = head.pyramid(part)
        coarse = enlarged(
            coarse,
            (height, width),
            (band.low, band.high),
            above=band.low // 2,
            height=-(-height // 2),
        )
        eighth, sixteenth = head.stdc_net(torch.cat((fine, coarse), dim=1))
        return [
            head.fuse8.spatial_att.conv_bn_relu(eighth),
            head.fuse16.spatial_att.conv_bn_relu(sixteenth),
        ]

    eighth, sixteenth = in_bands(
        shallow, [(image, 1)], (8, 16), rows=rows, reach=SHALLOW, device=device
    )
    sixteenth = sixteenth.to(device)
    attention = head.fuse16.spatial_att
    _, fused = head.fuse16.fuse(
        (sixteenth, attention.vector(sixteenth)), head.fuse16.context_att(deep)
    )
    del sixteenth, deep
    raf = head.fuse8
    context, vector = raf.context_att(fused)
    mean = eighth.float().mean((2, 3), keepdim=True).to(device, eighth.dtype)
    spatial, around = raf.factors(raf.spatial_att.vector(mean), vector)
    context = context * around
    size = (eighth.shape[-2], eighth.shape[-1])

    def fuse(band: Band, part: Tensor) -> list[Tensor]:
        more = raf.context_head(enlarged(context, size, (band.low, band.high)))
        return [head.conv_seg(raf.smooth(part * spatial + more))]

    (logits,) = in_bands(
        fuse, [(eighth, 1)], (1,), rows=rows // EIGHTH, reach=FUSED, device=device
    )
    return logits


def ehsnet(model: EHSNet, batch: Batch, rows: int) -> Tensor:
    """All but HRNet's own branches by bands; those are small at output stride 8."""
    image, device = batch.views["local"], _device(model)
    net = model.encoder
    few = rows // EIGHTH

    def stem(_: Band, part: Tensor) -> list[Tensor]:
        part = net.act1(net.bn1(net.conv1(part)))
        part = net.layer1(net.act2(net.bn2(net.conv2(part))))
        return [t(part) for t in net.transition1]

    maps = in_bands(stem, [(image, 1)], (8, 16), rows=rows, reach=STEM, device=device)
    maps = net.stage2([m.to(device) for m in maps])
    for transition, stage in (
        (net.transition2, net.stage3),
        (net.transition3, net.stage4),
    ):
        maps = stage(
            [
                maps[i] if isinstance(t, torch.nn.Identity) else t(maps[-1])
                for i, t in enumerate(transition)
            ]
        )
    maps = [m.to(image.device) for m in maps]

    def reduce(_: Band, *parts: Tensor) -> list[Tensor]:
        features = joined(list(parts))
        return [model.auxiliary(features), model.reduce(features)]

    branches = list(zip(maps, (1, 2, 4, 8), strict=True))
    auxiliary, features = in_bands(
        reduce, branches, (1, 1), rows=few, reach=JOINED, device=device
    )
    del maps, branches
    (features,) = in_bands(
        lambda _, part: [model.lrd(part)], [(features, 1)], (1,),
        rows=few, reach=LONG, device=device,
    )  # fmt: skip
    _correlate(model.ecr, features, auxiliary, few, device)
    (logits,) = in_bands(
        lambda _, part: [model.classifier(part)], [(features, 1)], (1,),
        rows=few, reach=0, device=device,
    )  # fmt: skip
    return logits


def _correlate(
    ecr: CrossCorrelation,
    features: Tensor,
    logits: Tensor,
    rows: int,
    device: torch.device,
) -> None:
    """ECR in place: the context of all pixels first, then the hard ones' answers."""
    attention = ecr.attention
    # weights of one in a million pixels are too small for 16 bits
    highest = total = context = torch.zeros(())
    for band in bands(features.shape[-2], rows, 0, 1):
        part = features[:, :, band.first : band.last].to(device)
        keys = attention.keys(part).flatten(2).float()
        values = attention.values(part).flatten(2).float().transpose(1, 2)
        most = keys.amax(2, keepdim=True)
        if band.first:
            most = torch.maximum(most, highest)
            shrunk = (highest - most).exp()
            total, context = total * shrunk, context * shrunk
        weights = (keys - most).exp()
        with no_autocast(values):
            found = weights @ values
        if band.first:
            total, context = total + weights.sum(2, keepdim=True), context + found
        else:
            total, context = weights.sum(2, keepdim=True), found
        highest = most
    context = (context / total).transpose(1, 2)
    flat = features.view(*features.shape[:2], -1)
    where = hardest(logits, ecr.share)
    count = rows * features.shape[-1]
    for first in range(0, where.shape[1], count):
        places = where[:, None, first : first + count]
        places = places.expand(-1, features.shape[1], -1)
        asking = flat.gather(2, places).to(device)[..., None]
        queries = attention.queries(asking).flatten(2)
        with no_autocast(context):
            answer = context @ queries.float().softmax(dim=1)
        answer = attention.reprojection(answer[..., None]) + asking
        flat.scatter_(2, places, answer[..., 0].to(flat))


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
