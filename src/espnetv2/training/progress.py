"""Progress display of a run: a bar with the remaining time in a terminal, and a line per validation."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from espnetv2.training.folder import Row

SPEED_WINDOW_S = 600


class _CutColumn(TextColumn):
    """Uses only the rest of the line, so that a narrow terminal shows the remaining time rather than this."""

    def render(self, task: Task) -> Text:
        """One line, truncated."""
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class Progress:
    """Progress of a whole run, on standard error.

    Args:
        epochs: of the run.
        steps_per_epoch: optimizer steps in each.
        step: number of steps already done.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, step: int) -> None:
        self._console = Console(stderr=True)
        self._epochs = epochs
        self._bar = RichProgress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            TextColumn("{task.completed}/{task.total} steps", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("ETA", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            _CutColumn("{task.fields[live]}", table_column=Column()),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=SPEED_WINDOW_S,
        )
        self._task = self._bar.add_task(
            self._title(step // steps_per_epoch), total=epochs * steps_per_epoch, completed=step, live=""
        )
        self._figure = ""
        self._bar.start()

    def stepped(self, steps: int, row: Row) -> None:
        """Some more steps are done; ``row`` belongs to the last one."""
        live = f"loss {row['train_loss']:.3f}  lr {row['lr']:.2g}  {self._figure}"
        self._bar.update(self._task, advance=steps, description=self._title(int(row["epoch"])), live=live)

    def busy(self, what: str) -> None:
        """Something else than a step is going on, such as ``validating``."""
        self._bar.update(self._task, description=what)

    def validated(self, row: Row, metric: str, best: float | None) -> None:
        """A validation is done."""
        self._figure = f"{metric} {row[metric]:.2f}" + (f" (best {best:.2f})" if best is not None else "")
        line = (
            f"{self._title(int(row['epoch']))}: loss {row['train_loss']:.4f}, validation {row['val_loss']:.4f}, {self._figure}"
        )
        self._bar.console.print(line, highlight=False, soft_wrap=True)

    def adjusted(self, metric: str, before: float, after: float, *, kept: bool) -> None:
        """The logits have been adjusted."""
        end = "" if kept else ", which is not better: left out"
        line = f"logit adjustment: {metric} {before:.2f} -> {after:.2f}{end}"
        self._bar.console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _title(self, epoch: int) -> str:
        return f"epoch {min(epoch + 1, self._epochs)}/{self._epochs}"
