from __future__ import annotations

import io
import os
from pathlib import Path

import platformdirs
import pytest
import torch

from espnetv2.cli.main import main
from espnetv2.factory import create_model
from espnetv2.info import generic_info
from espnetv2.labels import CITYSCAPES
from espnetv2.models.registry import model_spec
from espnetv2.preprocessing import Preprocessing
from espnetv2.weights.checkpoint import save_checkpoint
from helpers import WEIGHTS, Outcome, Run
from networks import trained_like
from small_data import make_shapes


def pytest_configure() -> None:
    """The tests run side by side, one core each."""
    torch.set_num_threads(1)
    # Without a GPU its kernels are tested in Triton's interpreter, which has to be asked for before Triton is imported.
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's cache or folder of weights."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    # Built kernels are shared, or every program that a test starts would build them.
    kernels = tmp_path_factory.getbasetemp().parent / "kernels"
    kernels.mkdir(exist_ok=True)
    (cache / "espnetv2").mkdir()
    (cache / "espnetv2/kernels").symlink_to(kernels)
    monkeypatch.delenv("ESPNETV2_WEIGHTS", raising=False)


@pytest.fixture(scope="session")
def official_weights() -> Path:
    """Folder of released files; tests that need it are left out where there is none."""
    if not WEIGHTS.is_dir():
        pytest.skip("no folder of released weight files on this machine")
    return WEIGHTS


@pytest.fixture(scope="session")
def segmentation_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Cityscapes checkpoint with random parameters, 64x32 input."""
    torch.manual_seed(0)
    spec = model_spec("espnetv2_seg_s0_5")
    info = generic_info(spec, 20, CITYSCAPES).model_copy(update={"preprocessing": Preprocessing(height=32, width=64)})
    path = tmp_path_factory.mktemp("weights") / "segmentation.safetensors"
    save_checkpoint(create_model(spec.name).state_dict(), info, path)
    return path


@pytest.fixture(scope="session")
def classification_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classification checkpoint whose answers depend on the picture, seven classes, 64x64 input."""
    spec = model_spec("espnetv2_s0_5")
    info = generic_info(spec, 7)
    info = info.model_copy(update={"preprocessing": info.preprocessing.resized(64, 64)})
    path = tmp_path_factory.mktemp("weights") / "classification.safetensors"
    save_checkpoint(trained_like(spec.name, 7).state_dict(), info, path)
    return path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small segmentation data set, which a test may change: each file of tests has its own."""
    return make_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The program, within this process."""

    def call(*arguments: object, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr("sys.argv", ["espnetv2", *map(str, arguments)])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        code = stop.value.code
        assert isinstance(code, int)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """What platformdirs does where neither the environment nor the system's list of users names a home folder."""

    def homeless(_: str) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(platformdirs, "user_cache_dir", homeless)
