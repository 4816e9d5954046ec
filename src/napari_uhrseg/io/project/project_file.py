"""File of a project: reading, checking, and changes under a lock.

A change reads the file again, changes it and replaces it atomically, all under a lock
of the operating system. Two processes that change one project therefore lose nothing.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import filelock

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.paths import error_text
from napari_uhrseg.io.project.project import (
    FORMAT,
    FORMAT_VERSION,
    Change,
    Project,
)
from napari_uhrseg.units import formatted

SUFFIX = ".uhrproject.json"
MAX_BYTES = 64_000_000  # of a project file
LOCK_TIMEOUT_S = 30.0  # a change takes milliseconds


class ProjectFile:
    """Project file of which other processes may change a part at any time.

    Parameters
    ----------
    path
        The file. Its folder is the folder of the project.
    lock_timeout_s
        Seconds after which a change fails because another process has the lock.
    """

    def __init__(
        self, path: Path | str, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self._timeout = lock_timeout_s

    @property
    def folder(self) -> Path:
        """Folder to which the paths in the project are relative."""
        return self.path.parent

    @property
    def name(self) -> str:
        """Name of the project."""
        return self.path.name.removesuffix(SUFFIX).removesuffix(".json")

    def read(self) -> Project:
        """Return the project as it is on disk.

        Raises
        ------
        ProjectError
            If the file is missing, too large, damaged or of another version.
        """
        return _parse(self.path, _read_text(self.path))

    def create(self, project: Project | None = None) -> Project:
        """Write a new project file, by default without images; return the project.

        Raises
        ------
        ProjectError
            If the file exists or cannot be written.
        """
        with self._locked(create_folder=True):
            if self.path.exists():
                raise ProjectError(
                    f"{self.path} exists already; nothing was written.",
                    "Add images to it, or choose another name.",
                )
            new = project or Project()
            self._write(new)
        return new

    def update(self, change: Change) -> Project:
        """Change the project as it is on disk, and return it.

        Parameters
        ----------
        change
            Function that returns the changed project. It must be quick, as other
            processes wait for it.

        Raises
        ------
        ProjectError
            If the file cannot be read or written, or another process has the lock.
        """
        with self._locked():
            before = self.read()
            after = change(before)
            if after != before:
                self._write(after)
        return after

    @contextmanager
    def _locked(self, *, create_folder: bool = False) -> Iterator[None]:
        lock = self.path.with_name(f".{self.path.name}.lock")
        if not create_folder and not self.path.is_file():
            raise _missing(self.path)
        try:
            if create_folder:
                self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(lock, timeout=self._timeout):
                yield
        except filelock.Timeout as error:
            raise ProjectError(
                f"{self.path} is being changed by another window or process.",
                "Wait until it has finished.",
            ) from error
        except OSError as error:
            raise ProjectError(
                f"{self.path} cannot be written: {error_text(error)}.",
                "Check the folder, its permissions and the free space.",
            ) from error

    def _write(self, project: Project) -> None:
        text = json.dumps(project.to_dict(), indent=1, ensure_ascii=False) + "\n"
        _parse(self.path, text)  # whatever is written can be read
        with replacing(self.path) as part:
            part.write_text(text, encoding="utf-8")


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _damaged(
                path,
                f"it has {formatted(size)} bytes, more than {formatted(MAX_BYTES)}",
            )
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise _missing(path) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not text in UTF-8") from error
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be read: {error_text(error)}.",
            "Check the path and the permissions.",
        ) from error


def _parse(path: Path, text: str) -> Project:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    _check_version(path, data)
    _check_schema(path, data)
    try:
        return Project.from_dict(data)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _check_version(path: Path, data: Any) -> None:
    """Raise ProjectError if JSON is not a project of this format version."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ProjectError(
            f"{path} is not a project of napari-uhrseg.",
            "Create one with: napari-uhrseg project new.",
        )
    version = data.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ProjectError(
            f"{path} has format version {version}; this program reads "
            f"{FORMAT_VERSION}.",
            "Update napari-uhrseg.",
        )


def _check_schema(path: Path, data: Any) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    try:
        error = best_match(Draft202012Validator(project_schema()).iter_errors(data))
    except RecursionError as problem:
        raise _damaged(path, "it is nested too deeply") from problem
    if error is not None:
        where = "/".join(map(str, error.absolute_path))
        reason = error.message if len(error.message) < 300 else error.validator
        raise _damaged(path, f"{where}: {reason}" if where else str(reason))


@cache
def project_schema() -> dict[str, Any]:
    """Return the JSON schema of project files, which is part of the package."""
    text = files(__package__).joinpath("project.schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _missing(path: Path) -> ProjectError:
    return ProjectError(
        f"{path} does not exist.", "Create it with: napari-uhrseg project new."
    )


def _damaged(path: Path, reason: str) -> ProjectError:
    return ProjectError(
        f"The project {path} is damaged: {reason}.",
        "Correct the file, or copy it again from its source.",
    )
