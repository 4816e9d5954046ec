"""Image file formats.

`registry` lists the readers, and `choice` chooses the reader of a file. There is one
reader for each family of files. Readers import `registry` and `common`.

Must not import ``io.labels``, ``io.corrections`` and ``io.export``.
"""

__all__ = ["choice", "common", "registry"]
