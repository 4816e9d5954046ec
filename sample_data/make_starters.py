"""Train the starter checkpoints for orthophotos and for nuclei in stained tissue.

python sample_data/make_starters.py --work DIR aerial=DIR nuclei=DIR

Each folder has the folders images and masks. aerial: six satellite scenes of Dubai,
named tile1.jpg to tile6.jpg; scene 3 is for evaluation. nuclei: 105 fields of the Data
Science Bowl 2018, named 000.png to 104.png; fields from 080 on are for evaluation.
A checkpoint that exists in --work is not trained again. An orthophoto starter takes
about 30 minutes of one CPU core.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from make_checkpoints import HERE, evaluate, ignoring, prepare, run

from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint

UNET = 'options={"decoder_channels": [128, 64, 48, 32, 16]}'


@dataclass(frozen=True)
class Starter:
    """Training of a starter checkpoint, and the texts of its card."""

    data: str  # name of the data set
    model: str
    arguments: tuple[str, ...]
    steps: int  # of eight windows
    texts: dict[str, str]
    pixel_size: float | None = None  # metres; None: any


AERIAL = {
    "name": "Orthophoto starter (U-Net)",
    "source": "Semantic segmentation of aerial imagery, Humans in the Loop",
    "licence": "BSD-3-Clause; the training images are CC0, the encoder Apache-2.0",
    "citation": "Humans in the Loop: Semantic segmentation of aerial imagery (Dubai)",
    "trained_on": "5 satellite scenes of Dubai; "
    "evaluated on scene 3, which was not used for training",
    "limitations": "Other climates, ground resolutions and sensors; roads and small "
    "buildings. Trained for minutes on five scenes of one city: a start for "
    "corrections and fine-tuning, not for maps.",
}
NUCLEI = {
    "name": "Nuclei starter (U-Net)",
    "source": "Data Science Bowl 2018, stage 1 training set (BBBC038v1)",
    "licence": "BSD-3-Clause; the training images are CC0, the encoder Apache-2.0",
    "citation": "Caicedo et al.: Nucleus segmentation across imaging experiments: the "
    "2018 Data Science Bowl. Nature Methods 16, 2019",
    "trained_on": "80 fields of stained tissue; evaluated on 25 other fields, which "
    "may be of the same slides",
    "limitations": "Fluorescence and other stains. Touching nuclei are not separated. "
    "The fields have several magnifications; the pixel size is an estimate from the "
    "size of their nuclei. Trained for minutes: a start for corrections and "
    "fine-tuning.",
}

# half of the nuclei fields have nuclei with a median diameter of more than 22 pixels,
# and a nucleus has about 7 micrometres
STARTERS = (
    Starter("nuclei", "plain", ("window=128", UNET), 140, NUCLEI, 0.33e-6),
    Starter("aerial", "plain", ("window=256", UNET), 450, AERIAL),
)


def train(work: Path, starter: Starter) -> Path:
    """Return the trained checkpoint in the work folder."""
    data = starter.data
    output = work / f"{starter.model}_{data}.safetensors"
    if output.exists() and not Path(f"{output}.state").exists():
        return output
    run(
        work, "train", "--images", f"{data}/images", "--masks", f"{data}/masks",
        "--classes", f"{data}.txt", *ignoring(data),
        "--model", starter.model, "--architecture", "Unet",
        "--encoder", "tu-tf_efficientnet_lite0",
        *(x for argument in starter.arguments for x in ("--argument", argument)),
        "--validate", "0", "--balance", "0.5",
        "--steps", str(starter.steps), "--batch-size", "8",
        "--optimizer", "adamw", "--schedule", "cosine", "--learning-rate", "0.001",
        "--clip", "1", "--seed", "0", "--output", output.name, "--json",
    )  # fmt: skip
    return output


def ship(starter: Starter, checkpoint: Path, scores: dict[str, float]) -> Path:
    """Save a checkpoint beside this file, with a card for its users."""
    kept = {k: round(v, 4) for k, v in scores.items() if k.startswith(("miou", "iou/"))}
    loaded = load_checkpoint(checkpoint)
    spec = replace(loaded.card.spec, pixel_size=starter.pixel_size)
    card = replace(loaded.card, spec=spec, metrics=kept, **starter.texts)
    loaded.model.spec = spec
    return save_checkpoint(HERE / checkpoint.name, loaded.model, card)


def main() -> None:
    """Read the command line; train, evaluate and save the checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("data", nargs="+", help="NAME=DIR, of images and masks")
    args = parser.parse_args()
    work: Path = args.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    data = dict(one.partition("=")[::2] for one in args.data)
    if unknown := data.keys() - {starter.data for starter in STARTERS}:
        parser.error(f"no starter is trained on {', '.join(sorted(unknown))}")
    prepare(work, data, 0)
    for starter in STARTERS:
        if starter.data in data:
            checkpoint = train(work, starter)
            scores = evaluate(work, starter.data, checkpoint)
            print(ship(starter, checkpoint, scores), scores["miou"], flush=True)


if __name__ == "__main__":
    main()
