"""Plots of a run: learning curves and sample predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from espnetv2.data.dataset import LabelledData, SegmentationData, spread
from espnetv2.drawing import at_width, blend, with_caption, with_legend
from espnetv2.figures import new_figure, save_figure
from espnetv2.files import atomic_path
from espnetv2.info import ModelInfo
from espnetv2.postprocessing import class_map, top_classes
from espnetv2.training.folder import Row

if TYPE_CHECKING:
    from espnetv2.training.module import TrainingModule

SAMPLES = 4
WIDTH = 360


def plot_curves(rows: list[Row], metric: str, path: Path) -> None:
    """Loss, metric and learning rate over the steps, one below the other; PNG."""
    steps = [row for row in rows if "val_loss" not in row]
    validations = [row for row in rows if "val_loss" in row]
    figure = new_figure(8.0, 8.0)
    loss, figures, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.5))
    loss.plot(
        [row["step"] for row in steps], [row["train_loss"] for row in steps], color="#b9cfee", lw=0.8, label="train, step"
    )
    at = [row["step"] for row in validations]
    loss.plot(at, [row["train_loss"] for row in validations], color="#3b7dd8", marker=".", label="train, epoch")
    loss.plot(at, [row["val_loss"] for row in validations], color="#d8663b", marker=".", label="validation")
    loss.set_ylabel("loss")
    loss.legend()
    for name in (metric, "pixel_accuracy" if metric == "miou" else "top5"):
        figures.plot(at, [row[name] for row in validations], marker=".", label=f"{name} (last {validations[-1][name]:.1f})")
    figures.set(ylabel="validation, %")
    figures.legend()
    rate.plot([row["step"] for row in steps], [row["lr"] for row in steps], color="#666666")
    rate.set(xlabel="step", ylabel="learning rate")
    for axes in (loss, figures, rate):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


@torch.no_grad()
def draw_samples(module: TrainingModule, data: LabelledData, info: ModelInfo, path: Path) -> None:
    """A few validation images with their predictions, and for segmentation their labels; JPEG."""
    tiles = []
    with module.evaluating() as network:
        for index in spread(SAMPLES, len(data)):
            blob = data.pairs[index][0] if isinstance(data, SegmentationData) else data.items[index][0]
            picture = blob.picture()
            inputs = torch.from_numpy(info.preprocessing(picture))[None].to(module.device, next(network.parameters()).dtype)
            tiles.append(_row(data, index, picture, network(inputs)[0].float(), info))
    sheet = Image.new("RGB", (max(tile.width for tile in tiles), sum(tile.height for tile in tiles)), "white")
    top = 0
    for tile in tiles:
        sheet.paste(tile, (0, top))
        top += tile.height
    if isinstance(data, SegmentationData):
        sheet = with_legend(sheet, list(zip(info.classes, info.palette, strict=True)))
    with atomic_path(path) as partial:
        sheet.save(partial, quality=88)


def _row(data: LabelledData, index: int, picture: Image.Image, logits: torch.Tensor, info: ModelInfo) -> Image.Image:
    small = at_width(picture, WIDTH)
    if not isinstance(data, SegmentationData):
        best, probability = top_classes(logits, len(info.classes), 1)[0]
        label = info.classes[data.items[index][1]]
        return with_caption(small, f"{info.classes[best]} {probability:.0%} (label: {label})")
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(info.palette)] = info.palette
    mask = np.asarray(Image.fromarray(data.mask(index)).resize(small.size, Image.Resampling.NEAREST))
    predicted = class_map(logits, len(info.classes), (small.height, small.width)).cpu().numpy()
    row = Image.new("RGB", (3 * WIDTH, small.height))
    captions = ("image", "label", "prediction")
    for place, (tile, caption) in enumerate(
        zip((small, blend(small, colours, mask), blend(small, colours, predicted)), captions, strict=True)
    ):
        row.paste(with_caption(tile, caption), (place * WIDTH, 0))
    return row
