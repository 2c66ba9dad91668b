"""How much faster an exported ONNX file is than torch's plain export of the same network, in the same runtime.

Run ``pip install ".[export]"``, then ``python benchmarks/export_speed.py``. Both files of a network are made at a
fixed 1024x512, their answers are compared, and they take turns within one run; before its turn each waits until the threads of
the one before have stopped spinning, and warms up. Medians are printed. Weights are random: they do not change the work.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

import espnetv2
from espnetv2.benchmarking.timing import interleaved, summary
from espnetv2.exporting.compacting import compact
from espnetv2.exporting.graph import Decision
from espnetv2.exporting.onnx import traced
from espnetv2.info import generic_info
from espnetv2.models.registry import model_spec
from espnetv2.runtimes.description import Description, Output
from espnetv2.runtimes.private import import_onnxruntime, import_openvino
from espnetv2.runtimes.quiet import quiet

HEIGHT, WIDTH = 512, 1024
Run = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def main() -> None:
    """Print the table."""
    options = _options()
    image = np.random.default_rng(0).normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
    print(
        f"{options.threads} threads, torch {torch.__version__}, milliseconds at {WIDTH}x{HEIGHT}, medians of interleaved runs\n"
    )
    print("| network | output | runtime | plain export | `espnetv2 export` | faster | largest difference | agreement |")
    print("|---|---|---|---|---|---|---|---|")
    outputs: tuple[Output, ...] = ("logits", "classes")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            for output in outputs:
                files = _files(name, output, Path(folder))
                for runtime, load in (("ONNX Runtime", _onnxruntime), ("OpenVINO", _openvino)):
                    runs = [load(file, options.threads) for file in files]
                    print(f"| {name} | {output} | {runtime} | {_row(runs, image, options.rounds)} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["espnetv2_seg_s0_5", "espnetv2_seg_s2_0"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def _files(name: str, output: Output, folder: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    network = espnetv2.create_model(name).eval()
    spec = model_spec(name)
    description = Description(info=generic_info(spec, network.num_classes), format="onnx", output=output, version="")
    plain, ours = folder / "plain.onnx", folder / "ours.onnx"
    graph = torch.nn.Sequential(network, Decision(description.info)) if output == "classes" else network
    with quiet():
        torch.onnx.export(graph, (torch.zeros(1, 3, HEIGHT, WIDTH),), plain, dynamo=True, verbose=False)
    model = traced(network, description)
    compact(model)
    onnx.save(model, ours)
    return plain, ours


def _row(runs: list[Run], image: npt.NDArray[Any], rounds: int) -> str:
    wanted, found = (run(image) for run in runs)
    if wanted.ndim == 4:
        difference = f"{np.abs(found - wanted).max() / np.abs(wanted).max():.1e}"
        agreement = float((found.argmax(1) == wanted.argmax(1)).mean())
    else:
        difference, agreement = "", float((found == wanted).mean())
    if agreement < 0.999:
        raise SystemExit(f"the answers differ: {100 * agreement:.2f} % agree")
    plain, ours = (summary(turns).median_ms for turns in interleaved([partial(run, image) for run in runs], rounds))
    return f"{plain:.1f} | {ours:.1f} | {plain / ours:.2f} | {difference} | {100 * agreement:.3f} %"


def _onnxruntime(path: Path, threads: int) -> Run:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: np.asarray(session.run(None, {name: image})[0])


def _openvino(path: Path, threads: int) -> Run:
    openvino = import_openvino()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()

    def run(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        answer: npt.NDArray[Any] = request.infer({0: image}, share_inputs=True)[0].copy()
        return answer

    return run


if __name__ == "__main__":
    main()
