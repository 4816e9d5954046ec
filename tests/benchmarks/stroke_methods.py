"""Classifiers of one view from the dabs of a user, for the benchmark of few strokes."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import psutil
from bench_finetune import Ground, labels_of
from simulated_user import Labels
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.pixel_training import trainer_of
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import LabelClass, Legend, Roi

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """Pixels, classes (1 to K, `UNKNOWN`), and the squares that the user paints."""

    pixels: Pixels
    truth: Labels
    painted: Mask

    def ground(self) -> Ground:
        """Return the view as an image with a legend."""
        classes = range(1, int(self.truth.max()) + 1)
        legend = [LabelClass(k, f"class {k}", f"#{k:02x}8080") for k in classes]
        image = image_from_array(self.pixels, name="view", rgb=True)
        return Ground(image, self.truth, Legend(tuple(legend)))


class Method(Protocol):
    """A classifier of the pixels of one view."""

    def labels(self, given: Labels) -> Labels:
        """Return the labels (from 1) after training on dabs (0: none)."""


class Forest:
    """Random forest of scikit-learn on the multiscale filters of scikit-image."""

    def __init__(self, view: View) -> None:
        self.features = multiscale_basic_features(
            view.pixels, sigma_min=1, sigma_max=16, channel_axis=-1
        )

    def labels(self, given: Labels) -> Labels:
        trees = RandomForestClassifier(
            100, max_depth=10, class_weight="balanced", random_state=0
        )
        trees.fit(self.features[given > 0], given[given > 0])
        flat = self.features.reshape(-1, self.features.shape[-1])
        found: Labels = trees.predict(flat).reshape(given.shape)
        return found


class Quick:
    """Pixel classifier of the program."""

    def __init__(self, view: View) -> None:
        ground = view.ground()
        made = new_checkpoint("pixel_classifier", None, ground.legend, ground.image)
        self.trainer = trainer_of(ground.image, made)
        self.whole = Roi(0, 0, *view.truth.shape)
        for _ in self.trainer.compute([*self.trainer.grid.touching(self.whole)]):
            pass

    def labels(self, given: Labels) -> Labels:
        at = np.argwhere(given > 0)
        self.trainer.fit(at, given[given > 0].astype(np.int64) - 1)
        found, _ = self.trainer.predict(self.whole)
        return found + 1


class Network:
    """Network of the program: trained from scratch in round 1, then fine-tuned.

    Parameters
    ----------
    view
        The view.
    method
        Name in the registry of methods.
    """

    def __init__(self, view: View, method: str) -> None:
        self.ground = view.ground()
        self.checkpoint = new_checkpoint(
            method, None, self.ground.legend, self.ground.image
        )
        self.folder = TemporaryDirectory()
        self.round = 0

    def labels(self, given: Labels) -> Labels:
        ground, self.round = self.ground, self.round + 1
        output = Path(self.folder.name) / f"{self.round}.safetensors"
        settings = FineTuneSettings(seed=0, device="cpu")
        with LabelStore.create(None, ground.image, ground.legend) as store:
            whole = Roi(0, 0, *given.shape)
            write_levels(store.correction, whole, given, coarser_labels)
            if self.round > 1:  # the labels that the user corrected
                found = labels_of(self.checkpoint, ground)
                write_levels(store.prediction, whole, found, coarser_labels)
            events = fine_tune(ground.image, self.checkpoint, store, output, settings)
            for _ in events:
                pass
        if output.exists():  # else every step was worse, and the user keeps the old one
            self.checkpoint = load_checkpoint(output)
        return labels_of(self.checkpoint, ground)


class Convpaint:
    """napari-convpaint with its Gaussian features and CatBoost, without a download.

    Parameters
    ----------
    view
        The view.
    child
        Process of `start_convpaint`.
    """

    def __init__(self, view: View, child: "subprocess.Popen[str]") -> None:
        self.folder, self.child = TemporaryDirectory(), child
        self.path = Path(self.folder.name)
        np.save(self.path / "pixels.npy", view.pixels)

    def labels(self, given: Labels) -> Labels:
        np.save(self.path / "given.npy", given)
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        print(self.folder.name, file=self.child.stdin, flush=True)
        if self.child.stdout.readline().strip() != "done":
            raise RuntimeError("napari-convpaint failed; its message is above.")
        found: Labels = np.load(self.path / "found.npy")
        return found


def start_convpaint(python: Path) -> "subprocess.Popen[str]":
    """Start a process of napari-convpaint; return it when it has been imported.

    ``python`` is the interpreter of an environment with napari-convpaint.
    """
    script = Path(__file__).with_name("convpaint_child.py")
    child = subprocess.Popen(
        [str(python), "-W", "ignore", str(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    if child.stdout.readline().strip() != "ready":
        raise RuntimeError("napari-convpaint did not start; its message is above.")
    return child


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that still run."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children())]
    return sum(t.user + t.system for t in times)


Make = Callable[[View], Method]
PAINTED_FOR: MappingProxyType[str, Make] = MappingProxyType(
    {"forest": Forest, "pixel classifier": Quick}
)
"""The methods whose wrong labels the user corrects; others get the same dabs."""


def other_methods(names: list[str], convpaint: Path | None) -> dict[str, Make]:
    """Return the functions that make further methods by name.

    Parameters
    ----------
    names
        Networks, by their names in the registry.
    convpaint
        Interpreter with napari-convpaint; ``None``: without it.
    """
    made: dict[str, Make] = {
        name: lambda view, name=name: Network(view, name)  # type: ignore[misc]
        for name in names
    }
    if convpaint is not None:
        child = start_convpaint(convpaint)
        made["convpaint"] = lambda view: Convpaint(view, child)
    return made
