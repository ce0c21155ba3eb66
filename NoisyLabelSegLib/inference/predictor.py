"""Running a network: the device that is really used, and what happens when memory runs out, said out loud."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError

BATCH = 32
WINDOWS = {2: (512, 256, 128), 3: (128, 96, 64)}  # Largest side seen at once, and the smaller ones to fall back on.


def choose_device(wanted: str = "auto") -> torch.device:
    """The device for "auto", "cpu", "gpu" or a torch name such as "cuda:1".

    Raises:
        InputError: when a GPU is asked for and torch finds none.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif wanted == "gpu":
        wanted = "mps" if torch.backends.mps.is_available() else "cuda"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device '{wanted}' cannot be used here; choose 'cpu' or 'auto'.") from error
    return device


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory ran out, on a GPU or a CPU."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


class Predictor:
    """Maps a batch ``BCHW[D]`` of any size to float32 logits ``BNHW[D]`` on the CPU.

    When memory runs out it goes on with smaller batches, then smaller windows, then on the CPU, and keeps to what
    worked; each step down is told through ``say``.

    Attributes:
        device: where the network is now.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.network, self.device, self.say = network.to(device).eval(), device, say
        self._batch, self._window = BATCH, 0

    def __call__(self, inputs: Tensor) -> Tensor:
        while True:
            try:
                with torch.inference_mode():
                    return torch.cat([self._predict(chunk) for chunk in inputs.split(self._batch)])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._step_down(inputs.shape[0], inputs.shape[2:])

    def _predict(self, chunk: Tensor) -> Tensor:
        windows = WINDOWS[chunk.ndim - 2]
        window = windows[self._window]
        if max(chunk.shape[2:]) <= window:
            return self.network(chunk.to(self.device)).float().cpu()
        from monai.inferers import sliding_window_inference

        size = [min(window, side) for side in chunk.shape[2:]]
        logits = sliding_window_inference(
            chunk, size, 1, self.network, overlap=0.25, mode="gaussian", sw_device=self.device, device="cpu"
        )
        assert isinstance(logits, Tensor)
        return logits.float()

    def _step_down(self, items: int, shape: torch.Size) -> None:
        """Choose the next step that needs less memory than what was tried."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        windows = WINDOWS[len(shape)]
        tried = min(self._batch, items)
        smaller = [n for n in range(self._window + 1, len(windows)) if windows[n] < max(shape)]
        if tried > 1:
            self._batch = tried // 2
            self.say(f"Memory ran out: going on with batches of {self._batch}.")
        elif smaller:
            self._window = smaller[0]
            self.say(f"Memory ran out: going on with windows of {windows[self._window]} voxels.")
        elif self.device.type != "cpu":
            self.device = torch.device("cpu")
            self.network.to(self.device)
            self._batch, self._window = BATCH, 0
            self.say("The GPU's memory is too small: going on, more slowly, on the CPU.")
        else:
            raise InputError("There is not enough memory for this image: crop it around the structure and try again.")
