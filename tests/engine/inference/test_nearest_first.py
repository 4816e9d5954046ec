from napari_uhrseg.engine.inference.nearest_first import NearestFirst
from napari_uhrseg.types import Roi

ROIS = list(Roi(0, 0, 10, 40).tiles(10))


def order_of(viewport):
    choose = NearestFirst(ROIS, viewport)
    found = []
    while choose:
        found.append(choose.next())
    return found


def test_nearest_first_is_in_order_without_viewport():
    assert order_of(None) == [0, 1, 2, 3]
    assert order_of(lambda: None) == [0, 1, 2, 3]
    assert not NearestFirst([], None)


def test_nearest_first_follows_viewport():
    views = iter([Roi(0, 30, 10, 10), Roi(0, 0, 10, 10), None, None])
    assert order_of(lambda: next(views)) == [3, 0, 1, 2]
