from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts import open_dataset
from espnetv2.training.augmentation import OUTSIDE, vary_colour, vary_for_classification, vary_for_segmentation
from espnetv2.training.batches import EpochBatches, Key, Share, TrainingSet, steps_per_epoch
from espnetv2.training.recipe import Augmentation, Recipe, load_recipe
from helpers import picture
from small_data import make_shapes


def recipe(**changes: object) -> Recipe:
    return load_recipe("segmentation", [f"{key}={value}" for key, value in changes.items()])


def keys(count: int, plan: Recipe, epoch: int = 0, first: int = 0, rank: int = 0, world: int = 1) -> list[list[Key]]:
    batches = EpochBatches(count, plan, Share(rank, world))
    batches.start(epoch, first)
    found = list(batches)
    assert len(found) == len(batches)
    return found


def test_an_epoch_sees_every_picture_once_in_an_order_of_its_own() -> None:
    plan = recipe(batch_size=4)
    first, second = keys(12, plan), keys(12, plan, epoch=1)
    assert sorted(key.index for batch in first for key in batch) == list(range(12))
    assert [key.index for batch in first for key in batch] != [key.index for batch in second for key in batch]
    assert keys(12, plan) == first


def test_within_an_epoch_it_can_go_on() -> None:
    plan = recipe(batch_size=4)
    assert keys(12, plan, first=2) == keys(12, plan)[2:]


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_accumulation_share_the_same_step(world: int, accumulate: int) -> None:
    alone = keys(12, recipe(batch_size=4))
    plan = recipe(batch_size=4, accumulate=accumulate)
    shared = [keys(12, plan, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(alone):
        rounds = range(step * accumulate, (step + 1) * accumulate)
        assert [key for round_ in rounds for rank in range(world) for key in shared[rank][round_]] == batch


def test_a_small_data_set_is_repeated_and_a_rest_is_left_out() -> None:
    (batch,) = keys(3, recipe(batch_size=8))
    # Copies are keys of their own, so each is varied in its own way.
    assert len(set(batch)) == 8
    assert sorted(key.copy for key in batch) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert {key.index for key in batch if key.copy == 1} == {0, 1, 2}
    assert steps_per_epoch(11, recipe(batch_size=4)) == 2
    assert steps_per_epoch(11, recipe(batch_size=4, pass_scales=[1, 0.5])) == 4


def test_a_picture_is_varied_the_same_for_the_same_key(tmp_path: Path) -> None:
    data = open_dataset("masks", make_shapes(tmp_path), "train")
    plan = recipe(input_size="40x24", pass_scales=[1.0, 0.5])
    pictures = TrainingSet(data, plan)
    first, again, other = pictures[Key(0, 0, 1)], pictures[Key(0, 0, 1)], pictures[Key(1, 0, 1)]
    assert isinstance(first, tuple)
    assert isinstance(again, tuple)
    assert isinstance(other, tuple)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (3, 24, 40)
    half = pictures[Key(0, 1, 1)]
    assert isinstance(half, tuple)
    assert half[1].shape == (12, 20)


def test_picture_and_mask_are_cut_alike() -> None:
    """The mask holds the picture's own brightness, so they can be compared after any variation."""
    rng = np.random.default_rng(0)
    source = picture(64, 48).convert("L")
    mask = (np.asarray(source) // 2).astype(np.uint8)
    for scale in ((0.5, 0.6), (1.0, 1.0), (1.7, 2.0)):
        for scale_of in ("input", "source"):
            options = Augmentation(scale=scale, scale_of=scale_of, flip=True)
            image, labels = vary_for_segmentation(source.convert("RGB"), mask, (40, 72), options, rng)
            assert labels.shape == (40, 72)
            seen = labels != OUTSIDE
            assert seen.any()
            difference = np.abs(np.asarray(image)[..., 0].astype(int) - 2 * labels)[seen]
            assert difference.mean() < 8
            assert np.asarray(image)[~seen].max(initial=0) == 0


def test_colours_vary_before_there_is_an_edge() -> None:
    source, mask = picture(64, 48), np.full((48, 64), 255, np.uint8)
    options = Augmentation(scale=(0.5, 0.5), flip=False, colour=0.9)
    varied, labels = vary_for_segmentation(source, mask, (48, 64), options, np.random.default_rng(1))
    seen = labels == 255
    assert seen.mean() == 0.25
    assert np.asarray(varied)[~seen].max() == 0
    rng = np.random.default_rng(1)
    rng.uniform()
    for places in (1, 1, 64 - 32 + 1, 48 - 24 + 1):
        rng.integers(places)
    expected = vary_colour(source.resize((32, 24), Image.Resampling.BILINEAR), 0.9, rng)
    assert np.array_equal(np.asarray(varied)[seen].reshape(24, 32, 3), np.asarray(expected))


def test_at_scale_one_of_the_input_the_whole_picture_is_seen() -> None:
    options = Augmentation(scale=(1.0, 1.0), flip=False)
    source = picture(64, 48)
    image, _ = vary_for_segmentation(source, np.zeros((48, 64), np.uint8), (24, 32), options, np.random.default_rng(0))
    assert np.array_equal(np.asarray(image), np.asarray(source.resize((32, 24), 2)))


def test_a_smaller_training_size_cuts_a_part_out_of_the_picture_at_the_input_size() -> None:
    options = Augmentation(scale=(1.0, 1.0), flip=False)
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None], 64, axis=0)
    image, labels = vary_for_segmentation(
        Image.fromarray(ramp).convert("RGB"), ramp, (16, 32), options, np.random.default_rng(0), stretched=(64, 128)
    )
    assert labels.shape == (16, 32)
    assert set(np.diff(np.asarray(image)[3, :, 0].astype(int))) <= {0, 1}
    assert int(labels[0, -1]) - int(labels[0, 0]) in (15, 16)


def test_training_pictures_of_another_size_are_parts_of_the_picture_at_the_input_size(tmp_path: Path) -> None:
    data = open_dataset("masks", make_shapes(tmp_path), "train")
    plan = recipe(input_size="64x48", train_size="24x16", augmentation="{scale: [1, 1], flip: false}")
    sample = TrainingSet(data, plan)[Key(0, 0, 0)]
    assert isinstance(data, SegmentationData)
    assert isinstance(sample, tuple)
    whole = torch.from_numpy(plan.preprocessing()(data.pairs[0][0].picture()))
    parts = whole.unfold(1, 16, 1).unfold(2, 24, 1)
    distance = (parts - sample[0][:, None, None]).abs().amax((0, 3, 4))
    # A part is resampled on its own, which rounds otherwise.
    assert distance.min() < 0.05
    assert distance.median() > 0.5


def test_sharp_training_pictures_are_shrunk_like_those_of_the_finished_networks_users(tmp_path: Path) -> None:
    data = open_dataset("masks", make_shapes(tmp_path), "train")
    whole = {"input_size": "40x24", "augmentation": "{scale: [1, 1], flip: false}"}
    sharp, coarse = (TrainingSet(data, recipe(**whole, **more))[Key(0, 0, 0)] for more in ({}, {"shrink_to": "8x8"}))
    assert isinstance(data, SegmentationData)
    assert isinstance(sharp, tuple)
    assert isinstance(coarse, tuple)
    expected = recipe(**whole, shrink_to="8x8").preprocessing()(data.pairs[0][0].picture())
    assert np.array_equal(coarse[0].numpy(), expected)
    assert not torch.equal(coarse[0], sharp[0])
    assert torch.equal(coarse[1], sharp[1])


def test_classification_variations_have_the_size_asked_for() -> None:
    options = Augmentation(scale=(0.1, 1.0), colour=0.4, trivial_augment=True, erase=1.0)
    state = torch.random.get_rng_state()
    first = vary_for_classification(picture(90, 30), (32, 48), options, np.random.default_rng(3))
    again = vary_for_classification(picture(90, 30), (32, 48), options, np.random.default_rng(3))
    assert first.size == (48, 32)
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert torch.equal(state, torch.random.get_rng_state())


def test_every_pass_has_an_order_of_its_own() -> None:
    plan = recipe(batch_size=4, pass_scales=[1.0, 0.5])
    batches = keys(12, plan)
    orders = [[key.index for batch in batches for key in batch if key.pass_ == pass_] for pass_ in range(2)]
    assert orders[0] != orders[1]
    assert [sorted(order) for order in orders] == [list(range(12))] * 2
    assert keys(12, plan, first=4) == batches[4:]
