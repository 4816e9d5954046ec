"""A simulated person corrects and fine-tunes, round after round.

bench_finetune.py --rows DIR [--methods NAME ...] [--seeds N ...]
bench_finetune.py --rows DIR --table docs/finetuning.md

A sample checkpoint meets a world it was not trained on: another seed, its palette
shifted. With --aerial DIR --checkpoints WORK a photograph instead: the checkpoints that
make_checkpoints.py trained on the other scenes meet scene 3. In every round the person
paints strokes over the worst places of one half of the ground (a chessboard),
fine-tunes, and keeps what is not said to be worse; mIoU is that of the other half. A
file a round stands in DIR as soon as it is measured, with the checkpoint beside it:
what is there is not done again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from common import sample
from user import UNKNOWN, Labels, paint

from napari_uhrseg.engine.events import Compared, Gathered
from napari_uhrseg.engine.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.metrics import Cover, label_scene
from napari_uhrseg.engine.samples import Scene
from napari_uhrseg.io.image import Image, open_image
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.samples.world import CLASSES, World
from napari_uhrseg.types import Legend

ROUNDS = 5
CELL = 512  # pixels, of the chessboard
RARE = 0.005  # classes with a smaller share of the tested ground are not averaged
"""Of the world, whose rare classes are a few objects: luck, not skill."""
SEEDS = {0: 5100, 1: 5101, 2: 5102}
SHIFT = np.array([[0.80, 0.25, 0.00], [0.10, 0.75, 0.10], [0.05, 0.00, 0.80]])
"""Of the palette: a warmer and duller light, as of another season."""


@dataclass(frozen=True)
class Ground:
    """What is corrected and measured: an image and its truth in ids of a legend."""

    image: Image
    truth: Labels
    legend: Legend

    @property
    def mine(self) -> npt.NDArray[np.bool_]:
        """The cells that the person looks at; the others are measured."""
        rows, columns = (np.arange(n) // CELL for n in self.truth.shape)
        return (rows[:, None] + columns) % 2 == 0


def shifted(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Another light: channels mixed, then a curve."""
    mixed = np.clip(rgb / 255.0 @ SHIFT.T, 0, 1) ** 0.85
    return np.asarray(mixed * 255, np.uint8)


def world(seed: int, side: int) -> Ground:
    rgb, labels = World(SEEDS[seed], (side, side)).render(0, 0, side, side)
    image = Image.from_array(shifted(rgb), name=f"world {SEEDS[seed]}", rgb=True)
    return Ground(image, labels, CLASSES)


def aerial(folder: Path, legend: Legend, scene: int) -> Ground:
    """A photograph; its mask's values 0 to 4 are the classes, 5 is unknown."""
    image = open_image(folder / "images" / f"tile{scene}.jpg")
    with rasterio.open(folder / "masks" / f"tile{scene}.png") as file:
        values = file.read(1)
    table = np.full(256, UNKNOWN, np.uint8)
    for c in legend:
        assert c.source_value is not None
        table[c.source_value] = c.id
    return Ground(image, table[values], legend)


def labels_of(checkpoint: Checkpoint, ground: Ground) -> Labels:
    """Class ids (of the ground's legend) that a run would show."""
    spec = checkpoint.card.spec
    scene = Scene(ground.image.name, ground.image, None).fitted(spec)  # type: ignore[arg-type]
    named = [ground.legend.named(c.name) for c in checkpoint.card.legend]
    ids = np.array([c.id if c else UNKNOWN for c in named], np.uint8)
    found = np.zeros(ground.truth.shape, np.uint8)
    how = Cover.of(spec, 4, torch.device("cpu"), "fp32")
    for roi, labels in label_scene(checkpoint.model, scene, how):
        if labels is not None:
            found[roi.slices] = ids[labels]
    return found


def scores(found: Labels, ground: Ground) -> dict[str, float]:
    """mIoU and IoU per class on the ground that the person does not touch."""
    tested = ~ground.mine & (ground.truth != UNKNOWN)
    pairs = ground.truth[tested].astype(int) * 256 + found[tested]
    matrix = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    result = {}
    for c in ground.legend:
        truth, labelled = matrix[c.id].sum(), matrix[:, c.id].sum()
        if truth >= RARE * tested.sum():
            hit = matrix[c.id, c.id]
            result[f"iou/{c.name}"] = float(hit / (truth + labelled - hit))
    return {"miou": mean(result.values()), **result}


