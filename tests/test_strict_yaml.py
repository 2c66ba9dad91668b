from __future__ import annotations

import pytest
import yaml

from espnetv2 import strict_yaml


def test_plain_and_merged_mappings() -> None:
    text = "a: &a {x: 1, y: [2, {z: 3}]}\nb: {c: &c {<<: *a, x: 4}}\nd: {<<: *c}\n1: one\n"
    assert strict_yaml.load(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["classes: {0: a, 1: b, 1: c}", "lr: 1\nlr: 2", "a: [{b: 1, b: 1}]"])
def test_a_key_that_occurs_twice(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="occurs twice"):
        strict_yaml.load(text)


@pytest.mark.parametrize(
    "text", ["a: 2024-13-45", "a: 0x_", "a: !!int b", "a: !!float b", "a: !!bool b", "[" * 3000 + "]" * 3000]
)
def test_values_that_fail_in_conversion(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        strict_yaml.load(text)
