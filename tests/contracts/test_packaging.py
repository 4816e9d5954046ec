"""Check that the files for packages agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

import napari_uhrseg

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# on conda-forge, "dask" and "napari" contain optional packages, too
CONDA_NAMES = {"torch": "pytorch", "dask": "dask-core", "napari": "napari-base"}


def name_of(requirement: str) -> str:
    (name,) = re.findall(r"^[\w.-]+", requirement)
    return str(name)


def optional_requirements() -> list[str]:
    """Return the requirements of all extras of users."""
    extras = PROJECT["optional-dependencies"]
    return [one for name in extras if name != "docs" for one in extras[name]]


def conda_limits(requirements: list[str]) -> dict[str, str]:
    """Return the limits in requirements of pyproject.toml by their conda name."""
    limits = {}
    for requirement in requirements:
        name = name_of(requirement)
        name = CONDA_NAMES.get(name, name).lower().replace("-", "_")
        limits[name] = re.sub(r"^[\w.-]+(\[.*\])?", "", requirement)
    return limits


def recipe_limits(section: str) -> dict[str, str]:
    """Return the limits in a section of requirements of the conda recipe by name."""
    text = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    lowest = recipe["context"]["python_min"]
    limits = {}
    for line in recipe["requirements"][section]:
        name, _, limit = line.replace("${{ python_min }}", lowest).partition(" ")
        limits[name.replace("-", "_")] = limit
    return limits


def test_conda_recipe_has_the_same_requirements():
    needed = conda_limits(PROJECT["dependencies"])
    needed |= {"python": PROJECT["requires-python"], "pyqt": ">=6"}
    assert recipe_limits("run") == needed


def test_conda_recipe_has_the_same_optional_requirements():
    asked = conda_limits(optional_requirements())
    listed = recipe_limits("run_constraints")
    # the library is a dependency of conda-forge's openslide-python
    assert listed == {n: v for n, v in asked.items() if v and n != "openslide_bin"}


def test_documentation_lists_all_dependencies():
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    named = set(re.findall(r"[\w.-]+", " ".join(rows)))
    asked = PROJECT["dependencies"] + optional_requirements()
    missing = {name_of(one) for one in asked} - named
    assert missing == set()


def test_version_is_the_same_everywhere():
    version = napari_uhrseg.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    recipe = ROOT / "packaging" / "conda" / "recipe.yaml"
    assert f'version: "{version}"' in recipe.read_text(encoding="utf-8")
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
