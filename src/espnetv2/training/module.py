"""The Lightning module: one optimizer step, one validation, and the state needed to resume exactly."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from espnetv2.data.dataset import LabelledData, fingerprint
from espnetv2.errors import UserError
from espnetv2.labels import IGNORE
from espnetv2.metrics import ClassificationMetrics, Metrics, SegmentationMetrics
from espnetv2.models.network import Network
from espnetv2.models.segmentation import SegmentationModel
from espnetv2.postprocessing import class_map
from espnetv2.training.augmentation import OUTSIDE
from espnetv2.training.batches import (
    EpochBatches,
    Share,
    steps_per_epoch,
    training_loader,
    validation_loader,
)
from espnetv2.training.distillation import Teacher
from espnetv2.training.losses import CrossEntropy, Parts, jaccard_loss, soft_overlap
from espnetv2.training.mixing import mix
from espnetv2.training.optimizers import build_optimizer, freeze, normalisation_to_keep
from espnetv2.training.processes import sum_over_processes
from espnetv2.training.recipe import Recipe
from espnetv2.training.schedules import learning_rate

# How often an asynchronous device is asked whether the loss is still finite: asking forces a synchronisation.
LOSS_CHECK_STEPS = 50
LARGEST_PARAMETER = 1e8


class TrainingModule(pl.LightningModule):
    """Trains a network with a recipe.

    Everything random or time-dependent (order of images, augmentation, dropout, learning rate) follows from the recipe and the
    step number, so a run resumed from a checkpoint computes the same as an uninterrupted one.

    Args:
        network: to train.
        recipe: how to train it.
        train: training data.
        val: validation data.
        class_weights: one per output, or None.
        teacher: whose outputs are learnt in addition to the labels, or None.
        kernels: compute the loss with the package's own kernels; the network's layers are accelerated already.

    Attributes:
        step: number of finished optimizer steps.
        average: exponential moving average of the network, if the recipe asks for one.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        train: LabelledData,
        val: LabelledData,
        class_weights: list[float] | None,
        *,
        teacher: Teacher | None = None,
        kernels: bool = False,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        # Here and not later: distributed training adopts the memory layout of the parameters for its gradients.
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = freeze(network, recipe).to(memory_format=layout)
        self.average = copy.deepcopy(network).requires_grad_(False).eval() if recipe.ema_decay is not None else None
        self.criterion = CrossEntropy(recipe.loss, class_weights, classes=len(train.labels.classes), kernels=kernels)
        self.teacher = teacher
        self._kernels = kernels
        self.step = 0
        self.bad_step: Tensor | None = None
        self.steps_per_epoch = steps_per_epoch(len(train), recipe)
        self._train_data, self._val_data = train, val
        self._fingerprint = fingerprint(train, val)
        self._rate = learning_rate(recipe.schedule, recipe.lr, recipe.epochs, self.steps_per_epoch)
        self._forward: Callable[[Tensor], Any] = self._outputs
        self._train_loader: DataLoader[Any] | None = None
        self._val_loader: DataLoader[Any] | None = None
        self._batches: EpochBatches | None = None
        self._round: list[Tensor] = []

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to."""
        return self.step // self.steps_per_epoch

    @property
    def evaluated(self) -> Network:
        """The network that is validated and saved: the average, if there is one."""
        return self.model if self.average is None else self.average

    @contextmanager
    def evaluating(self) -> Iterator[Network]:
        """The network that is validated, in evaluation mode for the block."""
        network = self.evaluated
        was_training = network.training
        try:
            yield network.eval()
        finally:
            network.train(was_training)
            self.train(self.training)

    @property
    def rate(self) -> float:
        """Learning rate of the next step, before the factors for encoder and decoder."""
        return self._rate(min(self.step, self.recipe.epochs * self.steps_per_epoch - 1))

    def train(self, mode: bool = True) -> TrainingModule:
        """Set the mode; frozen normalisation, average and teacher always stay in evaluation mode."""
        super().train(mode)
        for layer in normalisation_to_keep(self.model, self.recipe):
            layer.eval()
        for still in (self.average, self.teacher):
            if still is not None:
                still.eval()
        return self

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer, whose rates are set before every step."""
        return build_optimizer(self.model, self.recipe)

    def on_fit_start(self) -> None:
        """Compile, if the recipe asks for it."""
        if self.recipe.compile:
            self._forward = torch.compile(self._outputs)

    def on_train_start(self) -> None:
        """Check that all processes begin with the same step.

        Raises:
            UserError: they do not, because each machine has another run's folder.
        """
        if self._share.world > 1:
            ends = torch.tensor([self.step, -self.step], device=self.device)
            dist.all_reduce(ends, op=dist.ReduceOp.MAX)
            most, least = int(ends[0]), -int(ends[1])
            if most != least:
                raise UserError(
                    f"some processes of this run begin after step {least}, others after step {most}: "
                    "--out must be the same folder on all machines"
                )

    def on_train_epoch_start(self) -> None:
        """Set training mode: Lightning leaves that to the module."""
        self.train()

    def train_dataloader(self) -> DataLoader[Any]:
        """The remaining batches of the current epoch. Called again every epoch."""
        if self._train_loader is None or self._batches is None:
            self._batches = EpochBatches(len(self._train_data), self.recipe, self._share)
            self._train_loader = training_loader(self._train_data, self.recipe, self._batches, pin=self._pin)
        self._batches.start(self.epoch, self.step % self.steps_per_epoch)
        return self._train_loader

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Loss of one batch, normalised over all processes."""
        if isinstance(batch, UserError):
            raise batch
        # Dropout and mixing must follow from the step, too.
        torch.manual_seed(_mixed_seed(self.recipe.seed, self.step, len(self._round), self.global_rank))
        images, target = batch
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.recipe.task == "classification":
            images, target = mix(images, target, self.model.num_classes, self.recipe.augmentation)
        inside = target != OUTSIDE if self.recipe.task == "segmentation" else None
        if inside is not None:
            target = target.where(inside, IGNORE)
        logits, auxiliary = self._forward(images)
        loss = self._mean(self.criterion(logits, target))
        if self.recipe.loss.jaccard:
            overlap = sum_over_processes(soft_overlap(logits, target, kernels=self._kernels))
            loss = loss + self.recipe.loss.jaccard * jaccard_loss(overlap)
        if auxiliary is not None and self.recipe.loss.auxiliary:
            loss = loss + self.recipe.loss.auxiliary * self._mean(self.criterion(auxiliary, target))
        if self.teacher is not None:
            loss = loss + self.recipe.loss.distillation * self._mean(self.teacher.divergence(images, logits, inside))
        self._round.append(loss.detach())
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of the step."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate * group["factor"]

    def finish_step(self) -> Tensor:
        """Count an optimizer step and update the average; returns the step's loss over all processes, on the device."""
        loss = torch.stack(self._round).mean()
        if self._share.world > 1:
            dist.all_reduce(loss)
            loss = loss / self._share.world
        # The loss of all processes, so that all stop at the same step.
        self._watch(loss)
        self._round = []
        self.step += 1
        if self.average is not None and self.recipe.ema_decay is not None:
            # Early on, the average would be dominated by the random initialisation.
            decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
            _average_into(self.average, self.model, 1 - decay)
        return loss

    def check_loss(self) -> None:
        """Stop if a loss since the last check was not finite.

        Raises:
            UserError: one was not; the message names the step.
        """
        if self.bad_step is not None and int(self.bad_step) >= 0:
            raise UserError(
                f"the loss is not finite at step {int(self.bad_step) + 1}, in epoch "
                f"{int(self.bad_step) // self.steps_per_epoch + 1}: "
                "lower lr or set schedule.warmup_epochs; the checkpoints saved before are kept"
            )

    def check_parameters(self) -> None:
        """Stop if a parameter is not finite or uselessly large, so that such a state is never saved.

        Raises:
            UserError: one is.
        """
        # Python's max would pass over a NaN that does not come first.
        largest = float(torch.stack([parameter.detach().abs().max().float() for parameter in self.model.parameters()]).max())
        if not largest < LARGEST_PARAMETER:
            raise UserError(
                f"the parameters have diverged by step {self.step} (the largest is {largest:g}): "
                "lower lr or set schedule.warmup_epochs; the checkpoints saved before are kept"
            )

    def check_validation(self, loss: float) -> None:
        """Stop if the validation loss is not finite, so that such weights are never saved as the best.

        Raises:
            UserError: it is not.
        """
        if not math.isfinite(loss):
            raise UserError(
                f"the validation loss is {loss} after step {self.step}: "
                "lower lr or set schedule.warmup_epochs; the checkpoints saved before are kept"
            )

    @torch.no_grad()
    def validate(self, on_batch: Callable[[], None] = lambda: None) -> tuple[float, Metrics]:
        """Loss and metrics of the evaluated network over the validation images of all processes.

        Raises:
            UserError: an image or label cannot be decoded.
        """
        metrics = self._new_metrics()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        if self._val_loader is None:
            self._val_loader = validation_loader(self._val_data, self.recipe, self._share, pin=self._pin)
        with self.evaluating() as network:
            for batch in self._val_loader:
                if isinstance(batch, UserError):
                    raise batch
                images, targets = batch[0].to(self.device, self._precision), batch[1]
                with self.trainer.precision_plugin.forward_context():
                    logits = network(images)
                for scores, target in zip(logits, targets, strict=True):
                    parts = self._count(metrics, scores, target)
                    sums += torch.stack([parts.total.double(), parts.weight.double()])
                on_batch()
        if self._share.world > 1:
            dist.all_reduce(sums)
            _reduce_metrics(metrics, self.device)
        total, weight = sums.tolist()
        return total / max(weight, 1e-12), metrics

    def close(self) -> None:
        """End the loaders' processes, which would otherwise outlive the run."""
        self._train_loader = self._val_loader = None

    def state_to_keep(self) -> dict[str, Any]:
        """Everything needed to resume a run: parameters, average, optimizer, precision, step."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            state |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        return {
            "state_dict": state,
            "optimizer": optimizer.state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
            "step": self.step,
            "pictures": len(self._train_data),
            "data": self._fingerprint,
        }

    def restore_networks(self, kept: dict[str, Any]) -> None:
        """Restore parameters, average and step; ``restore_optimizer`` does the rest once there is an optimizer."""
        state = kept["state_dict"]
        for prefix, network in (("model.", self.model), ("average.", self.average)):
            if network is not None:
                network.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
        self.step = kept["step"]

    def restore_optimizer(self, kept: dict[str, Any]) -> None:
        """Restore the state of the optimizer and of the precision plugin."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        optimizer.load_state_dict(kept["optimizer"])
        # Empty unless the run used float16, whose plugin does not accept an empty state.
        if kept["precision"]:
            self.trainer.precision_plugin.load_state_dict(kept["precision"])

    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.model, SegmentationModel) and self.recipe.loss.auxiliary:
            return self.model.forward_with_auxiliary(images)
        logits: Tensor = self.model(images)
        return logits, None

    def _mean(self, parts: Parts) -> Tensor:
        """The mean over all processes, scaled so that averaging their gradients yields its gradient."""
        weight = parts.weight.detach().clone()
        if self._share.world > 1:
            dist.all_reduce(weight)
        return parts.total * self._share.world / weight.clamp(min=1e-12)

    def _watch(self, loss: Tensor) -> None:
        if self.bad_step is None:
            self.bad_step = torch.full((), -1, dtype=torch.int64, device=loss.device)
        now = torch.full_like(self.bad_step, self.step)
        self.bad_step = torch.where(torch.isfinite(loss) | (self.bad_step >= 0), self.bad_step, now)

    def _count(self, metrics: Metrics, scores: Tensor, target: Tensor) -> Parts:
        """Add one image's prediction to the metrics; returns the parts of its loss."""
        target = target.to(self.device)
        classes = len(metrics.classes)
        if isinstance(metrics, SegmentationMetrics):
            predicted = class_map(scores, classes, (target.shape[0], target.shape[1]))
            metrics.update(target.cpu().numpy(), predicted.cpu().numpy())
            small = F.interpolate(target[None, None].float(), size=scores.shape[1:], mode="nearest-exact")[0, 0]
            return Parts(*self.criterion(scores[None], small.long()[None]))
        ranking = scores[:classes].topk(min(5, classes)).indices.tolist()
        metrics.update(int(target), tuple(ranking))
        return Parts(*self.criterion(scores[None], target[None]))

    def _new_metrics(self) -> Metrics:
        names = self._val_data.labels.classes
        return SegmentationMetrics(names) if self.recipe.task == "segmentation" else ClassificationMetrics(names)

    @property
    def _precision(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def _share(self) -> Share:
        return Share(self.trainer.global_rank, self.trainer.world_size)

    @property
    def _pin(self) -> bool:
        return self.trainer.strategy.root_device.type == "cuda"


def _mixed_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _average_into(average: nn.Module, model: nn.Module, weight: float) -> None:
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)


def _reduce_metrics(metrics: Metrics, device: torch.device) -> None:
    if isinstance(metrics, SegmentationMetrics):
        counts = torch.from_numpy(np.append(metrics.counts.ravel(), metrics.images)).to(device)
        dist.all_reduce(counts)
        metrics.images = int(counts[-1])
    else:
        assert metrics.among_five is not None
        counts = torch.from_numpy(np.append(metrics.counts.ravel(), metrics.among_five)).to(device)
        dist.all_reduce(counts)
        metrics.among_five = int(counts[-1])
    metrics.counts = counts[:-1].reshape(metrics.counts.shape).cpu().numpy()
