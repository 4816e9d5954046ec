"""Keeper of the session: writes it while the user works, and restores it."""

from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject
from superqt.utils import qdebounced

from napari_uhrseg.errors import UhrSegError, without_credentials
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import PathOrUrl, exists, to_path
from napari_uhrseg.ui.image.open_labels import LabelOpener
from napari_uhrseg.ui.image.panel import ImagePanel, open_for_display
from napari_uhrseg.ui.image.view_memory import restore_view
from napari_uhrseg.ui.layers.label_layers import KEY, images_in
from napari_uhrseg.ui.segment.panel import SegmentPanel
from napari_uhrseg.ui.session.offer import SessionOffer
from napari_uhrseg.ui.session.session_file import (
    OpenedImage,
    Session,
    read_session,
    session_path,
    write_session,
)
from napari_uhrseg.ui.widgets.dialogs import ask_last_urls
from napari_uhrseg.ui.widgets.step_tabs import StepTabs
from napari_uhrseg.ui.workers.worker import Workers

WRITE_DELAY_MS = 1000  # from a change until the session is written


class Choices(Protocol):
    """Interface of a part of the panel whose settings belong to the session."""

    def choices(self) -> dict[str, Any]:
        """Return the settings by name, as JSON values."""

    def set_choices(self, values: Mapping[str, Any]) -> None:
        """Show what `choices` has returned; unknown names have no effect."""


