"""Write a trained network as a bundle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from NoisyLabelSegLib.bundle.description import UNWRITTEN, ModelDescription, Weights
from NoisyLabelSegLib.bundle.folder import DESCRIPTION, LICENCE, METADATA, MODEL_CARD, Bundle, load_bundle
from NoisyLabelSegLib.bundle.staging import staged
from NoisyLabelSegLib.errors import InputError

if TYPE_CHECKING:
    import torch

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def write_bundle(
    folder: Path | str,
    description: ModelDescription,
    state_dict: Mapping[str, torch.Tensor],
    model_card: str,
    licence_text: str,
    half: bool,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle, verify it and put it in place, at once or not at all.

    Args:
        folder: where; its last part is usually the model's name.
        description: its ``weights`` are replaced: give `UNWRITTEN`.
        state_dict: the network's tensors.
        model_card: Markdown for ``docs/README.md``.
        licence_text: the whole licence, for ``LICENSE``.
        half: store the large tensors in float16, which halves the file; vectors, such as a normalisation's running
            statistics, stay in float32.
        overwrite: replace an existing folder.

    Raises:
        InputError: when the folder exists, a tensor is not finite, or the weights do not fit the described network.
    """
    folder = Path(folder)
    with staged(folder, overwrite) as new:
        for name in (UNWRITTEN.file, DESCRIPTION, MODEL_CARD):
            (new / name).parent.mkdir(exist_ok=True)
        complete = dataclasses.replace(description, weights=_write_weights(new, state_dict, half))
        _write_json(new / DESCRIPTION, dataclasses.asdict(complete))
        _write_json(new / METADATA, _metadata(complete))
        (new / MODEL_CARD).write_text(model_card, encoding="utf-8")
        (new / LICENCE).write_text(licence_text, encoding="utf-8")
        load_bundle(new).verify()
    return load_bundle(folder)


def _write_weights(folder: Path, state_dict: Mapping[str, torch.Tensor], half: bool) -> Weights:
    from safetensors.torch import save_file

    from NoisyLabelSegLib.bundle.weights import sha256

    path = folder / UNWRITTEN.file
    save_file({name: _stored(name, tensor, half) for name, tensor in state_dict.items()}, path)
    return Weights(UNWRITTEN.file, path.stat().st_size, sha256(path))


def _stored(name: str, tensor: torch.Tensor, half: bool) -> torch.Tensor:
    import torch

    # A copy, because safetensors refuses tensors that share memory.
    tensor = tensor.detach().to("cpu", copy=True).contiguous()
    if not tensor.isfinite().all():
        raise InputError(f"The weights '{name}' hold NaN or infinite values: this model cannot be written.")
    if not half or not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    smaller = tensor.to(torch.float16)
    return smaller if smaller.isfinite().all() else tensor


def _write_json(path: Path, value: Any) -> None:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"The model's description is not plain JSON: {error}.") from error
    path.write_text(text + "\n", encoding="utf-8")


def _metadata(description: ModelDescription) -> dict[str, Any]:
    """Say the same in MONAI's words: every key that its schema requires, and those it knows and we have."""
    names = ", ".join(label.name for label in description.labels)
    return {
        "schema": SCHEMA,
        "version": description.version,
        "changelog": {description.version: "exported by NoisyLabelSeg"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"safetensors": version("safetensors"), "SimpleITK": version("SimpleITK")},
        "name": description.name,
        "task": f"{description.kind} {names} in {description.modality} of the {description.anatomy}",
        "description": description.intended_use,
        "authors": f"see {MODEL_CARD}",
        "copyright": f"{description.licence}; see {LICENCE}",
        "data_source": "; ".join(
            f"{data.name} ({data.licence}) {data.url}".strip() for data in description.training_data
        ),
        "intended_use": f"{description.intended_use} Not for: {description.not_for}",
        "eval_metrics": {f"{q.metric}, {q.dataset}": q.value for q in description.quality},
        "references": [data.citation for data in description.training_data],
        "network_data_format": _network_data_format(description),
    }


def _network_data_format(description: ModelDescription) -> dict[str, Any]:
    arguments = description.network.arguments
    common = {"spatial_shape": ["*"] * arguments.get("spatial_dims", 3), "dtype": "float32", "value_range": []}
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": description.modality,
        "num_channels": arguments.get("in_channels", 1),
        "is_patch_data": True,
        **common,
    }
    channels = {"0": "background"} | {str(label.value): label.name for label in description.labels}
    prediction = {
        "type": "image",
        "format": "segmentation",
        "num_channels": arguments.get("out_channels", len(channels)),
        "channel_def": channels,
        **common,
    }
    return {"inputs": {"image": image}, "outputs": {"pred": prediction}}
