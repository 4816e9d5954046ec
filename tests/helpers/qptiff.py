"""Files like those of PerkinElmer's scanners: one page for each channel."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile

DESCRIPTION = (
    '<?xml version="1.0"?><PerkinElmer-QPI-ImageDescription>'
    "<ImageType>FullResolution</ImageType>"
    "<Name>{}</Name></PerkinElmer-QPI-ImageDescription>"
)


def write_qptiff(path: Path, channels: Mapping[str, np.ndarray]) -> None:
    """Write a QPTIFF file.

    Parameters
    ----------
    path
        The file.
    channels
        Name of each channel to its pixels, (h, w) of any type.
    """
    with tifffile.TiffWriter(path) as tif:
        for name, plane in channels.items():
            tif.write(
                plane, description=DESCRIPTION.format(name), metadata=None,
                software="PerkinElmer-QPI", photometric="minisblack", tile=(32, 32),
            )  # fmt: skip
