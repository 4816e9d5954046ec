"""Measure the peak memory of training within budgets, above that before the training.

Networks of the usual size learn noise in fp32, some steps each: from a budget for the
whole batch down to one that is too small.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import MB, added, child
from rich.table import Table

Network = tuple[str, dict[str, Any], int]  # method, arguments, batch size

NETWORKS: dict[str, Network] = {
    "U-Net on ResNet-34, windows of 512": (
        "plain", {"architecture": "Unet", "encoder": "resnet34", "window": 512}, 4
    ),
    "EHSNet on HRNet-W18, crops of 512": (
        "ehsnet", {"encoder": "hrnet_w18", "window": 512}, 4
    ),
    "ISDNet on ResNet-18, crops of 512": (
        "isdnet", {"encoder": "resnet18", "window": 512}, 4
    ),
}  # fmt: skip
SMALL: dict[str, Network] = {
    "U-Net on MobileNetV4": (
        "plain", {"encoder": "tu-mobilenetv4_conv_small_050", "window": 64}, 2
    )
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Networks, budgets in GB, steps, and the side of the image in pixels."""

    networks: Mapping[str, Network]
    budgets: tuple[float, ...] = (8.0, 2.0, 1.0)
    steps: int = 2  # the optimiser has its moments after the first
    side: int = 2048


FULL, TINY = Size(NETWORKS), Size(SMALL, (2.0,), 1, 128)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Train every network within every budget; takes no files."""
    del image, checkpoint
    table = Table("network", "budget", "how", "measured", "CPU seconds a step")
    table.title = "Peak memory of training on the CPU, a process each"
    for name, (method, arguments, batch) in size.networks.items():
        for budget in size.budgets:
            task = [method, arguments, batch, budget, size.steps, size.side]
            found = child(__file__, json.dumps(task))
            over = " over" if found["measured"] > budget * 1024 else ""
            row = (
                name,
                f"{budget:g} GB",
                found["how"],
                f"{found['measured']:.0f} MB{over}",
                f"{found['seconds']:.1f}",
            )
            print(*row, flush=True)  # it takes long
            table.add_row(*row)
    return table


def main(task: str) -> None:
    """Print how it was trained, the memory in MB and the seconds a step, as JSON."""
    import numpy as np

    from napari_uhrseg.engine.data.scenes import Scene, SceneDataset
    from napari_uhrseg.engine.events import MemoryPlanned, Progress
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.engine.training.train import TrainSettings, train
    from napari_uhrseg.errors import DeviceError
    from napari_uhrseg.io.image.from_array import image_from_array
    from napari_uhrseg.types import LabelClass, Legend

    method, arguments, batch, budget, steps, side = json.loads(task)
    legend = Legend(tuple(LabelClass(n + 1, f"class {n}", "#000000") for n in range(7)))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (side, side, 3), np.uint8)
    image = image_from_array(pixels, name="noise", rgb=True)
    source = SceneDataset(legend, (Scene("noise", image, Classes()),))
    settings = TrainSettings(
        method, arguments, steps=steps, batch_size=batch, device="cpu",
        precision="fp32", pretrained=False,
    )  # fmt: skip
    limit = MemoryBudget("cpu", int(budget * 1024 * MB), 1024 * MB)
    figures: dict[str, object] = {"how": "", "seconds": 0}
    with tempfile.TemporaryDirectory() as folder, added() as mb:
        start = time.process_time()
        try:
            output = Path(folder) / "c.safetensors"
            for event in train(source, output, settings, limit):
                match event:
                    case MemoryPlanned(how, _):
                        figures["how"] = how
                        start = time.process_time()
                    case Progress(done, _, _):
                        figures["seconds"] = (time.process_time() - start) / done
        except DeviceError as error:
            figures["how"] = str(error)
    figures["measured"] = mb[0]
    print(json.dumps(figures))


class Classes:
    """Classes of noise: every column of 8 pixels is of the next class."""

    def read(self, roi: Any) -> Any:
        """Return the class numbers of the rectangle, as uint8."""
        import numpy as np

        columns = np.arange(roi.x, roi.x + roi.width) // 8 % 7
        return np.broadcast_to(columns.astype(np.uint8), (roi.height, roi.width)).copy()


if __name__ == "__main__":
    main(*sys.argv[1:])
