"""Compare features and classifiers of pixels, trained on dabs of paint.

bench_pixel_features.py DIR [--grounds glands aerial vessels]

DIR has a folder of images and masks for each ground; only training scenes are used. The
mIoU is that of one view without the dabs. Rows go to tables/pixel_features.csv.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import timm
import torch
from measurements import TABLES, put_rows
from PIL import Image
from safetensors.torch import load_file
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from torch.nn import functional as F

from napari_uhrseg.engine.finetuning.pixel_trainer import fit_linear
from napari_uhrseg.models.encoder_weights import WEIGHTS

GROUNDS = {  # image, mask, rows, columns, ignored value
    "glands": ("images/train_1.png", "masks/train_1.png", (0, 512), (0, 768), 255),
    "aerial": ("images/tile1.jpg", "masks/tile1.png", (300, 1068), (300, 1068), 5),
    "vessels": ("images/01_dr.jpg", "masks/01_dr.png", (800, 1568), (1000, 1768), 255),
}
KEYS = ("ground", "features", "classifier", "dabs", "seed")
DABS, RADIUS, SEED = 8, 4, 0  # of a class; pixels
LEAST_SHARE = 0.01  # of the view, for a class to count

Features = npt.NDArray[np.float32]
Truth = npt.NDArray[np.int64]


def view_of(folder: Path, ground: str) -> tuple[npt.NDArray[np.uint8], Truth]:
    """Return the pixels and the classes from 1 (0: ignored) of a view."""
    image, mask, rows, columns, ignored = GROUNDS[ground]
    part = slice(*rows), slice(*columns)
    pixels = np.array(Image.open(folder / ground / image).convert("RGB"))[part]
    truth = np.array(Image.open(folder / ground / mask)).astype(np.int64)[part]
    shares = {v: (truth == v).mean() for v in np.unique(truth)}
    counted = [v for v, n in shares.items() if v != ignored and n >= LEAST_SHARE]
    found = np.zeros_like(truth)
    for k, value in enumerate(counted, 1):
        found[truth == value] = k
    return pixels, found


def dabs_of(truth: Truth) -> Truth:
    """Return discs of paint in each class; 0: none."""
    rng, painted = np.random.default_rng(SEED), np.zeros_like(truth)
    yy, xx = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    disc = yy**2 + xx**2 <= RADIUS**2
    for k in range(1, truth.max() + 1):
        there = np.argwhere(truth == k)
        for y, x in there[rng.integers(len(there), size=DABS)]:
            rows = np.clip(y + yy[disc], 0, truth.shape[0] - 1)
            columns = np.clip(x + xx[disc], 0, truth.shape[1] - 1)
            inside = truth[rows, columns] == k
            painted[rows[inside], columns[inside]] = k
    return painted


def encoder_features(pixels: npt.NDArray[np.uint8], reduction: int) -> Features:
    """Return the maps of strides 2 to 16 of the shipped encoder, enlarged."""
    net = timm.create_model(
        "tf_efficientnet_lite0", features_only=True, out_indices=(0, 1, 2, 3)
    ).eval()
    state = {k: v.float() for k, v in load_file(WEIGHTS).items()}
    net.load_state_dict(state, strict=False)
    image = (torch.tensor(pixels).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.no_grad():
        maps = net(F.avg_pool2d(image, reduction) if reduction > 1 else image)
        size = pixels.shape[:2]
        large = [F.interpolate(m, size, mode="bilinear")[0] for m in maps]
    found: Features = torch.cat(large).permute(1, 2, 0).numpy()
    return found.reshape(-1, found.shape[-1])


def feature_sets(pixels: npt.NDArray[np.uint8]) -> Iterator[tuple[str, Features]]:
    """Yield sets of features by name, (pixels, features)."""
    filters = multiscale_basic_features(pixels, channel_axis=-1, sigma_max=8)
    filters = filters.reshape(-1, filters.shape[-1]).astype(np.float32)
    one, two = (encoder_features(pixels, n) for n in (1, 2))
    yield "filters", filters
    yield "filters, encoder", np.c_[filters, one]
    yield "filters, encoder at two scales", np.c_[filters, one, two]


def linear(x: Features, y: Truth, every: Features) -> npt.NDArray[np.float32]:
    """Return the class probabilities of all pixels by logistic regression."""
    classes, size = int(y.max()) + 1, x.shape[1]
    start = torch.zeros(classes, size), torch.zeros(classes)
    weights, bias = fit_linear(torch.tensor(x), torch.tensor(y), *start)
    logits = torch.tensor(every) @ weights.T + bias
    return logits.softmax(1).numpy()  # type: ignore[no-any-return]


def hidden(x: Features, y: Truth, every: Features) -> npt.NDArray[np.float32]:
    """Return the class probabilities of a network of 64 hidden units."""
    torch.manual_seed(0)
    classes = int(y.max()) + 1
    share = len(y) / classes / torch.bincount(torch.tensor(y)).float()
    net = nn.Sequential(
        nn.Dropout(0.2), nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, classes)
    )
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    for _ in range(200):
        some = torch.randint(len(x), (min(512, len(x)),)).numpy()
        optimizer.zero_grad()
        logits = net(torch.tensor(x[some]))
        F.cross_entropy(logits, torch.tensor(y[some]), weight=share).backward()
        optimizer.step()
    with torch.no_grad():
        return net.eval()(torch.tensor(every)).softmax(1).numpy()  # type: ignore[no-any-return]


def forest(x: Features, y: Truth, every: Features) -> npt.NDArray[np.float32]:
    """Return the class probabilities of a random forest."""
    trees = RandomForestClassifier(
        50, max_depth=10, min_samples_leaf=2, class_weight="balanced", random_state=0
    ).fit(x, y)
    return trees.predict_proba(every)  # type: ignore[no-any-return]


CLASSIFIERS = {"linear": linear, "hidden units": hidden, "forest": forest}


def miou(found: Truth, truth: Truth, painted: Truth) -> float:
    """Return the mean IoU of the pixels that are not painted."""
    known = (truth > 0) & (painted == 0)
    found, truth = found[known], truth[known]
    pairs = [(found == k, truth == k) for k in range(1, truth.max() + 1)]
    return float(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs]))


def measure(folder: Path, ground: str) -> Iterator[dict[str, object]]:
    """Yield the rows of a ground."""
    pixels, truth = view_of(folder, ground)
    painted = dabs_of(truth)
    at = np.flatnonzero(painted)
    y = painted.ravel()[at] - 1
    for features, every in feature_sets(pixels):
        x = every[at]
        scale = x.std(0) + 1e-4 * np.abs(x).max() + 1e-6
        mean, every = x.mean(0), (every - x.mean(0)) / scale
        x = (x - mean) / scale
        for name, classifier in CLASSIFIERS.items():
            start = time.process_time()
            found = classifier(x, y, every).argmax(1).reshape(truth.shape) + 1
            row = {"ground": ground, "features": features, "classifier": name,
                   "dabs": DABS, "seed": SEED}  # fmt: skip
            seconds = round(time.process_time() - start, 2)
            yield {**row, "miou": miou(found, truth, painted), "cpu_seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grounds", nargs="+", default=[*GROUNDS], choices=GROUNDS)
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for ground in args.grounds:
        for row in measure(args.folder, ground):
            put_rows(args.tables / "pixel_features.csv", [row], KEYS)
            print(row)


if __name__ == "__main__":
    main()
