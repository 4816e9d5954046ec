"""Pages of the documentation site that exist only in its build.

MkDocs calls ``on_files`` and ``on_page_markdown``. The command-line reference comes
from the typer program, other pages from Markdown files at the top level of the
repository. Links are written for GitHub, relative to the file; here they become links
of the site.
"""

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

WHOLE_FILES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "sample-data.md": "sample_data/README.md",
    "security.md": "SECURITY.md",
}
OTHER_FILES = {
    "CITATION.cff": "CITATION.cff",
    "project.schema.json": "src/napari_uhrseg/io/project/project.schema.json",
}
COMMANDS = "reference/command-line.md"
DECISIONS = "decisions/index.md"

TARGETS = {
    **{source: page for page, source in WHOLE_FILES.items()},
    **{source: page for page, source in OTHER_FILES.items()},
    "README.md": "index.md",
    "docs/decisions": DECISIONS,
}
"""Page of the site for each path in the repository that is not in ``docs``."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?")
SCREENSHOT = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.png)\)")  # linked to its full size
PATH_TEXT = re.compile(r"(?<=\[)[\w/-]+\.md(?=\]\()|(?<=\[)docs/decisions(?=\]\()")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: _read(source) for page, source in WHOLE_FILES.items()}
    pages[COMMANDS] = "\n".join(command_reference())
    pages[DECISIONS] = "\n".join(decision_index())
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for name, source in OTHER_FILES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Return the text with links of the site instead of links of the repository."""
    name = page.file.src_uri
    folder = posixpath.dirname(WHOLE_FILES.get(name, f"docs/{name}"))
    here = posixpath.dirname(name)

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found[1]))
        target = TARGETS.get(path, path.removeprefix("docs/"))
        return posixpath.relpath(target, here or ".") + (found[2] or "")

    named = PATH_TEXT.sub(lambda found: title(found[0]), markdown)
    return with_deep_lists(SCREENSHOT.sub(r"[\g<0>](\1)", LINK.sub(link, named)))


def title(path: str) -> str:
    """Return the title of a page, for a link whose text is its path."""
    file = ROOT / path
    if file.is_dir():
        return "Design decisions"
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def marked(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield each line, and True if it belongs to a block of code without indent."""
    is_code = False
    for line in lines:
        fence = line.startswith("```")
        yield line, is_code or fence
        is_code ^= fence


def with_deep_lists(markdown: str) -> str:
    """Return a text whose numbered lists have their contents at four spaces.

    GitHub accepts three spaces, Python-Markdown does not.
    """
    found, in_list = [], False
    for line, is_code in marked(markdown.splitlines()):
        if is_code or (line and not line.startswith("   ")):
            in_list = not is_code and re.match(r"\d\. ", line) is not None
        found.append(f" {line}" if in_list and line.startswith("   ") else line)
    return "\n".join(found)


def decision_index() -> Iterator[str]:
    """Yield the lines of a page with all design decisions."""
    yield "# Design decisions\n"
    for path in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0]
        yield f"- [{title.removeprefix('# ')}]({path.name})"


# -- command line ---------------------------------------------------------------------


def command_reference() -> Iterator[str]:
    """Yield the lines of the reference of all commands."""
    import typer.main

    from napari_uhrseg.cli import app

    program = typer.main.get_command(app)
    yield "# Command line\n"
    yield "This page is generated from the program. `napari-uhrseg COMMAND --help` "
    yield "prints the same texts. [Use the command line](../how-to/command-line.md) "
    yield "gives examples and the exit statuses.\n"
    yield from _command(program, "napari-uhrseg", 2)


def _command(command: Any, name: str, level: int) -> Iterator[str]:
    """Yield a heading, the help, the parameters and the subcommands of a command."""
    import typer

    context = typer.Context(command, info_name=name)
    yield f"{'#' * level} {name}\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    records = [p.get_help_record(context) for p in command.params]
    if any(records):
        yield "| parameter | meaning |"
        yield "| --- | --- |"
        for title, meaning in filter(None, records):
            yield f"| `{title}` | {_cell(meaning)} |"
        yield ""
    children = getattr(command, "commands", {})
    for child in sorted(children):
        yield from _command(children[child], f"{name} {child}", min(level + 1, 3))


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return text.replace("|", "\\|").replace("[", "\\[").replace("  ", " ")
