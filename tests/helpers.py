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
from PIL import Image

from espnetv2.benchmarking.report import Accuracy, Check, Energy, Latency, Machine, Memory, Report, Row
from espnetv2.weights.catalogue import ReleasedWeights, find_weights

GOLDENS = Path(__file__).parent / "goldens"
ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
WEIGHTS = Path(os.environ.get("ESPNETV2_WEIGHTS") or SHARED / "weights")
SAMPLE = ROOT / "examples" / "street.jpg"

# Published parameters and multiply-accumulates in millions, at 224x224 or 512x1024, with 1000 or 20 outputs.
PUBLISHED_COSTS = {
    "espnetv2_s0_5": (1_241_332, 28.38),
    "espnetv2_s1_0": (1_670_072, 85.72),
    "espnetv2_s1_25": (1_965_440, 123.40),
    "espnetv2_s1_5": (2_314_856, 168.60),
    "espnetv2_s1_75": (2_875_376, 222.74),
    "espnetv2_s2_0": (3_498_136, 284.81),
    "espnetv2_seg_s0_5": (80_342, 597.56),
    "espnetv2_seg_s1_0": (234_010, 1086.59),
    "espnetv2_seg_s1_5": (468_362, 1714.57),
    "espnetv2_seg_s2_0": (789_242, 2699.05),
    "espnetv2_seg_psp_s0_5": (99_418, 564),
    "espnetv2_seg_psp_s1_0": (340_782, 1689),
    "espnetv2_seg_psp_s1_5": (725_166, 3361),
    "espnetv2_seg_psp_s2_0": (1_253_038, 5671),
}


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


def released_entry(name: str) -> ReleasedWeights:
    """An entry of the catalogue that the authors released."""
    entry = find_weights(name)
    assert isinstance(entry, ReleasedWeights)
    return entry


def benchmark_report() -> Report:
    """Two own networks, one of them on two backends, and a rival, with energy."""
    rows = []
    for network, backend, percent, macs, milliseconds in (
        ("espnetv2_s0_5", "eager", 57.68, 28_380_000, 20.0),
        ("espnetv2_s0_5", "accelerated", 57.68, 28_380_000, 2.0),
        ("espnetv2_s1_0", "accelerated", 66.09, 85_720_000, 4.0),
        ("torchvision:mobilenet_v2", "eager", 72.15, 299_530_000, 8.0),
    ):
        rows.append(
            Row(
                network=network,
                backend=backend,
                task="classification",
                size="224x224",
                batch=1,
                answer="logits",
                checked="torch",
                parameters=1_239_722,
                published_parameters=1_241_332,
                macs=macs,
                matrix_macs=1_020_000,
                weight_bytes=5_100_000,
                accuracy=Accuracy(
                    metric="top1",
                    percent=percent,
                    dataset="imagenet1k",
                    weights=f"{network}.imagenet1k",
                    size="224x224",
                    origin="published by the authors",
                ),
                latency=Latency(median_ms=milliseconds, p95_ms=1.1 * milliseconds, spread_percent=10.0, calls=9),
                images_per_second=1e3 / milliseconds,
                ratio=milliseconds / 2,
                memory=Memory(resident_bytes=300_000_000, beyond_loading_bytes=10_000_000),
                energy=Energy(joules_per_image=0.006 * milliseconds, watts=6.0, samples=((0.2, 5.0), (0.4, 7.0))),
            )
        )
    checks = (
        Check(name="other load", passed=False, detail="others took half"),
        Check(name="throttling", passed=None, detail="hidden"),
    )
    machine = Machine(
        processor="a processor",
        cores=2,
        memory_bytes=8 * 2**30,
        system="Linux",
        device="cpu",
        threads=2,
        clock="a clock",
        versions={"torch": "2.9"},
        checks=checks,
    )
    return Report(machine=machine, batch=1, rounds=3, energy="RAPL", idle_watts=3.0, rows=tuple(rows), refused=())


def end_process(*_: object) -> None:
    """What a lack of memory may do to a process."""
    os._exit(9)
