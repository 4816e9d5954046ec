import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uhrseg.engine.tiling.confidence import labels_and_confidence
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.engine.tiling.window_merge import (
    SumMemory,
    WindowMerger,
    make_merger,
    window_weights,
)
from napari_uhrseg.types import Roi

CPU = torch.device("cpu")


def merge_all(grid, region, logits, merge, overlap):
    weights = window_weights(grid.side, overlap, merge)
    classes = next(iter(logits.values())).shape[0]
    merger = make_merger(grid, region, classes, weights, CPU)
    windows = list(grid.touching(region))
    for first in range(0, len(windows), 3):  # in batches
        some = windows[first : first + 3]
        merger.add(some, torch.stack([logits[w] for w in some]))
    return merger.finish()


@pytest.mark.slow
@settings(max_examples=30)
@given(
    st.integers(20, 150),
    st.integers(20, 150),
    st.integers(8, 48),
    st.sampled_from(["uniform", "taper"]),
    st.data(),
)
def test_merged_block_equals_whole_image(h, w, window, how, data):
    overlap = data.draw(st.just(0) | st.integers(0, window - 1))
    grid = WindowGrid.make((h, w), window, overlap, "shift")
    torch.manual_seed(h * w)
    everything = Roi(0, 0, h, w)
    logits = {r: torch.randn(4, window, window) for r in grid.touching(everything)}
    labels, confidence = merge_all(grid, everything, logits, how, overlap)
    y, x = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    block = Roi(
        y, x, data.draw(st.integers(1, h - y)), data.draw(st.integers(1, w - x))
    )
    mine, sure = merge_all(grid, block, logits, how, overlap)
    np.testing.assert_array_equal(mine, labels[block.slices])
    np.testing.assert_array_equal(sure, confidence[block.slices])


