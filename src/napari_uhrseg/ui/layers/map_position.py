"""Map coordinates of the mouse in the status bar."""

from functools import lru_cache
from typing import Any

import numpy as np
from qtpy.QtWidgets import QLabel, QMainWindow, QWidget
from superqt.utils import qthrottled

from napari_uhrseg.io.image.geometry import crs_name
from napari_uhrseg.ui.layers.label_layers import KEY
from napari_uhrseg.ui.layers.map_placement import ORIGIN
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.units import formatted

INTERVAL_MS = 50


class MapPositionLabel(QLabel):
    """Label in the status bar of a window: map coordinates, longitude and latitude.

    It is hidden while no image with a position on the map is open.
    """

    def __init__(self, viewer: Any, panel: QWidget) -> None:
        super().__init__()
        self._viewer, self._panel = viewer, panel
        self._later = qthrottled(self._update, timeout=INTERVAL_MS, parent=self)
        self._events = (viewer.cursor.events.position, viewer.layers.events.removed)
        for event in self._events:
            event.connect(self._moved)

    def stop(self) -> None:
        """Disconnect from the viewer, and leave the status bar."""
        for event in self._events:
            event.disconnect(self._moved)
        self._later.cancel()
        self.setParent(None)
        self.deleteLater()

    def _moved(self) -> None:
        self._later()

    def _update(self) -> None:
        placed = next((x for x in self._viewer.layers if ORIGIN in x.metadata), None)
        if placed is None:
            self.hide()
            return
        window = self._panel.window()
        if self.parent() is None and isinstance(window, QMainWindow):
            required(window.statusBar()).addPermanentWidget(self)
        origin, image = placed.metadata[ORIGIN], placed.metadata[KEY]
        x, y = origin.to_map(self._viewer.cursor.position)
        self.setText(position_text(origin.crs, min(image.pixel_size), x, y))
        self.show()


def position_text(crs: str, pixel: float, x: float, y: float) -> str:
    """Return map coordinates as text, with longitude and latitude if they are known.

    Parameters
    ----------
    crs
        Coordinate reference system as WKT.
    pixel
        Side of a pixel in units of the CRS, for the number of digits.
    x, y
        Coordinates in the CRS.
    """
    place, degrees = longitude_latitude(crs, x, y), ""
    if place is not None:
        longitude, latitude = place
        north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
        up, right = (formatted(abs(v), ".6f") for v in (latitude, longitude))
        degrees = f"{up}° {north}, {right}° {east}"
    if _systems(crs)[0].is_geographic:
        return degrees
    spec = f",.{max(0, 1 - int(np.floor(np.log10(pixel))))}f"
    own = f"x {formatted(x, spec)}, y {formatted(y, spec)} ({crs_name(crs)})"
    return f"{own}   {degrees}".rstrip()


def longitude_latitude(crs: str, x: float, y: float) -> tuple[float, float] | None:
    """Return WGS 84 longitude and latitude in degrees; None outside the projection.

    Parameters
    ----------
    crs
        Coordinate reference system as WKT.
    x, y
        Coordinates in the CRS.
    """
    from rasterio.warp import transform

    source, wgs84 = _systems(crs)
    try:
        (longitude,), (latitude,) = transform(source, wgs84, [x], [y])
    except Exception:  # noqa: BLE001  PROJ raises many kinds of error
        return None
    found = float(longitude), float(latitude)
    return found if np.isfinite(found).all() else None


@lru_cache(maxsize=16)
def _systems(crs: str) -> tuple[Any, Any]:
    import rasterio

    return rasterio.CRS.from_wkt(crs), rasterio.CRS.from_epsg(4326)
