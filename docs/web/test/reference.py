"""What Python makes of a picture, for the page's tests to compare with.

``reference.py fit WIDTHxHEIGHT WIDTHxHEIGHT``: RGBA pixels of the first size on standard input, the network's input of the second
on standard output.
``reference.py classes MODEL WIDTHxHEIGHT PICTURE``: the class map at the network's input size on standard output.
"""

from __future__ import annotations

import sys

from PIL import Image

from espnetv2.images import read_picture
from espnetv2.preprocessing import Preprocessing, parse_size


def fit(size: str, fitted: str) -> bytes:
    """RGB pixels (H, W, 3)."""
    height, width = parse_size(size)
    target_height, target_width = parse_size(fitted)
    picture = Image.frombytes("RGBA", (width, height), sys.stdin.buffer.read()).convert("RGB")
    return Preprocessing(height=target_height, width=target_width).fit_picture(picture).tobytes()


def classes(model: str, size: str, path: str) -> bytes:
    """Class of every pixel (H, W), by PyTorch."""
    import torch

    from espnetv2 import Predictor

    predictor = Predictor(model, device="cpu", size=parse_size(size), accelerate=False)
    image = torch.from_numpy(predictor.preprocessing(read_picture(path)))
    return predictor.class_map(predictor.logits(image[None])[0], parse_size(size)).tobytes()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    sys.stdout.buffer.write({"fit": fit, "classes": classes}[command](*arguments))
