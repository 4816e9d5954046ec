"""Answers to the message boxes of Qt."""

import pytest
from qtpy.QtWidgets import QAbstractButton, QMessageBox


def answer_boxes(monkeypatch: pytest.MonkeyPatch, title: str) -> list[str]:
    """Press the button with this title in each message box; return the boxes' texts."""
    asked: list[str] = []

    def show(box: QMessageBox) -> int:
        asked.append(box.text())
        return 0

    def clicked(box: QMessageBox) -> QAbstractButton:
        (button,) = [b for b in box.buttons() if b.text().replace("&", "") == title]
        return button

    monkeypatch.setattr(QMessageBox, "exec", show)
    monkeypatch.setattr(QMessageBox, "clickedButton", clicked)
    return asked
