"""Test that packages say what they hold, and are used only through what they offer."""

import ast
import importlib
from pathlib import Path

import grimp
import pytest

from napari_uhrseg.models.registry import REGISTRY

ROOT = Path(__file__).parents[2] / "src"
# these offer what their own file defines
FACADES = {"cli", "cli.project", "io.export", "models.importers", "samples", "types"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("napari_uhrseg", exclude_type_checking_imports=False)


def packages() -> list[str]:
    files = sorted((ROOT / "napari_uhrseg").rglob("__init__.py"))
    return [".".join(file.parent.relative_to(ROOT).parts) for file in files]


def with_all() -> list[str]:
    """Return the packages whose own file defines nothing but ``__all__``."""
    return [p for p in packages() if "." in p and p.split(".", 1)[1] not in FACADES]


def documented(package: str) -> str:
    file = ROOT / package.replace(".", "/") / "__init__.py"
    return ast.get_docstring(ast.parse(file.read_text())) or ""


@pytest.mark.parametrize("package", packages())
def test_package_docstring_says_what_it_holds(package):
    text = documented(package)
    assert text
    if package in with_all():
        assert "must not import" in text.lower()


@pytest.mark.parametrize("package", packages())
def test_folder_holds_few_modules(package):
    folder = ROOT / package.replace(".", "/")
    assert len(list(folder.glob("*.py"))) <= 17


@pytest.mark.parametrize("package", with_all())
def test_other_packages_import_only_what_a_package_offers(package, graph):
    offered = set(importlib.import_module(package).__all__)
    inside = f"{package}."
    used = {
        imported.removeprefix(inside).split(".")[0]
        for module in graph.modules
        if module != package and not module.startswith(inside)
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.startswith(inside)
    }
    assert used <= offered


def test_methods_import_only_the_interface_and_blocks(graph):
    """A method knows no other method. Only its importer knows a method by name."""
    models = "napari_uhrseg.models"
    methods = {f"{models}.{e.module.partition(':')[0]}" for e in REGISTRY.values()}
    for method in methods:
        used = {
            imported
            for imported in graph.find_modules_directly_imported_by(method)
            if imported.startswith(models)
        }
        allowed = (f"{models}.base", f"{models}.blocks")
        assert [name for name in used if not name.startswith(allowed)] == []
    layers = {f"{models}.{name}" for name in importlib.import_module(models).__all__}
    assert graph.find_children(models) == layers | methods
