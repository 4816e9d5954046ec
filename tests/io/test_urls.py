"""Images and label stores at URLs: a server of S3, and a plain web server."""

import shutil
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
import zarr

from helpers.label_stores import (
    LEGEND,
    RUN,
    FakeImage,
    assert_levels_consistent,
    chunk_block,
)
from helpers.s3_server import s3_server
from napari_uhrseg.errors import OpenError, StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.export import export
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.write_lock import read_write_token
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Limits, Roi, Stroke

SHAPE = (2100, 1100)
WHOLE = Roi(0, 0, *SHAPE)
MEMORY = "memory://tests"


@pytest.fixture(scope="module")
def bucket():
    with s3_server() as url:
        yield url


@pytest.fixture(params=["s3", "memory"])
def url(request, bucket) -> str:
    """Where nothing is yet; a server, and what takes no time."""
    name = f"{request.node.name}".replace("[", "-").replace("]", "")
    return f"{bucket if request.param == 's3' else MEMORY}/{name}.zarr"


# a writer loses its lock if one access takes half of this, on a busy machine too
QUICK = Limits(heartbeat_s=0.1, stale_lock_s=8.0)


@pytest.mark.slow
def test_a_store_at_a_url_is_one_like_on_a_disk(url, tmp_path):
    image = FakeImage(SHAPE)
    with (
        LabelStore.create(url, image, LEGEND) as there,
        LabelStore.create(tmp_path / "here.zarr", image, LEGEND) as here,
    ):
        for store in (there, here):
            store.coarsest_displayed()
            run = store.run_ledger.start_run(RUN)
            for row in range(3):
                store.write(chunk_block(row, 1, 5, SHAPE), run.id, "done")
            assert_levels_consistent(store)
    with LabelStore.open(url) as there, LabelStore.open(here.path) as here:
        np.testing.assert_array_equal(there.read_labels(WHOLE), here.read_labels(WHOLE))
        np.testing.assert_array_equal(there.chunk_status(), here.chunk_status())
        assert there.runs[0].same_settings(here.runs[0])
        assert there.read_labels(WHOLE).any()
        list(export(there, tmp_path / "labels.tif", "cog"))
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / "labels.tif"), here.read_labels(WHOLE)
        )


@pytest.mark.slow
def test_what_is_there_is_not_made_anew(url):
    LabelStore.create(url, FakeImage(SHAPE), LEGEND).close()
    with pytest.raises(StoreError, match="exists already"):
        LabelStore.create(url, FakeImage(SHAPE), LEGEND)
    other = url.replace(".zarr", ".txt")
    with fsspec.open(f"{other}/notes", "w") as file:
        file.write("mine")
    with pytest.raises(StoreError, match="exists already"):
        LabelStore.create(other, FakeImage(SHAPE), LEGEND)
    with pytest.raises(StoreError, match="is not a label store"):
        LabelStore.open(other)
    with pytest.raises(StoreError, match="does not exist"):
        LabelStore.open(url.replace(".zarr", "_none.zarr"))


@pytest.mark.slow
def test_a_second_writer_is_refused_and_the_lock_is_released(url):
    limits = Limits(heartbeat_s=0.1, stale_lock_s=60.0)
    with LabelStore.create(url, FakeImage(SHAPE), LEGEND, limits):
        with pytest.raises(StoreError, match="being written by another"):
            LabelStore.open(url, write=True, limits=limits)
        LabelStore.open(url).close()
    before = time.monotonic()
    LabelStore.open(url, write=True, limits=limits).close()
    assert time.monotonic() < before + limits.stale_lock_s


@pytest.mark.slow
def test_a_writer_without_heartbeat_loses_the_lock_and_writes_no_more(url):
    # it looks for another writer after half of this, which is less than that one waits
    suspended = Limits(heartbeat_s=3600, stale_lock_s=QUICK.stale_lock_s * 1.5)
    silent = LabelStore.create(url, FakeImage(SHAPE), LEGEND, suspended)
    run = silent.run_ledger.start_run(RUN)
    silent.write(chunk_block(0, 0, 5, SHAPE), run.id, "done")
    token = silent.issue_write_token()
    with LabelStore.open(url, write=True, limits=QUICK) as next_one:
        assert read_write_token(next_one.path) != token
        with pytest.raises(StoreError, match="taken over"):
            silent.write(chunk_block(1, 0, 5, SHAPE), run.id, "done")
        silent.close()
        next_one.write(chunk_block(2, 0, 5, SHAPE), run.id, "done")
        done = [[1, 0], [0, 0], [1, 0]]
        np.testing.assert_array_equal(next_one.chunk_status() & 3, done)
    LabelStore.open(url, write=True, limits=QUICK).close()


