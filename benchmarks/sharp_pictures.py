"""What sharp pictures cost networks that were trained on coarse ones, and what shrinking them first brings back.

Run ``python benchmarks/sharp_pictures.py --data CAMVID``. The Cityscapes weights of this package have only seen pictures of 256
columns. CamVid's have 480, and are 2:1 once top and bottom are cut off; Cityscapes' classes are merged into CamVid's. It is
another country and another camera, so only the difference between the two columns says anything.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from street_data import opened, to_camvid

from espnetv2.data.dataset import SegmentationData
from espnetv2.factory import load_model
from espnetv2.metrics import SegmentationMetrics
from espnetv2.postprocessing import class_map
from espnetv2.weights import load_checkpoint
from espnetv2.weights.catalogue import bundled_folder

MODELS = ("espnetv2_seg_s0_5", "espnetv2_seg_s1_0", "espnetv2_seg_s2_0")
VIEW = (0, 60, 480, 300)


def main() -> None:
    """Measure every model both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CamVid's folder")
    parser.add_argument("--every", type=int, default=2, help="take every so many pictures of the validation split")
    options = parser.parse_args()
    data = opened("camvid", options.data, "val")
    print("| weights | mIoU, as sharp as they are | mIoU, shrunk first |")
    print("|---|---|---|")
    for model in MODELS:
        sharp, shrunk = (measure(model, data, range(0, len(data), options.every), shrink=shrink) for shrink in (False, True))
        print(f"| `{model}.cityscapes_256` | {sharp:.2f} | {shrunk:.2f} |")


def measure(model: str, data: SegmentationData, indices: range, *, shrink: bool) -> float:
    """Mean IoU over CamVid's classes, in percent."""
    checkpoint = load_checkpoint(bundled_folder() / f"{model}.cityscapes_256.safetensors")
    network = load_model(checkpoint).eval()
    preprocessing = checkpoint.info.preprocessing
    if not shrink:
        preprocessing = preprocessing.model_copy(update={"shrink_to": None})
    table = to_camvid(checkpoint.info.classes, data.labels.classes)
    metrics = SegmentationMetrics(data.labels.classes)
    for index in track(indices, model, transient=True):
        picture = data.pairs[index][0].picture().crop(VIEW)
        labels = np.asarray(Image.fromarray(data.mask(index)).crop(VIEW))
        with torch.inference_mode():
            logits = network(torch.from_numpy(preprocessing(picture))[None])[0]
        metrics.update(labels, table[class_map(logits, len(checkpoint.info.classes), labels.shape).numpy()])
    return metrics.summary()["miou"]


if __name__ == "__main__":
    main()
