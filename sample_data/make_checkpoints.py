"""Train the sample checkpoints, and compare the methods on unseen scenes.

python sample_data/make_checkpoints.py --work DIR --data world aerial=DIR glands=DIR

Scenes are rendered into DIR. Every method is trained there with every seed by
`napari-uhrseg train` and evaluated on unseen scenes. The same is
done with photographs and stained tissue, of which some are for evaluation by name.
A training takes about eight minutes of one CPU core: the steps were chosen for that.
The figures of a training are written to method_scores.csv and method_class_scores.csv
in tests/benchmarks/tables as soon as it is measured. A training whose row is there is
not repeated; delete the row to repeat it. Several of these commands may work in one DIR
on different methods. --longer multiplies the steps, and is the column steps_factor.
tests/benchmarks/methods_table.py makes the table of docs/methods.md from these tables.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from make_samples import make_scenes

sys.path.append(str(Path(__file__).parents[1] / "tests" / "benchmarks"))
from measurements import TABLES, find_row, put_rows, read_rows

from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.samples.world import CLASSES

TRAINING = [*range(100, 114)]
UNSEEN = [*range(900, 908)]


@dataclass(frozen=True)
class Data:
    """Data set of images and masks for training and evaluation."""

    classes: str  # one line per class: value, name, colour
    ignored: int | None = None  # mask value of unlabelled pixels
    held_out: range = range(0)  # numbers in the names of the evaluation images


DATA = {
    "world": Data(
        "".join(f"{c.source_value} {c.name} {c.color}\n" for c in CLASSES), 0
    ),
    "aerial": Data(
        "0 building #3c1098\n1 unpaved #8429f6\n2 road #6ec1e4\n"
        "3 vegetation #fedd3a\n4 water #e2a929\n",
        5,
        range(3, 4),
    ),
    "nuclei": Data("0 other #f3e4ee\n1 nucleus #4b2a86\n", None, range(80, 105)),
    "glands": Data("0 stroma #e6c3d8\n1 gland #5b2a86\n", None, range(69, 86)),
}

HERE = Path(__file__).parent
TEXTS = {  # of the cards of shipped checkpoints
    "source": "computed: napari_uhrseg.samples.world",
    "licence": "BSD-3-Clause",
    "citation": "",
    "trained_on": "14 computed scenes, seeds 100 to 113; evaluated on seeds 900 to 907",
    "limitations": "All images but the sample scenes. No photographs were used.",
}

SCORES, CLASS_SCORES = "method_scores.csv", "method_class_scores.csv"

ENCODER = "mobilenetv4_conv_small_050"
OPTIONS = 'options={"encoder_output_stride": 16, "decoder_channels": 128}'


@dataclass(frozen=True)
class Training:
    """Training settings of a method; ``arguments`` are those of its class."""

    steps: int
    batch_size: int
    encoder: str
    arguments: tuple[str, ...]
    learning_rate: float = 0.0015


METHODS = {
    "plain": Training(800, 8, f"tu-{ENCODER}", ("window=256", OPTIONS)),
    "scpseg": Training(450, 8, f"tu-{ENCODER}", ("sr_width=32", OPTIONS)),
    "sgnet": Training(
        310,
        8,
        f"tu-{ENCODER}",
        ("window=256", "width=64", "heads=4", "shallow_width=8", OPTIONS),
    ),
    "isdnet": Training(
        600, 2, ENCODER, ("width=32", "window=512", "frame=1152"), 0.004
    ),
    "glnet": Training(
        480,
        4,
        ENCODER,
        ("width=32", "patch=256", "overview=256", "frame=1152", "patches_per_step=4"),
        0.004,
    ),
    "ehsnet": Training(
        320, 2, "hrnet_w18_small", ("width=32", "window=640", "frame=1152"), 0.004
    ),
}  # fmt: skip
# many small crops train it better in the same time, without harm to the frames of
# the world; photographs and tissue need large crops: see docs/methods.md
OF_WORLD = {
    "isdnet": replace(
        METHODS["isdnet"],
        batch_size=8,
        arguments=("width=32", "window=256", "frame=1152"),
    )
}


def run(work: Path, *arguments: str) -> str:
    """Run napari-uhrseg in the work folder, so that cards hold relative paths."""
    command = [str(Path(sys.executable).with_name("napari-uhrseg")), *arguments]
    done = subprocess.run(
        command, cwd=work, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def prepare(work: Path, data: dict[str, str], size: int) -> None:
    """Render the world's scenes; sort the others, whose folders are only read."""
    for name, folder in data.items():
        (work / f"{name}.txt").write_text(DATA[name].classes)
        if name == "world":
            for part, seeds in (("world", TRAINING), ("world-unseen", UNSEEN)):
                if not (work / part / "masks" / f"{seeds[-1]}.tif").exists():
                    make_scenes(work / part, seeds, size)
            continue
        files = (
            f for kind in ("images", "masks") for f in Path(folder, kind).iterdir()
        )
        for file in files:
            number = int("".join(filter(str.isdigit, file.stem)))
            part = f"{name}-unseen" if number in DATA[name].held_out else name
            link = work / part / file.parent.name / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(file.resolve())


