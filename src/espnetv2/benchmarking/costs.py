"""Costs of a network that do not depend on the backend: parameters, operations, size of the weights."""

from __future__ import annotations

from safetensors.torch import save

from espnetv2.benchmarking.contenders import Contender
from espnetv2.models.cost import all_multiply_accumulates, parameters, published_parameters


def costs(contender: Contender) -> dict[str, int | None]:
    """The counts of a contender, by the names of the report's fields; for an exported file only its size."""
    if contender.graph is None:
        assert contender.file is not None
        # OpenVINO always has its parameters in another file, ONNX only if they are large.
        name = f"{contender.file.stem}.bin" if contender.file.suffix == ".xml" else f"{contender.file.name}.data"
        files = [path for path in (contender.file, contender.file.with_name(name)) if path.is_file()]
        return {"weight_bytes": sum(path.stat().st_size for path in files)}
    network = contender.graph.network
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
    macs = all_multiply_accumulates(contender.graph, *contender.size)
    return {
        "parameters": parameters(network),
        "published_parameters": None if contender.own is None else published_parameters(contender.own),
        "macs": macs.convolutions,
        "matrix_macs": macs.matrices,
        "weight_bytes": len(save(tensors)),
    }
