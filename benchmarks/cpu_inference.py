"""Latency, memory and scaling of ``espnetv2.accelerate`` on a CPU against everything else that could run the same network.

Run ``pip install onnx onnxscript onnxruntime openvino`` and then ``python benchmarks/cpu_inference.py``. Every contender gets
the same image tensor and gives logits (classification) or a class map (segmentation); its answer is checked before it is timed.
Contenders take turns within one run, so a machine whose speed drifts favours none; medians are printed. Before its turn each
waits until the threads of the one before have stopped spinning, and warms up. Peers run the network as it is (torch's own
export for the runtimes). Weights are random: they do not change the work.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import mobilenet_v2
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

import espnetv2
from espnetv2.models.cost import multiply_accumulates
from espnetv2.runtimes.private import import_onnxruntime, import_openvino

Contender = Callable[[Tensor], Any]
CASES = (
    ("espnetv2_seg_s0_5", 1, 512, 1024),
    ("espnetv2_seg_s2_0", 1, 512, 1024),
    *((f"espnetv2_s{width}", batch, 224, 224) for batch in (1, 16) for width in ("0_5", "1_0", "1_25", "1_5", "2_0")),
)
MEMORY_SIZE = (1024, 2048)
PAUSE_S = 0.1
TURN = 3
RUNTIMES = ("ONNX Runtime", "OpenVINO")


class ClassMap(nn.Module):
    """A segmentation network and the largest logit, as one graph."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Image to class map."""
        logits = self.network(image)
        classes: Tensor = (logits["out"] if isinstance(logits, dict) else logits).argmax(1)
        return classes


def main() -> None:
    """Print the tables."""
    options = _options()
    if options.memory:
        print(_own_peak(*options.memory))
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    rate = _matrix_rate()
    print(f"{platform.machine()}, {_processor()}, {options.threads} threads, torch {torch.__version__}, "
          f"matrix product {2 * rate / 1e9:.0f} GFLOP/s")  # fmt: skip
    print(
        "\nMilliseconds, medians of interleaved runs. Floor: the network's multiply-accumulates at the matrix product's rate.\n"
    )
    names = ("eager", "channels-last", "torch.compile", *RUNTIMES)
    print("| network | batch | ours | " + " | ".join(names) + " | best peer / ours | floor | largest difference | agreement |")
    print("|---" * (len(names) + 7) + "|")
    for case in CASES:
        if options.only is None or case[0] in options.only:
            print(_row(case, names, rate, options), flush=True)
    print()
    for line in _rivals(options):
        print(line, flush=True)
    if options.only is None or "espnetv2_seg_s0_5" in options.only:
        print(f"\nOne thread to {options.threads}, and peak memory above the loaded model at "
              f"{MEMORY_SIZE[1]}x{MEMORY_SIZE[0]}\n")  # fmt: skip
        print(
            "| network | 1 thread, ms | threads | speed-up | peak, ours | peak, eager | share |\n|---|---|---|---|---|---|---|"
        )
        for name in ("espnetv2_seg_s0_5", "espnetv2_seg_s2_0"):
            print(_scaling(name, options), flush=True)
        for name in ("espnetv2_seg_s0_5", "espnetv2_seg_s2_0"):
            print(f"\n{name}: where the time goes, ms\n\n{_profile(name, options)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", help="names of networks")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes to build")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _row(case: tuple[str, int, int, int], names: tuple[str, ...], rate: float, options: argparse.Namespace) -> str:
    name, batch, height, width = case
    segments = "_seg_" in name
    model = espnetv2.create_model(name).eval()
    graph: nn.Module = ClassMap(model) if segments else model
    image = torch.randn(batch, 3, height, width)
    fast = espnetv2.accelerate(model, output="classes" if segments else "logits")
    contenders: dict[str, Contender] = {"ours": fast, **_torch_contenders(graph, options)}
    contenders |= _runtime_contenders(graph, image, options.threads)
    with torch.inference_mode():
        wanted = model(image)
        found = espnetv2.accelerate(model)(image)
        difference = float((found - wanted).abs().max() / wanted.abs().max())
        agreement = float((found.argmax(1) == wanted.argmax(1)).float().mean())
        answer = np.asarray(graph(image))
        contenders = _right(contenders, image, answer, segments=segments)
        times = _interleaved(contenders, image, options.rounds)
    floor = 1e3 * batch * multiply_accumulates(model, height, width) / rate
    best = min(times[peer] for peer in names if peer in times)
    cells = [f"{times[peer]:.2f}" if peer in times else "-" for peer in names]
    return (f"| {name} | {batch} | **{times['ours']:.2f}** | {' | '.join(cells)} | {best / times['ours']:.2f} | {floor:.2f} | "
            f"{difference:.1e} | {100 * agreement:.3f} % |")  # fmt: skip


def _torch_contenders(graph: nn.Module, options: argparse.Namespace) -> dict[str, Contender]:
    import copy

    last = copy.deepcopy(graph).to(memory_format=torch.channels_last)
    found: dict[str, Contender] = {
        "eager": graph,
        "channels-last": lambda image: last(image.contiguous(memory_format=torch.channels_last)),
    }
    if not options.no_compile:
        torch.compiler.reset()
        found["torch.compile"] = torch.compile(copy.deepcopy(graph))
    return found


