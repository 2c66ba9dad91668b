"""Videos are complete or not there, and play as fast as they were recorded."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from espnetv2.errors import UserError
from espnetv2.inference.results import ClassificationResult
from espnetv2.inference.video import VideoWriter, read_frames
from espnetv2.inference.videos import VideoSink
from espnetv2.info import generic_info
from espnetv2.models.registry import model_spec
from espnetv2.ownership import is_ours

INFO = generic_info(model_spec("espnetv2_s0_5"), 10)


def frame(number: int, fps: float | None, seconds: float = 0.0) -> ClassificationResult:
    """Dark and bright in turns."""
    image = Image.new("RGB", (96, 64), (230, 230, 230) if number % 2 else (20, 20, 20))
    return ClassificationResult("clip", "clip", image, ((0, 1.0),), INFO, number, fps, seconds)


def frames_of(path: Path) -> int:
    return len(list(read_frames(path)))


def write_noise(path: Path) -> None:
    noise = np.random.default_rng(0)
    with VideoWriter(path, (96, 64), 10.0) as writer:
        for _ in range(60):
            writer.write(Image.fromarray(noise.integers(0, 256, (64, 96, 3), np.uint8)))


def unexpected(source: str, error: UserError) -> None:
    raise AssertionError(source, error)


def test_an_interrupted_video_is_not_kept(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), VideoSink(tmp_path, unexpected) as videos:
        videos.write(frame(0, 10.0))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_recording_plays_as_fast_as_it_was_made(tmp_path: Path) -> None:
    """Frames taken after 0, 2 and 3 seconds, at 25 frames a second, which come all at once as from a GPU's batch."""
    with VideoSink(tmp_path, unexpected) as videos:
        assert not videos.records_camera
        for number, seconds in enumerate((0.0, 2.0, 3.0)):
            path = videos.write(frame(number, None, seconds))
        assert videos.records_camera
    bright = [np.asarray(shown.picture)[:40].mean() > 128 for shown in read_frames(path)]
    assert bright == [False] * 50 + [True] * 25 + [False]


def test_a_recording_of_more_frames_than_a_video_has(tmp_path: Path) -> None:
    with VideoSink(tmp_path, unexpected) as videos:
        for number in range(101):
            path = videos.write(frame(number, None, number / 50))
    assert frames_of(path) == 51


def test_what_follows_a_video_does_not_cost_it(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), VideoSink(tmp_path, unexpected) as videos:
        path = videos.write(frame(0, 10.0))
        videos.finish()
        raise KeyboardInterrupt
    assert frames_of(path) == 1


def test_a_rate_that_the_format_cannot_store(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "slow.mp4", (96, 64), 239.943) as writer:
        writer.write(Image.new("RGB", (96, 64)))
    (shown,) = read_frames(tmp_path / "slow.mp4")
    assert shown.fps == pytest.approx(239.9, abs=0.05)


def test_only_videos_of_this_program_are_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        with VideoSink(tmp_path, unexpected) as videos:
            path = videos.write(frame(0, 10.0))
    assert is_ours(path)
    path.write_bytes(path.read_bytes()[:-1])
    with (
        VideoSink(tmp_path, unexpected) as videos,
        pytest.raises(UserError, match="was not written by this version of the program"),
    ):
        videos.write(frame(0, 10.0))
    path.unlink()
    path.mkdir()
    with (
        VideoSink(tmp_path, unexpected) as videos,
        pytest.raises(UserError, match="was not written by this version of the program"),
    ):
        videos.write(frame(0, 10.0))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of files")
def test_a_video_that_does_not_fit_the_disk_is_not_kept(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"clip\.mp4 cannot be written completely: free some space"):
            write_noise(tmp_path / "clip.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_video_is_reported_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(writer: VideoWriter) -> None:
        raise UserError(f"{writer._path.name} cannot be written completely")

    monkeypatch.setattr(VideoWriter, "_check_complete", fails)
    failed: list[str] = []
    with VideoSink(tmp_path, lambda source, error: failed.append(f"{Path(source).name}: {error}")) as videos:
        videos.write(frame(0, 10.0))
    assert failed == ["clip_overlay.mp4: clip_overlay.mp4 cannot be written completely"]


def test_a_truncated_video_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for shade in range(40):
        writer.write(np.full((64, 96, 3), shade, np.uint8))
    writer.release()
    assert frames_of(path) == 40
    assert not caplog.messages
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count = frames_of(path)
    assert caplog.messages == [f'the video "{path}" ends after {count} of 40 frames: it is damaged or incomplete']
