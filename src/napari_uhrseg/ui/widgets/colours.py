"""Colours of the panel.

On the backgrounds of napari's dark and light themes, `ORANGE` and `BLUE` have a
contrast of at least 3. The text of the main button has a contrast of at least 4.5 (WCAG
2.2, level AA). Marks on the tabs have the colour of the text.
"""

ORANGE = "#b86e00"  # outline of the focus, training loss
BLUE = "#2f86d9"  # validation mIoU
MAIN_BUTTON = "#1f6fb2"
MAIN_BUTTON_HOVER = "#2677bd"
MAIN_BUTTON_CHECKED = "#e08a00"  # with black text
