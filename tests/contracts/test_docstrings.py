"""Test that the docstrings of public functions follow the numpydoc standard."""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import pytest
from numpydoc.validate import validate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2] / "src"
CHECKS = {
    "PR01",  # a parameter is missing
    "PR02",  # an unknown parameter is described
    "PR03",  # the order of parameters is wrong
    "SS05",  # the summary begins with a third-person verb
}
FRAGMENTS = ("What ", "Whether ", "Which ", "Where ", "Of ", "As ", "How ", "Whose ")
NEEDS_PARAMETERS = 3
"""Public functions with that many parameters describe each of them.

Functions of the command line are left out: their docstrings are the help texts.
"""


def modules() -> list[str]:
    files = sorted((ROOT / "napari_uhrseg").rglob("*.py"))
    names = (".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files)
    return [name.removesuffix(".__init__") for name in names]


def public_functions(module: str) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield public functions and methods that the module's own file defines."""
    loaded = importlib.import_module(module)
    for name, value in vars(loaded).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if isinstance(value, FunctionType):
            yield name, value
        elif inspect.isclass(value):
            for inner, method in vars(value).items():
                method = getattr(method, "__func__", method)
                if isinstance(method, FunctionType) and not inner.startswith("_"):
                    yield f"{name}.{inner}", method


def parameters_of(function: Callable[..., object]) -> list[str]:
    names = inspect.signature(function).parameters
    return [n for n in names if n not in {"self", "cls"}]


def has_parameters_section(function: Callable[..., object]) -> bool:
    return "Parameters\n" in (inspect.getdoc(function) or "")


@pytest.mark.parametrize(
    "module", [m for m in modules() if not m.startswith("napari_uhrseg.cli")]
)
def test_public_functions_describe_their_parameters(module):
    found = []
    for name, function in public_functions(module):
        if not function.__doc__:
            continue
        many = len(parameters_of(function)) >= NEEDS_PARAMETERS
        if many or has_parameters_section(function):
            result = validate(f"{module}.{name}")
            found += [
                f"{name}: {code} {text}"
                for code, text in result["errors"]
                if code in CHECKS
            ]
    assert found == []


@pytest.mark.parametrize("module", modules())
def test_summaries_begin_with_a_verb_or_a_noun(module):
    """No summary begins with a question word or a fragment."""
    file = ROOT / Path(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    found = [
        text.splitlines()[0]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and (text := ast.get_docstring(node))
        and text.startswith(FRAGMENTS)
    ]
    assert found == []
