import numpy as np
import rasterio

from napari_uhrseg.engine.data.folder_dataset import FolderDataset
from napari_uhrseg.types import Roi


def test_palette_mask_gives_indices_and_colours(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, (40, 50), np.uint8)
    profile = {"driver": "GTiff", "height": 40, "width": 50, "dtype": "uint8"}
    profile["transform"] = rasterio.Affine(2, 0, 100, 0, -2, 900)
    for folder, count in (("images", 3), ("masks", 1)):
        (tmp_path / folder).mkdir()
        with rasterio.open(
            tmp_path / folder / "a.tif", "w", count=count, **profile
        ) as file:
            file.write(np.stack([values * 80] * 3) if count == 3 else values[None])
            if count == 1:
                table = {0: (0, 0, 0), 1: (10, 200, 30), 2: (10, 200, 31)}
                file.write_colormap(1, table)
    source = FolderDataset(
        tmp_path / "images", tmp_path / "masks", held_out=0, ignore=[255]
    )
    assert [c.source_value for c in source.legend] == [0, 1, 2]
    assert [c.color for c in source.legend] == ["#000000", "#0ac81e", "#0ac81f"]
    got = source.training[0].target.read(Roi(0, 0, 40, 50))
    np.testing.assert_array_equal(got, values)
