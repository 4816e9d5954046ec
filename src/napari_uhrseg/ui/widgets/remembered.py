"""Settings that the program keeps between sessions, as JSON in Qt's settings."""

import json
from typing import Any

from qtpy.QtCore import QSettings

MOST_ENTRIES = 500  # of a table; the oldest are removed


def remembered(key: str, default: Any = None) -> Any:
    """Return the value of a key, or the default if there is none."""
    text = QSettings("napari-uhrseg", "napari-uhrseg").value(key, "")
    try:
        return json.loads(str(text))
    except ValueError:
        return default


def remember(key: str, value: Any) -> None:
    """Keep a value that JSON can express."""
    settings = QSettings("napari-uhrseg", "napari-uhrseg")
    settings.setValue(key, json.dumps(value))


def remembered_entry(key: str, name: str) -> Any:
    """Return an entry of the table of a key, or None."""
    table = remembered(key, {})
    return table.get(name) if isinstance(table, dict) else None


def remember_entry(key: str, name: str, value: Any) -> None:
    """Put an entry at the end of the table of a key; None removes it.

    Parameters
    ----------
    key
        Key of the table.
    name
        Name of the entry.
    value
        Value that JSON can express.
    """
    table = remembered(key, {})
    table = table if isinstance(table, dict) else {}
    table.pop(name, None)
    if value is not None:
        table[name] = value
    remember(key, dict(list(table.items())[-MOST_ENTRIES:]))
