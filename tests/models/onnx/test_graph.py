"""Structure of ONNX files, and files that are refused."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.onnx_networks import DEEPNESS, export, small_network
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.onnx.graph import read_graph

FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    return export(small_network(), folder / "net.onnx", DEEPNESS)


def model_of(*nodes: onnx.NodeProto, **parts: object) -> onnx.ModelProto:
    """Return a model with these operators, from ``x`` to ``y``."""
    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, shape)],
    )
    domains = {node.domain for node in nodes} | {""}
    opsets = [helper.make_opsetid(domain, 17) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, **parts)


def weighted(path, location: str | None = None) -> None:
    """Write a network that adds weights, in a file of this name if one is given."""
    model = model_of(helper.make_node("Add", ["x", "w"], ["y"]))
    weights = numpy_helper.from_array(np.ones((1, 3, 8, 8), np.float32), "w")
    model.graph.initializer.append(weights)
    if location is None:
        onnx.save(model, path)
        return
    onnx.save(model, path, save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip
    written = onnx.load(path, load_external_data=False)
    (tensor,) = written.graph.initializer
    (place,) = (e for e in tensor.external_data if e.key == "location")
    place.value = location
    path.write_bytes(written.SerializeToString())


def test_structure_equals_that_of_the_onnx_library(network):
    found, model = read_graph(network), onnx.load(network)
    (value,) = model.graph.input
    assert [v.name for v in found.inputs] == [value.name]
    assert found.inputs[0].sizes == (None, 3, None, None)
    assert found.outputs[0].sizes[1] == 3
    assert found.outputs[0].dtype == "float32"
    assert found.last == model.graph.node[-1].op_type
    assert found.metadata == {e.key: e.value for e in model.metadata_props}
    assert found.producer == model.producer_name
    assert (found.files, found.size) == ((network,), network.stat().st_size)


def test_weights_among_the_inputs_are_no_inputs(tmp_path):
    weighted(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [1, 3, 8, 8]))
    onnx.save(model, tmp_path / "net.onnx")
    assert [v.name for v in read_graph(tmp_path / "net.onnx").inputs] == ["x"]


def test_operators_of_libraries_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    own = helper.make_node("Blur", ["x"], ["y"], domain="acme")
    onnx.save(model_of(own), path)
    with pytest.raises(CheckpointError, match="library: acme"):
        read_graph(path)
    body = helper.make_graph(
        [helper.make_node("Blur", ["x"], ["z"], domain="acme")],
        "body",
        [],
        [helper.make_tensor_value_info("z", FLOAT, None)],
    )
    inside = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    onnx.save(model_of(inside), path)
    with pytest.raises(CheckpointError, match="library: acme"):
        read_graph(path)
    context = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")
    onnx.save(model_of(context), path)
    with pytest.raises(CheckpointError, match="reads other files"):
        read_graph(path)


def test_functions_in_the_file_are_no_libraries(tmp_path):
    function = helper.make_function(
        "acme", "Blur", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    own = helper.make_node("Blur", ["x"], ["y"], domain="acme")
    onnx.save(model_of(own, functions=[function]), tmp_path / "net.onnx")
    assert read_graph(tmp_path / "net.onnx").last == "Blur"


def test_weights_beside_the_network_belong_to_it(tmp_path):
    weighted(tmp_path / "net.onnx", "w.bin")
    found = read_graph(tmp_path / "net.onnx")
    assert found.files == (tmp_path / "net.onnx", tmp_path / "w.bin")
    assert found.size == sum(file.stat().st_size for file in found.files)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(CheckpointError, match=r"in w\.bin, which is missing"):
        read_graph(tmp_path / "net.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link", ""])
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(4096))
    os.symlink(tmp_path / "secret", folder / "link")
    weighted(folder / "net.onnx", location)
    with pytest.raises(CheckpointError, match="outside its folder"):
        read_graph(folder / "net.onnx")


def test_damaged_files_raise_checkpoint_errors(network, tmp_path):
    data, path = network.read_bytes(), tmp_path / "net.onnx"
    noise = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        bad = bytearray(data[: noise.integers(1, len(data) + 1)])
        for at in noise.integers(0, len(bad), 3):
            bad[at] = noise.integers(256)
        path.write_bytes(bad)
        try:
            read_graph(path)
        except CheckpointError:
            refused += 1
    assert refused > 50
    for content in (b"", b"\xff" * 4096, b"PK\x03\x04" + bytes(999)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            read_graph(path)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        read_graph(tmp_path / "none.onnx")


def test_deep_graphs_are_refused(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"])
    for _ in range(20):
        body = helper.make_graph([node], "g", [], [])
        node = helper.make_node("If", ["c"], ["y"], then_branch=body)
    onnx.save(model_of(node), tmp_path / "net.onnx")
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read_graph(tmp_path / "net.onnx")
