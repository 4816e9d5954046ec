"""Measure what the engine costs beside the network, with a stand-in for a fast device.

The stand-in computes for a given time without using a core, and returns logits of two
classes. A batch has 32 windows, as on a GPU. Four threads feed it, so that one can
prepare its windows while the device computes those of another. Everything else is the
engine's: decoding a JPEG pyramid, labels and confidence, and writing. Each run is a
process that may use one or two cores.

Three tables: CPU time of each stage beside a floor (the decoder, the codecs or a copy
in memory alone); megapixels/s of the host, and what follows for more cores; the share
of time in which devices of several speeds compute. ``pipeline.svg``, in the working
folder, shows the stages of the run with the slowest device. The rows are added to the
committed tables.
"""

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import child, tiled
from measurements import TABLES, put_rows
from rich.console import Group
from rich.table import Table

WINDOW, BATCH, THREADS = 256, 32, 4
STAGES = ("read", "compute", "write")
KEYS = ("cores", "device_share")  # of a run; the share of the host's rate, 0: no delay
COLOURS = ("#4477aa", "#ee6677", "#228833")


@dataclass(frozen=True)
class Size:
    """Side of the image, rounds of each run, and speeds as shares of the host's."""

    side: int = 12288
    stage_side: int = 4096
    rounds: int = 2
    speeds: tuple[float, ...] = (0.5, 0.75, 0.9, 1.0)
    picture: str = "pipeline.svg"
    save: bool = True


FULL, TINY = Size(), Size(1024, 1024, 1, (0.5,), "", False)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Group:
    """Measure the stages and whole runs of a JPEG pyramid; takes no checkpoint."""
    del checkpoint
    with tempfile.TemporaryDirectory() as folder:
        file = image or tiled(Path(folder) / "image.tif", size.side, "jpeg")
        small = image or tiled(Path(folder) / "small.tif", size.stage_side, "jpeg")
        stages = child(__file__, "stages", str(small), str(size.rounds))
        hosts = [_best(file, cores, 0, size.rounds) for cores in (1, 2)]
        most = hosts[1]["rate"]
        runs = [_best(file, 2, share * most, size.rounds) for share in size.speeds]
    picture = timeline(runs[0]["spans"])
    if size.picture:
        Path(size.picture).write_text(picture)
    if size.save:
        put_rows(TABLES / "pipeline_stages.csv", stage_rows(stages), ["stage"])
        put_rows(TABLES / "pipeline.csv", run_rows(hosts, runs, size), KEYS)
    return Group(_stage_table(stages), _host_table(hosts), _busy_table(runs))


def stage_rows(stages: list[tuple[str, float, str, float]]) -> list[dict[str, object]]:
    """Return the stages as rows of a table."""
    names = "stage", "cpu_ms_per_megapixel", "floor", "floor_cpu_ms_per_megapixel"
    return [dict(zip(names, _rounded(stage), strict=True)) for stage in stages]


def run_rows(hosts: list[Any], runs: list[Any], size: Size) -> list[dict[str, object]]:
    """Return whole runs as rows of a table.

    Parameters
    ----------
    hosts
        Runs with a device that takes no time, on one core and on two.
    runs
        Runs on two cores with devices of the size's speeds.
    size
        Size of the measurement.
    """
    cores, shares = (1, 2, *[2] * len(runs)), (0.0, 0.0, *size.speeds)
    return [
        {
            "cores": core,
            "device_share": share,
            "device_megapixels_per_s": _rounded([one["speed"]])[0],
            "megapixels_per_s": _rounded([one["rate"]])[0],
            "cpu_ms_per_megapixel": _rounded([one["cpu"]])[0],
            "busy_share": round(one["busy"], 3) if share else None,
            "busiest_thread": one["busiest"][0],
            "busiest_cpu_ms_per_megapixel": _rounded(one["busiest"])[1],
        }
        for core, share, one in zip(cores, shares, [*hosts, *runs], strict=True)
    ]


def _rounded(values: Sequence[Any]) -> list[Any]:
    return [round(v, 1) if isinstance(v, float) else v for v in values]


def _best(file: Path, cores: int, speed: float, rounds: int) -> Any:
    """Return the quickest of some runs; ``speed`` 0 is a device without delay."""
    runs = [child(__file__, "run", str(file), str(cores), str(speed))
            for _ in range(rounds)]  # fmt: skip
    return max(runs, key=lambda one: one["rate"])


def _stage_table(stages: list[tuple[str, float, str, float]]) -> Table:
    table = Table("stage", "CPU ms per megapixel", "floor", "its CPU ms")
    table.title = "Stages in one thread"
    for name, cost, floor, least in stages:
        table.add_row(name, f"{cost:.1f}", floor, f"{least:.1f}")
    return table


def _host_table(hosts: list[Any]) -> Table:
    table = Table("cores", "megapixels/s", "CPU ms per megapixel", "busiest thread")
    one, two = (host["rate"] for host in hosts)
    serial = min(1.0, max(0.0, 2 * one / two - 1))
    table.title = (
        f"A device that takes no time: two cores are {two / one:.2f} times as fast as "
        f"one, serial part {serial:.0%} (Amdahl)"
    )
    for cores, host in zip((1, 2), hosts, strict=True):
        name, cost = host["busiest"]
        row = (f"{host['rate']:.0f}", f"{host['cpu']:.1f}", f"{name}, {cost:.1f} ms")
        table.add_row(str(cores), *row)
    for cores in (8, 16, 32):
        name, most = _limit(hosts[0]["threads"], cores)
        rate = min(one / (serial + (1 - serial) / cores), most)
        limit = f"{name}: at most {most:.0f} megapixels/s"
        table.add_row(f"{cores} (computed)", f"{rate:.0f}", "as above", limit)
    return table


