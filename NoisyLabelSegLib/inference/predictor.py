"""Running a network: the device that is really used, and what happens when memory runs out, said out loud."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError

BATCH = 32
CPU_VOXELS = 2**17  # A batch of more is split on a CPU, so that a chunk takes well under a second.
WINDOWS = {2: (512, 256, 128), 3: (128, 96, 64)}  # Largest side seen at once, and the smaller ones to fall back on.
OVERLAP = 0.25  # Of neighbouring windows.


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
    """Maps a batch ``BCHW[D]`` of any size to float32 logits ``BNHW[D]``, or what is made of them, on the CPU.

    Args:
        network, device: what predicts, and where.
        say: told of each step down.
        patch: the only size of window that the network is shown; without it windows are as large as they can be.

    When memory runs out it goes on with smaller batches, then smaller windows, then on the CPU, and keeps to what
    worked; each step down is told through ``say``.

    Attributes:
        device: where the network is now.
        report: called after each chunk of the batch and each window with the number of items done, which may be a
            fraction, and of how many; an exception that it raises ends the prediction.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        say: Callable[[str], None] = lambda text: None,
        patch: Sequence[int] = (),
    ) -> None:
        self.network, self.device, self.say = network.to(device).eval(), device, say
        self.patch = tuple(patch)
        self.report: Callable[[float, int], None] = lambda done, items: None
        self._batch, self._window = BATCH, 0

    def __call__(self, inputs: Tensor, finish: Callable[[Tensor], Tensor] = lambda logits: logits) -> Tensor:
        """Predict; ``finish`` is given the logits chunk by chunk, so that all of them are never there at once."""
        result, done = torch.empty(0), 0
        while done < len(inputs):
            chunk = inputs[done : done + self._chunk_size(inputs)]
            try:
                with torch.inference_mode():
                    found = finish(self._predict(chunk, done, len(inputs)))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            else:
                if not done:
                    result = found.new_empty(len(inputs), *found.shape[1:])
                result[done : done + len(chunk)] = found
                done += len(chunk)
                self.report(done, len(inputs))
                continue
            self._step_down(len(chunk), inputs.shape[2:])  # out here, where the failed attempt's tensors are free
        return result

    def _chunk_size(self, inputs: Tensor) -> int:
        if self.device.type != "cpu":
            return self._batch
        return min(self._batch, max(1, CPU_VOXELS // inputs[0, 0].numel()))

    def _predict(self, chunk: Tensor, done: int, items: int) -> Tensor:
        """Logits of a chunk, before which so many of the batch's items were done."""
        size = self._window_size(chunk.shape[2:])
        if tuple(chunk.shape[2:]) == size:
            return self.network(chunk.to(self.device)).float().cpu()
        from monai.inferers import sliding_window_inference

        places = prod(_places(*sides) for sides in zip(chunk.shape[2:], size, strict=True))
        seen = 0

        def see(part: Tensor) -> Tensor:
            nonlocal seen
            logits: Tensor = self.network(part)
            seen += 1
            self.report(done + seen / places, items)
            return logits

        logits = sliding_window_inference(
            chunk, size, 1, see, overlap=OVERLAP, mode="gaussian", sw_device=self.device, device="cpu"
        )
        assert isinstance(logits, Tensor)
        return logits.float()

    def _window_size(self, shape: torch.Size) -> tuple[int, ...]:
        largest = WINDOWS[len(shape)][self._window]
        return self.patch or tuple(min(largest, side) for side in shape)

    def _step_down(self, items: int, shape: torch.Size) -> None:
        """Choose the next step that needs less memory than what was tried."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        windows = WINDOWS[len(shape)]
        tried = min(self._batch, items)
        smaller = [n for n in range(self._window + 1, len(windows)) if windows[n] < max(shape) and not self.patch]
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


def _places(side: int, window: int) -> int:
    """How often a window is laid along a side."""
    return 1 if side == window else 1 + ceil((side - window) / int(window * (1 - OVERLAP)))
