from __future__ import annotations

import pytest

from espnetv2.info import generic_info
from espnetv2.labels import Labels
from espnetv2.models.registry import model_spec


def test_classes_with_the_same_name_are_refused() -> None:
    """Results are by name: one would hide the other."""
    with pytest.raises(ValueError, match='two classes have the name "car"'):
        generic_info(model_spec("espnetv2_s0_5"), 3, Labels(("car", "tree", "car"), ()))
