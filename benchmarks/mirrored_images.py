r"""Measure classification weights on the validation images as they are, and mirrored.

    python benchmarks/mirrored_images.py WEIGHTS... --data imagenette

Twice as many answers tell similar networks apart better.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from espnetv2.acceleration.inference import accelerate
from espnetv2.data.dataset import ClassificationData
from espnetv2.data.layouts import open_dataset
from espnetv2.factory import load_model
from espnetv2.weights import load_checkpoint


def main() -> None:
    """Measure every file and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path, help="checkpoint files")
    parser.add_argument("--data", required=True, type=Path, help="the data set's folder")
    options = parser.parse_args()
    data = open_dataset("imagefolder", options.data, "val")
    assert isinstance(data, ClassificationData)
    print("| weights | top-1 as they are | top-1 mirrored |")
    print("|---|---|---|")
    for path in options.weights:
        plain, mirrored = measure(path, data)
        print(f"| {path} | {plain:.2f} | {mirrored:.2f} |")


def measure(path: Path, data: ClassificationData) -> tuple[float, float]:
    """Top-1 accuracy in percent, on the images and on their mirror images."""
    checkpoint = load_checkpoint(path)
    network, preprocessing = accelerate(load_model(checkpoint).eval()), checkpoint.info.preprocessing
    right = np.zeros(2, int)
    for blob, label in track(data.items, str(path), transient=True):
        image = torch.from_numpy(preprocessing(blob.picture()))
        with torch.inference_mode():
            right += network(torch.stack([image, image.flip(-1)])).argmax(1).numpy() == label
    plain, mirrored = 100 * right / len(data)
    return float(plain), float(mirrored)


if __name__ == "__main__":
    main()
