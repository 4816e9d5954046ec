"""Check that the files for packages agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import napari_uhrseg

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch"}


def name_of(requirement: str) -> str:
    (name,) = re.findall(r"^[\w.-]+", requirement)
    return str(name)


def test_conda_recipe_has_the_same_requirements():
    text = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    run = text.partition("  run:\n")[2].partition("\n\n")[0]
    listed = {tuple(line.split()[1:]) for line in run.splitlines()}
    needed = set()
    for requirement in PROJECT["dependencies"]:
        name = name_of(requirement)
        limits = re.sub(r"^[\w.-]+(\[.*\])?", "", requirement)
        needed.add((CONDA_NAMES.get(name, name).replace("-", "_"), limits))
    found = {(name.replace("-", "_"), *limits) for name, *limits in listed}
    needed |= {("python", PROJECT["requires-python"]), ("pyqt", ">=6")}
    assert found == needed


def test_documentation_lists_all_dependencies():
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    named = set(re.findall(r"[\w.-]+", " ".join(rows)))
    extras = PROJECT["optional-dependencies"]
    asked = PROJECT["dependencies"] + [
        one for extra in extras if extra != "docs" for one in extras[extra]
    ]
    missing = {name_of(one) for one in asked} - named
    assert missing == set()


def test_version_is_the_same_everywhere():
    version = napari_uhrseg.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    recipe = ROOT / "packaging" / "conda" / "recipe.yaml"
    assert f'version: "{version}"' in recipe.read_text(encoding="utf-8")
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