def ignoring(data: str) -> list[str]:
    value = DATA[data].ignored
    return [] if value is None else ["--ignore", str(value)]


def stem(data: str, method: str, seed: int, longer: float) -> str:
    return f"{data}-{method}-{seed}" + (f"-x{longer:g}" if longer != 1 else "")


def train(work: Path, data: str, method: str, seed: int, longer: float) -> Path:
    output = work / f"{stem(data, method, seed, longer)}.safetensors"
    if output.exists() and not Path(f"{output}.state").exists():
        return output
    how = METHODS[method]
    if data == "world":
        how = OF_WORLD.get(method, how)
    extra = [x for a in how.arguments for x in ("--argument", a)]
    run(
        work, "train", "--images", f"{data}/images", "--masks", f"{data}/masks",
        "--model", method, "--encoder", how.encoder, "--no-pretrained",
        *extra, *ignoring(data),
        "--classes", f"{data}.txt", "--validate", "0",
        "--steps", str(round(how.steps * longer)), "--batch-size", str(how.batch_size),
        "--optimizer", "adamw", "--schedule", "cosine",
        "--learning-rate", str(how.learning_rate),
        "--clip", "1", "--balance", "0.5", "--precision", "bf16",
        "--seed", str(seed), "--output", output.name, "--json",
    )  # fmt: skip
    return output


def evaluate(work: Path, data: str, checkpoint: Path) -> dict[str, float]:
    lines = run(
        work, "evaluate", f"{data}-unseen/images", f"{data}-unseen/masks",
        "--checkpoint", checkpoint.name, *ignoring(data), "--json",
    )  # fmt: skip
    metrics: dict[str, float] = json.loads(lines.splitlines()[-1])["metrics"]
    return metrics


def ship(checkpoint: Path, method: str, scores: dict[str, float]) -> None:
    """Save a checkpoint of the landscape beside this file, with a card for users."""
    loaded = load_checkpoint(checkpoint)
    kept = {k: round(v, 4) for k, v in scores.items() if k.startswith(("miou", "iou/"))}
    name = f"Sample landscape ({REGISTRY[method].title})"
    card = replace(loaded.card, metrics=kept, name=name, **TEXTS)
    save_checkpoint(HERE / f"{method}.safetensors", loaded.model, card)


def measure(
    args: argparse.Namespace, work: Path, names: list[str]
) -> Iterator[tuple[str, float]]:
    """Train and evaluate each method on each data set with each seed.

    Yields
    ------
    tuple of str and float
        The name of a training and its mIoU.
    """
    for seed in args.seeds:
        for data in names:
            for method in args.methods:
                key = {"data": data, "method": method, "seed": seed,
                       "steps_factor": args.longer}  # fmt: skip
                if not find_row(read_rows(args.tables / SCORES), key):
                    checkpoint = train(work, data, method, seed, args.longer)
                    scores = evaluate(work, data, checkpoint)
                    if f"{data}-{method}" in args.ship and seed == 0:
                        ship(checkpoint, method, scores)
                    record(args.tables, key, scores)
                found = find_row(read_rows(args.tables / SCORES), key)
                assert found is not None
                yield stem(data, method, seed, args.longer), float(found["miou"])


def record(tables: Path, key: dict[str, object], scores: dict[str, float]) -> None:
    """Write the scores of a training: those of each class, then those of all.

    Parameters
    ----------
    tables
        The folder of the tables.
    key
        The columns ``data``, ``method``, ``seed`` and ``steps_factor``.
    scores
        ``miou``, ``f1`` and ``accuracy``, and ``iou/CLASS``, ``f1/CLASS`` and
        ``accuracy/CLASS`` of each class.
    """
    classes: dict[str, dict[str, float]] = {}
    for name, value in scores.items():
        metric, _, of_class = name.partition("/")
        if of_class:
            classes.setdefault(of_class, {})[metric] = value
    each = [{**key, "class": name, **values} for name, values in classes.items()]
    put_rows(tables / CLASS_SCORES, each, [*key, "class"])
    whole = {name: value for name, value in scores.items() if "/" not in name}
    put_rows(tables / SCORES, [{**key, **whole}], [*key])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--data", nargs="+", default=["world"], help="NAME=DIR, of images and masks"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument(
        "--ship", nargs="*", default=[], help="put it beside this file",
        choices=[f"world-{method}" for method in METHODS],
    )  # fmt: skip
    parser.add_argument("--longer", type=float, default=1.0, help="factor on the steps")
    parser.add_argument("--size", type=int, default=2048, help="a scene's side, pixels")
    parser.add_argument("--tables", type=Path, default=TABLES, help="of the scores")
    args = parser.parse_args()
    work: Path = args.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    data = dict(x.split("=", 1) if "=" in x else (x, "") for x in args.data)
    for name, folder in data.items():
        if name not in DATA or (
            name != "world" and not Path(folder, "images").is_dir()
        ):
            parser.error(f"{name}={folder}: no known name, or no folder of images")
    prepare(work, data, args.size)
    for name, miou in measure(args, work, [*data]):
        print(name, f"mIoU {miou:.3f}", flush=True)


if __name__ == "__main__":
    main()
