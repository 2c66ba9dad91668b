"""Everything around the optimizer steps: metrics, validation, checkpoints, plots, and stopping on request."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from espnetv2.data.dataset import LabelledData, SegmentationData
from espnetv2.errors import kind_and_first_line
from espnetv2.factory import load_model
from espnetv2.info import ModelInfo
from espnetv2.metrics import Metrics
from espnetv2.models.network import Network
from espnetv2.signals import ENDING, must_stay_ignored
from espnetv2.training.adjustment import adjust_logits, has_class_bias
from espnetv2.training.folder import MetricsFile, Row, RunFolder, writing
from espnetv2.training.module import LOSS_CHECK_STEPS, TrainingModule
from espnetv2.training.plots import draw_samples, plot_curves
from espnetv2.training.progress import Progress
from espnetv2.training.recipe import Recipe
from espnetv2.weights.checkpoint import load_checkpoint, save_checkpoint

FLUSH_STEPS = 10
log = logging.getLogger(__name__)
_STOPPING = (signal.SIGINT, *ENDING)


class StoppedError(BaseException):
    """The run was asked to stop; like ``KeyboardInterrupt`` no ``Exception``, so that nothing takes it for a failed plot.

    Args:
        number: of the signal.
        saved: whether the state was saved; not after a second Ctrl-C.
    """

    def __init__(self, number: int, *, saved: bool = True) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number
        self.saved = saved


class StopSignal:
    """Context manager that records a SIGTERM, SIGHUP or Ctrl-C instead of dying of it; a second Ctrl-C takes effect at once.

    Attributes:
        received: number of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.getsignal(number) for number in _STOPPING}
        return self

    def take_over(self) -> None:
        """Record signals from here on, as the only handler: Lightning's own ends the process before the state is saved."""
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                if not must_stay_ignored(number, self._before.get(number)):
                    signal.signal(number, self._remember)

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                # None stands for a handler that was not set from Python.
                if handler is not None:
                    signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        # Lightning would turn a second KeyboardInterrupt into an exit without a word.
        if number == signal.SIGINT == self.received:
            raise StoppedError(number, saved=False)
        self.received = number


