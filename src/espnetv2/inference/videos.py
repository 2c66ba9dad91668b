"""Collect the results of each stream of frames into one overlay video."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from PIL import Image

from espnetv2.errors import UserError
from espnetv2.inference.results import Result, SegmentationResult
from espnetv2.inference.video import DEFAULT_FPS, VideoWriter
from espnetv2.ownership import check_replaceable


class VideoSink:
    """Writes each stream's overlays to ``<stem>_overlay.mp4`` in ``folder``; a context manager.

    The recording of a camera plays as fast as it was made: each frame is repeated until the next one was taken.

    Args:
        folder: for the videos.
        on_error: called with a video's path if it cannot be written completely.
    """

    def __init__(self, folder: Path, on_error: Callable[[str, UserError], None]) -> None:
        self._folder = folder
        self._on_error = on_error
        self._stack = ExitStack()
        self._path: Path | None = None
        self._writer: VideoWriter | None = None
        self._is_camera = False
        self._written = 0
        self._last: Image.Image | None = None

    def path(self, result: Result) -> Path:
        """The path of a frame's video."""
        return self._folder / f"{result.stem}_overlay.mp4"

    def write(self, result: Result) -> Path:
        """Append a frame's overlay; returns its video's path.

        Raises:
            UserError: the video cannot be written, or another program's file has its name.
        """
        path = self.path(result)
        overlay = result.overlay(all_classes=True) if isinstance(result, SegmentationResult) else result.overlay()
        if self._writer is None or path != self._path:
            self._finish()
            check_replaceable(path)
            self._is_camera = result.fps is None
            self._writer = self._stack.enter_context(VideoWriter(path, overlay.size, result.fps or DEFAULT_FPS))
            self._path, self._written, self._last = path, 0, None
        if self._is_camera and self._last is not None and result.seconds is not None:
            for _ in range(int(result.seconds * DEFAULT_FPS) - self._written):
                self._append(self._writer, self._last)
        self._append(self._writer, overlay)
        return path

    def _append(self, writer: VideoWriter, overlay: Image.Image) -> None:
        writer.write(overlay)
        self._written, self._last = self._written + 1, overlay

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # A camera is stopped from the keyboard: what was recorded until then is a complete video.
        if kind is None or (self._is_camera and issubclass(kind, KeyboardInterrupt)):
            self._finish()
        else:
            self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        try:
            self._stack.close()
        except UserError as error:
            self._on_error(str(self._path), error)
        except OSError as error:
            self._on_error(str(self._path), UserError(f"{self._path} cannot be written ({error.strerror or error})"))
