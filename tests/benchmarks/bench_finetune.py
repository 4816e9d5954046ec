"""Measure how labels improve as a simulated user corrects and fine-tunes repeatedly.

bench_finetune.py --work DIR [--methods NAME ...] [--seeds N ...]
bench_finetune.py --work DIR --table docs/finetuning.md

A sample checkpoint labels a world that it was not trained on: another seed, its
palette shifted. With --aerial DIR --checkpoints WORK it is a photograph instead: the
checkpoints that make_checkpoints.py trained on the other scenes label scene 3. In every
round the user paints strokes over the worst places of one half of the ground (a
chessboard), fine-tunes, and keeps the result unless the comparison calls it worse. mIoU
is that of the other half.

DIR gets the checkpoint of every round, and the tables simulated_user.csv with a row a
round and simulated_user_classes.csv with a row a class. A round whose row is there is
not repeated. The measurements of docs/finetuning.md are in tests/benchmarks/tables.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from common import sample
from measurements import Row, find_row, markdown, put_rows, put_table, read_rows
from simulated_user import UNKNOWN, Labels, paint

from napari_uhrseg.engine.data.scenes import Scene
from napari_uhrseg.engine.evaluation.evaluate import label_scene
from napari_uhrseg.engine.events import DatasetReady, FineTuneFinished
from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.inference.label_windows import TilingSettings
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.samples.world import CLASSES, World
from napari_uhrseg.types import Legend

START = "<!-- table: made by bench_finetune.py -->"
TABLE, CLASS_TABLE = "simulated_user.csv", "simulated_user_classes.csv"
KEYS = ("ground", "method", "seed", "round")
ROUNDS = 5
CELL = 512  # side of a square of the chessboard, pixels
RARE = 0.005  # smallest share of the tested ground of a class that is averaged
"""A rare class of the world is a few objects, and its IoU is mostly chance."""
SEEDS = {0: 5100, 1: 5101, 2: 5102}
SHIFT = np.array([[0.80, 0.25, 0.00], [0.10, 0.75, 0.10], [0.05, 0.00, 0.80]])
"""Matrix that mixes the channels: a warmer and duller light."""


@dataclass(frozen=True)
class Ground:
    """Image with its true class ids of a legend."""

    image: Image
    truth: Labels
    legend: Legend
    cell: int = CELL

    @property
    def corrected(self) -> npt.NDArray[np.bool_]:
        """The cells that the user corrects; the others are measured."""
        rows, columns = (np.arange(n) // self.cell for n in self.truth.shape)
        return (rows[:, None] + columns) % 2 == 0


def shifted(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the colours in another light: channels mixed, then a gamma curve."""
    mixed = np.clip(rgb / 255.0 @ SHIFT.T, 0, 1) ** 0.85
    return np.asarray(mixed * 255, np.uint8)


def world(seed: int, side: int, cell: int = CELL) -> Ground:
    """Return a computed world in another light.

    Parameters
    ----------
    seed
        A key of ``SEEDS``.
    side, cell
        The sides of the world and of the chessboard's squares, in pixels.
    """
    rgb, labels = World(SEEDS[seed], (side, side)).render(0, 0, side, side)
    image = image_from_array(shifted(rgb), name=f"world {SEEDS[seed]}", rgb=True)
    return Ground(image, labels, CLASSES, cell)


def aerial(folder: Path, legend: Legend, scene: int) -> Ground:
    """Return a photograph; its mask's values 0 to 4 are the classes, 5 is unknown.

    Parameters
    ----------
    folder
        Has the folders ``images`` and ``masks``.
    legend
        Its classes name the masks' values.
    scene
        The number in the files' names.
    """
    image = open_image(folder / "images" / f"tile{scene}.jpg")
    with rasterio.open(folder / "masks" / f"tile{scene}.png") as file:
        values = file.read(1)
    table = np.full(256, UNKNOWN, np.uint8)
    for c in legend:
        assert c.source_value is not None
        table[c.source_value] = c.id
    return Ground(image, table[values], legend)


