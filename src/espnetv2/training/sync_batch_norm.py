"""Synchronised batch normalisation on the CPU, where torch has none."""

from __future__ import annotations

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn

from espnetv2.training.processes import sum_over_processes


class CPUSyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with statistics over the batches of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            plain: Tensor = super().forward(x)
            return plain
        values = x.double()
        sums = torch.cat(
            [values.sum((0, 2, 3)), (values * values).sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]]).double()]
        )
        total = sum_over_processes(sums)
        count = total[-1]
        mean, square = total[: x.shape[1]] / count, total[x.shape[1] : -1] / count
        variance = square - mean * mean
        with torch.no_grad():
            self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps).to(x.dtype)
        shift = self.bias - mean.to(x.dtype) * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        momentum = self.momentum or 0.0
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class CPULayerSync(LayerSync):
    """The Lightning plugin for it."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise every BatchNorm2d of ``model`` over all processes."""
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                object.__setattr__(module, "__class__", CPUSyncBatchNorm2d)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Undo ``apply``."""
        for module in model.modules():
            if type(module) is CPUSyncBatchNorm2d:
                object.__setattr__(module, "__class__", nn.BatchNorm2d)
        return model
