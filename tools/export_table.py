"""Write the table of ``docs/export.md``: every format that can be written and run here, measured.

    python tools/export_table.py ../shared/cityscapes256/leftImg8bit/train ../shared/camvid/train

Each file is exported and verified by ``espnetv2.export``. Latency is from image array to the file's answer, the median of
interleaved turns within one run.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from espnetv2.benchmarking.timing import interleaved, summary
from espnetv2.exporting.export import Exported, export
from espnetv2.exporting.formats import FORMATS
from espnetv2.runtimes.runtime import open_runtime

DOCUMENT = Path(__file__).parents[1] / "docs/export.md"
START, END = "<!-- table of the formats -->", "<!-- end of the table -->"
MODELS = ("espnetv2_seg_s0_5.cityscapes_256", "espnetv2_seg_s2_0.camvid")


def main() -> None:
    """Replace what is between the two marks."""
    options = _options()
    rows = [
        "| format | model | precision | size, MB | largest difference | agreement, % | ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, pictures in zip(MODELS, options.pictures, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            done = _export_all(model, Path(folder), pictures)
            times = _latencies(done, options.rounds)
            rows += [_row(model, exported, ms) for exported, ms in zip(done, times, strict=True)]
    before, _, rest = DOCUMENT.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{START}\n{chr(10).join(rows)}\n{END}{after}", "utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs=2, help="Cityscapes and CamVid pictures, for int8 and verification")
    parser.add_argument("--rounds", type=int, default=10)
    return parser.parse_args()


def _export_all(model: str, folder: Path, pictures: Path) -> list[Exported]:
    done = []
    for name, row in FORMATS.items():
        if any(importlib.util.find_spec(package) is None for package in row.packages):
            continue
        for precision in row.precisions:
            path = folder / f"{name}_{precision}{row.suffix}"
            print(f"{model} as {path.name}", flush=True)
            exported = export(model, path, format=name, precision=precision, calibrate=pictures)
            if exported.verification is not None:
                done.append(exported)
    return done


def _latencies(done: list[Exported], rounds: int) -> list[float]:
    runs = [open_runtime(exported.path) for exported in done]
    preprocessing = done[0].description.info.preprocessing
    shape = (1, 3, preprocessing.height, preprocessing.width)
    image: npt.NDArray[Any] = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return [summary(turns).median_ms for turns in interleaved([partial(run, image) for run in runs], rounds)]


def _row(model: str, exported: Exported, ms: float) -> str:
    description, checked = exported.description, exported.verification
    assert checked is not None
    difference = "" if checked.difference is None else f"{checked.difference:.1e}"
    cells = (description.format, model.partition(".")[0], description.precision, f"{exported.size / 1e6:.2f}", difference)
    return f"| {' | '.join(cells)} | {100 * checked.agreement:.3f} | {ms:.1f} |"


if __name__ == "__main__":
    main()
