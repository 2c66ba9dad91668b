"""Figures of matplotlib, without a window and written whole."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from espnetv2.errors import MissingPackageError
from espnetv2.files import atomic_path
from espnetv2.ownership import PNG_KEY, WRITER

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, *, extra: str = "train") -> Figure:
    """An empty figure of a size in inches, without a window.

    Args:
        width: in inches.
        height: in inches.
        extra: the one of this package that brings matplotlib for such plots.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", extra, "drawing a plot") from error
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, completely or not at all; ``is_ours`` recognises a PNG."""
    with atomic_path(path) as partial, warnings.catch_warnings():
        # Names in scripts that the font lacks are drawn as boxes; to say so at every plot helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(partial, metadata={PNG_KEY: WRITER} if path.suffix == ".png" else None)
