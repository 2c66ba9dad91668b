"""``accelerate``: the same network, the same answer, in the package's own kernels."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from espnetv2.acceleration.compiler import KernelsUnavailableError, kernels
from espnetv2.acceleration.plan import Packed, Plan, build_plan, outputs
from espnetv2.errors import UserError
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.decoders.pyramid import PyramidDecoder
from espnetv2.models.segmentation import SegmentationModel

if TYPE_CHECKING:
    from espnetv2.info import ModelInfo
    from espnetv2.models.network import Network

Output = Literal["logits", "classes"]
MOST_CLASSES = 256
_PLANS_KEPT = 8
_MOST = 2**31 - 1

log = logging.getLogger(__name__)


class AcceleratedModel(nn.Module):
    """A trained network for inference alone; see ``accelerate``.

    Attributes:
        plain: the network itself, which answers where the kernels cannot.
        reason: why the kernels are not used at all, or None.
        info: what the weights are.
        num_classes: outputs of the network.
    """

    def __init__(self, model: Network, output: Output) -> None:
        super().__init__()
        self.plain = copy.deepcopy(model).requires_grad_(False)
        self.output = output
        self.info: ModelInfo | None = model.info
        self.reason = _why_not(model, output)
        self.num_classes = model.num_classes if self.reason is not None else outputs(model)
        self.winners = min(self.num_classes, len(model.info.classes)) if model.info is not None else self.num_classes
        self._packed = Packed()
        self._plans: OrderedDict[tuple[int, int, int], Plan] = OrderedDict()

    def forward(self, image: Tensor) -> Tensor:
        """Logits, or the class map (N, H, W) resp. classes (N), of an image (N, 3, H, W)."""
        if self.reason is not None or not _takes(image) or next(self.plain.parameters()).device.type != "cpu":
            return self._plainly(image)
        if next(self.plain.parameters()).dtype != torch.float32 or self.training:
            return self._plainly(image)
        answer = self._plan((image.shape[0], image.shape[2], image.shape[3]))(image)
        if self.output == "classes" and isinstance(self.plain, ClassificationModel):
            return answer[:, : self.winners].argmax(1)
        return answer

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """As of any module; weights that had been prepared are prepared anew."""
        try:
            return super().load_state_dict(*args, **options)
        finally:
            self._forget()

    def train(self, mode: bool = True) -> AcceleratedModel:
        """As of any module; in training mode the plain network answers, and learns."""
        self._forget()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> AcceleratedModel:
        # The way of .to(), .half() and their like.
        self._forget()
        apply: Callable[..., Any] = super()._apply
        apply(fn, recurse)
        return self

    def _forget(self) -> None:
        self._packed = Packed()
        self._plans.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Without plans, which point into memory that a copy does not have."""
        return self.__dict__ | {"_packed": Packed(), "_plans": OrderedDict()}

    def plan(self, height: int, width: int, pictures: int = 1) -> Plan:
        """The operations for one input size, for whoever measures them.

        Raises:
            UserError: the kernels are not used.
        """
        if self.reason is not None:
            raise UserError(f"there is no plan: {self.reason}")
        return self._plan((pictures, height, width))

    def _plan(self, shape: tuple[int, int, int]) -> Plan:
        plans = self._plans
        if (found := plans.pop(shape, None)) is None:
            segments = isinstance(self.plain, SegmentationModel) and self.output == "classes"
            found = build_plan(self.plain, shape, self.winners if segments else None, self._packed)
        plans[shape] = found
        # A folder of pictures of all sizes must not fill the memory with plans.
        while len(plans) > _PLANS_KEPT:
            plans.popitem(last=False)
        return found

    @torch.no_grad()
    def _plainly(self, image: Tensor) -> Tensor:
        logits: Tensor = self.plain(image)
        if self.output == "logits":
            return logits
        found = logits[:, : self.winners].max(1).indices
        return found if isinstance(self.plain, ClassificationModel) else found.to(_map_type(self.winners))


def accelerate(model: Network, *, output: Output = "logits") -> AcceleratedModel:
    """The same function as ``model``, several times faster on a CPU, for inference alone.

    The result holds a copy of the weights: what happens to ``model`` afterwards does not reach it. Kernels are compiled at
    the first use on a machine, which takes seconds and is logged. Where they cannot be used (no C compiler, the decoder
    "psp", an image that is not float32 on the CPU) the plain network answers, and a line in the log says why.

    Args:
        model: a network of ``create_model``, in evaluation mode.
        output: ``logits``, or ``classes``: for segmentation the class map (N, H, W), uint8, without ever having logits at the
            image's resolution (int32 beyond 256 classes); for classification the most probable class (N), int64. Outputs
            that are no class, such as the Cityscapes networks' 20th, never win.

    Returns:
        a module that takes float32 (N, 3, H, W) of any size, batch and memory layout. It may be called from several threads.

    Raises:
        UserError: the model is in training mode, or ``output`` is neither of the two.
    """
    if output not in ("logits", "classes"):
        raise UserError(f'no output "{output}": choose "logits" or "classes"')
    if not isinstance(model, ClassificationModel | SegmentationModel):
        raise UserError(f"{type(model).__name__} is no network of this package: make one with espnetv2.create_model")
    if model.training:
        raise UserError("the model is in training mode, in which its answers depend on the batch: call model.eval() first")
    made = AcceleratedModel(model, output).eval()
    if made.reason is not None:
        log.info("running on torch's own operators, which are slower here: %s", made.reason)
    return made


def _why_not(model: Network, output: Output) -> str | None:
    if isinstance(model, SegmentationModel) and not isinstance(model.decoder, PyramidDecoder):
        return 'there are kernels for the decoder "pyramid" only'
    parameter = next(model.parameters())
    if parameter.device.type != "cpu":
        return f"the model is on {parameter.device}, and the kernels are for the CPU"
    if parameter.dtype != torch.float32:
        return f"the model is {str(parameter.dtype).removeprefix('torch.')}, and the kernels are for float32"
    if output == "classes" and isinstance(model, SegmentationModel) and model.num_classes > MOST_CLASSES:
        return f"class maps of the kernels hold at most {MOST_CLASSES} classes"
    if not all(_is_usual(layer) for layer in model.modules()):
        return "layers of the network have been replaced by other kinds"
    try:
        kernels()
    except KernelsUnavailableError as error:
        return str(error)
    return None


def _is_usual(layer: nn.Module) -> bool:
    """Whether this is no stranger in the network, and normalisation has all that it is folded from."""
    if isinstance(layer, nn.BatchNorm2d):
        return layer.affine and layer.track_running_stats
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return False
    return type(layer).__module__.startswith(("espnetv2.", "torch.nn."))


def _takes(image: Tensor) -> bool:
    return (
        image.device.type == "cpu"
        and image.dtype == torch.float32
        and image.ndim == 4
        and image.shape[1] == 3
        and 0 < image.numel() <= _MOST
        and not (image.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and type(image) in (Tensor, nn.Parameter)
    )


def _map_type(classes: int) -> torch.dtype:
    return torch.uint8 if classes <= MOST_CLASSES else torch.int32
