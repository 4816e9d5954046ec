"""Card of a checkpoint: its model, classes, input and origin."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.types.legend import LabelClass, Legend
from napari_uhrseg.types.model_spec import InputSpec, View

FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Card:
    """Description of a checkpoint, stored as JSON in the safetensors header.

    Parameters
    ----------
    model
        Name of an entry in the model registry.
    arguments
        Arguments of the model's constructor.
    legend
        Classes; output channel k (from 0) is ``legend.classes[k]``.
    spec
        Input of the network.
    name
        Name for users.
    source
        URL or file of the weights.
    licence, citation
        Licence of the weights, and publication to cite.
    trained_on
        Training data.
    limitations
        Data for which the checkpoint is not suited.
    command
        Command that made the checkpoint.
    metrics
        Validation metrics: ``miou``, ``iou/<class>`` and others, 0 to 1.
    parent
        Hash of the checkpoint that this one was fine-tuned from.
    encoder_weights
        Weights that the encoder of the first network started from.
    augmentations
        Names of the augmentations of the last training, separated by commas.
    format_version
        Version of the card's keys.
    """

    model: str
    arguments: Mapping[str, Any]
    legend: Legend
    spec: InputSpec
    name: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    trained_on: str = ""
    limitations: str = ""
    command: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None
    encoder_weights: str = ""
    augmentations: str = ""
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the card for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the card of :meth:`to_dict`.

        Raises
        ------
        CheckpointError
            If a field is missing or wrong, or the version is another one.
        """
        try:
            _check_version(data.get("format_version"))
            legend = Legend(
                tuple(LabelClass.from_dict(c) for c in data["legend"]["classes"])
            )
            plain = {k: v for k, v in data.items() if k not in ("legend", "spec")}
            _check_plain(plain)
            return cls(legend=legend, spec=_spec(data["spec"]), **plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint's card is damaged: {error}.",
                "Download or copy the file again.",
            ) from error


def _check_version(version: object) -> None:
    """Raise CheckpointError for a card of another format version."""
    if version == FORMAT_VERSION:
        return
    hint = "A later version of napari-uhrseg wrote this checkpoint. Install it."
    if not isinstance(version, int):
        hint = "Download or copy the file again."
    elif version < FORMAT_VERSION:
        hint = (
            "An earlier version of napari-uhrseg wrote this checkpoint. Import the "
            "original file again with `napari-uhrseg import`, or train the model again."
        )
    raise CheckpointError(
        f"The card has format version {version}; this program reads {FORMAT_VERSION}.",
        hint,
    )


def _spec(data: Mapping[str, Any]) -> InputSpec:
    """Return the input spec of JSON, whose lists become tuples."""
    found = dict(data)
    found["views"] = {k: View(**v) for k, v in found["views"].items()}
    for key in ("value_range", "mean", "std"):
        if isinstance(found.get(key), list):
            found[key] = tuple(found[key])
    return InputSpec(**found)


def _check_plain(data: Mapping[str, Any]) -> None:
    """Raise ValueError, with the field's name, if a field has another type."""
    for name, value in data.items():
        if name == "format_version":
            continue
        if name in ("arguments", "metrics"):
            fits, wanted = isinstance(value, Mapping), "a table of names and values"
        else:
            fits = isinstance(value, str) or (name == "parent" and value is None)
            wanted = "a text"
        if not fits:
            raise ValueError(f"{name} is {value!r}, not {wanted}")
