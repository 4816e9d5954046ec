"""Project: a JSON file that lists images with their labels, classes and states.

`project` contains the values, `project_file` reads and writes the file, `image_paths`
finds the files that it names, `project_labels` opens them, `class_edits` changes the
classes, `project_stores` reads the states of the label stores and gives them the
classes, and `region_ranking` sorts the uncertain regions of all images.

Must not import torch, Qt, napari, ``engine``, ``models`` and ``ui``.
"""

__all__ = [
    "class_edits",
    "image_paths",
    "project",
    "project_file",
    "project_labels",
    "project_stores",
    "region_ranking",
]