def labels_of(checkpoint: Checkpoint, ground: Ground) -> Labels:
    """Return the class ids (of the ground's legend) that a run would give."""
    spec = checkpoint.card.spec
    scene = Scene(ground.image.name, ground.image, None).fitted(spec)  # type: ignore[arg-type]
    named = [ground.legend.named(c.name) for c in checkpoint.card.legend]
    ids = np.array([c.id if c else UNKNOWN for c in named], np.uint8)
    found = np.zeros(ground.truth.shape, np.uint8)
    how = TilingSettings.of(spec, 1, torch.device("cpu"), "fp32")
    for roi, labels in label_scene(checkpoint.model, scene, how):
        if labels is not None:
            found[roi.slices] = ids[labels]
    return found


def scores(found: Labels, ground: Ground) -> dict[str, float]:
    """Return mIoU and IoU per class on the ground that the user does not correct."""
    tested = ~ground.corrected & (ground.truth != UNKNOWN)
    pairs = ground.truth[tested].astype(int) * 256 + found[tested]
    matrix = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    result = {}
    for c in ground.legend:
        truth, labelled = matrix[c.id].sum(), matrix[:, c.id].sum()
        if truth >= RARE * tested.sum():
            hit = matrix[c.id, c.id]
            result[f"iou/{c.name}"] = float(hit / (truth + labelled - hit))
    return {"miou": mean(result.values()), **result}


@dataclass(frozen=True)
class Session:
    """Rounds of one simulated user.

    Attributes
    ----------
    key
        The columns ``ground``, ``method`` and ``seed``.
    start
        The checkpoint that is corrected.
    rounds, strokes, radius
        The number of rounds, of strokes a round, and a stroke's radius in pixels.
    """

    key: Mapping[str, object]
    start: Path
    ground: Ground
    rounds: int = ROUNDS
    strokes: int = 20
    radius: int = 16

    @property
    def name(self) -> str:
        """The beginning of the names of its files."""
        return "-".join(str(part) for part in self.key.values())


def play(
    session: Session, folder: Path, settings: FineTuneSettings
) -> Iterator[Mapping[str, Any]]:
    """Yield the rounds as rows of the table, measured unless they are in it.

    Parameters
    ----------
    session
        The user.
    folder
        The folder of the tables and the checkpoints.
    settings
        The settings of each fine-tuning.
    """
    ground = session.ground
    store = open_store(folder / f"{session.name}.zarr", ground)
    current = session.start
    for number in range(session.rounds + 1):
        key = {**session.key, "round": number}
        known: Row | None = find_row(read_rows(folder / TABLE), key)
        if known is None:
            figures: dict[str, Any] = {}
            if number:
                output = folder / f"{session.name}-{number}.safetensors"
                figures = correct_and_learn(session, current, store, output, settings)
                current = output if figures["kept"] else current
            found = scores(labels_of(load_checkpoint(current), ground), ground)
            known = {
                **key,
                "checkpoint": current.name,
                "miou": found["miou"],
                **figures,
            }
            classes = [{**key, "class": name.removeprefix("iou/"), "iou": value}
                       for name, value in found.items() if name != "miou"]  # fmt: skip
            put_rows(folder / CLASS_TABLE, classes, [*KEYS, "class"])
            put_rows(folder / TABLE, [known], KEYS)
        unchanged = known["checkpoint"] == session.start.name
        current = session.start if unchanged else folder / str(known["checkpoint"])
        yield known
    store.close()


def correct_and_learn(
    session: Session,
    current: Path,
    store: LabelStore,
    output: Path,
    settings: FineTuneSettings,
) -> dict[str, Any]:
    """Paint over the worst places and fine-tune; return the columns of the round.

    Parameters
    ----------
    session
        The user.
    current
        The checkpoint that is fine-tuned.
    store
        The labels that are corrected.
    output
        The new checkpoint, replaced if it exists.
    settings
        The settings of the fine-tuning.
    """
    output.unlink(missing_ok=True)
    ground = session.ground
    done = output.with_suffix(".painted")  # painted once, even if it is interrupted
    if not done.exists():
        shown = labels_of(load_checkpoint(current), ground)
        painted = paint(store, ground.truth, shown, ground.corrected,
                        session.strokes, session.radius)  # fmt: skip
        done.write_text(str(painted))
    clock = time.process_time()
    figures = learn(ground, current, store, output, settings)
    figures["painted_pixels"] = int(done.read_text())
    figures["cpu_seconds"] = time.process_time() - clock
    return figures


