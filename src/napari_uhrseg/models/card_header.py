"""Reading of the card of a checkpoint file, without torch.

The card of an ONNX network comes from its metadata or from a file beside it. A
safetensors file consists of 8 bytes (the header's length, little-endian), the header
as JSON, and the bytes of all tensors.
"""

import json
import struct
from pathlib import Path
from typing import Any

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.onnx.card import is_onnx, read_onnx_card
from napari_uhrseg.types import Card

MAX_HEADER = 100_000_000  # bytes; the format's own limit
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_card(path: Path | str) -> Card:
    """Return the card of a checkpoint; reads only the file's header.

    Raises
    ------
    CheckpointError
        If the file is missing, is neither a safetensors file nor an ONNX network, is
        cut off, or has no card or a damaged one.
    """
    path = Path(path)
    if is_onnx(path):
        return read_onnx_card(path)
    text = _header(path).get("__metadata__", {}).get("card")
    if text is None:
        raise CheckpointError(
            f"{path.name} is a safetensors file without a card.",
            "Only checkpoints made or imported by napari-uhrseg can be run. A folder "
            "saved by segmentation-models-pytorch is imported by: napari-uhrseg import "
            "FOLDER --model plain --output C.safetensors.",
        )
    return Card.from_dict(_card_values(text, path.name))


def _card_values(text: Any, name: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"The card of {name} is damaged: {error}.",
            "Get the file again from where it came from.",
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(
            f"The card of {name} is damaged: it is no JSON object.",
            "Get the file again from where it came from.",
        )
    return data


def _header(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            # a header of 640 bytes begins like a pickle, but not for eight bytes
            plausible = 2 <= length <= MAX_HEADER
            if start.startswith(PICKLES) and not plausible:
                raise CheckpointError(
                    f"{path.name} is a PyTorch file (pickle), which may run code when "
                    "it is opened, so it is not.",
                    "Import it once: napari-uhrseg import FILE --model NAME --output "
                    "C.safetensors, with isdnet or glnet as NAME.",
                )
            if not plausible:
                raise _not_safetensors(path)
            text = file.read(length) if 8 + length <= size else b""
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be opened: {error.strerror or error}.",
            "Check the path and the permissions.",
        ) from error
    if 8 + length > size:
        raise _cut_off(path) if start[7:] == b"\0" else _not_safetensors(path)
    try:
        header = json.loads(text)
        ends = [v["data_offsets"][1] for k, v in header.items() if k[:2] != "__"]
        needed = 8 + length + max(ends, default=0)
        header.get("__metadata__", {}).get("card")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError,
            RecursionError) as error:  # fmt: skip
        raise _not_safetensors(path) from error
    if size < needed:
        raise _cut_off(path)
    return dict(header)


def _not_safetensors(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a checkpoint: it is no safetensors file.",
        "Choose a .safetensors file made or imported by napari-uhrseg.",
    )


def _cut_off(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is cut off: it is shorter than its header says.",
        "Copy or download it again.",
    )
