"""Label views by napari-convpaint; runs in an environment that has it.

Each line of the input is a folder. It has pixels.npy (height, width, 3) and given.npy
(height, width; 0: no dab), and gets found.npy.
"""

import sys
from pathlib import Path

import numpy as np
from napari_convpaint.convpaint_model import ConvpaintModel

answers, sys.stdout = sys.stdout, sys.stderr  # the model prints
print("ready", file=answers, flush=True)
for line in sys.stdin:
    folder = Path(line.strip())
    image = np.moveaxis(np.load(folder / "pixels.npy"), -1, 0)
    given = np.load(folder / "given.npy").astype(np.uint8)
    model = ConvpaintModel(alias="gaussian")
    model.set_params(channel_mode="rgb", fe_scalings=[1, 2, 4])
    model.train(image, given)
    np.save(folder / "found.npy", np.asarray(model.segment(image)).astype(np.uint8))
    print("done", file=answers, flush=True)
