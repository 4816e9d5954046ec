"""Trains the sample checkpoints, and compares the two methods on unseen scenes.

python sample_data/make_checkpoints.py --work DIR [--steps 450] [--seeds 0 1 2]

Scenes are rendered into DIR, every method is trained there with every seed by
`napari-uhrseg train`, and evaluated on scenes that no training saw. A row a
training stands in DIR/results.json as soon as it is there; what is there is not
done again. Seed 0's checkpoints are copied beside this file.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from make_samples import make_scenes

from napari_uhrseg.samples.world import CLASSES

TRAINING = [*range(100, 114)]
UNSEEN = [*range(900, 908)]
ENCODER = "tu-mobilenetv4_conv_small_050"
OPTIONS = 'options={"encoder_output_stride": 16, "decoder_channels": 128}'
METHODS = {"plain": ["window=256", OPTIONS], "scpseg": ["sr_width=32", OPTIONS]}


def run(work: Path, *arguments: str) -> str:
    """Run napari-uhrseg in the work folder, so that cards hold relative paths."""
    command = [str(Path(sys.executable).with_name("napari-uhrseg")), *arguments]
    done = subprocess.run(
        command, cwd=work, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def prepare(work: Path, size: int) -> None:
    if not (work / "world" / "masks" / f"{TRAINING[-1]}.tif").exists():
        make_scenes(work / "world", TRAINING, size)
    if not (work / "unseen" / "masks" / f"{UNSEEN[-1]}.tif").exists():
        make_scenes(work / "unseen", UNSEEN, size)
    lines = [f"{c.source_value} {c.name} {c.color}" for c in CLASSES]
    (work / "classes.txt").write_text("\n".join(lines) + "\n")


def train(work: Path, method: str, seed: int, steps: int) -> Path:
    output = work / f"{method}-{seed}.safetensors"
    if not output.exists() or Path(f"{output}.state").exists():
        extra = [x for a in METHODS[method] for x in ("--argument", a)]
        run(
            work, "train", "--images", "world/images", "--masks", "world/masks",
            "--model", method, "--encoder", ENCODER, *extra,
            "--classes", "classes.txt", "--validate", "0",
            "--steps", str(steps), "--batch-size", "8", "--optimizer", "adamw",
            "--schedule", "cosine", "--learning-rate", "0.0015", "--clip", "1",
            "--balance", "0.5", "--precision", "bf16",
            "--seed", str(seed), "--output", output.name, "--json",
        )  # fmt: skip
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*METHODS])
    parser.add_argument("--size", type=int, default=2048, help="a scene's side, pixels")
    args = parser.parse_args()
    work: Path = args.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    prepare(work, args.size)
    table = work / "results.json"
    rows = json.loads(table.read_text()) if table.exists() else {}
    for seed in args.seeds:
        for method in args.methods:
            output = train(work, method, seed, args.steps)
            if output.stem not in rows:
                lines = run(
                    work, "evaluate", "unseen/images", "unseen/masks",
                    "--checkpoint", output.name, "--ignore", "0", "--json",
                )  # fmt: skip
                rows[output.stem] = json.loads(lines.splitlines()[-1])["metrics"]
                table.write_text(json.dumps(rows, indent=1))
            print(output.stem, f"mIoU {rows[output.stem]['miou']:.3f}", flush=True)
            if seed == 0:
                shutil.copy(output, Path(__file__).parent / f"{method}.safetensors")


if __name__ == "__main__":
    main()
