"""Stages of ``bench_pipeline`` in one thread, each beside a floor."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import tifffile
import torch
from bench_pipeline import WINDOW, cpu_ms
from bench_pipeline_parts import LEGEND, StandIn, stand_in

from napari_uhrseg.engine.network.device import cpu_threads
from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.engine.tiling.confidence import labels_and_confidence
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.engine.tiling.window_merge import (
    SumMemory,
    TiledLabels,
    WindowMerger,
    window_weights,
)
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Block, Labels, Roi, SegmentSettings

CLASSES, OVERLAP, BLOCK = 11, 32, 1024
Row = tuple[str, float, str, float]


def measure(file: Path, rounds: int) -> list[Row]:
    """Return stage, CPU ms per megapixel, floor and its CPU ms per megapixel."""
    image = open_image(file)
    logits = smooth_logits()
    both = labels_and_confidence(logits)
    with cpu_threads(1):
        return [
            *_reading(image, file, rounds),
            *_labelling(logits, rounds),
            *_writing(image, both, rounds),
        ]


def smooth_logits() -> torch.Tensor:
    """Return (K, 1024, 1024) logits of smooth areas, classes last in memory."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, CLASSES, 32, 32, generator=random)
    fine = torch.nn.functional.interpolate(8 * coarse, (BLOCK, BLOCK), mode="bilinear")
    noise = 0.05 * torch.randn(fine.shape, generator=random)
    return (fine + noise).contiguous(memory_format=torch.channels_last)[0]


def _reading(image: Image, file: Path, rounds: int) -> Iterator[Row]:
    height, width = image.shape
    windows = [
        Roi(y, x, WINDOW, WINDOW)
        for y in range(0, height - WINDOW + 1, WINDOW)
        for x in range(0, width - WINDOW + 1, WINDOW)
    ]
    megapixels = len(windows) * WINDOW**2 / 1e6
    spec = StandIn(0).spec

    def decode() -> None:
        with tifffile.TiffFile(file) as tif:
            page: Any = tif.pages[0]
            for index, (offset, count) in enumerate(
                zip(page.dataoffsets, page.databytecounts, strict=True)
            ):
                tif.filehandle.seek(offset)
                data = tif.filehandle.read(count)
                page.decode(data, index, jpegtables=page.jpegtables)

    def read() -> None:
        CHUNK_CACHE.clear()
        for window in windows:
            image.read(window)

    def views() -> None:
        CHUNK_CACHE.clear()
        for i in range(0, len(windows), 8):
            some = windows[i : i + 8]
            read_pixels(
                image, some, spec, bands=(0, 1, 2), value_range=(0.0, 255.0)
            ).normalized(torch.device("cpu"))

    floor = cpu_ms(decode, megapixels, rounds)
    yield "read windows", cpu_ms(read, megapixels, rounds), "decoder", floor
    name = "read and normalise windows"
    yield name, cpu_ms(views, megapixels, rounds), "decoder", floor


def _labelling(logits: torch.Tensor, rounds: int) -> Iterator[Row]:
    there, megapixels = torch.empty_like(logits), BLOCK**2 / 1e6
    corners = list(product(range(0, BLOCK, WINDOW), repeat=2))
    windows = [logits[:, y : y + WINDOW, x : x + WINDOW] for y, x in corners]
    floor = cpu_ms(lambda: there.copy_(logits), megapixels, rounds)

    tiles = [Roi(y, x, WINDOW, WINDOW) for y, x in corners]
    tiled = TiledLabels(Roi(0, 0, BLOCK, BLOCK))

    def label() -> None:
        tiled.add(tiles, windows)

    name = f"labels of {CLASSES} classes"
    yield name, cpu_ms(label, megapixels, rounds), "copy of logits", floor
    region, memory = Roi(0, 0, BLOCK, BLOCK), SumMemory()
    grid = WindowGrid.make((BLOCK, BLOCK), WINDOW, OVERLAP, "shift")
    weights = window_weights(WINDOW, OVERLAP, "taper")
    places = list(grid.touching(region))
    given = [logits[(slice(None), *place.slices)] for place in places]

    def merge() -> None:
        merger = WindowMerger(region, CLASSES, weights, torch.device("cpu"), memory)
        merger.add(places, given)
        merger.finish()
        merger.release()

    name = f"{name}, windows overlap by {OVERLAP}"
    yield name, cpu_ms(merge, megapixels, rounds), "copy of logits", floor


def _writing(image: Image, both: tuple[Labels, Labels], rounds: int) -> Iterator[Row]:
    labels, confidence = both[0] + np.uint8(1), both[1]
    codecs = (
        (numcodecs.Blosc("zstd", 1, 0), labels),
        (numcodecs.Blosc("lz4", 5, 2), confidence),
    )
    # with its coarser levels, a third more
    floor = cpu_ms(lambda: [codec.encode(data) for codec, data in codecs], 0.75, rounds)
    for chunks in (1, 2):
        side = chunks * BLOCK
        tiled = [np.tile(data, (chunks, chunks)) for data in (labels, confidence)]
        blocks = [
            Block(Roi(y, x, side, side), *tiled)
            for y in range(0, image.shape[0] - side + 1, side)
            for x in range(0, image.shape[1] - side + 1, side)
        ]
        if not blocks:
            continue
        checkpoint = stand_in(0, [])
        plan = make_plan(image, checkpoint, SegmentSettings(batch_size=1, scale=1))
        with LabelStore.create(None, image, LEGEND) as store:
            run = store.run_ledger.start_run(plan.run)

            def write(
                store: LabelStore = store,
                blocks: list[Block] = blocks,
                run: int = run.id,
            ) -> None:
                for block in blocks:
                    store.write(block, run, "done")

            cost = cpu_ms(write, len(blocks) * side**2 / 1e6, rounds)
        yield f"write blocks of {side} x {side}", cost, "codecs", floor
