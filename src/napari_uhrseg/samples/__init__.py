"""Sample images: a landscape of any size, a slide, and the folder of their files."""

from pathlib import Path


def data_dir() -> Path:
    """Return the folder of the sample files: in the package, or in a checkout.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "sample_data", package.parents[1] / "sample_data"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError("the sample files were not installed with the package")


def is_sample(path: object) -> bool:
    """Return True for a path in the folder of the sample files."""
    try:
        folder = data_dir()
    except FileNotFoundError:
        return False
    return isinstance(path, Path) and folder in path.resolve().parents
