"""Import of checkpoints of other programs, without running their code.

Supports official ISDNet (mmcv) and GLNet files, and folders saved by
segmentation-models-pytorch. Each key of a file is loaded or known to be unused;
otherwise the file is refused.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.types import Card, Legend

if TYPE_CHECKING:
    from napari_uhrseg.models.base import Segmenter

__all__ = ["IMPORTERS", "checkpoint_folder", "import_checkpoint", "methods_for"]

Imported = tuple["Segmenter", Card]

# method -> module:function; read without torch
IMPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "isdnet": "isdnet:import_isdnet",
        "glnet": "glnet:import_glnet",
        "plain": "smp:import_smp",
    }
)
FOLDER_FILES = ("config.json", "model.safetensors", "pytorch_model.bin")
PICKLES = (".pth", ".pt", ".pkl", ".ckpt", ".tar")


def checkpoint_folder(path: Path) -> Path | None:
    """Return the folder that segmentation-models-pytorch saved; None for other files.

    The folder is recognised by its ``config.json``; ``path`` may be a file in it.
    """
    if path.name in FOLDER_FILES and not path.is_dir():
        path = path.parent
    return path.resolve() if (path / "config.json").is_file() else None


def methods_for(path: Path) -> tuple[str, ...]:
    """Return the methods that may import the file; none for a checkpoint of ours.

    Uses names only: the file's suffix, and the ``config.json`` of a folder.
    """
    if checkpoint_folder(path) is not None:
        return ("plain",)
    pickle = not path.is_dir() and path.suffix.lower() in PICKLES
    return ("isdnet", "glnet") if pickle else ()


def import_checkpoint(
    source: Path | str,
    model: str,
    second: Path | str | None = None,
    legend: Legend | None = None,
    mode: int | None = None,
    window: int | None = None,
) -> Imported:
    """Return a network with the file's weights, in eval mode, and its card.

    Parameters
    ----------
    source
        A file of ISDNet or GLNet; for ``plain`` a folder saved by
        segmentation-models-pytorch, or the name of one on the Hugging Face hub.
    model
        ``isdnet``, ``glnet`` or ``plain``.
    second
        Second file, only for GLNet; see
        :func:`~napari_uhrseg.models.importers.glnet.import_glnet`.
    legend
        Classes in the order of the network's outputs. ``None``: those of DeepGlobe for
        an ISDNet or GLNet file with seven classes, otherwise numbered classes.
    mode
        Mode of GLNet, 1 to 3; only for GLNet.
    window
        Side of the windows in pixels; only for ``plain``.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of another network, would have to run code to
        be read, or has another number of classes than the legend; or if an option does
        not belong to the method.
    """
    if model not in IMPORTERS:
        raise CheckpointError(
            f"There is no importer for {model!r}.",
            f"There are: {', '.join(IMPORTERS)}.",
        )
    options: dict[str, Any] = {}
    for name, value, of in (
        ("second", second, "glnet"),
        ("mode", mode, "glnet"),
        ("window", window, "plain"),
    ):
        if value is not None and model != of:
            raise CheckpointError(
                f"{model!r} has no {name}: only {of!r} has.", f"Leave --{name} out."
            )
        if value is not None:
            options[name] = value
    module, _, function = IMPORTERS[model].partition(":")
    found: Callable[..., Imported] = getattr(
        import_module(f"{__name__}.{module}"), function
    )
    return found(source, legend=legend, **options)
