"""The predictor: memory that runs out costs time, never the result, and is said aloud."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference import predictor as module
from NoisyLabelSegLib.inference.predictor import Predictor, choose_device, is_out_of_memory

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """Logits from each voxel alone; out of memory beyond ``capacity`` voxels at once."""

    def __init__(self, capacity: float = float("inf"), error: Callable[[], Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.capacity, self.error, self.calls = capacity, error, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        if inputs.shape[0] * inputs[0, 0].numel() > self.capacity:
            raise self.error()
        assert not torch.is_grad_enabled()
        return torch.stack([inputs.sum(dim=1), inputs[:, 0] ** 2, -inputs[:, 1]], dim=1)


def expected(inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return Pointwise()(inputs)


@pytest.mark.parametrize("shape", [(40, 2, 16, 24), (2, 2, 8, 16, 24), (1, 2, 5, 7)])
def test_small_inputs_go_through_at_once(shape: tuple[int, ...]) -> None:
    inputs, said = torch.randn(shape), list[str]()
    found = Predictor(Pointwise(), CPU, said.append)(inputs)
    torch.testing.assert_close(found, expected(inputs))
    assert (found.dtype, found.device, said) == (torch.float32, CPU, [])


@pytest.mark.parametrize("shape", [(2, 2, 600, 24), (1, 2, 530, 700), (1, 2, 150, 40, 30), (1, 2, 40, 130, 200)])
def test_large_inputs_go_through_windows_with_the_same_result(shape: tuple[int, ...]) -> None:
    inputs, network = torch.randn(shape), Pointwise()
    torch.testing.assert_close(Predictor(network, CPU)(inputs), expected(inputs), atol=1e-4, rtol=1e-4)
    assert network.calls > shape[0]


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((5, 2, 16, 24), [5]),
        ((70, 2, 16, 16), [32, 64, 70]),
        ((5, 2, 256, 256), [2, 4, 5]),
        ((2, 2, 512, 512), [1, 2]),
        ((2, 2, 8, 16, 24), [2]),
        ((2, 2, 600, 24), [0.5, 1, 1.5, 2, 2]),
        ((1, 2, 130, 40, 200), [0.25, 0.5, 0.75, 1, 1]),
    ],
    ids=str,
)
def test_it_tells_how_far_it_is(shape: tuple[int, ...], told: list[float]) -> None:
    """A CPU takes large slices a few at a time, so that the person is heard in between."""
    heard: list[tuple[float, int]] = []
    predict = Predictor(Pointwise(), CPU)
    predict.report = lambda done, items: heard.append((done, items))
    predict(torch.randn(shape))
    assert heard == [(done, shape[0]) for done in told]


@pytest.mark.parametrize("shape", [(4, 2, 512, 512), (1, 2, 700, 700)])
def test_an_exception_while_telling_ends_the_prediction(shape: tuple[int, ...]) -> None:
    def stop(done: float, items: int) -> None:
        raise KeyboardInterrupt

    network = Pointwise()
    predict = Predictor(network, CPU)
    predict.report = stop
    with pytest.raises(KeyboardInterrupt):
        predict(torch.randn(shape))
    assert network.calls == 1


@pytest.mark.parametrize(
    ("shape", "capacity", "said"),
    [
        ((20, 2, 16, 16), 5 * 256, ["batches of 10", "batches of 5"]),
        ((64, 2, 16, 16), 16 * 256, ["batches of 16"]),
        ((3, 2, 200, 200), 128 * 128, ["batches of 1", "windows of 128"]),
        ((2, 2, 300, 300), 256 * 256, ["windows of 256"]),
        ((1, 2, 300, 300), 128 * 128, ["windows of 256", "windows of 128"]),
        ((1, 2, 100, 80, 80), 96 * 80 * 80, ["windows of 96"]),
        ((1, 2, 90, 80, 80), 64**3, ["windows of 64"]),
    ],
    ids=str,
)
def test_each_step_down_is_said_and_the_result_is_right(shape: tuple[int, ...], capacity: int, said: list[str]) -> None:
    inputs, heard = torch.randn(shape), list[str]()
    predict = Predictor(Pointwise(capacity), CPU, heard.append)
    torch.testing.assert_close(predict(inputs), expected(inputs), atol=1e-4, rtol=1e-4)
    assert len(heard) == len(said)
    assert all("Memory ran out" in text and part in text for text, part in zip(heard, said, strict=True))
    predict(inputs)
    assert len(heard) == len(said), "it keeps to what worked"


def test_too_little_memory_ends_in_a_sentence() -> None:
    heard = list[str]()
    with pytest.raises(InputError, match="not enough memory"):
        Predictor(Pointwise(100), CPU, heard.append)(torch.randn(4, 2, 180, 180))
    assert len(heard) == 3


def test_the_last_step_is_the_cpu() -> None:
    """A GPU is played by the meta device's name: only the ladder is looked at."""
    network, heard = Pointwise(100), list[str]()
    predict = Predictor(network, CPU, heard.append)
    predict.device = torch.device("meta")
    network.forward = lambda inputs: (  # type: ignore[method-assign]
        (_ for _ in ()).throw(torch.OutOfMemoryError()) if inputs.is_meta else torch.zeros(inputs.shape[0], 3, 8, 8)
    )
    predict(torch.randn(2, 2, 8, 8))
    assert predict.device == CPU
    assert "on the CPU" in heard[-1]


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_other_errors_are_not_taken_for_memory(error: RuntimeError, memory: bool) -> None:
    assert is_out_of_memory(error) == memory
    if not memory:
        heard = list[str]()
        with pytest.raises(RuntimeError, match="mat1"):
            Predictor(Pointwise(0, lambda: error), CPU, heard.append)(torch.randn(4, 2, 8, 8))
        assert heard == []


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device().type in ("cpu", "cuda", "mps")
    for wrong in ("nonsense", "cuda:99"):
        with pytest.raises(InputError, match=wrong):
            choose_device(wrong)


def test_the_network_is_put_into_evaluation_mode() -> None:
    network = nn.Sequential(nn.Dropout(0.9), Pointwise()).train()
    inputs = torch.randn(3, 2, 8, 8)
    torch.testing.assert_close(Predictor(network, CPU)(inputs), expected(inputs))
    assert module.BATCH >= 1
