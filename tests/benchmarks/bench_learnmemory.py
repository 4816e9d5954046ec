"""Peak memory of learning under budgets, above what its process held just before it.

Networks of a researcher's size on noise, some steps each, fp32: from a budget
that holds the whole batch down to one that refuses.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import MB, added, child
from rich.table import Table

NETWORKS = {
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
BUDGETS = (8.0, 2.0, 1.0)  # GB
STEPS = 2  # by then the optimiser has its moments


def run(image: Path | None, checkpoint: Path | None) -> Table:
    del image, checkpoint
    table = Table("network", "budget", "how", "measured", "CPU seconds a step")
    table.title = "Peak memory of training on the CPU, a process each"
    for name, (method, arguments, batch) in NETWORKS.items():
        for budget in BUDGETS:
            found = child(__file__, json.dumps([method, arguments, batch, budget]))
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


def main(said: str) -> None:
    import numpy as np

    from napari_uhrseg.engine.data.scenes import Scene, Scenes
    from napari_uhrseg.engine.events import Fitted, Progress
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.engine.training.train import TrainSettings, train
    from napari_uhrseg.errors import DeviceError
    from napari_uhrseg.io.image.from_array import image_from_array
    from napari_uhrseg.types import LabelClass, Legend

    method, arguments, batch, budget = json.loads(said)
    legend = Legend(tuple(LabelClass(n + 1, f"class {n}", "#000000") for n in range(7)))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2048, 2048, 3), np.uint8)
    image = image_from_array(pixels, name="noise", rgb=True)
    source = Scenes(legend, (Scene("noise", image, Classes()),))
    settings = TrainSettings(
        method, arguments, steps=STEPS, batch_size=batch, device="cpu", precision="fp32"
    )
    limit = MemoryBudget("cpu", int(budget * 1024 * MB), 1024 * MB)
    told: dict[str, object] = {"how": "", "seconds": 0}
    with tempfile.TemporaryDirectory() as folder, added() as mb:
        start = time.process_time()
        try:
            output = Path(folder) / "c.safetensors"
            for event in train(source, output, settings, limit):
                match event:
                    case Fitted(how, _):
                        told["how"] = how
                        start = time.process_time()
                    case Progress(done, _, _):
                        told["seconds"] = (time.process_time() - start) / done
        except DeviceError as error:
            told["how"] = str(error)
    told["measured"] = mb[0]
    print(json.dumps(told))


class Classes:
    """Of noise: every column of 8 pixels is of the next class."""

    def read(self, roi: Any) -> Any:
        import numpy as np

        columns = np.arange(roi.x, roi.x + roi.width) // 8 % 7
        return np.broadcast_to(columns.astype(np.uint8), (roi.height, roi.width)).copy()


if __name__ == "__main__":
    main(*sys.argv[1:])
