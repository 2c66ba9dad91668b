"""What a training step does to the weights: frozen parts, the moving average, losses that are not finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm

from espnetv2 import create_model
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.models.segmentation import SegmentationModel
from espnetv2.training.module import TrainingModule, _average_into
from espnetv2.training.optimizers import normalisation_to_keep
from espnetv2.training.recipe import load_recipe
from espnetv2.weights import load_checkpoint
from small_runs import MODEL, SMALL, run_small


@pytest.mark.parametrize("frozen", ["encoder", "all"])
def test_frozen_batch_normalisation_stays_frozen(shapes: Path, tmp_path: Path, frozen: str) -> None:
    start = run_small(shapes, tmp_path / "start", "epochs=1", "ema_decay=null")
    best = run_small(shapes, tmp_path / "run", f"freeze_batch_norm={frozen}", "ema_decay=null", init=str(start))
    before, after = load_checkpoint(start).state_dict, load_checkpoint(best).state_dict
    norms = {name.rpartition(".")[0] for name in before if name.endswith("running_mean")}
    for name, tensor in before.items():
        is_norm, in_encoder = name.rpartition(".")[0] in norms, name.startswith("encoder.")
        if is_norm and (in_encoder or frozen == "all"):
            assert torch.equal(tensor, after[name]), name
        elif name.endswith(("conv.weight", "running_mean")):
            assert not torch.equal(tensor, after[name]), name


def test_normalisation_over_several_gpus_is_frozen_too() -> None:
    recipe = load_recipe("segmentation", ["freeze_batch_norm=all"])
    network = TorchSyncBatchNorm().apply(create_model(MODEL, num_classes=3))
    assert isinstance(network, SegmentationModel)
    kept = normalisation_to_keep(network, recipe)
    assert len(kept) == sum(isinstance(layer, torch.nn.SyncBatchNorm) for layer in network.modules()) > 50


def test_a_frozen_encoder_does_not_move(shapes: Path, tmp_path: Path) -> None:
    start = run_small(shapes, tmp_path / "start", "epochs=1", "ema_decay=null")
    best = run_small(shapes, tmp_path / "run", "encoder_lr=0", "ema_decay=null", init=str(start))
    before, after = load_checkpoint(start).state_dict, load_checkpoint(best).state_dict
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("decoder.") for name in moved)


def test_moving_average_by_hand() -> None:
    average, model = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    torch.nn.init.constant_(model.weight, 3.0)
    model.load_state_dict({**model.state_dict(), "num_batches_tracked": torch.tensor(5)})
    _average_into(average, model, 0.25)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.state_dict()["num_batches_tracked"] == 5


def test_a_diverging_run_is_stopped_and_not_saved(shapes: Path, tmp_path: Path) -> None:
    hopeless = ("optimizer.name=sgd", "lr=1e30", "gradient_clip=null", "schedule.warmup_epochs=0", "epochs=5")
    with pytest.raises(UserError, match=r"(not finite at step \d+|have diverged by step \d+).*lower lr"):
        run_small(shapes, tmp_path / "run", *hopeless, "checkpoint_steps=1")
    assert not (tmp_path / "run/last.ckpt").exists()


def test_a_single_parameter_that_is_not_finite(shapes: Path) -> None:
    training = open_dataset("auto", shapes, "train")
    for place in (0, 1, -1):
        network = create_model(MODEL, num_classes=3)
        module = TrainingModule(network, load_recipe("segmentation", [*SMALL]), training, training, None)
        module.check_parameters()
        torch.nn.init.constant_(list(network.parameters())[place], float("nan"))
        with pytest.raises(UserError, match=r"have diverged by step 0 \(the largest is nan\)"):
            module.check_parameters()


def test_a_validation_loss_that_is_not_finite(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = TrainingModule.validate
    monkeypatch.setattr(TrainingModule, "validate", lambda *arguments: (float("nan"), validate(*arguments)[1]))
    with pytest.raises(UserError, match=r"the validation loss is nan after step \d+: lower lr"):
        run_small(shapes, tmp_path / "run", "epochs=1")
    assert not (tmp_path / "run/best.safetensors").exists()


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    module = TrainingModule.__new__(TrainingModule)
    torch.nn.Module.__init__(module)
    module.bad_step, module.step, module.steps_per_epoch = None, 6, 4
    module._watch(torch.tensor(1.0))
    module.check_loss()
    module._watch(torch.tensor(float("nan")))
    module.step = 9
    module._watch(torch.tensor(float("inf")))
    with pytest.raises(UserError, match="not finite at step 7, in epoch 2: lower lr"):
        module.check_loss()
