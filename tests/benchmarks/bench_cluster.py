"""Compare one process with one and two workers; measure the cost of a block."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import MB, sample
from rich.console import Group
from rich.table import Table

from napari_uhrseg.engine.cluster.client import local_cluster, segment_on_cluster
from napari_uhrseg.engine.events import BlockDone, Finished
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.worker_store import WorkerStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import Block, Legend, Limits, Roi, Run, SegmentSettings

ONE_CHUNK = Limits(block_chunks=1)
Clients = Mapping[int, Any]
"""Client of a cluster by its number of workers."""


@dataclass(frozen=True)
class Size:
    """Sides in pixels of the region and of the large store, repetitions and tasks.

    ``chunks`` has the sides of the blocks that are written, in chunks. ``workers`` has
    the numbers of workers of the clusters, ``batch`` is the number of windows a batch.
    """

    side: int = 3072
    rounds: int = 3
    large: int = 100_000
    chunks: tuple[int, ...] = (1, 2, 4, 8)
    tasks: int = 200
    workers: tuple[int, ...] = (1, 2)
    batch: int | None = None


FULL, TINY = Size(), Size(256, 1, 8192, (1,), 4, (1,), 1)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Group:
    """Measure runs, writing and tasks: a table each."""
    with ExitStack() as stack:
        clients = {n: stack.enter_context(local_cluster(n)) for n in size.workers}
        runs = _runs(clients, image, checkpoint, size)
        return Group(runs, _store(size), _tasks(clients, size))


def _runs(
    clients: Clients, path: Path | None, checkpoint: Path | None, size: Size
) -> Table:
    """Run the same blocks of one chunk on one thread each, here and on workers."""
    image = open_image(path or sample("scene.tif"))
    loaded = load_checkpoint(checkpoint or sample("plain.safetensors"))
    region = Roi(0, 0, *(min(size.side, n) for n in image.shape))
    settings = SegmentSettings(
        region=region,
        threads=1,
        device="auto",
        limits=ONE_CHUNK,
        batch_size=size.batch,
    )
    table = Table("where", "blocks", "seconds", "a block", "of one process")
    table.title = f"Cluster: {image.name}, {loaded.path.stem}, blocks of one chunk"
    make_plan(image, loaded, settings)  # its calibration is kept

    def alone(store: LabelStore) -> list[object]:
        return list(segment(image, loaded, store, settings))

    def there(client: object, store: LabelStore) -> list[object]:
        return list(segment_on_cluster(client, image, loaded.path, store, settings))

    ways: dict[str, Callable[[LabelStore], list[object]]] = {"one process": alone}
    for count, client in clients.items():
        ways[f"{count} worker{'s' * (count > 1)}"] = partial(there, client)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    blocks = 0
    for _ in range(size.rounds + 1):  # in turns: a busy machine slows all
        for name, way in ways.items():
            with _new_store(image, loaded.card.legend) as store:
                events = way(store)
            blocks = sum(isinstance(e, BlockDone) for e in events)
            last = events[-1]
            assert isinstance(last, Finished)
            seconds[name].append(last.seconds)
    first = statistics.median(seconds["one process"][1:])
    for name, found in seconds.items():
        median = statistics.median(found[1:])  # the first one loads
        table.add_row(
            name,
            str(blocks),
            f"{median:.2f}",
            f"{1000 * median / blocks:.0f} ms",
            f"{median / first:.2f}",
        )
    return table


def _new_store(image: Image, legend: Legend) -> LabelStore:
    return LabelStore.create(None, image, legend)


def _store(size: Size) -> Table:
    """Write blocks into a store of a large image, in one process and on a worker."""
    table = Table("block", "one writer", "worker writes", "client adopts", "on disk")
    table.title = (
        f"Store: a block's labels and confidence, {size.large:,} pixels a side"
    )
    image = SimpleNamespace(
        name="large", path=None, fingerprint="", shape=(size.large, size.large),
        pixel_size=None, unit="pixel", crs=None, affine=None,
    )  # fmt: skip
    legend = load_checkpoint(sample("plain.safetensors")).card.legend
    run = _record(legend)
    for chunks in size.chunks:
        whole, written, adopted = [], [], []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "labels.zarr"
            with LabelStore.create(path, image, legend) as store:
                record = store.run_ledger.start_run(run)
                worker = WorkerStore(path, store.issue_write_token())
                for number in range(2 * size.rounds):
                    block = _block(number * chunks * STORE_CHUNK, chunks)
                    if number % 2:
                        whole.append(_timed(store.write, block, record.id, "done"))
                        continue
                    store.clear_status(block.roi)
                    worker.set_block(block.roi)
                    written.append(_timed(worker.write, block, record.id, "done"))
                    part = worker.results()[0]
                    adopted.append(_timed(store.commit, part, record.id))
            sizes = [f.stat().st_size for f in path.rglob("c/*/*") if f.is_file()]
            disk = sum(sizes) / (2 * size.rounds)
        pixels = 2 * (chunks * STORE_CHUNK) ** 2
        table.add_row(
            f"{chunks} x {chunks} chunks",
            f"{1000 * statistics.median(whole):.0f} ms",
            f"{1000 * statistics.median(written):.0f} ms, "
            f"{pixels / MB / statistics.median(written):.0f} MB/s of pixels",
            f"{1000 * statistics.median(adopted):.0f} ms",
            f"{disk / MB:.2f} MB",
        )
    return table


def _record(legend: Legend) -> Run:
    """Return a run for the store's record; nothing is run."""
    return Run(
        id=0, image_path="", image_fingerprint="", model="none",
        checkpoint="none", checkpoint_hash="", class_map=tuple(c.id for c in legend),
        bands=(0,), scale=1.0, value_range=(0.0, 255.0), window=256, overlap=0,
        placement="shift", merge="uniform", region=None, skip_background=False,
        batch_size=1, precision="fp32",
    )  # fmt: skip


def _block(place: int, chunks: int) -> Block:
    """Return labels in patches of 32 pixels, and confidence that varies by pixel."""
    side, noise = chunks * STORE_CHUNK, np.random.default_rng(place)
    labels = noise.integers(1, 5, (side // 32, side // 32), np.uint8)
    labels = labels.repeat(32, 0).repeat(32, 1)
    confidence = 200 + noise.integers(0, 16, (side, side), np.uint8)
    return Block(Roi(place, place, side, side), labels, confidence)


def _timed(work: Callable[..., object], *arguments: object) -> float:
    start = time.monotonic()
    work(*arguments)
    return time.monotonic() - start


def _tasks(clients: Clients, size: Size) -> Table:
    """Measure tasks that only return as many bytes as a block of one chunk."""
    table = Table("workers", "tasks", "a task", "tasks a second")
    table.title = "dask.distributed: half a megabyte back from each task"
    for count, client in clients.items():
        client.gather(client.map(_half_a_megabyte, range(10), pure=False))
        start = time.monotonic()
        futures = client.map(_half_a_megabyte, range(size.tasks), pure=False)
        for future in futures:
            future.result()
        seconds = time.monotonic() - start
        table.add_row(
            str(count),
            str(size.tasks),
            f"{1000 * seconds / size.tasks:.1f} ms",
            f"{size.tasks / seconds:.0f}",
        )
    return table


def _half_a_megabyte(_: int) -> bytes:
    return bytes(MB // 2)
