"""Networks with known parameters, pictures and files that the tests share."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from espnetv2.weights.catalogue import ReleasedWeights, find_weights

GOLDENS = Path(__file__).parent / "goldens"
ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
WEIGHTS = Path(os.environ.get("ESPNETV2_WEIGHTS") or SHARED / "weights")
SAMPLE = ROOT / "examples" / "street.jpg"


def filled(shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Values for an official state dict that follow from each name alone: what the golden outputs were computed with."""
    return {name: torch.from_numpy(_filled_tensor(name, tuple(shape), shapes)) for name, shape in shapes.items()}


def _filled_tensor(name: str, shape: tuple[int, ...], names: Mapping[str, object]) -> npt.NDArray[np.generic]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    module, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        values = rng.uniform(0.5, 1.5, shape)
    elif leaf in ("running_mean", "bias"):
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 4:
        values = rng.standard_normal(shape) * np.sqrt(0.4 / np.prod(shape[1:]))
    elif len(shape) == 2:
        values = 0.05 * rng.standard_normal(shape)
    elif f"{module}.running_mean" in names:
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.uniform(0.0, 0.5, shape)
    return np.asarray(values, np.float32)


def analytic_image(height: int, width: int) -> torch.Tensor:
    """The input of the golden outputs, (1, 3, height, width)."""
    values = np.sin(np.arange(3 * height * width, dtype=np.float64) * 0.37)
    return torch.from_numpy(values.astype(np.float32).reshape(1, 3, height, width))


def assert_close_to_largest(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Equal within ``tolerance`` of the largest absolute value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def picture(width: int, height: int) -> Image.Image:
    """A colourful gradient."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


@contextmanager
def served(files: Mapping[str, bytes], *, cut: int = 0) -> Iterator[str]:
    """The address of a server on this machine that has ``files`` by path; ``cut`` bytes of each are never sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write((content or b"")[: len(content or b"") - cut])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Outcome(NamedTuple):
    """What a call of the program left: exit code and printed text."""

    code: int
    stdout: str
    stderr: str


class Run(Protocol):
    """Call the program with arguments."""

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Outcome: ...


SHAPE_COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
SHAPE_CLASSES = ("background", "square", "disc")


def make_shapes(root: Path, count: int = 6, size: tuple[int, int] = (48, 32), seed: int = 0) -> Path:
    """A data set of one's own: bright squares and discs on noise, RGB masks, three classes, splits train and val."""
    rng = np.random.default_rng(seed)
    for split in ("train", "val"):
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 90, (size[1], size[0], 3), np.uint8))
            mask = Image.new("RGB", size)
            for kind in (1, 2):
                x, y = int(rng.integers(0, size[0] - 14)), int(rng.integers(0, size[1] - 14))
                for canvas, colour in ((image, ((230, 220, 90), (90, 200, 240))[kind - 1]), (mask, SHAPE_COLOURS[kind])):
                    draw = ImageDraw.Draw(canvas)
                    (draw.rectangle if kind == 1 else draw.ellipse)((x, y, x + 12, y + 12), fill=colour)
            for folder, picture_ in (("images", image), ("masks", mask)):
                path = root / folder / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture_.save(path)
    colours = "".join(f"  - [{r}, {g}, {b}]\n" for r, g, b in SHAPE_COLOURS)
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(SHAPE_CLASSES)}]\npalette:\n{colours}")
    return root


def make_folders(root: Path, count: int = 4, classes: tuple[str, ...] = ("dark", "light")) -> Path:
    """A classification data set with a folder per class, splits train and val."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for index, name in enumerate(classes):
            for number in range(count):
                pixels = rng.integers(0, 60, (36, 40, 3)) + 190 * index // max(1, len(classes) - 1)
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def released_entry(name: str) -> ReleasedWeights:
    """An entry of the catalogue that the authors released."""
    entry = find_weights(name)
    assert isinstance(entry, ReleasedWeights)
    return entry
