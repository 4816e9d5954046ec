"""Check that the pictures of the documentation are used and made by the tests."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_screenshots_are_taken_by_stories():
    """``--update-screenshots`` replaces the pictures that these calls name."""
    stories = (p.read_text("utf-8") for p in (ROOT / "tests/story").glob("test_*.py"))
    taken = set(re.findall(r'take_picture\(\s*[\w.]+, "([\w-]+)"', "".join(stories)))
    assert {path.stem for path in IMAGES.rglob("*.png")} <= taken


def test_pictures_exist_and_are_used():
    used = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text("utf-8"))
    }
    assert used == {path.resolve() for path in IMAGES.rglob("*.*")}


def test_other_pictures_are_drawings():
    assert {path.suffix for path in IMAGES.rglob("*.*")} == {".png", ".svg"}
