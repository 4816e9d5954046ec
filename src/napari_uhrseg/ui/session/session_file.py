"""File of the last session: a small, versioned JSON document in the state folder.

The file is in ``NAPARI_UHRSEG_STATE``, else in the state folder of the user. It has
this form::

    {"version": 1, "images": [{"path": "/data/a.tif", "series": 0,
                               "labels": "/data/a_labels.zarr"}],
     "shown": 0, "step": "Correct",
     "settings": {"segment": {...}, "train": {...}, "areas": {...}, "export": {...}}}

An image or labels at a URL have ``url`` instead of ``path`` and ``labels_url`` instead
of ``labels``, without user names, passwords and signatures.

Nothing in the file is believed: entries of another kind are left out, and paths are
opened only if they are absolute local paths that exist. URLs are opened only after the
user agrees.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import platformdirs

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import OpenError

VERSION = 1
MOST_BYTES = 1_000_000
MOST_IMAGES = 200
MOST_CHARACTERS = 4096  # of a path


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """Image that was open, and its labels.

    Attributes
    ----------
    path
        Path of the image file, or text of a URL.
    series
        Number of the image in the file.
    labels
        Path or URL of the label store that was shown; None: there was none.
    """

    path: Path | str
    series: int = 0
    labels: Path | str | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.path).name if self.at_url else Path(self.path).name

    @property
    def at_url(self) -> bool:
        """True for an image at a URL."""
        return isinstance(self.path, str)

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs of the image and its labels; empty without any."""
        return tuple(x for x in (self.path, self.labels) if isinstance(x, str))

    def to_dict(self) -> dict[str, Any]:
        """Return the image for JSON."""
        found: dict[str, Any] = {"series": self.series}
        found["url" if self.at_url else "path"] = str(self.path)
        key = "labels_url" if isinstance(self.labels, str) else "labels"
        return {**found, key: None if self.labels is None else str(self.labels)}


@dataclass(frozen=True, slots=True)
class Session:
    """State of the window that is restored.

    Attributes
    ----------
    images
        Open images, in the order of the layers.
    shown
        Index of the image that was worked on.
    step
        Title of the tab that was shown.
    settings
        Settings of the parts by the name of the part.
    """

    images: tuple[OpenedImage, ...] = ()
    shown: int = 0
    step: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def session_path() -> Path:
    """Return the path of the file, which may not exist."""
    own = os.environ.get("NAPARI_UHRSEG_STATE")
    return Path(own or platformdirs.user_state_dir("napari-uhrseg")) / "session.json"


def write_session(path: Path, session: Session) -> None:
    """Write a session to a file, and replace the file."""
    document = {
        "version": VERSION,
        "images": [image.to_dict() for image in session.images[-MOST_IMAGES:]],
        "shown": session.shown,
        "step": session.step,
        "settings": session.settings,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, path.with_suffix(".new"), sync=False) as part:
        part.write_text(json.dumps(document, indent=1), "utf-8")


def read_session(path: Path) -> Session | None:
    """Return the session of a file; None if there is no file.

    Raises
    ------
    OpenError
        If the file is damaged, or written by a newer version of the program.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")
        version = document.get("version")
        if version != VERSION:
            raise ValueError(f"its version is {version!r} instead of {VERSION}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OpenError(
            f"The last session cannot be restored from {path.name}: {error}.",
            "It is replaced when images are opened.",
        ) from error
    entries = document.get("images")
    found = [_image(x) for x in (entries if isinstance(entries, list) else [])]
    shown, step = document.get("shown"), document.get("step")
    settings = document.get("settings")
    parts = settings.items() if isinstance(settings, dict) else ()
    return Session(
        tuple(image for image in found if image is not None)[:MOST_IMAGES],
        shown if isinstance(shown, int) else 0,
        step if isinstance(step, str) else "",
        {str(name): part for name, part in parts if isinstance(part, dict)},
    )


def _image(entry: object) -> OpenedImage | None:
    """Return an entry of the list of images; None if it has no usable path."""
    if not isinstance(entry, dict):
        return None
    path = _local_path(entry.get("path")) or _url(entry.get("url"))
    if path is None:
        return None
    series = entry.get("series")
    number = series if isinstance(series, int) and series >= 0 else 0
    labels = _local_path(entry.get("labels")) or _url(entry.get("labels_url"))
    return OpenedImage(path, number, labels)


def _url(text: object) -> str | None:
    """Return a text with a URL that is not of a local file; None for another value."""
    if not isinstance(text, str) or not 0 < len(text) <= MOST_CHARACTERS:
        return None
    known = re.match(r"[a-z][a-z0-9+.-]*(::[a-z0-9+.:-]+)?://[^\s]+$", text)
    return text if known and not text.startswith(("file:", "local:")) else None


def _local_path(text: object) -> Path | None:
    """Return an absolute path of a text; None for URLs and relative paths."""
    if not isinstance(text, str) or not 0 < len(text) <= MOST_CHARACTERS:
        return None
    path = Path(text)
    return path if path.is_absolute() and "\0" not in text else None
