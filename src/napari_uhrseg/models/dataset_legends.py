"""Classes and colours of known data sets, as plain data without torch.

The order is that of the networks' outputs. ``source_value`` is the value in the masks
of the data set. For masks in colour, it is the colour as one number, 0xRRGGBB. The
masks can be used for training and evaluation without conversion.
"""

import colorsys
from collections.abc import Mapping
from types import MappingProxyType

from napari_uhrseg.types import LabelClass, Legend


def distinct_color(index: int) -> str:
    """Return a colour ``#rrggbb``. Successive hues differ by the golden angle."""
    rgb = colorsys.hsv_to_rgb((index * 0.381966) % 1, 0.65, 0.9)
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * v) for v in rgb))


def numbered_legend(count: int) -> Legend:
    """Return ``class 1`` to ``class K``, for networks without class names."""
    return Legend(
        tuple(
            LabelClass(k + 1, f"class {k + 1}", distinct_color(k), k)
            for k in range(count)
        )
    )


def _by_color(*classes: tuple[str, str]) -> Legend:
    """Return a legend for masks in the classes' colours."""
    return Legend(
        tuple(
            LabelClass(k + 1, name, color, int(color[1:], 16))
            for k, (name, color) in enumerate(classes)
        )
    )


def _by_value(*classes: tuple[int, str, str]) -> Legend:
    """Return a legend for masks of numbers."""
    return Legend(
        tuple(
            LabelClass(k + 1, name, color, value)
            for k, (value, name, color) in enumerate(classes)
        )
    )


LEGENDS: Mapping[str, Legend] = MappingProxyType(
    {
        # Demir et al., "DeepGlobe 2018", CVPR workshops: the land cover track's own
        # class_dict. The order is that of GLNet's and ISDNet's code, which train on
        # "unknown" like on any other class, and leave it out of their means.
        "deepglobe": _by_color(
            ("unknown", "#000000"),
            ("urban", "#00ffff"),
            ("agriculture", "#ffff00"),
            ("rangeland", "#ff00ff"),
            ("forest", "#00ff00"),
            ("water", "#0000ff"),
            ("barren", "#ffffff"),
        ),
        # Maggiori et al., "Can Semantic Labeling Methods Generalize to Any City?",
        # IGARSS 2017: masks of 0 and 255, white on black.
        "inria": _by_value((0, "background", "#000000"), (255, "building", "#ffffff")),
        # ISPRS 2D Semantic Labeling Contest, Potsdam; mmsegmentation has this order.
        "potsdam": _by_color(
            ("impervious surface", "#ffffff"),
            ("building", "#0000ff"),
            ("low vegetation", "#00ffff"),
            ("tree", "#00ff00"),
            ("car", "#ffff00"),
            ("clutter", "#ff0000"),
        ),
        # Tong et al., "Enabling country-scale land cover mapping with meter-resolution
        # satellite imagery", ISPRS Journal 2023 (Five-Billion-Pixels): the numbers and
        # colours of its own key; 0 is not labelled.
        "fbp": _by_value(
            (1, "industrial area", "#c80000"),
            (2, "paddy field", "#00c800"),
            (3, "irrigated field", "#96fa00"),
            (4, "dry cropland", "#96c896"),
            (5, "garden land", "#c800c8"),
            (6, "arbor forest", "#9600fa"),
            (7, "shrub forest", "#9696fa"),
            (8, "park", "#c896c8"),
            (9, "natural meadow", "#fac800"),
            (10, "artificial meadow", "#c8c800"),
            (11, "river", "#0000c8"),
            (12, "urban residential", "#fa0096"),
            (13, "lake", "#0096c8"),
            (14, "pond", "#00c8fa"),
            (15, "fish pond", "#96c8fa"),
            (16, "snow", "#fafafa"),
            (17, "bareland", "#c8c8c8"),
            (18, "rural residential", "#c89696"),
            (19, "stadium", "#fac896"),
            (20, "square", "#969600"),
            (21, "road", "#fa9696"),
            (22, "overpass", "#fa9600"),
            (23, "railway station", "#fac8fa"),
            (24, "airport", "#c89600"),
        ),
        # Cordts et al., "The Cityscapes Dataset", CVPR 2016; numbers and colours of
        # cityscapesScripts' labels.py: the 19 classes that are scored, in the order
        # of their trainId, with the ids of the *_labelIds.png files.
        "cityscapes": _by_value(
            (7, "road", "#804080"),
            (8, "sidewalk", "#f423e8"),
            (11, "building", "#464646"),
            (12, "wall", "#66669c"),
            (13, "fence", "#be9999"),
            (17, "pole", "#999999"),
            (19, "traffic light", "#faaa1e"),
            (20, "traffic sign", "#dcdc00"),
            (21, "vegetation", "#6b8e23"),
            (22, "terrain", "#98fb98"),
            (23, "sky", "#4682b4"),
            (24, "person", "#dc143c"),
            (25, "rider", "#ff0000"),
            (26, "car", "#00008e"),
            (27, "truck", "#000046"),
            (28, "bus", "#003c64"),
            (31, "train", "#005064"),
            (32, "motorcycle", "#0000e6"),
            (33, "bicycle", "#770b20"),
        ),
    }
)
