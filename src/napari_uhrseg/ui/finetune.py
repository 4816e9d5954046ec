"""The Fine-tune part: for now, where training is to be found."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

TEXT = (
    "Fine-tuning in this window is not there yet. A model is trained from folders of "
    "images and masks on the command line:"
)
COMMAND = (
    "napari-uhrseg train --images DIR --masks DIR\n"
    "    --model scpseg --output FILE.safetensors"
)
AFTER = "Then choose the checkpoint with Browse… in the Segment part."


class FineTunePart(QWidget):
    """Plain words, and a command to copy."""

    def __init__(self) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        mouse, keyboard = (
            Qt.TextInteractionFlag.TextSelectableByMouse,
            Qt.TextInteractionFlag.TextSelectableByKeyboard,
        )
        for text in (TEXT, COMMAND, AFTER):
            label = QLabel(text, wordWrap=True)
            label.setTextInteractionFlags(
                mouse | keyboard if text == COMMAND else mouse
            )
            layout.addWidget(label)
