"""Recognition of the kind of a weights file by its suffix and its first bytes."""

import pickletools
import zipfile
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

# formats without a state_dict that torch can read safely
OTHER_FORMATS = {
    ".onnx": "an ONNX file",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".pb": "a TensorFlow file",
    ".tflite": "a TensorFlow Lite file",
    ".engine": "a TensorRT file",
    ".pt2": "an exported program of torch",
}
LEGACY_HEAD = 3  # pickles before the object in files of torch before 1.6
MAX_OPCODES = 1000
ORDERED_DICT = "collections OrderedDict"
# opcodes before the one that begins the object
_START = ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "MARK")


@dataclass(frozen=True, slots=True)
class Kind:
    """Kind of a file.

    Attributes
    ----------
    title
        Name of the format, for messages.
    advice
        Solution for a format that cannot be imported; empty for others.
    is_whole_network
        True if the file is a pickled network instead of a dictionary.
    """

    title: str
    advice: str = ""
    is_whole_network: bool = False

    @property
    def is_other(self) -> bool:
        """True for a format that cannot be imported."""
        return bool(self.advice)


def kind_of(path: Path) -> Kind:
    """Return the kind of a file, without running code of it."""
    suffix = path.suffix.lower()
    if suffix in OTHER_FORMATS:
        return Kind(
            OTHER_FORMATS[suffix],
            "Import the file of weights that the network was exported from: a "
            "state_dict of torch.",
        )
    if _is_torchscript(path):
        return Kind(
            "TorchScript, which contains code",
            "Save its weights alone, in Python: torch.save("
            "torch.jit.load(FILE).state_dict(), NEW).",
        )
    return Kind("a file of torch", is_whole_network=_is_network(path))


def _is_torchscript(path: Path) -> bool:
    damaged = OSError, ValueError, zipfile.BadZipFile, NotImplementedError
    with suppress(*damaged), zipfile.ZipFile(path) as z:
        return any(name.endswith("/constants.pkl") for name in z.namelist())
    return False


def _is_network(path: Path) -> bool:
    """Return whether the pickled object is not a dictionary."""
    with suppress(OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile,
                  NotImplementedError):  # fmt: skip
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if n.endswith("/data.pkl")]
                with archive.open(names[0]) as file:
                    return _begins_without_dict(file)  # type: ignore[arg-type] # reads
        with path.open("rb") as file:
            for _ in range(LEGACY_HEAD):
                deque(islice(pickletools.genops(file), MAX_OPCODES), maxlen=0)
            return _begins_without_dict(file)
    return False


def _begins_without_dict(file: BinaryIO) -> bool:
    for operation, argument, _ in islice(pickletools.genops(file), MAX_OPCODES):
        if operation.name not in _START:
            return operation.name != "EMPTY_DICT" and argument != ORDERED_DICT
    return False