def play(
    name: str,
    start: Path,
    ground: Ground,
    folder: Path,
    settings: FineTuneSettings,
    args: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """The rounds, each as a row."""
    store = open_store(folder / f"{name}.zarr", ground)
    current = start
    for number in range(args.rounds + 1):
        row = folder / f"{name}-{number}.json"
        output = folder / f"{name}-{number}.safetensors"
        if not row.exists():
            output.unlink(missing_ok=True)
            told: dict[str, Any] = {}
            if number:
                done = folder / f"{name}-{number}.painted"  # not twice, if interrupted
                if not done.exists():
                    shown = labels_of(load_checkpoint(current), ground)
                    painted = paint(store, ground.truth, shown, ground.mine,
                                    args.strokes, args.radius)  # fmt: skip
                    done.write_text(str(painted))
                clock = time.process_time()
                told = learn(ground, current, store, output, settings)
                told["painted"] = int(done.read_text())
                told["seconds"] = time.process_time() - clock
                current = output if told["kept"] else current
            found = labels_of(load_checkpoint(current), ground)
            told |= {"checkpoint": current.name, **scores(found, ground)}
            row.write_text(json.dumps(told, indent=1) + "\n")
        known = json.loads(row.read_text())
        stayed = known["checkpoint"] == start.name
        current = start if stayed else folder / known["checkpoint"]
        yield known
    store.close()


def learn(
    ground: Ground,
    current: Path,
    store: LabelStore,
    output: Path,
    settings: FineTuneSettings,
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    loaded = load_checkpoint(current)
    for event in fine_tune(ground.image, loaded, store, output, settings):
        match event:
            case Gathered(lesson):
                told["lesson"] = lesson.summary()
            case Compared(before, after, verdict, _):
                told["verdict"] = verdict
                told["kept"] = not verdict.startswith("worse")
                told["own"] = [before.get("miou"), after.get("miou")]
    return told


def open_store(path: Path, ground: Ground) -> LabelStore:
    if path.exists():
        return LabelStore.open(path, write=True)
    return LabelStore.create(path, ground.image, ground.legend)


def table(folder: Path, datas: list[str], rounds: int) -> str:
    head = ["ground", "method", "seeds", "as it was"]
    head += [f"round {n}" for n in range(1, rounds + 1)]
    head += ["CPU seconds a round"]
    lines = [head, ["---"] * len(head)]
    for data in datas:
        methods = {f.name.split("-")[1] for f in folder.glob(f"{data}-*-0.json")}
        for method in sorted(methods):
            files = [sorted(folder.glob(f"{data}-{method}-*-{n}.json"))
                     for n in range(rounds + 1)]  # fmt: skip
            rows = [[json.loads(f.read_text()) for f in some] for some in files]
            seeds = len(rows[0])
            cells = [
                f"{100 * mean(r['miou'] for r in some):.1f}"
                + (f" ({len(some)})" if len(some) < seeds else "")
                if some else "-"
                for some in rows
            ]  # fmt: skip
            took = [r["seconds"] for some in rows[1:] for r in some]
            last = f"{mean(took):.0f}" if took else "-"
            lines.append([data, method, str(seeds), *cells, last])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["plain", "scpseg", "sgnet"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--strokes", type=int, default=20, help="a round")
    parser.add_argument("--radius", type=int, default=16, help="of a stroke, pixels")
    parser.add_argument("--side", type=int, default=2048, help="of the world, pixels")
    parser.add_argument("--aerial", type=Path, help="a folder of images and masks")
    parser.add_argument(
        "--checkpoints", type=Path, help="the --work folder of make_checkpoints.py"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="steps=100 trains=head")
    parser.add_argument("--table", type=Path, help="put the table into this file")
    args = parser.parse_args()
    args.rows.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    if args.table:
        put_table(args.table, table(args.rows, ["world", "aerial"], args.rounds))
        return
    chosen = dict(pair.split("=", 1) for pair in args.set)
    values = {k: _value(v) for k, v in chosen.items()}
    for seed in args.seeds:
        for method in args.methods:
            settings = FineTuneSettings(**{"seed": seed, "device": "cpu", **values})
            if args.aerial:
                start = args.checkpoints / f"aerial-{method}-0.safetensors"
                ground = aerial(args.aerial, load_checkpoint(start).card.legend, 3)
                name = f"aerial-{method}-{seed}"
            else:
                start = sample(f"{method}.safetensors")
                ground = world(seed, args.side)
                name = f"world-{method}-{seed}"
            for n, row in enumerate(
                play(name, start, ground, args.rows, settings, args)
            ):
                print(name, n, f"mIoU {row['miou']:.3f}", row.get("verdict"),
                      row.get("own"), round(row.get("seconds", 0)),
                      flush=True)  # fmt: skip


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


START, END = "<!-- table: made by bench_finetune.py -->", "<!-- end -->"


def put_table(path: Path, made: str) -> None:
    text = path.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{START}\n\n{made}\n\n{END}{after}")


if __name__ == "__main__":
    main()
