"""A network of timm and a folder of pictures: trained, pruned in a search, tuned, exported.

pip install timm                                      # brings torchvision, and that its own torch
python examples/timm_images.py                        # handwritten digits; models below runs/timm_images
python examples/timm_images.py flowers resnet18       # your pictures, one folder a class; any network
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import timm
from PIL import Image
from sklearn.datasets import load_digits

from secateur import Finish, ImageFolder, Result, Search, Training


def pictures(folder: Path) -> Path:
    """Write scikit-learn's 1,797 digits as pictures, a folder for each class."""
    digits = load_digits()
    for place, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        file = folder / str(label) / f"{place:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).save(file)
    return folder


def main(
    path: str | Path | None = None,
    name: str = "resnet10t",
    directory: str | Path = "runs/timm_images",
    evaluations: int = 300,
    epochs: int = 6,
) -> Result:
    """Search for smaller variants of a network of timm, and export the best.

    Args:
        path: pictures, one folder a class; without one, digits are written.
        name: of the network, one of ``timm.list_models()``.
        directory: of the run.
        evaluations: candidates in all.
        epochs: of the training of the whole network, and of the tuning of what is exported.
    """
    folder = Path(path) if path else pictures(Path(directory) / "pictures")
    data = ImageFolder(str(folder), size=32)
    network = timm.create_model(name, num_classes=len([*folder.iterdir()]))
    search = Search(
        network,
        data,
        constraints=["macs <= 60%"],
        training=Training(epochs=epochs),
        finish=Finish(members=2, epochs=epochs),
        directory=directory,
    )
    result = search.run(evaluations=evaluations)
    print(result.table())
    return result


if __name__ == "__main__":
    main(*sys.argv[1:3])