def _runtime_contenders(graph: nn.Module, image: Tensor, threads: int) -> dict[str, Contender]:
    runtime, openvino = import_onnxruntime(), import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(graph.eval(), (image,), path, dynamo=True, opset_version=18, verbose=False)
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(str(path), "CPU", hints)
    name, request = session.get_inputs()[0].name, compiled.create_infer_request()
    return {
        "ONNX Runtime": lambda x: session.run(None, {name: x.numpy()})[0],
        "OpenVINO": lambda x: request.infer([x.numpy()])[0],
    }


def _right(contenders: dict[str, Contender], image: Tensor, wanted: Any, *, segments: bool) -> dict[str, Contender]:
    """Those that give the right answer; the others are named."""
    found = {}
    for name, contender in contenders.items():
        if _is_right(contender(image), wanted, segments=segments):
            found[name] = contender
        else:
            print(f"{name} gives another answer: nothing of it is timed", file=sys.stderr)
    return found


def _is_right(found: Any, wanted: Any, *, segments: bool) -> bool:
    found = np.asarray(found)
    if segments:
        return bool((found == wanted).mean() >= 0.999)
    return bool(np.abs(found - wanted).max() <= 1e-3 * np.abs(wanted).max())


def _interleaved(contenders: dict[str, Contender], image: Tensor, rounds: int) -> dict[str, float]:
    for contender in contenders.values():
        contender(image)
        contender(image)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            time.sleep(PAUSE_S)
            contender(image)
            for _ in range(TURN):
                start = time.perf_counter()
                contender(image)
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(measured) for name, measured in times.items()}


def _rivals(options: argparse.Namespace) -> list[str]:
    lines = [
        "| compared with alternatives | size | ours, ms | ONNX Runtime, ms | OpenVINO, ms |",
        "|---|---|---|---|---|",
    ]
    lraspp = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    for ours, rival, name, size in (
        ("espnetv2_seg_s0_5", lraspp, "LR-ASPP MobileNetV3-Large", (512, 1024)),
        ("espnetv2_seg_s2_0", lraspp, "LR-ASPP MobileNetV3-Large", (512, 1024)),
        ("espnetv2_s2_0", mobilenet_v2(weights=None), "MobileNetV2", (224, 224)),
    ):
        if options.only is not None and ours not in options.only:
            continue
        image, segments = torch.randn(1, 3, *size), "_seg_" in ours
        fast = espnetv2.accelerate(espnetv2.create_model(ours).eval(), output="classes" if segments else "logits")
        graph = ClassMap(rival.eval()) if segments else rival.eval()
        with torch.inference_mode():
            answer = np.asarray(graph(image))
            rivals = _right(_runtime_contenders(graph, image, options.threads), image, answer, segments=segments)
            times = _interleaved({"ours": fast, **rivals}, image, options.rounds)
        cells = " | ".join(f"{times[key]:.2f}" if key in times else "-" for key in ("ours", *RUNTIMES))
        lines.append(f"| {ours} against {name} | {size[1]}x{size[0]} | {cells} |")
    return lines


def _scaling(name: str, options: argparse.Namespace) -> str:
    image = torch.randn(1, 3, 512, 1024)
    fast = espnetv2.accelerate(espnetv2.create_model(name).eval(), output="classes")
    times: dict[int, list[float]] = {1: [], options.threads: []}
    for _ in range(options.rounds):
        for threads, measured in times.items():
            torch.set_num_threads(threads)
            fast(image)
            start = time.perf_counter()
            fast(image)
            measured.append(1e3 * (time.perf_counter() - start))
    one, several = (statistics.median(measured) for measured in times.values())
    peaks = [
        float(
            subprocess.run([sys.executable, __file__, "--memory", name, how], check=True, capture_output=True, text=True).stdout
        )
        for how in ("ours", "eager")
    ]
    share = 100 * peaks[0] / peaks[1]
    return (
        f"| {name} | {one:.1f} | {several:.1f} | {one / several:.2f} | {peaks[0]:.0f} MB | {peaks[1]:.0f} MB | {share:.0f} % |"
    )


def _own_peak(name: str, how: str) -> float:
    """Megabytes that one class map takes beyond what the process holds with model and image loaded."""
    model = espnetv2.create_model(name).eval()
    image = torch.randn(1, 3, *MEMORY_SIZE)
    run: Contender = espnetv2.accelerate(model, output="classes") if how == "ours" else ClassMap(model)
    with torch.inference_mode():
        run(image[:, :, :64, :64])
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak so far
        run(image)
    return (_status("VmHWM") - before) / 1e3


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


def _profile(name: str, options: argparse.Namespace) -> str:
    torch.set_num_threads(options.threads)
    fast = espnetv2.accelerate(espnetv2.create_model(name).eval(), output="classes")
    plan, image = fast.plan(512, 1024), torch.randn(1, 3, 512, 1024)
    times = np.zeros((options.rounds, len(plan.kinds)))
    for row in times:
        plan(image, row)
    medians = 1e3 * np.median(times, axis=0)
    sums = {kind: medians[[other == kind for other in plan.kinds]].sum() for kind in dict.fromkeys(plan.kinds)}
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return "| " + " | ".join(kind for kind, _ in ordered) + " |\n" + "|---" * len(ordered) + "|\n| " + " | ".join(
        f"{spent:.2f}" for _, spent in ordered
    ) + " |"  # fmt: skip


def _matrix_rate() -> float:
    """Multiply-accumulates a second of a large matrix product."""
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return 1536**3 / min(times)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text("utf-8") if path.is_file() else ""
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "unknown")
    return name + (" with AVX-512" if "avx512f" in text else " with AVX2" if "avx2" in text else "")


if __name__ == "__main__":
    main()