def learn(
    ground: Ground,
    current: Path,
    store: LabelStore,
    output: Path,
    settings: FineTuneSettings,
) -> dict[str, Any]:
    """Fine-tune a checkpoint; return the columns that describe the result.

    Parameters
    ----------
    ground
        The image.
    current
        The checkpoint that is fine-tuned.
    store
        Its corrections are learned.
    output
        The new checkpoint.
    settings
        The settings of the fine-tuning.
    """
    figures: dict[str, Any] = {}
    loaded = load_checkpoint(current)
    for event in fine_tune(ground.image, loaded, store, output, settings):
        match event:
            case DatasetReady(lesson):
                figures["training_data"] = lesson.summary()
            case FineTuneFinished(before, after, comparison, _):
                figures["kept"] = not comparison.startswith("worse")
                figures["held_out_miou_before"] = before.get("miou")
                figures["held_out_miou_after"] = after.get("miou")
                figures["comparison"] = comparison
    return figures


def open_store(path: Path, ground: Ground) -> LabelStore:
    """Open a label store for writing; create it if it does not exist."""
    if path.exists():
        return LabelStore.open(path, write=True)
    return LabelStore.create(path, ground.image, ground.legend)


def table(folder: Path, grounds: list[str], rounds: int) -> str:
    """Return the mean mIoU of the seeds, round by round, as Markdown.

    Parameters
    ----------
    folder
        The folder of the tables.
    grounds
        The grounds in the table, in order.
    rounds
        The number of rounds in the table.
    """
    head = ["ground", "method", "seeds", "before"]
    head += [f"round {n}" for n in range(1, rounds + 1)]
    head += ["CPU s/round"]
    every = read_rows(folder / TABLE)
    lines = []
    for ground in grounds:
        here = [row for row in every if row["ground"] == ground]
        for method in sorted({row["method"] for row in here}):
            rows = [row for row in here if row["method"] == method]
            each = [[100 * float(row["miou"]) for row in rows if row["round"] == str(n)]
                    for n in range(rounds + 1)]  # fmt: skip
            seeds = len(each[0])
            cells = [_mean(found, seeds) for found in each]
            took = [float(row["cpu_seconds"]) for row in rows if row["cpu_seconds"]]
            last = f"{mean(took):.0f}" if took else "-"
            lines.append([ground, method, str(seeds), *cells, last])
    return markdown(head, lines)


def _mean(values: list[float], seeds: int) -> str:
    """Return the mean, and the number of values unless it is that of the seeds."""
    if not values:
        return "-"
    return f"{mean(values):.1f}" + (f" ({len(values)})" if len(values) < seeds else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line; measure and print the rounds, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["plain", "scpseg", "sgnet"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--strokes", type=int, default=20, help="a round")
    parser.add_argument("--radius", type=int, default=16, help="of a stroke, pixels")
    parser.add_argument("--side", type=int, default=2048, help="of the world, pixels")
    parser.add_argument("--cell", type=int, default=CELL, help="of the chessboard")
    parser.add_argument("--aerial", type=Path, help="a folder of images and masks")
    parser.add_argument(
        "--checkpoints", type=Path, help="the --work folder of make_checkpoints.py"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="steps=100 trainable=head")
    parser.add_argument("--table", type=Path, help="put the table into this file")
    args = parser.parse_args(arguments)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    if args.table:
        made = table(args.work, ["world", "aerial"], args.rounds)
        put_table(args.table, START, made)
        return
    chosen = dict(pair.split("=", 1) for pair in args.set)
    values = {k: _value(v) for k, v in chosen.items()}
    for seed in args.seeds:
        for method in args.methods:
            settings = FineTuneSettings(**{"seed": seed, "device": "cpu", **values})
            session = _session(method, seed, args)
            for row in play(session, args.work, settings):
                seconds = float(row.get("cpu_seconds") or 0)
                print(session.name, row["round"], f"mIoU {float(row['miou']):.3f}",
                      row.get("comparison"), round(seconds), flush=True)  # fmt: skip


def _session(method: str, seed: int, args: argparse.Namespace) -> Session:
    if args.aerial:
        start = args.checkpoints / f"aerial-{method}-0.safetensors"
        ground = aerial(args.aerial, load_checkpoint(start).card.legend, 3)
    else:
        start, ground = (
            sample(f"{method}.safetensors"),
            world(seed, args.side, args.cell),
        )
    name = "aerial" if args.aerial else "world"
    key = {"ground": name, "method": method, "seed": seed}
    return Session(key, start, ground, args.rounds, args.strokes, args.radius)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
