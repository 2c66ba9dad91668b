"""The hardware of a run: devices, processes, precision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from espnetv2.cores import usable_cores
from espnetv2.device import choose_device
from espnetv2.errors import UserError
from espnetv2.training.recipe import Recipe
from espnetv2.training.sync_batch_norm import CPULayerSync

Arithmetic = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]
Precision = Literal["auto"] | Arithmetic


@dataclass(frozen=True)
class Hardware:
    """Devices of a run; only what is random within a network (dropout, mixing, ``ohem``'s share) differs.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        devices: number of devices per machine.
        nodes: number of machines.
        precision: of the arithmetic, in Lightning's notation.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "auto"

    @property
    def processes(self) -> int:
        """Number of processes that train together, one per device."""
        return self.devices * self.nodes

    def accelerator(self) -> str:
        """The kind of device.

        Raises:
            UserError: networks cannot be trained on it, or there are fewer devices than requested.
        """
        device = choose_device(self.device)
        kind = device.type
        if kind == "mps":
            raise UserError('no training on "mps": PyTorch lacks required operators there: choose --device cpu')
        if device.index is not None and self.devices > 1:
            raise UserError(
                f"--device {self.device} is one device, but --devices asks for {self.devices}: give only its type, such as cuda"
            )
        there = torch.cuda.device_count() if kind == "cuda" else usable_cores()
        if self.nodes > 1 and _launcher() is None:
            raise UserError(
                f"--nodes {self.nodes}: start the command on every machine with torchrun, or with srun in a SLURM job"
            )
        if self.devices > there:
            raise UserError(f"--devices {self.devices}: this machine has only {there} ({kind})")
        launcher = _launcher()
        if launcher is not None and (started := launcher.world_size()) != self.processes:
            # Each would train alone, and all of them write into the same folder.
            raise UserError(
                f"the launcher started {started} processes, but --devices {self.devices} and --nodes {self.nodes} ask for "
                f"{self.processes}: make them agree"
            )
        return kind

    def check_batch(self, recipe: Recipe) -> None:
        """Check that all devices and accumulated batches get the same number of images.

        Raises:
            UserError: they do not.
        """
        parts = self.processes * recipe.accumulate
        if recipe.batch_size % parts:
            raise UserError(
                f"batch_size {recipe.batch_size} cannot be divided evenly among {self.processes} device(s) and "
                f"{recipe.accumulate} accumulated batch(es): choose a multiple of {parts}"
            )

    def chosen(self) -> int | list[int]:
        """The number of devices, or the index of the requested one."""
        index = choose_device(self.device).index
        return self.devices if index is None else [index]

    def own_gpu(self) -> int:
        """The index of the requested GPU, or of this process's GPU among several."""
        index = choose_device(self.device).index
        local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
        return index if index is not None else int(local) % torch.cuda.device_count()

    def arithmetic(self, accelerator: str) -> Arithmetic:
        """The requested precision, or the one that suits the device.

        Raises:
            UserError: the device has no such precision.
        """
        if self.precision == "16-mixed" and accelerator == "cpu":
            raise UserError("--precision 16-mixed: float16 is for GPUs: on a CPU, choose bf16-mixed or 32-true")
        if self.precision != "auto":
            return self.precision
        if accelerator != "cuda":
            return "32-true"
        # Older GPUs only emulate bfloat16, slowly.
        with torch.cuda.device(self.own_gpu()):
            return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"

    def plugins(self, accelerator: str) -> list[Any]:
        """Additional plugins for Lightning."""
        plugins: list[Any] = [CPULayerSync()] if self.processes > 1 and accelerator == "cpu" else []
        # A run saves its state and stops by itself when the job ends; requeued, it resumes with --resume.
        return [*plugins, SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else plugins


def process_rank() -> int:
    """This process's rank before Lightning has set anything up."""
    launcher = _launcher()
    return launcher.global_rank() if launcher is not None else int(os.environ.get("LOCAL_RANK", 0))


def _launcher() -> SLURMEnvironment | TorchElasticEnvironment | None:
    """What started this process as one of several, if anything but this program did."""
    if SLURMEnvironment.detect():
        return SLURMEnvironment()
    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else None
