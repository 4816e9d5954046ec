"""Errors for users, each with a message and a hint, which contain no credentials."""

import re

_SECRET = re.compile(
    r"x-(amz|goog)-.*|sig|auth.*|policy|pass(word|wd)?|pwd"
    r"|.*(signature|token|key|secret|credential).*",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """Return a text without the user names, passwords and signatures of URLs in it."""

    def public(query: re.Match[str]) -> str:
        parts = query[1].split("&")
        kept = [p for p in parts if not _SECRET.fullmatch(p.partition("=")[0])]
        return f"?{'&'.join(kept)}" if kept else ""

    text = re.sub(r"(\w://)[^/?#\s]*@", r"\1", text)
    return re.sub(r"\?([^?#\s'\"]*=[^?#\s'\"]*)", public, text)


class UhrSegError(Exception):
    """Base class of the errors that this package raises.

    Parameters
    ----------
    message
        Problem, with the wrong value.
    hint
        Solution, as an imperative sentence.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = without_credentials(message)
        self.hint = without_credentials(hint)
        super().__init__(self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class OpenError(UhrSegError):
    """Error: a file cannot be opened as an image."""


class ReadError(UhrSegError):
    """Error: pixels of an open image cannot be read."""


class StoreError(UhrSegError):
    """Error: a label store is missing, locked, damaged or has other settings."""


class OtherLabelsError(StoreError):
    """Error: a run would replace labels that were made with other settings."""


class ProjectError(UhrSegError):
    """Error: a project is missing, damaged, locked, or names files elsewhere."""


class CheckpointError(UhrSegError):
    """Error: a checkpoint cannot be read or does not fit its use."""


class UndescribedError(CheckpointError):
    """Error: an ONNX network does not state its classes or its input."""


class PlanError(UhrSegError):
    """Error: a run cannot be planned with these settings."""


class DeviceError(UhrSegError):
    """Error: a device is missing or has too little memory."""


class TrainingError(UhrSegError):
    """Error: training cannot start or failed (no data, loss became NaN)."""


class ExportError(UhrSegError):
    """Error: labels cannot be exported to this target."""


class ClusterError(UhrSegError):
    """Error: a scheduler or its workers are missing, incompatible or failed."""
