"""An experiment's YAML: typed by dataclasses, an unknown key is an error that names the line.

The file holds the paper's full setting; its section ``small`` overrides what a small machine cannot do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Preprocessing
from training.data.cases import read_dataset
from training.data.windows import Augmentation
from training.engine import EngineSettings
from training.recipes import RECIPES
from training.recipes.parts import NetworkSettings, OptimizerSettings, Parts


@dataclass(frozen=True)
class Experiment:
    """A parsed experiment.

    Attributes:
        recipe: name in `training.recipes.RECIPES`.
        settings: the recipe's own settings.
        preprocessing, augmentation, network, optimizer, engine: see their classes.
        data: name of the prepared data set, a folder in the folder of data sets.
        values: everything, as plain values: what a checkpoint's folder and a model card keep.
    """

    recipe: str
    settings: Any
    preprocessing: Preprocessing
    augmentation: Augmentation
    network: NetworkSettings
    optimizer: OptimizerSettings
    engine: EngineSettings
    data: str
    values: Mapping[str, Any]

    def parts(self, data_folder: Path, seed: int, limit: int = 0) -> Parts:
        """Open the data set and put together what the recipe needs."""
        dataset = read_dataset(data_folder / self.data)
        return Parts(dataset, self.preprocessing, self.network, self.optimizer, seed, self.augmentation, limit)

    def make(self, parts: Parts) -> Any:
        """The recipe itself."""
        return RECIPES[self.recipe].recipe(self.settings, parts)


def read_experiment(path: Path, *, small: bool = False, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment.

    Args:
        path: the YAML file.
        small: apply its section ``small``.
        overrides: ``key.subkey=value`` texts that win over the file.

    Raises:
        InputError: with file and line, for an unknown key or a value of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"The experiment '{path}' cannot be read: {error}.") from error
    if not isinstance(values, dict) or values.get("recipe") not in RECIPES:
        raise InputError(f"'{path}' must name one of the recipes {', '.join(RECIPES)} under 'recipe'.")
    smaller = values.pop("small", {})
    if small:
        values = _merged(values, smaller)
    parser = _parser(values["recipe"])
    try:
        for override in overrides:
            key, _, value = override.partition("=")
            values = _merged(values, _nested(key.split("."), yaml.safe_load(value)))
        parsed = parser.instantiate_classes(parser.parse_object(values))
    except ArgumentError as error:
        raise InputError(_with_line(path, text, str(error))) from error
    return Experiment(**{**vars(parsed), "values": values})


def _parser(recipe: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--recipe", type=str, required=True)
    parser.add_argument("--data", type=str, required=True)
    parser.add_argument("--settings", type=RECIPES[recipe].settings, default=RECIPES[recipe].settings())
    parser.add_argument("--preprocessing", type=Preprocessing, required=True)
    parser.add_argument("--augmentation", type=Augmentation, default=Augmentation())
    parser.add_argument("--network", type=NetworkSettings, default=NetworkSettings())
    parser.add_argument("--optimizer", type=OptimizerSettings, default=OptimizerSettings())
    parser.add_argument("--engine", type=EngineSettings, default=EngineSettings())
    return parser


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def _with_line(path: Path, text: str, message: str) -> str:
    """Find the line of the first key of the YAML that the parser's message names."""
    message = " ".join(message.split())
    node = yaml.compose(text)
    found = [(dotted, line) for dotted, line in _key_lines(node) if f"{dotted}'" in message or f'{dotted}"' in message]
    found = found or [
        (dotted, line) for dotted, line in _key_lines(node) if f"'{dotted.rsplit('.', 1)[-1]}'" in message
    ]
    place = f"{path}, line {max(found, key=lambda item: len(item[0]))[1]}" if found else str(path)
    return f"{place}: {message}"


def _key_lines(node: Any, prefix: str = "") -> list[tuple[str, int]]:
    lines = []
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{prefix}{key.value}"
        lines += [(name, key.start_mark.line + 1), *_key_lines(value, f"{name}.")]
    return lines
