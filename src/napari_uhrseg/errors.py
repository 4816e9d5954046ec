"""Errors for users: a message, and a hint what to do."""


class UhrSegError(Exception):
    """Base of the errors that this package raises.

    Parameters
    ----------
    message
        What happened, with the wrong value.
    hint
        What the user can do.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class OpenError(UhrSegError):
    """A file cannot be opened as an image."""


class ReadError(UhrSegError):
    """Pixels of an image that did open cannot be read."""


class StoreError(UhrSegError):
    """A label store is missing, locked, damaged or made with other settings."""


class CheckpointError(UhrSegError):
    """A checkpoint cannot be read or does not fit its use."""


class PlanError(UhrSegError):
    """A run cannot be planned with these settings."""


class DeviceError(UhrSegError):
    """A device is missing or has too little memory."""


class TrainingError(UhrSegError):
    """Training cannot start or went wrong (no data, loss became NaN)."""


class ExportError(UhrSegError):
    """Labels cannot be exported to this target."""


class ClusterError(UhrSegError):
    """A scheduler or its workers are missing, incompatible or failed."""
