"""Read and write video through OpenCV, an optional package."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from espnetv2.errors import MissingPackageError, UserError
from espnetv2.files import atomic_path
from espnetv2.ownership import mark_video

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})
DEFAULT_FPS = 25.0
HIGHEST_CAMERA = 999
COMPLETE = 0.9
"""Share of the announced frames that a complete video has: some containers only estimate their number."""
log = logging.getLogger(__name__)


def _opencv(purpose: str) -> ModuleType:
    # FFmpeg and OpenCV would print messages of their own about what is reported as an error here.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError("opencv-python-headless", "video", purpose) from error
    return cv2


class Frame(NamedTuple):
    """An image of a video or a camera."""

    picture: Image.Image
    """8-bit RGB."""
    number: int
    """From 0."""
    seconds: float
    """When it is shown or was taken, after the first one."""
    fps: float | None
    """Frames per second; None for a camera, whose frames come as fast as they are used."""


def read_frames(source: Path | int | str) -> Iterator[Frame]:
    """The frames of a video (path or URL) or a camera (index), in order. The log says if a video ends early.

    Raises:
        MissingPackageError: OpenCV is not installed.
        UserError: the file is not a video, or there is no such camera.
    """
    is_camera = isinstance(source, int)
    kind = f"camera {source}" if is_camera else f'the video "{source}"'
    cv2 = _opencv(f"reading {kind}")
    if isinstance(source, int) and source > HIGHEST_CAMERA:
        raise UserError(f"there is no {kind}: cameras are counted from 0")
    capture = cv2.VideoCapture(source if is_camera else str(source))
    try:
        found_fps = capture.get(cv2.CAP_PROP_FPS)
        fps = None if is_camera else found_fps if 0 < found_fps < 1000 else DEFAULT_FPS
        expected = 0 if is_camera else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number, start = 0, 0.0
        while True:
            found, pixels = capture.read()
            if not found:
                break
            now = time.monotonic()
            start = start if number else now
            picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))
            yield Frame(picture, number, now - start if fps is None else number / fps, fps)
            number += 1
        if number == 0:
            fix = "check that one is connected" if is_camera else "it is damaged, or must be converted to MP4"
            raise UserError(f"{kind} gives no frames: {fix}")
        if number < COMPLETE * expected:
            log.warning("%s ends after %d of %d frames: it is damaged or incomplete", kind, number, expected)
    finally:
        capture.release()


class VideoWriter:
    """Write RGB frames of one size to an MP4 file, which appears only when it is complete.

    Raises:
        MissingPackageError: OpenCV is not installed.
        UserError: OpenCV cannot write such a video, or at the end: it could not be written completely.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        self._cv2 = _opencv("writing a video")
        self._path = path
        self._count = 0
        with ExitStack() as stack:
            self._partial = stack.enter_context(atomic_path(path))
            # Most players refuse odd sides.
            self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
            self._writer = self._opened(fps)
            if not self._writer.isOpened():
                # MPEG-4 stores rates as fractions of 16-bit numbers, which some from phones, such as 239.943, are not.
                self._writer = self._opened(round(fps, 1))
            if not self._writer.isOpened():
                raise UserError(f"OpenCV cannot write {path} at {size[0]}x{size[1]} and {fps:g} frames a second")
            self._stack = stack.pop_all()

    def _opened(self, fps: float) -> Any:
        return self._cv2.VideoWriter(str(self._partial), self._cv2.VideoWriter.fourcc(*"mp4v"), fps, self._size)

    def write(self, frame: Image.Image) -> None:
        """Append a frame, cropped or padded with black to the video's size."""
        canvas = frame if frame.size == self._size else frame.crop((0, 0, *self._size))
        self._writer.write(np.asarray(canvas)[:, :, ::-1])
        self._count += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.release()
        with self._stack as stack:
            if kind is None:
                self._check_complete()
                mark_video(self._partial)
            else:
                stack.__exit__(kind, error, trace)

    def _check_complete(self) -> None:
        # OpenCV does not report a full disk.
        capture = self._cv2.VideoCapture(str(self._partial))
        written = int(capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if written != self._count:
            raise UserError(f"{self._path} cannot be written completely: free some space, or choose another folder")