def test_merger_is_weighted_mean_of_logits():
    grid = WindowGrid.make((30, 70), 30, 10, "shift")
    whole = Roi(0, 0, 30, 70)
    torch.manual_seed(1)
    logits = {r: torch.randn(3, 30, 30) for r in grid.touching(whole)}
    weights = window_weights(30, 10, "taper")
    total, count = torch.zeros(3, 30, 70), torch.zeros(30, 70)
    for roi, one in logits.items():
        total[:, :, roi.x : roi.right] += one * weights
        count[:, roi.x : roi.right] += weights
    labels, confidence = merge_all(grid, whole, logits, "taper", 10)
    mean = total / count
    np.testing.assert_array_equal(labels, mean.argmax(0).numpy())
    top = mean.softmax(0).sort(dim=0, descending=True).values
    expected = (1 + 254 * (top[0] - top[1])).round().numpy()
    assert abs(confidence.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("how", ["uniform", "taper"])
def test_layout_of_logits_and_used_memory_do_not_change_the_merged_bits(how):
    grid = WindowGrid.make((50, 70), 30, 10, "shift")
    windows = list(grid.touching(Roi(0, 0, 50, 70)))
    torch.manual_seed(1)
    logits = torch.randn(len(windows), 5, 30, 30)
    weights, memory = window_weights(30, 10, how), SumMemory()
    results = []
    # the second block is smaller, and the last one needs more memory than is spare
    for region in (Roi(0, 0, 50, 70), Roi(3, 5, 40, 60), Roi(0, 0, 50, 70)):
        for some in (
            logits,
            logits.contiguous(memory_format=torch.channels_last),
            list(logits.contiguous(memory_format=torch.channels_last)),
        ):
            merger = WindowMerger(region, 5, weights, CPU, memory)
            merger.add(windows, some)
            found = merger.finish()
            merger.release()
            results.append((region.slices, found))
    whole = results[0][1]
    for at, found in results:
        for mine, expected in zip(found, whole, strict=True):
            np.testing.assert_array_equal(mine, expected[at])


def test_memory_of_a_finished_block_is_used_again():
    memory = SumMemory()
    first = memory.zeros(20, CPU)
    first += 1
    memory.give_back(first)
    again = memory.zeros(15, CPU)
    assert again.data_ptr() == first.data_ptr()
    assert not again[:15].any()
    assert memory.zeros(15, CPU).data_ptr() != first.data_ptr()
    memory.give_back(again)
    assert len(memory.zeros(21, CPU)) == 21


def test_taper_weights_of_neighbours_sum_to_constant():
    weights = window_weights(40, 12, "taper")
    row = weights[20]
    torch.testing.assert_close(row[-12:] + row[:12], torch.ones(12))
    assert (weights > 0).all()


def test_confidence_of_single_class_is_maximum():
    merger = WindowMerger(Roi(0, 0, 8, 8), 1, torch.ones(8, 8), CPU)
    merger.add([Roi(0, 0, 8, 8)], torch.zeros(1, 1, 8, 8))
    labels, confidence = merger.finish()
    assert (labels == 0).all()
    assert (confidence == 255).all()


def test_one_class_is_everywhere_with_full_confidence():
    labels, confidence = labels_and_confidence(torch.randn(1, 5, 6))
    assert labels.shape == confidence.shape == (5, 6)
    assert (labels == 0).all()
    assert (confidence == 255).all()


def test_labels_of_many_rows_are_those_of_each_row():
    torch.manual_seed(0)
    logits = torch.randn(3, 70, 50)
    labels, confidence = labels_and_confidence(logits)
    rows = [labels_and_confidence(logits[:, i : i + 1]) for i in range(70)]
    np.testing.assert_array_equal(labels, np.concatenate([r[0] for r in rows]))
    np.testing.assert_array_equal(confidence, np.concatenate([r[1] for r in rows]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_and_confidence_are_those_of_softmax(dtype, layout, weighted):
    torch.manual_seed(0)
    logits = (4 * torch.randn(1, 11, 300, 200)).to(dtype).to(memory_format=layout)[0]
    weights = torch.rand(300, 200) + 0.5 if weighted else None
    labels, confidence = labels_and_confidence(logits, weights)
    divided = logits.double() / (1 if weights is None else weights)
    first, second = divided.softmax(0).topk(2, 0).values
    clear = (first > second).numpy()
    np.testing.assert_array_equal(labels[clear], divided.argmax(0).numpy()[clear])
    assert np.abs(confidence - (1 + 254 * (first - second)).numpy()).max() < 0.51
    back = labels_and_confidence(logits.flip(0), weights)
    np.testing.assert_array_equal(10 - back[0][clear], labels[clear])


@pytest.mark.parametrize("classes", [2, 11])
def test_windows_labelled_together_have_the_labels_of_each(classes):
    torch.manual_seed(0)
    grid = WindowGrid.make((192, 320), 64, 0, "shift")
    region = Roi(32, 32, 160, 250)  # cuts through windows at the top and the sides
    windows = list(grid.touching(region))
    logits = list(torch.randn(len(windows), classes, 64, 64))
    merger = make_merger(grid, region, classes, torch.ones(64, 64), CPU)
    for first in (0, 7, 8):
        some = slice(first, {0: 7, 7: 8}.get(first))
        merger.add(windows[some], logits[some])
    for window, one in zip(windows, logits, strict=True):
        common = window.intersect(region)
        here = common.shift(-region.y, -region.x).slices
        there = common.shift(-window.y, -window.x).slices
        alone = labels_and_confidence(one)
        for whole, part in zip(merger.finish(), alone, strict=True):
            np.testing.assert_array_equal(whole[here], part[there])


def test_ties_have_the_lower_class_and_the_least_confidence():
    labels, confidence = labels_and_confidence(torch.zeros(4, 6, 7))
    assert (labels == 0).all()
    assert (confidence == 1).all()


def test_pixels_without_a_window_have_no_confidence():
    weights = torch.ones(6, 7)
    weights[2:] = 0
    logits = torch.zeros(3, 6, 7)
    logits[1, :2] = 4
    labels, confidence = labels_and_confidence(logits, weights)
    assert (labels[:2] == 1).all()
    assert (confidence[:2] > 200).all()
    assert (confidence[2:] == 0).all()
