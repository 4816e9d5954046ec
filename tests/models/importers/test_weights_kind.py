"""Test of the kind of a file of weights."""

import zipfile

from napari_uhrseg.models.importers.weights_kind import kind_of


def test_archive_of_an_unknown_version_is_no_network(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", b"")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 6] = 255  # version needed to extract
    path.write_bytes(content)
    assert not kind_of(path).is_whole_network
