"""Small networks to export, and what every exported file has to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from espnetv2.exporting.export import Exported, export
from espnetv2.inference.predictor import Predictor
from espnetv2.inference.results import ClassificationResult, SegmentationResult
from espnetv2.info import generic_info
from espnetv2.labels import CITYSCAPES
from espnetv2.models.network import Network
from espnetv2.models.registry import model_spec
from espnetv2.preprocessing import Preprocessing
from espnetv2.runtimes.runtime import open_runtime
from helpers import SAMPLE, Run
from networks import trained_like


def small_segmentation() -> Network:
    """Cityscapes classes, 96x64."""
    network = trained_like("espnetv2_seg_s0_5", 20)
    info = generic_info(model_spec("espnetv2_seg_s0_5"), 20, CITYSCAPES)
    network.info = info.model_copy(update={"preprocessing": Preprocessing(height=64, width=96)})
    return network


def small_classification() -> Network:
    """Seven classes, 64x64."""
    network = trained_like("espnetv2_s0_5", 7)
    info = generic_info(model_spec("espnetv2_s0_5"), 7)
    network.info = info.model_copy(update={"preprocessing": info.preprocessing.resized(64, 64)})
    return network


def check_round_trip(network: Network, out: Path, **options: Any) -> Exported:
    """Export, verify, read the description back, and predict as the network does."""
    done = export(network, out, **options)
    assert done.verification is not None
    assert done.verification.pictures == 2
    assert open_runtime(out).description == done.description
    assert done.description.info == network.info
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    found, expected = (next(iter(Predictor(model)(SAMPLE))) for model in (out, network))
    if isinstance(found, ClassificationResult):
        assert isinstance(expected, ClassificationResult)
        assert found.top[0][0] == expected.top[0][0]
        return done
    assert isinstance(found, SegmentationResult)
    assert isinstance(expected, SegmentationResult)
    least = 0.999 if done.description.precision == "fp32" and done.description.output == "logits" else 0.95
    assert float(np.mean(found.class_map == expected.class_map)) >= least
    return done


def check_damaged(content: bytes, path: Path, title: str, run: Run) -> None:
    """A file of a format, with this content, is refused in one line."""
    path.write_bytes(content)
    outcome = run("predict", "--model", path, SAMPLE, "--out", path.parent / "out")
    assert outcome.code == 2
    assert "is damaged or not a" in outcome.stderr
    assert f" {title} file" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
