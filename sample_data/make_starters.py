"""Train the starter checkpoint for nuclei in stained tissue.

python sample_data/make_starters.py --work DIR --nuclei DIR

--nuclei has the folders images and masks: 105 fields of stained tissue of the Data
Science Bowl 2018, named 000.png to 104.png; value 1 is a nucleus. Fields from 080 on
are for evaluation. A checkpoint that exists in --work is not trained again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from make_checkpoints import HERE, evaluate, prepare, run

from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint

NAME = "nuclei"
PIXEL_SIZE = 0.33e-6
"""Estimated pixel size in metres: half of the fields have nuclei with a median diameter
of more than 22 pixels, and a nucleus has about 7 micrometres."""
TEXTS = {
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


def train(work: Path) -> Path:
    """Return the trained checkpoint in the work folder."""
    output = work / f"{NAME}.safetensors"
    if output.exists() and not Path(f"{output}.state").exists():
        return output
    run(
        work, "train", "--images", f"{NAME}/images", "--masks", f"{NAME}/masks",
        "--classes", f"{NAME}.txt", "--model", "plain", "--architecture", "Unet",
        "--encoder", "tu-tf_efficientnet_lite0", "--argument", "window=128",
        "--argument", 'options={"decoder_channels": [128, 64, 48, 32, 16]}',
        "--validate", "0", "--balance", "0.5", "--steps", "140", "--batch-size", "8",
        "--optimizer", "adamw", "--schedule", "cosine", "--learning-rate", "0.001",
        "--clip", "1", "--seed", "0", "--output", output.name, "--json",
    )  # fmt: skip
    return output


def main() -> None:
    """Read the command line; train, evaluate and save the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nuclei", type=Path, required=True)
    args = parser.parse_args()
    work: Path = args.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    prepare(work, {NAME: str(args.nuclei)}, 0)
    checkpoint = train(work)
    scores = evaluate(work, NAME, checkpoint)
    kept = {k: round(v, 4) for k, v in scores.items() if k.startswith(("miou", "iou/"))}
    loaded = load_checkpoint(checkpoint)
    spec = replace(loaded.card.spec, pixel_size=PIXEL_SIZE)
    card = replace(loaded.card, spec=spec, metrics=kept, **TEXTS)
    loaded.model.spec = spec
    print(save_checkpoint(HERE / f"plain_{NAME}.safetensors", loaded.model, card), kept)


if __name__ == "__main__":
    main()
