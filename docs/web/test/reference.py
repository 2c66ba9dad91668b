"""What Python makes of a picture, for the page's tests to compare with.

``reference.py fit WIDTHxHEIGHT WIDTHxHEIGHT [WIDTHxHEIGHT]``: RGBA pixels of the first size on standard input, RGB pixels of
the second, as the network gets them, on standard output; the third is the size that longer sides are shrunk to first.
``reference.py classes MODEL WIDTHxHEIGHT PICTURE``: the class map at the network's input size on standard output.
"""

from __future__ import annotations

import sys

from PIL import Image

from espnetv2.preprocessing import Preprocessing, parse_size


def fit(size: str, fitted: str, shrink_to: str | None = None) -> bytes:
    """RGB pixels (H, W, 3)."""
    height, width = parse_size(size)
    target_height, target_width = parse_size(fitted)
    picture = Image.frombytes("RGBA", (width, height), sys.stdin.buffer.read()).convert("RGB")
    coarse = None if shrink_to is None else parse_size(shrink_to)
    return Preprocessing(height=target_height, width=target_width, shrink_to=coarse).fit_picture(picture).tobytes()


def classes(model: str, size: str, path: str) -> bytes:
    """Class of every pixel (H, W), by PyTorch."""
    from espnetv2.inference.predictor import Predictor
    from espnetv2.inference.sources import open_sources

    predictor = Predictor(model, device="cpu", size=parse_size(size), accelerate=False)
    _, _, logits = next(predictor.outputs(open_sources([path])))
    return predictor.class_map(logits, parse_size(size)).tobytes()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    sys.stdout.buffer.write(fit(*arguments) if command == "fit" else classes(*arguments))
