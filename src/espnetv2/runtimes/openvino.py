"""OpenVINO files, in OpenVINO."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from espnetv2.errors import UserError
from espnetv2.runtimes.description import KEY, read_description
from espnetv2.runtimes.private import import_openvino
from espnetv2.runtimes.quiet import quiet
from espnetv2.runtimes.runtime import Array


class OpenVinoFile:
    """A network in OpenVINO, on the CPU, in float32 unless the file says otherwise."""

    def __init__(self, path: Path, threads: int | None) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        settings: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            with quiet():
                network = core.read_model(str(path))
            text = str(network.get_rt_info([KEY]).value) if network.has_rt_info([KEY]) else None
        except Exception as error:
            # A damaged file can break the reader anywhere.
            raise UserError(
                f"{path} is damaged or not an OpenVINO file, or its .bin is not beside it: export it again"
            ) from error
        self.description = read_description(text, path)
        try:
            self._request = core.compile_model(network, "CPU", settings).create_infer_request()
        except Exception as error:
            raise UserError(f"{path} cannot be run here ({type(error).__name__}): export it again") from error
        # A busy request refuses other threads.
        self._lock = Lock()

    def __call__(self, images: Array) -> Array:
        """One batch."""
        with self._lock:
            out: Array = self._request.infer({0: images}, share_inputs=True, share_outputs=True)[0]
            # The request will write its next output to the same memory.
            return out.copy()


def open_file(path: Path, threads: int | None) -> OpenVinoFile:
    """The file, ready to run."""
    return OpenVinoFile(path, threads)
