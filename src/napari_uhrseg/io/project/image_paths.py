"""Files that a project names: relative paths, moved files, and files elsewhere.

A project file may come from other people. A path that leaves the folder of the project
(absolute, with ``..``, through a link, or a URL) is used only if the user allows it.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.paths import PathOrUrl, is_url, to_path

MAX_ENTRIES = 200_000  # of folders that are searched for a moved file


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """Rules to find the files of a project.

    Parameters
    ----------
    folder
        Folder of the project.
    allow_outside
        If True, paths outside the folder and URLs are used.
    """

    folder: Path
    allow_outside: bool = False

    def resolve(self, path: str) -> PathOrUrl:
        """Return a path of the project as an absolute path, or a URL.

        Raises
        ------
        ProjectError
            If the path leaves the folder, and this is not allowed.
        """
        if not self.allow_outside and self.is_outside(path):
            raise ProjectError(
                f"{path} is outside the folder of the project, {self.folder}.",
                "If you trust the project, open it again in the window and agree, or "
                "give --allow-outside on the command line.",
            )
        where = to_path(path)
        return where if is_url(where) else self.folder / where

    def is_outside(self, path: str) -> bool:
        """Return True for a path that leaves the folder of the project, or a URL."""
        if "://" in path:
            return True
        real = Path(os.path.realpath(self.folder / Path(path).expanduser()))
        return not real.is_relative_to(os.path.realpath(self.folder))

    def image(self, path: str, listed: Collection[str] = ()) -> PathOrUrl:
        """Return the file of an image; if it has moved, one found by its name.

        It is searched for in the folder of the project. Of several files with the
        name, the one with the longest common end of the path is returned.

        Parameters
        ----------
        path
            Path of the image in the project.
        listed
            Paths of all images of the project; a file of another image is not returned.

        Raises
        ------
        ProjectError
            If there is no such file, or several fit equally, or it is outside.
        """
        where = self.resolve(path)
        if is_url(where) or where.exists():
            return where
        wanted = PurePosixPath(path)
        found = [
            f
            for f in _named(self.folder, wanted.name)
            if not self.is_outside(str(f)) and self.relative(f) not in listed
        ]
        common = {f: _common_end(f, wanted) for f in found}
        best = [f for f in found if common[f] == max(common.values())]
        if len(best) == 1:
            return best[0]
        if not best:
            others = ", apart from other images of the project" if listed else ""
            raise ProjectError(
                f"{path} does not exist, and no file in {self.folder} has its name"
                f"{others}.",
                "Copy the image back, or remove it from the project.",
            )
        raise ProjectError(
            f"{path} does not exist, and {len(best)} files have its name: "
            f"{', '.join(str(f.relative_to(self.folder)) for f in sorted(best)[:3])}.",
            "Move the image back, or rename the others.",
        )

    def relative(self, path: str | PathOrUrl) -> str:
        """Return the text under which a project lists a path: relative if inside."""
        where = to_path(path)
        if not isinstance(where, Path):
            return str(where)
        absolute = Path(os.path.abspath(where))  # keeps links
        if absolute.is_relative_to(self.folder):
            return absolute.relative_to(self.folder).as_posix()
        return absolute.as_posix()


def _named(folder: Path, name: str) -> Iterator[Path]:
    """Yield files and image folders with a name, without looking into Zarr folders."""
    seen = 0
    for root, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > MAX_ENTRIES:
            return
        if name in names or name in folders:
            yield Path(root) / name
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and not f.endswith(".zarr")
        )


def _common_end(path: Path, wanted: PurePosixPath) -> int:
    """Return the number of equal parts at the end of two paths."""
    count = 0
    for one, other in zip(reversed(path.parts), reversed(wanted.parts), strict=False):
        if one != other:
            break
        count += 1
    return count
