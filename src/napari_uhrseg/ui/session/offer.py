"""Bar that offers to restore the last session."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QVBoxLayout

from napari_uhrseg.ui.session.session_file import Session
from napari_uhrseg.ui.widgets.layout import note, push_button
from napari_uhrseg.ui.widgets.remembered import remember, remembered

ALWAYS = "always_restore_session"
MOST_NAMES = 3  # images that the bar names


class SessionOffer(QFrame):
    """Bar with the images of the last session and a button that opens them."""

    wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.text = note()
        tip = "Open the images and labels of the last session, with its settings."
        self.restore = push_button("Restore last session", tip, self.wanted.emit)
        self.always = QCheckBox("Always")
        self.always.setToolTip("Restore the last session at every start.")
        self.always.setChecked(remembered(ALWAYS, False) is True)
        self.always.toggled.connect(lambda on: remember(ALWAYS, bool(on)))
        row = QHBoxLayout()
        row.addWidget(self.restore, 1)
        row.addWidget(self.always)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(4)
        layout.addWidget(self.text)
        layout.addLayout(row)
        self.hide()

    def offer(self, session: Session) -> None:
        """Show the bar with the names of the images."""
        names = [image.name for image in session.images]
        listed = ", ".join(names[:MOST_NAMES])
        more = len(names) - MOST_NAMES
        self.text.setText(
            f"Last session: {listed}{f' and {more} more' if more > 0 else ''}."
        )
        self.show()
