"""Errors show no credentials."""

import pytest

from napari_uhrseg.errors import OpenError, without_credentials


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://u:p@h.org/a.tif", "http://h.org/a.tif"),
        ("s3://key:secret@bucket/a@b.tif", "s3://bucket/a@b.tif"),
        ("zip://a::http://u:p@h/x.zip", "zip://a::http://h/x.zip"),
        ("https://h/a.tif?sv=1&sig=ab%2F", "https://h/a.tif?sv=1"),
        ("https://h/a.tif?X-Amz-Signature=1&X-Amz-Date=2", "https://h/a.tif"),
        ("https://h/get?file=a.tif&token=x#top", "https://h/get?file=a.tif#top"),
        ("/data/what?.tif and mail@home", "/data/what?.tif and mail@home"),
    ],
)
def test_credentials_are_removed_from_urls(text, expected):
    assert without_credentials(text) == expected
    error = OpenError(f"{text} is missing.", f"Look at {text} again.")
    assert str(error) == f"{expected} is missing. Look at {expected} again."
