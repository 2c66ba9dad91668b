from __future__ import annotations

import errno
import pickle

import pytest

from espnetv2.errors import MissingPackageError, UserError, is_out_of_memory
from espnetv2.training.recipe import parse_recipe


def test_a_missing_package_crosses_processes() -> None:
    error = MissingPackageError("onnx", "export", "writing a file")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_where_torch_is_missing_an_extra_is_not_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(MissingPackageError("openvino", "export", "running a file")).endswith(
        "pip install '.[export]' in a checkout of espnetv2"
    )
    monkeypatch.setattr("espnetv2.errors.find_spec", lambda _: None)
    assert str(MissingPackageError("openvino", "export", "running a file")).endswith("not installed: pip install openvino")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes."), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 5 GiB"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (Exception("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 9"), True),
        (RuntimeError("something else"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_what_is_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(UserError) as refused:
        parse_recipe(
            "a0: &a [x, x, x, x]\na1: &b [*a, *a, *a, *a]\nepochs: [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n", "mine.yaml"
        )
    assert len(str(refused.value)) < 300
