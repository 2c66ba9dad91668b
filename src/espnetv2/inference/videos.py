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

    A video is complete when ``finish`` is called, when the next one begins, or at the end of the block; after an error in the
    block it is discarded. The recording of a camera plays as fast as it was made.

    Args:
        folder: for the videos.
        on_error: called with a video's path if it cannot be written completely.
    """

    def __init__(self, folder: Path, on_error: Callable[[str, UserError], None]) -> None:
        self._folder = folder
        self._on_error = on_error
        self._current: _Recording | None = None

    @property
    def records_camera(self) -> bool:
        """Whether the frames being written are a camera's, which end only when the user ends them."""
        return self._current is not None and self._current.is_camera

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
        if self._current is None or path != self._current.path:
            self.finish()
            check_replaceable(path)
            self._current = _Recording(path, overlay.size, result.fps)
        self._current.append(overlay, result.seconds)
        return path

    def finish(self) -> None:
        """Complete the video that is being written, if there is one."""
        recording, self._current = self._current, None
        if recording is None:
            return
        try:
            recording.finish()
        except UserError as error:
            self._on_error(str(recording.path), error)
        except OSError as error:
            reason = UserError(f"{recording.path} cannot be written ({error.strerror or error})")
            self._on_error(str(recording.path), reason)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        elif self._current is not None:
            self._current.discard(kind, error, trace)


class _Recording:
    """One video while it is written. A camera's frames, which come at any time, are repeated or left out as time demands."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float | None) -> None:
        self.path = path
        self.is_camera = fps is None
        with ExitStack() as stack:
            self._writer = stack.enter_context(VideoWriter(path, size, fps or DEFAULT_FPS))
            self._stack = stack.pop_all()
        self._written = 0
        self._last: Image.Image | None = None

    def append(self, overlay: Image.Image, seconds: float | None) -> None:
        if self.is_camera and seconds is not None:
            place = int(seconds * DEFAULT_FPS)
            if place < self._written:
                return
            for _ in range(place - self._written):
                self._write(self._last or overlay)
        self._write(overlay)

    def _write(self, overlay: Image.Image) -> None:
        self._writer.write(overlay)
        self._written, self._last = self._written + 1, overlay

    def finish(self) -> None:
        self._stack.close()

    def discard(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)
