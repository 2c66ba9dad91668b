"""Augment training images. All randomness comes from the given generator, so the result follows from the image's key alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageOps

from espnetv2.training.recipe import Augmentation

Generator = np.random.Generator
Mask = npt.NDArray[np.uint8]
OUTSIDE = 256
"""Label of padding beyond the image's edge. It does not occur in masks."""
_ERASED_AREA = (0.02, 0.25)


def vary_for_segmentation(
    picture: Image.Image,
    mask: Mask,
    size: tuple[int, int],
    options: Augmentation,
    rng: Generator,
    *,
    stretched: tuple[int, int] | None = None,
) -> tuple[Image.Image, npt.NDArray[np.int64]]:
    """Scale, crop and flip an image together with its mask, and jitter its colours.

    Only the crop is resampled. If the scaled image is smaller than the crop, it is padded with black, labelled ``OUTSIDE``.

    Args:
        picture: of any size.
        mask: class of every pixel, of any size, covering the same view.
        size: height and width of the result.
        options: the augmentation.
        rng: source of randomness.
        stretched: height and width of the whole image at scale 1, if not ``size``.
    """
    height, width = size
    scale = _draw_scale(options, rng)
    whole = size if stretched is None else stretched
    reference = (whole[1], whole[0]) if options.scale_of == "input" else picture.size
    scaled = (max(1, round(reference[0] * scale)), max(1, round(reference[1] * scale)))
    seen = (min(width, scaled[0]), min(height, scaled[1]))
    corner = (int(rng.integers(scaled[0] - seen[0] + 1)), int(rng.integers(scaled[1] - seen[1] + 1)))
    offset = (int(rng.integers(width - seen[0] + 1)), int(rng.integers(height - seen[1] + 1)))
    shares = (
        corner[0] / scaled[0],
        corner[1] / scaled[1],
        (corner[0] + seen[0]) / scaled[0],
        (corner[1] + seen[1]) / scaled[1],
    )
    image = picture.resize(seen, Image.Resampling.BILINEAR, box=_box(picture.size, shares))
    labels = Image.fromarray(mask)
    labels = labels.resize(seen, Image.Resampling.NEAREST, box=_box(labels.size, shares))
    mirrored = options.flip and rng.random() < 0.5
    # Before padding: contrast is relative to the mean, which must be that of the image alone.
    image, target = _padded(vary_colour(image, options.colour, rng), np.asarray(labels), size, offset)
    return (ImageOps.mirror(image), target[:, ::-1].copy()) if mirrored else (image, target)


def vary_for_classification(picture: Image.Image, size: tuple[int, int], options: Augmentation, rng: Generator) -> Image.Image:
    """Take a random crop, flip it and jitter its colours; then apply the other augmentations that are enabled."""
    height, width = size
    box = _random_part(picture.size, options, rng)
    image = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    if options.flip and rng.random() < 0.5:
        image = ImageOps.mirror(image)
    image = vary_colour(image, options.colour, rng)
    if options.trivial_augment:
        image = _trivial_augment(image, int(rng.integers(2**63 - 1)))
    if options.erase and rng.random() < options.erase:
        image = _erased(image, rng)
    return image


def vary_colour(image: Image.Image, strength: float, rng: Generator) -> Image.Image:
    """Change brightness, contrast and saturation, each by a factor within 1 ± ``strength``."""
    if strength == 0:
        return image
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(float(rng.uniform(1 - strength, 1 + strength)))
    return image


def _draw_scale(options: Augmentation, rng: Generator) -> float:
    low, high = options.scale
    if options.log_scale:
        return math.exp(float(rng.uniform(math.log(low), math.log(high))))
    return float(rng.uniform(low, high))


def _box(size: tuple[int, int], shares: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return shares[0] * size[0], shares[1] * size[1], shares[2] * size[0], shares[3] * size[1]


def _padded(
    image: Image.Image, labels: Mask, size: tuple[int, int], offset: tuple[int, int]
) -> tuple[Image.Image, npt.NDArray[np.int64]]:
    canvas = Image.new(image.mode, (size[1], size[0]))
    canvas.paste(image, offset)
    target = np.full(size, OUTSIDE, np.int64)
    target[offset[1] : offset[1] + image.height, offset[0] : offset[0] + image.width] = labels
    return canvas, target


def _random_part(size: tuple[int, int], options: Augmentation, rng: Generator) -> tuple[float, float, float, float]:
    low, high = options.aspect
    for _ in range(10):
        area = size[0] * size[1] * float(rng.uniform(*options.scale))
        aspect = math.exp(float(rng.uniform(math.log(low), math.log(high))))
        width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if width <= size[0] and height <= size[1]:
            left, top = float(rng.uniform(0, size[0] - width)), float(rng.uniform(0, size[1] - height))
            return left, top, left + width, top + height
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return left, top, left + side, top + side


def _trivial_augment(image: Image.Image, seed: int) -> Image.Image:
    from torchvision.transforms.v2 import InterpolationMode, TrivialAugmentWide

    # torchvision uses torch's global generator. Seeding those of all devices takes as long as the augmentation itself.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        varied: Image.Image = TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)(image)
    return varied


def _erased(image: Image.Image, rng: Generator) -> Image.Image:
    area = image.width * image.height * float(rng.uniform(*_ERASED_AREA))
    aspect = math.exp(float(rng.uniform(-1, 1)))
    width = min(image.width, max(1, round(math.sqrt(area * aspect))))
    height = min(image.height, max(1, round(math.sqrt(area / aspect))))
    pixels = np.array(image)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    pixels[top : top + height, left : left + width] = rng.integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels)
