"""What a run runs on: devices, processes, precision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from espnetv2.device import choose_device
from espnetv2.errors import UserError
from espnetv2.training.recipe import Recipe
from espnetv2.training.sync_batch_norm import CPULayerSync

Arithmetic = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]
Precision = Literal["auto"] | Arithmetic


@dataclass(frozen=True)
class Hardware:
    """Devices of a run; they do not change what is computed, but for rounding.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        devices: how many of them on each machine.
        nodes: how many machines.
        precision: of the arithmetic, in Lightning's words.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "auto"

    @property
    def processes(self) -> int:
        """How many processes train together, one per device."""
        return self.devices * self.nodes

    def accelerator(self) -> str:
        """The kind of device.

        Raises:
            UserError: networks cannot be trained on it, or there are not as many.
        """
        device = choose_device(self.device)
        kind = device.type
        if kind == "mps":
            raise UserError('no training on "mps": PyTorch lacks operators there that it needs, so choose --device cpu')
        if device.index is not None and self.devices > 1:
            raise UserError(f"--device {self.device} is one device, but --devices asks for {self.devices}: name only the kind")
        there = torch.cuda.device_count() if kind == "cuda" else os.cpu_count() or 1
        if self.nodes > 1 and not (SLURMEnvironment.detect() or TorchElasticEnvironment.detect()):
            raise UserError(f"--nodes {self.nodes}: start the command on every machine by torchrun, or by srun in a SLURM job")
        if self.devices > there:
            raise UserError(f"--devices {self.devices}: this machine has {there} ({kind})")
        return kind

    def check_batch(self, recipe: Recipe) -> None:
        """See that all devices and accumulated batches get as many pictures.

        Raises:
            UserError: they do not.
        """
        parts = self.processes * recipe.accumulate
        if recipe.batch_size % parts:
            raise UserError(
                f"batch_size {recipe.batch_size} cannot be shared evenly by {self.processes} device(s) and "
                f"{recipe.accumulate} accumulated batch(es): choose a multiple of {parts}"
            )

    def chosen(self) -> int | list[int]:
        """How many devices, or the one that was named."""
        index = choose_device(self.device).index
        return self.devices if index is None else [index]

    def own_gpu(self) -> int:
        """The GPU that was named, or this process's share of several."""
        index = choose_device(self.device).index
        local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
        return index if index is not None else int(local) % torch.cuda.device_count()

    def arithmetic(self, accelerator: str) -> Arithmetic:
        """The precision that was named, or what suits the device."""
        if self.precision != "auto":
            return self.precision
        if accelerator != "cuda":
            return "32-true"
        # Older GPUs only imitate bfloat16, slowly.
        with torch.cuda.device(self.own_gpu()):
            return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"

    def plugins(self, accelerator: str) -> list[Any]:
        """What Lightning needs besides."""
        plugins: list[Any] = [CPULayerSync()] if self.processes > 1 and accelerator == "cpu" else []
        # A run saves its state and stops by itself when the job is ended; requeued, it goes on with --resume.
        return [*plugins, SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else plugins


def process_rank() -> int:
    """This process's number before Lightning has set anything up."""
    environment: Any = (
        SLURMEnvironment()
        if SLURMEnvironment.detect()
        else TorchElasticEnvironment()
        if TorchElasticEnvironment.detect()
        else None
    )
    return int(environment.global_rank()) if environment is not None else int(os.environ.get("LOCAL_RANK", 0))
