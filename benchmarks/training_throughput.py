"""Images per second of a training step: ours against the plain loop, and whether the loader keeps up.

Run ``python benchmarks/training_throughput.py --data ROOT``. Contenders take turns within one run, so a machine whose speed
drifts favours none; medians are printed. The plain loop is channels-first, float32, eager, as most training scripts are.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from espnetv2.acceleration.training import accelerate_training
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.factory import create_model
from espnetv2.models.network import Network
from espnetv2.training.batches import EpochBatches, Share, training_loader
from espnetv2.training.losses import CrossEntropy
from espnetv2.training.optimizers import build_optimizer
from espnetv2.training.recipe import Recipe, load_recipe
from espnetv2.training.workers import worker_count

Step = Callable[[Tensor, Tensor], None]


def plain_step(model: torch.nn.Module, recipe: Recipe, device: torch.device) -> Step:
    """Channels-first, float32, eager, mean cross-entropy."""
    network = copy.deepcopy(model).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr)

    def step(images: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        loss: Tensor = F.cross_entropy(network(images.to(device)), target.to(device), ignore_index=255)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def our_step(model: Network, recipe: Recipe, device: torch.device) -> Step:
    """What ``espnetv2 train`` does in a step, without the bookkeeping around it."""
    network = copy.deepcopy(model).to(device).to(memory_format=torch.channels_last).train()
    if device.type == "cpu":
        accelerate_training(network)
    optimizer = build_optimizer(network, recipe)
    criterion = CrossEntropy(recipe.loss, kernels=device.type == "cpu").to(device)
    mixed = device.type == "cuda"

    def step(images: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            logits = network(images.to(device, memory_format=torch.channels_last, non_blocking=True))
        total, weight = criterion(logits, target.to(device, non_blocking=True))
        torch.autograd.backward(total / weight)
        optimizer.step()

    return step


def timed(step: Step, images: Tensor, target: Tensor, device: torch.device) -> float:
    """Seconds of one step, synchronised."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step(images, target)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def endless(recipe: Recipe, data: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of real data, epoch after epoch."""
    opened = open_dataset(recipe.dataset, data, recipe.train_split)
    batches = EpochBatches(len(opened), recipe, Share())
    loader = training_loader(opened, recipe, batches, pin=torch.cuda.is_available())
    epoch = 0
    while True:
        batches.start(epoch)
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch
        epoch += 1


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="segmentation")
    parser.add_argument("--model", default="espnetv2_seg_s0_5")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, ["batch_size=8", "input_size=256x256", *arguments.changes])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = endless(recipe, arguments.data)
    images, target = next(batches)
    classes = int(target[target != 255].max()) + 1
    model = create_model(arguments.model, num_classes=max(2, classes))
    steps = {"plain": plain_step(model, recipe, device), "ours, cached batch": our_step(model, recipe, device)}
    real = our_step(model, recipe, device)
    for step in (*steps.values(), real):
        step(images, target)
    times: dict[str, list[float]] = {name: [] for name in (*steps, "ours, real data")}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            times[name].append(timed(step, images, target, device))
        start = time.perf_counter()
        fresh = next(batches)
        waited = time.perf_counter() - start
        times["ours, real data"].append(waited + timed(real, *fresh, device))
    _print_table(times, recipe, arguments.model, device)
    _measure_loader_alone(recipe, batches, statistics.median(times["ours, cached batch"]))


def _print_table(times: dict[str, list[float]], recipe: Recipe, model: str, device: torch.device) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{model}, batch {recipe.batch_size}, {recipe.input_size}, {device.type} ({name}), {os.cpu_count()} cores, ", end="")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {worker_count(recipe)} workers")
    print(f"{'contender':20} {'median, ms':>11} {'images/s':>9} {'against plain':>14}")
    plain = statistics.median(times["plain"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:20} {1e3 * median:11.1f} {recipe.batch_size / median:9.1f} {plain / median:13.2f}x")


def _measure_loader_alone(recipe: Recipe, batches: Iterator[tuple[Tensor, Tensor]], step_s: float) -> None:
    for _ in range(4):
        next(batches)
    start = time.perf_counter()
    for _ in range(8):
        next(batches)
    rate = 8 * recipe.batch_size / (time.perf_counter() - start)
    print(f"loader alone: {rate:.0f} images/s, {rate * step_s / recipe.batch_size:.1f} times what the step takes")


if __name__ == "__main__":
    main()
