"""The switch for TF32, which torch has without a GPU, too."""

from __future__ import annotations

import threading

import pytest
import torch

from espnetv2.acceleration.gpu.exact import without_tf32


@pytest.mark.parametrize("usual", [True, False])
def test_convolutions_are_exact_within_and_as_before_after(usual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", usual)
    with without_tf32:
        assert not torch.backends.cudnn.allow_tf32
        with without_tf32:
            pass
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == usual


def test_the_last_thread_to_leave_restores_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with without_tf32:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with without_tf32:
        thread.start()
        assert inside.wait(10)
    assert not torch.backends.cudnn.allow_tf32
    leave.set()
    thread.join()
    assert torch.backends.cudnn.allow_tf32