def _limit(threads: dict[str, float], cores: int) -> tuple[str, float]:
    """Return the stage that limits the rate on many cores, and megapixels/s.

    Parameters
    ----------
    threads
        CPU milliseconds per megapixel of each thread, by name.
    cores
        Number of cores. Several threads share the reading and the network.
    """
    from napari_uhrseg.engine.planning.batch_size import MOST_READERS

    readers = max(1, min(MOST_READERS, cores // 2))
    stages = {"reading": threads.get("uhrseg-prefetch", 0) / readers}
    stages |= {
        name: cost
        for name, cost in threads.items()
        if name in ("MainThread", "uhrseg-write_0")
    }
    name = max(stages, key=lambda one: stages[one])
    return name, 1000 / max(stages[name], 1e-9)


def _busy_table(runs: list[Any]) -> Table:
    table = Table("device, megapixels/s", "run, megapixels/s", "device busy")
    table.title = "Devices of several speeds on two cores"
    for one in runs:
        row = f"{one['speed']:.0f}", f"{one['rate']:.0f}", f"{one['busy']:.0%}"
        table.add_row(*row)
    return table


def timeline(spans: list[tuple[str, float, float]]) -> str:
    """Return an SVG picture that shows which stage works when.

    Parameters
    ----------
    spans
        Stage, begin and end in seconds.
    """
    end = max(stop for _, _, stop in spans)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="150" '
        'font-family="sans-serif" font-size="14">',
        '<rect width="900" height="150" fill="white"/>',
    ]
    for i, (stage, colour) in enumerate(zip(STAGES, COLOURS, strict=True)):
        parts.append(f'<text x="8" y="{36 + 40 * i}">{stage}</text>')
        for start, stop in _joined(spans, stage, end / 2000):
            x, width = 80 + 800 * start / end, 800 * (stop - start) / end
            parts.append(
                f'<rect x="{x:.2f}" y="{18 + 40 * i}" width="{width:.2f}" '
                f'height="26" fill="{colour}"/>'
            )
    parts.append(f'<text x="80" y="142">0 s</text><text x="850" y="142">{end:.2f} s')
    return "\n".join([*parts, "</text></svg>", ""])


def _joined(
    spans: list[tuple[str, float, float]], stage: str, gap: float
) -> list[tuple[float, float]]:
    """Return begin and end of a stage's times, joined over gaps that nobody can see.

    Parameters
    ----------
    spans
        Stage, begin and end in seconds.
    stage
        The stage.
    gap
        Seconds between two times that are joined, at most.
    """
    found: list[tuple[float, float]] = []
    for start, stop in sorted((a, b) for name, a, b in spans if name == stage):
        if found and start - found[-1][1] <= gap:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def main(what: str, file: str, *numbers: str) -> None:
    """Print the measurements of the stages or of a run, as JSON."""
    if what == "stages":
        import bench_pipeline_stages

        print(json.dumps(bench_pipeline_stages.measure(Path(file), int(numbers[0]))))
        return
    with on_cores(int(numbers[0])):
        print(json.dumps(measure_run(Path(file), float(numbers[1]))))


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Let this process use only so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure_run(file: Path, speed: float) -> dict[str, Any]:
    """Segment an image with the stand-in.

    Parameters
    ----------
    file
        The image.
    speed
        Megapixels/s of the device; 0: it takes no time.
    """
    from bench_pipeline_parts import recorded_image, recorded_store, stand_in

    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
    from napari_uhrseg.types import SegmentSettings

    spans: list[tuple[str, float, float]] = []
    threads: dict[str, float] = {}
    image, checkpoint = recorded_image(file, spans), stand_in(speed, spans)
    settings = SegmentSettings(
        precision="fp32", threads=THREADS, batch_size=BATCH, overlap=0, scale=1
    )
    CHUNK_CACHE.clear()
    gc.freeze()  # a scan of all imported objects takes a tenth of a second
    with recorded_store(image, checkpoint, spans) as store:
        events = segment(image, checkpoint, store, settings)
        next(events)  # the plan
        spans.clear()
        before = thread_seconds()
        start, cpu = time.perf_counter(), time.process_time()
        seen = 0.0
        for _ in events:
            if time.perf_counter() - seen > 0.2:
                threads, seen = threads | thread_seconds(), time.perf_counter()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    megapixels = image.shape[0] * image.shape[1] / 1e6
    used = {k: 1000 * (v - before.get(k, 0.0)) / megapixels for k, v in threads.items()}
    name = max(used, key=lambda one: used[one])
    computing = [span for span in spans if span[0] == "compute"]
    first, last = computing[0][1], max(stop for _, _, stop in computing)
    busy = sum(stop - begin for _, begin, stop in computing)
    return {
        "speed": speed,
        "rate": megapixels / seconds,
        "cpu": 1000 * cpu / megapixels,
        "busiest": (name.rstrip("_0123456789"), used[name]),
        "threads": used,
        "busy": busy / max(last - first, 1e-9),
        "spans": [(stage, a - start, b - start) for stage, a, b in spans],
    }


def thread_seconds() -> dict[str, float]:
    """Return the CPU seconds of each thread of Python, by its name."""
    import threading

    found = {}
    for thread in threading.enumerate():
        file = Path(f"/proc/self/task/{thread.native_id}/schedstat")
        try:
            found[thread.name] = int(file.read_text().split()[0]) / 1e9
        except (OSError, IndexError):  # it has ended
            continue
    return found


def cpu_ms(work: Callable[[], object], megapixels: float, rounds: int) -> float:
    """Return the least CPU milliseconds per megapixel of some calls."""
    work()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1000 * min(found) / megapixels


if __name__ == "__main__":
    main(*sys.argv[1:])