class Keeper(pl.Callback):
    """Writes all output of a run, and the state to resume from.

    Args:
        folder: of the run.
        info: description of the weights, without metrics.
        train: training data, to which logits are adjusted.
        val: validation data, from which samples are drawn.
        kept: state to resume from, if any.
        stop: tells whether to stop.
    """

    def __init__(
        self,
        folder: RunFolder,
        info: ModelInfo,
        train: LabelledData,
        val: LabelledData,
        kept: dict[str, Any] | None,
        stop: StopSignal,
    ) -> None:
        self._folder = folder
        self._info = info
        self._train = train
        self._val = val
        self._kept = kept
        self._stop = stop
        self._best: float | None = kept["best"] if kept else None
        self._best_figure: float | None = kept["best_figure"] if kept else None
        self._pending: list[tuple[Row, Tensor]] = []
        self._metrics: MetricsFile | None = None
        self._board: Any = None
        self._progress: Progress | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the optimizer's state, open the files."""
        module = _training(pl_module)
        self._stop.take_over()
        if trainer.received_sigterm:
            self._stop.received = signal.SIGTERM
        if self._kept is not None:
            with self._folder.restoring():
                module.restore_optimizer(self._kept)
        if trainer.is_global_zero:
            from torch.utils.tensorboard.writer import SummaryWriter

            figures = ["miou", "pixel_accuracy"] if module.recipe.task == "segmentation" else ["top1", "top5"]
            columns = ["epoch", "step", "lr", "train_loss", "val_loss", *figures]
            self._metrics = MetricsFile(self._folder.metrics, columns, module.step)
            self._board = SummaryWriter(str(self._folder.tensorboard), purge_step=module.step + 1)
            self._progress = Progress(module.recipe.epochs, module.steps_per_epoch, module.step)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimizer step: record its loss; save at intervals, and when asked to stop."""
        module = _training(pl_module)
        if (batch_idx + 1) % module.recipe.accumulate:
            return
        row: Row = {"epoch": module.epoch, "step": module.step + 1, "lr": module.rate}
        self._pending.append((row, module.finish_step()))
        on_cpu = module.device.type == "cpu"
        if on_cpu or module.step % LOSS_CHECK_STEPS == 0:
            module.check_loss()
        if on_cpu or module.step % FLUSH_STEPS == 0:
            self._flush()
        if module.step % module.steps_per_epoch == 0:
            return
        stopping = self._asked_to_stop(trainer)
        # A validation can take minutes and fail: then only one step has to be repeated.
        before_validation = (module.step + 1) % module.steps_per_epoch == 0 and _is_validated(module.epoch + 1, module.recipe)
        if stopping or before_validation or module.step % module.recipe.checkpoint_steps == 0:
            self._save(trainer, module)
        if stopping:
            raise self._stopped()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate, keep the best weights, draw, save."""
        module = _training(pl_module)
        module.check_loss()
        self._flush()
        if _is_validated(module.epoch, module.recipe):
            self._validate(trainer, module)
        if module.recipe.logit_adjustment and module.epoch == module.recipe.epochs:
            self._adjust_logits(trainer, module)
        self._save(trainer, module)
        if self._asked_to_stop(trainer) and module.epoch < module.recipe.epochs:
            raise self._stopped()

    def close(self) -> None:
        """Close the files and remove the bar, however the run ended: Lightning's own hook is only called on success."""
        if self._progress is not None:
            self._progress.close()
        if self._board is not None:
            try:
                self._board.close()
            except OSError as error:
                log.warning("the last values for TensorBoard could not be written (%s)", error.strerror)

    def _validate(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        module.check_parameters()
        loss, metrics = module.validate(lambda: self._busy(trainer, "validating"))
        module.check_validation(loss)
        if not trainer.is_global_zero or self._metrics is None or self._progress is None:
            return
        epoch = module.epoch - 1
        steps = [row["train_loss"] for row in self._metrics.rows if row["epoch"] == epoch and "val_loss" not in row]
        figures = metrics.summary()
        row: Row = {"epoch": epoch, "step": module.step, "train_loss": sum(steps) / len(steps), "val_loss": loss, **figures}
        self._metrics.append([row])
        self._to_board(module.step, {f"epoch/{name}": value for name, value in row.items() if name not in ("epoch", "step")})
        if self._is_best(metrics):
            self._keep(module.evaluated, metrics, module.recipe)
        self._progress.validated(row, module.recipe.metric, self._best_figure)
        with _drawing("learning curves"):
            plot_curves(self._metrics.rows, module.recipe.metric, self._folder.curves)
        with _drawing("samples"):
            self._folder.samples.mkdir(exist_ok=True)
            draw_samples(module, self._val, self._info, self._folder.samples / f"epoch_{epoch:04d}.jpg")

    def _is_best(self, metrics: Metrics) -> bool:
        return self._best is None or metrics.score() > self._best

    def _keep(self, network: Network, metrics: Metrics, recipe: Recipe) -> None:
        """Save the best weights so far."""
        figures = metrics.summary()
        self._best, self._best_figure = metrics.score(), figures[recipe.metric]
        info = self._info.model_copy(update={"metrics": {name: round(value, 4) for name, value in figures.items()}})
        with writing(self._folder.path):
            save_checkpoint(network.state_dict(), info, self._folder.best)
        with _drawing("confusion matrix"):
            _plot_confusion(metrics, self._folder)

    def _adjust_logits(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        train, val, metric = self._train, self._val, module.recipe.metric
        if not isinstance(train, SegmentationData) or not isinstance(val, SegmentationData) or not trainer.is_global_zero:
            return
        network = load_model(load_checkpoint(self._folder.best))
        if not has_class_bias(network):
            return
        device = str(module.device) if module.device.type == "cuda" else module.device.type
        metrics = adjust_logits(
            network,
            train,
            val,
            device=device,
            seed=module.recipe.seed,
            on_image=lambda: self._busy(trainer, "adjusting logits"),
        )
        before, better = self._best_figure, self._is_best(metrics)
        if better:
            self._keep(network, metrics, module.recipe)
        if self._progress is not None and before is not None:
            self._progress.adjusted(metric, before, metrics.summary()[metric], kept=better)

    def _busy(self, trainer: pl.Trainer, what: str) -> None:
        if self._progress is not None:
            self._progress.busy(what)
        # Processes may have different numbers of batches, so none can stop on its own.
        if trainer.world_size == 1 and self._stop.received:
            raise self._stopped()

    def _flush(self) -> None:
        rows = [{**row, "train_loss": float(loss)} for row, loss in self._pending]
        self._pending = []
        if self._metrics is None or self._progress is None or not rows:
            return
        self._metrics.append(rows)
        self._progress.stepped(len(rows), rows[-1])
        for row in rows:
            self._to_board(int(row["step"]), {f"step/{name}": row[name] for name in ("train_loss", "lr")})

    def _to_board(self, step: int, values: Row) -> None:
        with writing(self._folder.path):
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def _save(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        module.check_loss()
        module.check_parameters()
        self._flush()
        if trainer.is_global_zero:
            self._folder.save({**module.state_to_keep(), "best": self._best, "best_figure": self._best_figure}, self._info)
        trainer.strategy.barrier("saved")

    def _asked_to_stop(self, trainer: pl.Trainer) -> bool:
        # One process may receive the signal a step before another: all stop if any has received it.
        return bool(trainer.strategy.reduce_boolean_decision(self._stop.received is not None, all=False))

    def _stopped(self) -> StoppedError:
        return StoppedError(self._stop.received or signal.SIGTERM)


@contextmanager
def _drawing(what: str) -> Iterator[None]:
    """Training continues even if a plot fails."""
    try:
        yield
    except Exception as error:
        log.warning("the %s could not be drawn (%s)", what, kind_and_first_line(error))


def _is_validated(epochs: int, recipe: Recipe) -> bool:
    """Whether there is a validation after this number of epochs."""
    return epochs % recipe.validate_every == 0 or epochs == recipe.epochs


def _training(module: pl.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module


def _plot_confusion(metrics: Any, folder: RunFolder) -> None:
    from espnetv2.evaluation.plots import plot_confusion

    plot_confusion(metrics, folder.confusion)
