"""Project panel: list of images with thumbnails and states, and runs on them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QListWidgetItem

from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import Project, ProjectImage
from napari_uhrseg.io.project.project_file import SUFFIX, ProjectFile
from napari_uhrseg.io.project.project_labels import ProjectLabels
from napari_uhrseg.types import SegmentSettings
from napari_uhrseg.ui.project.dialogs import (
    Listed,
    ask_images,
    ask_new_project,
    ask_outside,
    ask_project,
    with_outside,
)
from napari_uhrseg.ui.project.runs import ImageDone, ProjectRun, observe_labels
from napari_uhrseg.ui.project.segment_all import SegmentAll
from napari_uhrseg.ui.project.spread_classes import spread_classes
from napari_uhrseg.ui.project.thumbnails import Colors, thumbnails
from napari_uhrseg.ui.project.uncertain_search import UncertainSearch
from napari_uhrseg.ui.project.widgets import CHOSEN_TIP, SEGMENT_TIP, ProjectWidgets
from napari_uhrseg.ui.segment.worker import free_threads
from napari_uhrseg.ui.widgets.dialogs import ask_replace_labels_of
from napari_uhrseg.ui.widgets.layout import on_edited
from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import counted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


class ProjectPanel(ProjectWidgets):
    """List of the images of a project; emits what to open."""

    imageWanted = Signal(object, object)  # paths of an image and of its label store
    busyChanged = Signal(bool)  # True while images are segmented
    labelledChanged = Signal(object, bool)  # ProjectLabels or None; True if chosen

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self.file: ProjectFile | None = None
        self.paths: ProjectPaths | None = None
        self.checkpoint: Path | None = None
        self._project = Project()
        self._runs = SegmentAll(workers, self.progress, self)
        self._run_file: ProjectFile | None = None  # project of the run
        self._blocked = ""  # reason why no run can start
        self._labelled: tuple[ProjectLabels | None, bool] = None, False
        self._deleted: list[tuple[str, str]] = []  # names, see `class_deleted`
        self._loading: Worker | None = None
        self._errors: dict[str, str] = {}
        self.uncertain = UncertainSearch(
            workers, lambda: (self._project, self.paths), self
        )
        self._wire()
        self._show()

    def _wire(self) -> None:
        self.add_menu_entry("&Open a project…", self._ask_open)
        self.add_menu_entry("&New project…", self._ask_new)
        self.add_action = self.add_menu_entry("&Add images…", self._ask_images)
        self.search.textChanged.connect(self.list.search)
        self.search.textChanged.connect(lambda _: self._enable())
        self.list.itemActivated.connect(self._open_item)
        self.list.currentItemChanged.connect(self._show_entry)
        self.list.itemSelectionChanged.connect(self._enable)
        self.list.itemSelectionChanged.connect(self._offer_labelled)
        self.previous.clicked.connect(lambda _: self.step(-1))
        self.next.clicked.connect(lambda _: self.step(1))
        self.state.activated.connect(
            lambda _: self._edit(state=self.state.currentText())
        )
        on_edited(self.notes, lambda: self._edit(notes=self.notes.text()))
        self.segment_all.clicked.connect(lambda _: self.start())
        self._runs.imageDone.connect(self._image_done)
        self._runs.ended.connect(self._ended)

    # -- project ------------------------------------------------------------------

    def open(self, path: Path) -> None:
        """Open a project file and show its images."""

        def opened(found: Listed) -> None:
            self.file, self.paths = file, paths
            self._errors.clear()
            self.status.clear()
            self.list.clear()
            self._show_all(found)

        file = ProjectFile(path)
        paths = ProjectPaths(file.folder)
        self._workers.call(with_outside, file.read, paths, returned=opened)

    def new(self, path: Path) -> None:
        """Create a project file and open it."""
        if not path.name.endswith(SUFFIX):
            path = path.with_name(f"{path.name.removesuffix('.json')}{SUFFIX}")
        file = ProjectFile(path)
        self._workers.call(file.create, returned=lambda _: self.open(path))

    def add(self, images: list[Path]) -> None:
        """Add image files to the project."""
        file, paths = self.file, self.paths
        if file is None or paths is None:
            return

        def change(project: Project) -> Project:
            for image in images:
                listed = paths.relative(image)
                labels = project.unused_labels(listed)
                project = project.with_images([ProjectImage(listed, labels)])
            return project

        update = partial(file.update, change)
        show = self._if_open(self._show_all)
        self._workers.call(with_outside, update, paths, returned=show)

    def refresh(self) -> None:
        """Read the project file again, which other processes may have changed."""
        if self.file is not None:
            show = self._if_open(self._show)
            self._workers.call(self.file.read, returned=show)

    def set_checkpoint(self, path: Path | None) -> None:
        """Set the checkpoint of Segment all."""
        self.checkpoint = path
        self._enable()

    def set_blocked(self, why: str) -> None:
        """Block runs for a reason; an empty text allows runs again."""
        self._blocked = why
        self._enable()

    def class_deleted(self, name: str, into: str) -> None:
        """Delete a class in all label stores at the next `classes_changed`.

        Parameters
        ----------
        name
            Name of the class that was deleted in the store shown.
        into
            Name of the class that its labels became; empty: none.
        """
        self._deleted.append((name, into))

    def classes_changed(self, store: "LabelStore") -> None:
        """Give the classes of a label store of the project to all its stores."""
        file, paths = self.file, self.paths
        deleted, self._deleted = self._deleted, []
        if file is None or paths is None:
            return
        self._workers.start(
            spread_classes,
            file,
            paths,
            store,
            deleted,
            yielded=self._if_open(self._has_classes),
            returned=self._if_open(self._spread),
        )

    def observe(self, labels: object) -> None:
        """Read the state of a label store again, if an image of the project has it.

        Images that are corrected or reviewed stay so.
        """
        file, paths = self.file, self.paths
        if file is None or paths is None or not isinstance(labels, Path):
            return
        states = {paths.folder / i.labels: i.state for i in self._project.images}
        if states.get(labels) in ("new", "segmented"):
            show = self._if_open(self._show)
            self._workers.call(observe_labels, file, paths, labels, returned=show)

    def _if_open(self, act: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a function that acts unless another project was opened meanwhile."""
        file = self.file
        return lambda value: act(value) if file is self.file else None

    def _has_classes(self, image: str) -> None:
        self.status.setText(f"{image} has the classes.")

    def _spread(self, failed: dict[str, str]) -> None:
        text = "\n".join(f"{k}: {v}" for k, v in failed.items())
        self.status.setText(
            f"The classes were not changed in:\n{text}" if failed else ""
        )
        self.refresh()

    def stop(self) -> None:
        """End the run and the reading of thumbnails. Called when the panel closes."""
        self._runs.stop()
        if self._loading is not None:
            self._loading.quit()

    # -- list ---------------------------------------------------------------------

    def _show_all(self, found: Listed) -> None:
        """Show a project, ask about files outside its folder, and load thumbnails."""
        project, outside = found
        self._show(project)
        self._ask_outside(outside)
        self._load_thumbnails()

    def _show(self, project: Project | None = None) -> None:
        self._project = project if project is not None else self._project
        self.list.set_images(self._project, self._errors)
        name = "" if self.file is None else f"{self.file.name}: "
        text = f"{name}{self._project.summary()}"
        self.summary.setText(text if self.file is not None else "No project is open.")
        self._show_entry()
        self._enable()
        self._offer_labelled()

    def _offer_labelled(self) -> None:
        """Emit the images with corrections; only chosen ones if there are several."""
        several, images = self.list.several, self._project.images
        used = tuple(i for i in images if i.state in ("corrected", "reviewed"))
        chosen = tuple(i for i in used if i.path in several)
        found = None
        if self.paths is not None and used:
            listed = frozenset(i.path for i in images)
            found = ProjectLabels(self.paths, chosen or used, listed)
        if (found, bool(chosen)) != self._labelled:
            self._labelled = found, bool(chosen)
            self.labelledChanged.emit(found, bool(chosen))

    def _enable(self) -> None:
        is_open = self.file is not None
        self.add_action.setEnabled(is_open)
        for widget in (
            self.search, self.list, self.previous, self.next, self.more,
        ):  # fmt: skip
            widget.setVisible(is_open)
        can_run = bool(self._project.images) and self.checkpoint is not None
        self.segment_all.setVisible(is_open)
        free = not self._runs.running and not self._blocked
        self.segment_all.setEnabled(can_run and free)
        several = len(self.list.several)
        self.fields.setEnabled(not several)  # they are those of one image
        self.segment_all.setText(
            f"Segment chosen ({several})" if several else "Segment all"
        )
        tip = CHOSEN_TIP if several else SEGMENT_TIP
        self.segment_all.setToolTip(self._blocked or tip)

    @property
    def _entry(self) -> ProjectImage | None:
        """Chosen image of the list."""
        path = self.list.chosen
        return next((i for i in self._project.images if i.path == path), None)

    def _show_entry(self, *_: Any) -> None:
        image = self._entry
        self.fields.setVisible(image is not None)
        if image is not None:
            self.state.setCurrentText(image.state)
            if not self.notes.isModified():
                self.notes.setText(image.notes)

    def _edit(self, **changes: str) -> None:
        path, file = self.list.chosen, self.file
        if path is None or file is None:
            return

        def change(project: Project) -> Project:
            return project.with_image(path, **changes)

        show = self._if_open(self._show)
        self._workers.call(file.update, change, returned=show)

    def _open_item(self, item: QListWidgetItem | None) -> None:
        image, paths = self._entry, self.paths
        if item is None or image is None or paths is None:
            return

        def find() -> tuple[PathOrUrl, PathOrUrl]:
            return paths.image(image.path), paths.resolve(image.labels)

        def found(both: tuple[PathOrUrl, PathOrUrl]) -> None:
            if self.list.chosen == image.path:  # else another image was chosen
                self.imageWanted.emit(*both)

        self._workers.call(find, returned=self._if_open(found))

    def open_image(self, path: str) -> None:
        """Choose and open an image, given by its path in the project."""
        self._open_item(self.list.choose(path))

    def step(self, by: int) -> None:
        """Open the next (1) or the previous (-1) image that the search shows."""
        item = self.list.choose_next(by)
        if item is not None:
            self._open_item(item)

    def _load_thumbnails(self) -> None:
        """Load the missing thumbnails, and no longer those of an earlier list."""
        if self._loading is not None:
            self._loading.quit()
        missing = self.list.without_thumbnail()
        if self.paths is not None and missing:
            self._loading = self._workers.start(
                thumbnails,
                self.paths,
                missing,
                yielded=self._if_open(self._set_thumbnail),
                finished=self._show,
            )

    def _set_thumbnail(self, found: tuple[str, Colors | str]) -> None:
        path, picture = found
        if isinstance(picture, str):
            self._errors[path] = picture
        else:
            self.list.set_thumbnail(path, picture)

    # -- run on many images -------------------------------------------------------

    def start(self, *, replacing: Sequence[str] = ()) -> None:
        """Segment the images that are not finished, in a worker.

        These are the chosen images if there are several, otherwise all. ``replacing``
        has the images to segment instead, whose labels of other settings are replaced.
        """
        if self.file is None or self.paths is None or self.checkpoint is None:
            report(ProjectError("There is nothing to segment.", "Open a project."))
            return
        if not replacing:  # else the failures of the first run remain
            self.status.clear()
        scheduler = self.cluster.scheduler
        threads = None if scheduler else free_threads()
        run = ProjectRun(
            self.file, self.paths, self.checkpoint, SegmentSettings(threads=threads),
            bool(replacing), scheduler,
        )  # fmt: skip
        self._run_file = self.file
        self._runs.start(run, tuple(replacing) or self.list.several)
        self._enable()
        self.busyChanged.emit(True)

    def _image_done(self, event: ImageDone) -> None:
        if self.file is not self._run_file:  # another project was opened meanwhile
            return
        if event.error and not event.has_other_labels:
            self._errors[event.path] = event.error
            text = self.status.text()
            self.status.setText(f"{text}\n{event.path}: {event.error}".strip())
        self.refresh()

    def _ended(self, left_out: list[str]) -> None:
        self.refresh()
        self._enable()
        self.busyChanged.emit(False)
        if left_out and self.file is self._run_file:
            self._ask_replace(left_out)

    def _ask_replace(self, images: list[str]) -> None:
        """Ask whether to replace labels of other settings, and segment again."""
        if ask_replace_labels_of(self, images):
            self.start(replacing=images)
        else:
            kept = f"{counted(len(images), 'image')} kept the labels of other settings."
            self.status.setText(f"{self.status.text()}\n{kept}".strip())

    # -- dialogs ------------------------------------------------------------------

    def _ask_open(self) -> None:
        path = ask_project(self)
        if path is not None:
            self.open(path)

    def _ask_new(self) -> None:
        path = ask_new_project(self)
        if path is not None:
            self.new(path)

    def _ask_images(self) -> None:
        images = ask_images(self, None if self.file is None else self.file.folder)
        if images:
            self.add(images)

    def _ask_outside(self, outside: list[str]) -> None:
        """Ask before paths outside the folder of the project are used."""
        paths = self.paths
        if paths is not None and outside and ask_outside(self, outside):
            self.paths = ProjectPaths(paths.folder, allow_outside=True)
