"""``accelerate``: the same network with the same output, faster on a CPU or a GPU."""

from __future__ import annotations

import copy
import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from espnetv2.acceleration.backends import Backend, check_backend
from espnetv2.acceleration.compiler import KernelsUnavailableError, kernels
from espnetv2.acceleration.operators import is_traced
from espnetv2.acceleration.plans.networks import build_plan, outputs
from espnetv2.acceleration.plans.packing import Packed
from espnetv2.acceleration.plans.plan import Plan
from espnetv2.acceleration.sizes import MOST_VALUES
from espnetv2.acceleration.structure import change, with_usual_layers
from espnetv2.errors import UserError
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.decoders.pyramid import PyramidDecoder
from espnetv2.models.segmentation import SegmentationModel
from espnetv2.postprocessing import MOST_IN_A_BYTE, class_map_type

if TYPE_CHECKING:
    from espnetv2.acceleration.gpu.engine import Engine
    from espnetv2.info import ModelInfo
    from espnetv2.models.network import Network

Output = Literal["logits", "classes"]
_Prepared = tuple[Packed, "OrderedDict[tuple[int, int, int], Plan]"]
_PLANS_KEPT = 8

log = logging.getLogger(__name__)


class AcceleratedModel(nn.Module):
    """A trained network for inference only; see ``accelerate``.

    Attributes:
        plain: the network itself, which runs when the kernels cannot. The kernels hold packed copies of its weights: load new
            weights into the accelerated model (``load_state_dict``), not into this.
        backend: how the network is run on a GPU.
        info: description of the weights.
        num_classes: outputs of the network.
    """

    if TYPE_CHECKING:

        def __call__(self, image: Tensor) -> Tensor:
            """As ``forward``."""

    def __init__(self, model: Network, output: Output, backend: Backend = "auto") -> None:
        super().__init__()
        self.backend = backend
        self.plain = with_usual_layers(copy.deepcopy(model)).requires_grad_(False)
        self.output = output
        self.info: ModelInfo | None = model.info
        self._change = change(self.plain) if _has_kernels(model) else None
        self.num_classes = outputs(model) if _has_kernels(model) and self._change is None else model.num_classes
        self.winners = min(self.num_classes, len(model.info.classes)) if model.info is not None else self.num_classes
        self._forget()
        self._lock = threading.Lock()
        segments = isinstance(model, SegmentationModel)
        # Not a method: the GPU's engine keeps it, and the memory must be freed as soon as this module is.
        self._answer = functools.partial(_answer, output=output, winners=self.winners, segments=segments)
        before: Any = self.register_load_state_dict_pre_hook
        before(_accept_plain_names)
        after: Any = self.register_load_state_dict_post_hook
        after(_prepare_anew)

    @property
    def fallback(self) -> str | None:
        """Why the plain network last ran on a GPU instead of something faster; None if it never did."""
        return None if self._engine is None else self._engine.fallback

    @property
    def reason(self) -> str | None:
        """Why the CPU kernels are not used, or None if they are."""
        parameter = next(self.plain.parameters())
        if self.backend == "eager":
            return 'the backend "eager" was requested'
        if parameter.device.type != "cpu":
            return f"the model is on {parameter.device}, but the kernels are for the CPU"
        if parameter.dtype != torch.float32:
            return f"the model is {str(parameter.dtype).removeprefix('torch.')}, but the kernels are for float32"
        return self._obstacle

    @functools.cached_property
    def _obstacle(self) -> str | None:
        if not _has_kernels(self.plain):
            return 'there are kernels for the decoder "pyramid" only'
        if self._change is not None:
            return f"the network has been modified since it was created: {self._change}"
        if self.output == "classes" and isinstance(self.plain, SegmentationModel) and self.num_classes > MOST_IN_A_BYTE:
            return f"the kernels' class maps support at most {MOST_IN_A_BYTE} classes"
        try:
            kernels()
        except KernelsUnavailableError as error:
            return str(error)
        return None

    def forward(self, image: Tensor) -> Tensor:
        """Logits, or the class map (N, H, W) or classes (N), of an image (N, 3, H, W)."""
        parameter = next(self.plain.parameters())
        if self.training or not _takes(image) or image.device != parameter.device or image.dtype != parameter.dtype:
            return self._plainly(image)
        if image.device.type == "cuda" and self.backend != "eager":
            return self._on_gpu(image.device)(image)
        if self.reason is not None:
            return self._plainly(image)
        answer = self._plan((image.shape[0], image.shape[2], image.shape[3]))(image)
        if self.output == "classes" and isinstance(self.plain, ClassificationModel):
            return answer[:, : self.winners].argmax(1)
        return answer

    def train(self, mode: bool = True) -> AcceleratedModel:
        """As for any module; in training mode the plain network runs, and only its running statistics change."""
        self._forget()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> AcceleratedModel:
        # Called by .to(), .half() and the like.
        self._forget()
        apply: Callable[..., Any] = super()._apply
        apply(fn, recurse)
        return self

    def _forget(self) -> None:
        # New objects, not cleared ones: a thread that is making a plan from the old weights adds it to the old ones.
        self._prepared: _Prepared = Packed(), OrderedDict()
        self._engine: Engine | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out plans, which point into memory that a copy does not have, and other state of this process."""
        own = ("_prepared", "_engine", "_lock", "_obstacle")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As for any module, then prepared again."""
        self.__dict__.update(state)
        self._forget()
        self._lock = threading.Lock()

    def _on_gpu(self, device: torch.device) -> Engine:
        with self._lock:
            # Read once: another thread may forget it at any time.
            engine = self._engine
            if engine is None or engine.device != device:
                from espnetv2.acceleration.gpu.engine import Engine

                segments = self.output == "classes" and isinstance(self.plain, SegmentationModel)
                winners = self.winners if segments and self.winners <= MOST_IN_A_BYTE else None
                engine = self._engine = Engine(self.plain, self.backend, self._answer, winners)
            return engine

    def plan(self, height: int, width: int, pictures: int = 1) -> Plan:
        """The operations for one input size, for measurements.

        Raises:
            UserError: the kernels are not used.
        """
        if self.reason is not None:
            raise UserError(f"there is no plan: {self.reason}")
        return self._plan((pictures, height, width))

    def _plan(self, shape: tuple[int, int, int]) -> Plan:
        packed, plans = self._prepared
        if (found := plans.pop(shape, None)) is None:
            segments = isinstance(self.plain, SegmentationModel) and self.output == "classes"
            found = build_plan(self.plain, shape, self.winners if segments else None, packed)
        plans[shape] = found
        # A folder of images of many sizes must not fill the memory with plans.
        while len(plans) > _PLANS_KEPT:
            plans.popitem(last=False)
        return found

    def _plainly(self, image: Tensor) -> Tensor:
        return self._answer(self.plain(image))


