"""Collect the results of each stream of frames into one overlay video."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from espnetv2.inference.results import Result, SegmentationResult
from espnetv2.inference.video import DEFAULT_FPS, VideoWriter


class VideoSink:
    """Writes each stream's overlays to ``<stem>_overlay.mp4`` in ``folder``; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._path: Path | None = None
        self._writer: VideoWriter | None = None

    def path(self, result: Result) -> Path:
        """The path of a frame's video."""
        return self._folder / f"{result.stem}_overlay.mp4"

    def write(self, result: Result) -> Path:
        """Append a frame's overlay; returns its video's path."""
        path = self.path(result)
        overlay = result.overlay(all_classes=True) if isinstance(result, SegmentationResult) else result.overlay()
        if self._writer is None or path != self._path:
            self._stack.close()
            self._writer = self._stack.enter_context(VideoWriter(path, overlay.size, result.fps or DEFAULT_FPS))
            self._path = path
        self._writer.write(overlay)
        return path

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # A camera is stopped from the keyboard: what was recorded until then is a complete video.
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._stack.close()
        else:
            self._stack.__exit__(kind, error, trace)
