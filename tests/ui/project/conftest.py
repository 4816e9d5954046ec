"""Fixture: a project of small images."""

import pytest

from helpers.small_project import make_project
from napari_uhrseg.io.project.project_file import ProjectFile


@pytest.fixture
def file(tmp_path) -> ProjectFile:
    return make_project(tmp_path)
