"""A training step on a GPU: ours against the plain loop, channels-last with mixed precision, and ``torch.compile``.

Run ``python benchmarks/gpu_training.py``. A step is forward, cross-entropy, backward and AdamW on one batch that is on the card
already. The gradient of every contender is checked against that of the plain loop before it is timed; contenders take turns
within one run; times are medians by CUDA events. The floor is three forward passes' bytes or multiply-accumulates;
in brackets, how many times that it takes.
"""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from gpu_common import Card, Run, accumulates, bytes_moved, clean, header, interleaved, need_gpu, parser, row, versions
from torch import Tensor, nn

import espnetv2
from espnetv2.acceleration.training import accelerate_training
from espnetv2.models.network import Network

PEERS = ("channels-last AMP", "plain float32", "compile")
SLOW = ("compile",)
CASES = {
    "s1_0 224x224 x64": ("espnetv2_s1_0", 64, 224, 224),
    "s1_0 224x224 x256": ("espnetv2_s1_0", 256, 224, 224),
    "seg_s0_5 512x1024 x8": ("espnetv2_seg_s0_5", 8, 512, 1024),
    "seg_s2_0 512x1024 x8": ("espnetv2_seg_s2_0", 8, 512, 1024),
}
FAR = 0.2
"""Rounding to bfloat16 moves gradients by about a tenth."""


@dataclass
class Step:
    """A network, how it is run, and its optimizer."""

    network: nn.Module
    mixed: bool
    last: bool

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)

    def backward(self, images: Tensor, target: Tensor) -> None:
        """Leave the gradient in the parameters."""
        self.optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.mixed):
            layout = torch.channels_last if self.last else torch.contiguous_format
            logits = self.network(images.contiguous(memory_format=layout))
        torch.autograd.backward(F.cross_entropy(logits.float(), target))

    def whole(self, images: Tensor, target: Tensor) -> None:
        """A step."""
        self.backward(images, target)
        self.optimizer.step()

    def gradient(self) -> Tensor:
        """All of it in one vector."""
        return torch.cat([p.grad.flatten().float() for p in self.network.parameters() if p.grad is not None])


def build(contender: str, model: Network) -> Step:
    """A contender's step."""
    network: nn.Module = copy.deepcopy(model)
    if contender == "plain float32":
        return Step(network, mixed=False, last=False)
    network = network.to(memory_format=torch.channels_last)
    if contender == "ours":
        accelerate_training(network, next(network.parameters()).device.type)
    if contender == "compile":
        network.compile(dynamic=False)
    return Step(network, mixed=True, last=True)


def main() -> None:
    """Print the table."""
    options = parser(__doc__, ("ours", *PEERS), tuple(CASES)).parse_args()
    need_gpu()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.backends.cudnn.allow_tf32 = False
    # Shapes do not change, so torch may look for its fastest convolutions.
    torch.backends.cudnn.benchmark = True
    card = Card.measured(torch.bfloat16)
    print(f"{card}; {versions()}\n")
    names = tuple(name for name in PEERS if name in options.only and not (options.quick and name in SLOW))
    print(header(names))
    for case in options.cases:
        print(measured(case, names, options.rounds, card), flush=True)


def measured(case: str, names: tuple[str, ...], rounds: int, card: Card, device: str = "cuda") -> str:
    """A row of the table; another device than "cuda" is for trying the script."""
    name, batch, height, width = CASES[case]
    torch.manual_seed(0)
    clean()
    model = espnetv2.create_model(name).to(device).train()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    images = torch.randn(batch, 3, height, width, device=device)
    shape = (batch,) if "_seg_" not in name else (batch, height, width)
    target = torch.randint(model.num_classes, shape, device=device)
    plain = build("plain float32", model)
    plain.backward(images, target)
    wanted = plain.gradient()
    runs: dict[str, Run] = {}
    for contender in ("ours", *names):
        try:
            step = build(contender, model)
            step.backward(images, target)
        except Exception as error:
            print(f"{case}: {contender} fails: {type(error).__name__}: {str(error).strip().splitlines()[:1]}", flush=True)
            continue
        difference = float((step.gradient() - wanted).norm() / wanted.norm())
        if difference > FAR:
            print(f"{case}: {contender} has other gradients ({difference:.2g} of them): it is not timed", flush=True)
            continue
        runs[contender] = functools.partial(step.whole, images, target)
    times = interleaved(runs, rounds)
    if "ours" not in times:
        return f"{case}: there is nothing to compare"
    floor = card.floor(3 * accumulates(model, tuple(images.shape)), 3 * bytes_moved(model, tuple(images.shape), 2))
    return row(case, times, names, floor)


if __name__ == "__main__":
    main()