def accelerate(model: Network, *, output: Output = "logits", backend: Backend = "auto") -> AcceleratedModel:
    """The same function as ``model``, several times faster, for inference only.

    The result holds a copy of the weights: later changes to ``model`` do not affect it. ``load_state_dict`` loads others, such
    as ``model.state_dict()``; parameters changed in place, or given by ``torch.func.functional_call``, are not seen. It may be
    moved to another device or type, where it continues with what is fastest there. An image that requires gradients runs
    through the plain network.

    On a CPU, kernels are compiled on first use on a machine, which takes seconds and is logged. If they cannot be used (no C
    compiler, the decoder "psp", layers that were modified or have hooks, an image that is not float32), the plain network
    runs, and the log gives the reason. On a GPU, the fastest backend is measured for every image shape that occurs a third
    time, and remembered for later processes; if any of this fails, the plain network runs, and the log says so.

    Args:
        model: a network from ``create_model``, in evaluation mode.
        output: ``logits``, or ``classes``: for segmentation the class map (N, H, W), uint8, computed without logits at the
            image's resolution (int32 beyond 256 classes); for classification the most probable class (N), int64. Outputs
            that are not classes, such as the Cityscapes networks' 20th, are ignored.
        backend: ``auto``; ``eager``, torch's own operators; or for a GPU ``streams`` (an EESP unit's branches run
            concurrently), ``graphs`` (a CUDA graph for each shape), ``compile`` (``torch.compile``) or ``fused`` (this
            package's Triton kernels, in graphs; float32 without TF32).

    Returns:
        a module that takes (N, 3, H, W) of any size, batch and memory layout. It may be called from several threads.

    Raises:
        UserError: the model is in training mode; ``output`` or ``backend`` is unknown, or the backend is not available.
    """
    if output not in ("logits", "classes"):
        raise UserError(f'no output "{output}": choose "logits" or "classes"')
    if not isinstance(model, ClassificationModel | SegmentationModel):
        raise UserError(f"{type(model).__name__} is not a network of this package: create one with espnetv2.create_model")
    if model.training:
        raise UserError("the model is in training mode, in which its output depends on the batch: call model.eval() first")
    device = next(model.parameters()).device.type
    check_backend(backend, device)
    made = AcceleratedModel(model, output, backend).eval()
    if device == "cpu" and backend == "auto" and (reason := made.reason) is not None:
        log.info("running on torch's own operators, which are slower here: %s", reason)
    return made


def _has_kernels(model: Network) -> bool:
    return isinstance(model, ClassificationModel) or isinstance(model.decoder, PyramidDecoder)


def _takes(image: Tensor) -> bool:
    return (
        image.device.type in ("cpu", "cuda")
        and image.ndim == 4
        and image.shape[1] == 3
        and 0 < image.numel() <= MOST_VALUES
        and not (image.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled(image.device.type)
        and not is_traced()
        and not image.is_neg()
        and type(image) in (Tensor, nn.Parameter)
    )


def _accept_plain_names(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Run before weights are loaded: those of the original network have their names without ``plain``."""
    assert isinstance(model, AcceleratedModel)
    for name in model.plain.state_dict():
        if prefix + name in state:
            state[f"{prefix}plain.{name}"] = state.pop(prefix + name)


def _prepare_anew(model: nn.Module, _: object) -> None:
    """Run after weights were loaded into ``model`` or into a module that contains it."""
    assert isinstance(model, AcceleratedModel)
    model._forget()


def _answer(logits: Tensor, output: Output, winners: int, segments: bool) -> Tensor:
    if output == "logits":
        return logits
    found = logits[:, :winners].max(1).indices
    return found.to(class_map_type(winners)) if segments else found
