"""Nobody is told that a network is exported or run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from espnetv2.exporting.export import export
from exports import small_classification
folder = Path({out!r})
export(small_classification(), folder / "model.onnx", format="onnx")
export(small_classification(), folder / "model.xml", format="openvino")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a home is not the environment's to name")
def test_no_runtime_leaves_anything_in_the_home(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    for folder in (home, out):
        folder.mkdir()
    names = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    program = PROGRAM.format(tests=str(Path(__file__).parents[1]), out=str(out))
    subprocess.run([sys.executable, "-c", program], env=kept | {"HOME": str(home), "TMPDIR": str(home)}, check=True)
    assert sorted(path.name for path in out.iterdir()) == ["model.bin", "model.onnx", "model.xml"]
    left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert left == []