@pytest.mark.slow
def test_one_of_many_concurrent_writers_gets_the_lock(url):
    LabelStore.create(url, FakeImage(SHAPE), LEGEND, QUICK).close()
    opened, refused = [], []

    def want() -> None:
        try:
            opened.append(LabelStore.open(url, write=True, limits=QUICK))
        except StoreError as error:
            refused.append(error)

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(opened), len(refused)) == (1, 5)
    opened[0].close()


def test_a_server_that_lets_two_make_one_object_is_refused(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    pipe = MemoryFileSystem.pipe_file
    url = f"{MEMORY}/careless.zarr"
    LabelStore.create(url, FakeImage(SHAPE), LEGEND).close()
    monkeypatch.setattr(
        MemoryFileSystem,
        "pipe_file",
        lambda self, path, value, mode="overwrite", **_: pipe(self, path, value),
    )
    with pytest.raises(StoreError, match="cannot be written safely"):
        LabelStore.open(url, write=True)


@pytest.mark.slow
def test_corrections_are_seen_there_but_made_on_a_disk(tmp_path, bucket):
    path = tmp_path / "painted.zarr"
    stroke = Stroke(Roi(900, 750, 300, 300), np.ones((300, 300), bool),
                    np.full((300, 300), 2, np.uint8))  # fmt: skip
    with (
        LabelStore.create(path, FakeImage(SHAPE), LEGEND) as store,
        Corrections.open(store) as corrections,
    ):
        corrections.apply(stroke)
        counts = corrections.counts()
    fsspec.filesystem("s3").put(str(path), f"{bucket}/painted.zarr", recursive=True)
    with LabelStore.open(f"{bucket}/painted.zarr") as store:
        assert (store.read_labels(stroke.roi) == 2).all()
        with Corrections.open(store, write=False) as corrections:
            assert corrections.counts() == counts == {2: 90_000}
        with pytest.raises(StoreError, match="cannot be written") as told:
            Corrections.open(store)
        assert "Copy the store" in told.value.hint


# -- images -------------------------------------------------------------------


class Ranges(SimpleHTTPRequestHandler):
    """Files with parts of them, as real web servers give them."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted, path = self.headers.get("Range"), Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        end = int(first) + len(part) - 1
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def web(tmp_path):
    """The URL of a web server, and the folder that it shows."""
    handler = partial(Ranges, directory=tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # who asks may hang up
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def files(tmp_path) -> Path:
    """One picture as OME-Zarr, as a pyramid in a TIFF, and as a GeoTIFF."""
    import rasterio

    data = np.random.default_rng(0).integers(0, 255, (1500, 1100, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "plain.tif") as file:
        options = {"tile": (256, 256), "photometric": "rgb"}
        file.write(data, subifds=1, **options)
        file.write(data[::2, ::2], subfiletype=1, **options)
    with rasterio.open(
        tmp_path / "geo.tif", "w", driver="GTiff", width=1100, height=1500, count=3,
        dtype="uint8", tiled=True, compress="deflate", crs="EPSG:32632", nodata=0,
        transform=rasterio.Affine(0.5, 0, 691000, 0, -0.5, 5336000),
    ) as file:  # fmt: skip
        file.write(data.transpose(2, 0, 1))
        file.set_band_description(2, "near infrared")
    group = zarr.open_group(tmp_path / "scene.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=data.transpose(2, 0, 1), chunks=(3, 512, 512))
    axes = [{"name": "c", "type": "channel"},
            *({"name": n, "type": "space", "unit": "meter"} for n in "yx")]  # fmt: skip
    scale = {"type": "scale", "scale": [1, 0.5, 0.5]}
    levels = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": levels}],
    }
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scene.zarr", "plain.tif", "geo.tif"])
@pytest.mark.parametrize("server", ["s3", "web"])
def test_an_image_at_a_url_is_the_one_on_disk(files, bucket, web, name, server):
    here = open_image(files / name)
    url = f"{web}/{name}"
    if server == "s3":
        url = f"{bucket}/{name}"
        fsspec.filesystem("s3").put(str(files / name), url, recursive=True)
    there = open_image(url)
    for roi in (Roi(-50, 700, 600, 600), Roi(1000, 0, 500, 1100)):
        np.testing.assert_array_equal(there.read(roi).data, here.read(roi).data)
        np.testing.assert_array_equal(there.read(roi).valid, here.read(roi).valid)
    for what in ("name", "shape", "fingerprint", "pixel_size", "unit", "crs", "affine",
                 "rgb", "bands", "downsamples"):  # fmt: skip
        assert getattr(there, what) == getattr(here, what), what
    assert str(there.path) == url


@pytest.mark.slow
def test_urls_that_lead_nowhere_are_told(bucket, web, files):
    (files / "picture.png").write_bytes(b"png")
    for url, words in {
        f"{bucket}/none.zarr": "does not exist",
        f"{web}/none.tif": "does not exist",
        "s3://no-such-bucket/scene.zarr": "does not exist",
        "http://127.0.0.1:9/scene.zarr": "does not exist",
        "nowhere://scene.zarr": "cannot be reached",
        f"{web}/picture.png": "only OME-Zarr and TIFF",
    }.items():
        with pytest.raises(OpenError, match=words):
            open_image(url)
    with pytest.raises(StoreError, match="cannot be"):
        LabelStore.create(f"{web}/labels.zarr", FakeImage(SHAPE), LEGEND)


def test_file_urls_are_paths(files):
    assert open_image(f"file://{files}/plain.tif").path == files / "plain.tif"


def test_credentials_in_a_url_are_neither_stored_nor_shown(files, web, tmp_path):
    image = open_image(web.replace("//", "//user:word@") + "/plain.tif")
    store = tmp_path / "labels.zarr"
    with LabelStore.create(store, image, LEGEND) as labels:
        assert labels.info.path == f"{web}/plain.tif"
    assert "word" not in (store / "zarr.json").read_text()
    with pytest.raises(OpenError, match="does not exist") as error:
        open_image(web.replace("//", "//user:word@") + "/none.tif")
    assert "word" not in str(error.value)


@pytest.mark.parametrize("name", ["plain.tif", "geo.tif"])
def test_url_with_a_query(files, web, name):
    image = open_image(f"{web}/{name}?sig=abc&page=1")
    assert image.name == f"{name}?page=1"
    assert image.fingerprint == open_image(files / name).fingerprint
    assert image.pixel_size == open_image(files / name).pixel_size


@pytest.mark.slow
def test_one_band_geotiff_at_a_url(web, tmp_path):
    import rasterio

    data = np.full((1, 64, 48), -9999.9, np.float32)
    data[:, :32] = 1
    with rasterio.open(
        tmp_path / "dem.tif", "w", driver="GTiff", width=48, height=64, count=1,
        dtype="float32", crs="EPSG:32633", nodata=-9999.9,
        transform=rasterio.Affine(2, 0, 691000, 0, -2, 5336000),
    ) as file:  # fmt: skip
        file.write(data)
    image = open_image(f"{web}/dem.tif")
    assert image.pixel_size == (2, 2)
    assert "33N" in image.crs
    assert image.read(Roi(0, 0, 64, 48)).valid.mean() == 0.5


@pytest.mark.slow
def test_pages_of_a_geotiff_at_a_url_are_images(web, tmp_path):
    import rasterio

    data = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    with rasterio.open(
        tmp_path / "pages.tif", "w", driver="GTiff", width=48, height=64, count=1,
        dtype="uint16", crs="EPSG:32633",
        transform=rasterio.Affine(2, 0, 691000, 0, -2, 5336000),
    ) as file:  # fmt: skip
        file.write(data[None])
    with tifffile.TiffWriter(tmp_path / "pages.tif", append=True) as file:
        file.write(data + 1000, photometric="minisblack", metadata=None)
    for number in (None, 0, 1):
        here, there = (
            open_image(f"{where}/pages.tif", series=number) for where in (tmp_path, web)
        )
        np.testing.assert_array_equal(
            there.read(Roi(0, 0, 64, 48)).data[..., 0], data + 1000 * (number or 0)
        )
        for what in ("planes", "fingerprint", "crs", "pixel_size", "warnings"):
            assert getattr(there, what) == getattr(here, what), what
    with pytest.raises(OpenError, match="no image number 2"):
        open_image(f"{web}/pages.tif", series=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scene.zarr.zip", "scene.zarr.zip?sig=1"])
def test_zip_file_of_ome_zarr_at_a_url(files, web, name):
    shutil.make_archive(str(files / "scene.zarr"), "zip", files, "scene.zarr")
    here, there = open_image(files / "scene.zarr"), open_image(f"{web}/{name}")
    roi = Roi(1000, 0, 500, 1100)
    np.testing.assert_array_equal(there.read(roi).data, here.read(roi).data)
    assert there.pixel_size == here.pixel_size
    with pytest.raises(OpenError, match="does not exist"):
        open_image(f"{web}/none.zarr.zip")


def test_number_sign_is_a_part_of_the_name_at_a_url(files, web):
    shutil.copy(files / "plain.tif", files / "plain#1.tif")
    assert open_image(f"{web}/plain#1.tif").shape == (1500, 1100)


@pytest.mark.slow
def test_server_without_parts_of_files_is_reported(files):
    handler = partial(SimpleHTTPRequestHandler, directory=files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(OpenError, match="does not give parts") as error:
            open_image(f"http://127.0.0.1:{server.server_port}/plain.tif")
        assert "range requests" in error.value.hint
    finally:
        server.shutdown()
        server.server_close()