class SessionKeeper(QObject):
    """Session of one window: open images and labels, tab, and settings.

    The session is written after each change while images are open. The bar ``offer``
    shows the last session as long as no image is open. ``parts`` have further settings
    by the name of the part.
    """

    def __init__(
        self,
        viewer: Any,
        workers: Workers,
        tabs: StepTabs,
        image: ImagePanel,
        segment: SegmentPanel,
        parts: Mapping[str, Choices],
        labels: LabelOpener,
    ) -> None:
        super().__init__(tabs)
        self._viewer, self._workers, self._tabs = viewer, workers, tabs
        self._image, self._segment, self._labels = image, segment, labels
        self._parts = parts
        self._last: Session | None = None
        self._missing: list[str] = []  # names and reasons
        self._restoring = False
        self.offer = SessionOffer()
        self.offer.wanted.connect(self.restore)
        self._write_later = qdebounced(self.write, timeout=WRITE_DELAY_MS, parent=self)
        image.changed.connect(self._changed)
        segment.viewChanged.connect(self._changed)
        segment.form.changed.connect(self._changed)
        tabs.currentChanged.connect(self._changed)

    def find(self) -> None:
        """Offer the last session, or restore it if the user always wants that."""
        self._workers.call(read_session, session_path(), returned=self._found)

    def _found(self, last: Session | None) -> None:
        if last is None or not last.images or self._image.image:
            return
        self._last = last
        self.offer.offer(last)
        if self.offer.always.isChecked():
            self.restore()

    def stop(self) -> None:
        """Write the session a last time, when the panel closes."""
        self._write_later.cancel()
        with suppress(RuntimeError):  # Qt may have deleted the tabs with the window
            self.write()

    def _changed(self, _: object = None) -> None:
        if self._image.image is not None and not self._restoring:
            self.offer.hide()
        self._write_later()

    # -- writing ------------------------------------------------------------------

    def write(self) -> None:
        """Write the session, unless no image of a file is open."""
        images = self._opened()
        if self._restoring or not images:
            return
        chosen = self._image.image
        shown = [i for i, (image, _) in enumerate(images) if image is chosen]
        session = Session(
            tuple(entry for _, entry in images),
            shown[0] if shown else 0,
            self._tabs.shown,
            {
                "segment": self._segment_settings(),
                **{name: part.choices() for name, part in self._parts.items()},
            },
        )
        with suppress(OSError):  # as on a full disk: the session is a convenience
            write_session(session_path(), session)

    def _opened(self) -> list[tuple[Image, OpenedImage]]:
        """Return the images of files and URLs in the viewer."""
        found = []
        for layer in images_in(self._viewer):
            image = layer.metadata.get(KEY)
            if image is None or image.path is None:
                continue
            view = self._segment.views.of_image(image)
            store = None if view is None or view.store.temporary else view.store.path
            labels = None if store is None else _listed(store)
            entry = OpenedImage(_listed(image.path), image.series_number, labels)
            found.append((image, entry))
        return found

    def _segment_settings(self) -> dict[str, Any]:
        checkpoint = self._segment.model.path
        settings: dict[str, Any] = {}
        with suppress(ValueError):  # a line is not valid
            settings = self._segment.form.settings()
        return {
            "checkpoint": None if checkpoint is None else str(checkpoint.absolute()),
            "settings": settings,
        }

    # -- restoring ----------------------------------------------------------------

    def restore(self) -> None:
        """Open the images and labels of the last session, and show its settings."""
        session = self._last
        if session is None or self._restoring:
            return
        self.offer.hide()
        self._restoring, self._missing = True, []
        self._restore_settings(session)
        labels: list[PathOrUrl] = []
        urls = [url for image in session.images for url in image.urls]
        self._workers.start(
            _open_all,
            session.images,
            bool(urls) and ask_last_urls(self._tabs, urls),
            yielded=self._show_image,
            returned=labels.extend,
            finished=lambda: self._open_labels(session, labels),
        )

    def _restore_settings(self, session: Session) -> None:
        """Show settings that are still valid."""
        saved = session.settings.get("segment", {})
        settings, checkpoint = saved.get("settings"), saved.get("checkpoint")
        if isinstance(checkpoint, str):
            self._workers.call(_file_at, checkpoint, returned=self._use_checkpoint)
        with suppress(TypeError, ValueError, KeyError):
            if isinstance(settings, dict):
                self._segment.form.set_settings(settings)
        for name, part in self._parts.items():
            with suppress(TypeError, ValueError, KeyError):
                part.set_choices(session.settings.get(name, {}))

    def _use_checkpoint(self, path: Path | None) -> None:
        if path is not None:
            self._segment.model.use(path)

    def _show_image(self, found: Image | str) -> None:
        if isinstance(found, str):
            self._missing.append(found)
            return
        self._image.show_image(found)
        if self._image.layer is not None:
            restore_view(self._viewer, self._image.layer)

    def _open_labels(self, session: Session, left: list[PathOrUrl]) -> None:
        """Open the labels of one image after the other, then end."""
        if not left:
            self._end(session)
            return
        first, *others = left
        self._labels.open(first, then=lambda: self._open_labels(session, others))

    def _end(self, session: Session) -> None:
        """Choose the image and the tab, and name what was not found."""
        self._restoring = False
        wanted = session.images[session.shown : session.shown + 1]
        for image, entry in self._opened():
            if [(entry.path, entry.series)] == [(x.path, x.series) for x in wanted]:
                self._image.choose(image)
        if session.step in self._tabs.titles:
            self._tabs.show_step(session.step)
        if self._missing:
            show_warning(f"Not restored: {', '.join(self._missing)}.")
        self._write_later()


def _listed(where: PathOrUrl) -> Path | str:
    """Return an absolute path, or the text of a URL without credentials."""
    if isinstance(where, Path):
        return where.absolute()
    return without_credentials(str(where))


def _open_all(
    images: tuple[OpenedImage, ...], urls_allowed: bool
) -> Generator[Image | str, None, list[PathOrUrl]]:
    """Yield each image, or a text about a missing one; return labels that exist.

    Parameters
    ----------
    images
        Images of the session.
    urls_allowed
        True if the user agrees to requests to the servers of URLs.
    """
    found = []
    for entry in images:
        if entry.urls and not urls_allowed:
            yield f"{entry.name} (at a URL)"
            continue
        try:
            labels = None if entry.labels is None else to_path(entry.labels)
            if labels is not None and exists(labels):
                found.append(labels)
            elif labels is not None:
                yield f"{labels.name} (not found)"
            path = to_path(entry.path)
            if isinstance(path, Path) and not path.exists():
                yield f"{entry.name} (not found)"
                continue
            yield open_for_display(path, entry.series)
        except UhrSegError as error:
            yield f"{entry.name} ({error.message})"
    return found


def _file_at(text: str) -> Path | None:
    """Return the path of a file, or None if there is none."""
    path = Path(text)
    return path if path.is_file() else None
