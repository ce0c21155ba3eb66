"""What computes a request: a function for each kind of model. Only this needs torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from NoisyLabelSegLib.bundle import ModelDescription, find_bundle
from NoisyLabelSegLib.inference.model import Model, model_of
from NoisyLabelSegLib.inference.predictor import choose_device
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.progress import Progress, Step
from NoisyLabelSegLib.refinement import RefineSettings, refine_part
from NoisyLabelSegLib.regions import together
from NoisyLabelSegLib.segmenting import segment_part
from NoisyLabelSegLib.uncertainty import map_uncertainty_part
from NoisyLabelSegLib.worker.messages import Request


class WarmModel:
    """The model that was used last, since loading one takes longer than many a computation."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._key: tuple[Path, ModelDescription, torch.device] | None = None

    def get(self, name: str, device: str, progress: Progress) -> Model:
        """The model of that name or folder on that device, loaded unless it is the one used last.

        Raises:
            InputError: see `inference.model.load_model`.
        """
        chosen, bundle = choose_device(device), find_bundle(name)
        key = (bundle.folder, bundle.description, chosen)
        if self._model is None or key != self._key:
            progress(Step("loading the model", 0, device=str(chosen)))
            self._model = None  # two at a time may be too many for a GPU
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._model, self._key = model_of(bundle, chosen), key
        return self._model


def outcome_of(request: Request, warm: WarmModel, progress: Progress) -> Outcome:
    """Compute a request.

    Raises:
        InputError: when something given cannot be used.
    """
    return KINDS[request.kind](request, warm.get(request.model, request.device, progress), progress)


def devices() -> list[str]:
    """What can be computed on, the fastest first, such as "cuda:0 (NVIDIA A2)"."""
    found = [f"cuda:{n} ({torch.cuda.get_device_name(n)})" for n in range(torch.cuda.device_count())]
    return [*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _refine(request: Request, model: Model, progress: Progress) -> Outcome:
    settings = RefineSettings(stages=request.stages)
    return refine_part(request.part, request.segments, request.masks, model, settings, progress)


def _map_uncertainty(request: Request, model: Model, progress: Progress) -> Outcome:
    return map_uncertainty_part(request.part, request.segments, request.masks, model, progress=progress)


def _segment(request: Request, model: Model, progress: Progress) -> Outcome:
    """The request's masks are the region of interest; without any it is the whole image."""
    roi = together(request.masks) if request.masks else None
    return segment_part(request.part, roi, model, progress=progress)


KINDS: dict[str, Callable[[Request, Model, Progress], Outcome]] = {
    "refine": _refine,
    "uncertainty": _map_uncertainty,
    "segment": _segment,
}
