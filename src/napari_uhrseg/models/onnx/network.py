"""ONNX network that onnxruntime runs on the CPU.

Each window runs alone, in the thread that asks for it. Networks that are exported for
one image at a time then work like others, and labels do not depend on the batch.

onnxruntime takes activations from an arena, which keeps its memory until the session
ends. Here it returns the memory after each window. Of a DeepLabV3+ on windows of 512
pixels in two threads, the peak is then 162 MB instead of 183 MB, and 47 MB instead of
183 MB remain; without an arena they are 202 MB and 151 MB. The time is the same.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_uhrseg.errors import CheckpointError, TrainingError
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.onnx.card import INTEGERS, threshold_of
from napari_uhrseg.models.onnx.graph import OnnxGraph
from napari_uhrseg.types import Card, Recipe

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LEAST = 1e-7  # probability that counts as 0
SURE = 10.0  # logit of the label of a network that returns labels
COPIES = 3  # of the weights while a session starts: file, tensors, packed tensors
RETURN_MEMORY = "memory.enable_memory_arena_shrinkage", "cpu:0"
OUT_OF_MEMORY = ("allocate memory", "bad_alloc", "bad allocation")


class OnnxNetwork(Segmenter):
    """Network of an ONNX file, on one local view.

    Parameters
    ----------
    path
        The file.
    graph
        Its structure, as checked by `graph.read_graph`.
    card
        Its card.

    Raises
    ------
    CheckpointError
        If onnxruntime is missing or cannot load the file.
    """

    external: ClassVar[bool] = True

    def __init__(self, path: Path, graph: OnnxGraph, card: Card) -> None:
        super().__init__()
        self.spec = card.spec
        self.recipe = Recipe(stages=(), batch_size=1)
        self.external_bytes = COPIES * graph.size
        session = _session(path)
        self._run = _Run(session, graph, path.name)
        self._meaning = _Meaning(graph, len(card.legend), threshold_of(card), path.name)

    def forward(self, batch: Batch) -> Outputs:
        view = batch.views["local"]
        windows = [view[k : k + 1] for k in range(len(view))]
        threads = min(len(windows), torch.get_num_threads())
        if threads > 1:
            with ThreadPoolExecutor(threads, "uhrseg-onnx") as pool:
                logits = list(pool.map(self._logits, windows))
        else:
            logits = [self._logits(window) for window in windows]
        return {"logits": torch.cat(logits)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Raise TrainingError: the network cannot be trained."""
        raise TrainingError("An ONNX network cannot be trained further.")

    def _logits(self, window: Tensor) -> Tensor:
        with torch.no_grad():
            found = self._meaning.logits(self._run(window))
            return _resized(found, self.spec.window, self._meaning.name)


class _Run(nn.Module):
    """Pass of one window. It is a module, so that it can be interrupted before it."""

    def __init__(
        self, session: "InferenceSession", graph: OnnxGraph, name: str
    ) -> None:
        super().__init__()
        import onnxruntime

        self._session, self._name = session, name
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry(*RETURN_MEMORY)
        (value,) = graph.inputs
        self._input, self._dtype = value.name, value.dtype
        self._count = value.sizes[0] or 1
        self._output = graph.outputs[0].name

    def forward(self, window: Tensor) -> Tensor:
        pixels = np.ascontiguousarray(window.cpu().numpy(), self._dtype)
        if self._count > 1:
            pixels = np.repeat(pixels, self._count, 0)
        try:
            (found,) = self._session.run(
                [self._output], {self._input: pixels}, self._options
            )
        except Exception as error:  # onnxruntime has exceptions of its own
            text = str(error).partition("\n")[0]
            if isinstance(error, MemoryError) or any(t in text for t in OUT_OF_MEMORY):
                raise MemoryError(text) from error
            raise CheckpointError(
                f"{self._name} failed: {text}.",
                "Check its description: the side of its input, and its bands.",
            ) from error
        return torch.from_numpy(np.asarray(found)[:1])


class _Meaning:
    """Conversion of a network's output into logits.

    Parameters
    ----------
    graph
        Structure of the network. Its last operator shows what the values are.
    classes
        Number of classes.
    threshold
        Values below it do not count; None: 0.5 for one output, none for several.
    name
        Name of the network.
    """

    def __init__(
        self, graph: OnnxGraph, classes: int, threshold: float | None, name: str
    ) -> None:
        self.name = name
        self._classes, self._last = classes, graph.last
        self._threshold = threshold
        self._labels = graph.outputs[0].dtype in INTEGERS

    def logits(self, values: Tensor) -> Tensor:
        """Return the (1, K, h, w) logits of an output."""
        if values.ndim == 3:
            values = values[:, None]
        if values.ndim != 4:
            raise self._wrong(values)
        if self._labels and values.shape[1] == 1:
            known = values[:, 0].long().clamp(0, self._classes - 1)
            return SURE * F.one_hot(known, self._classes).permute(0, 3, 1, 2).float()
        values = values.float()
        if values.shape[1] == 1:
            limit = 0.5 if self._threshold is None else self._threshold
            above = self._unbounded(values) - self._unbounded(torch.tensor(limit))
            values = torch.cat([torch.zeros_like(above), above], 1)
        else:
            values = self._unbounded(values)
            if self._threshold is not None:
                limit = float(self._unbounded(torch.tensor(self._threshold)))
                values[:, 0].clamp_(min=limit)
        if values.shape[1] != self._classes:
            raise self._wrong(values)
        return values

    def _unbounded(self, values: Tensor) -> Tensor:
        """Return probabilities as logits, and other values as they are."""
        if self._last == "Softmax":
            return values.clamp(min=LEAST).log()
        if self._last == "Sigmoid":
            return values.logit(eps=LEAST)
        return values.clone()

    def _wrong(self, values: Tensor) -> CheckpointError:
        return CheckpointError(
            f"{self.name} returned {tuple(values.shape)} values for a window, and its "
            f"card has {self._classes} classes.",
            "Describe the network again, with one class for each output.",
        )


def _resized(logits: Tensor, side: int, name: str) -> Tensor:
    """Return logits with the size of the window."""
    height, width = logits.shape[2:]
    if height == width == side:
        return logits
    if height != width or side % height:
        raise CheckpointError(
            f"{name} labels {width} x {height} of {side} x {side} pixels.",
            "Export the network with an output of the size of its input, or of an "
            "integer part of it.",
        )
    return F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)


def _session(path: Path) -> "InferenceSession":
    """Return a session that runs in the caller's thread."""
    if find_spec("onnxruntime") is None:
        raise CheckpointError(
            f"{path.name} is run by onnxruntime, which is not installed.",
            'Install it: pip install "napari-uhrseg[onnx]".',
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has exceptions of its own
        raise CheckpointError(
            f"onnxruntime cannot load {path.name}: {str(error).partition(chr(10))[0]}.",
            "Export the network again, with operators of a version that onnxruntime "
            f"{onnxruntime.__version__} supports.",
        ) from error


def network_hash(graph: OnnxGraph, card: Card) -> str:
    """Return the SHA-256 of a network's files and of its card."""
    digest = hashlib.sha256(_stable(card.to_dict()))
    for file in graph.files:
        with file.open("rb") as data:
            digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()


def _stable(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True).encode()
