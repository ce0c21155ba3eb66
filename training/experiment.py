"""An experiment's YAML: typed by dataclasses, an unknown key is an error that names the line.

The file holds the paper's full setting; its section ``small`` overrides what a small machine cannot do. A file with
``base: OTHER.yaml`` holds only what differs from that file beside it, in ``small`` too.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Preprocessing
from training.data.cases import DataSet, read_dataset
from training.data.labelled import labelled_part
from training.data.pooled import pooled
from training.data.windows import Augmentation
from training.engine import EngineSettings
from training.paradigms import PARADIGMS
from training.paradigms.plain import Learner
from training.predicted import FirstMasks, with_first_masks
from training.recipes import RECIPES
from training.recipes.parts import NetworkSettings, OptimizerSettings, Parts
from training.recipes.pretrain import PretrainSettings


@dataclass(frozen=True)
class Experiment:
    """A parsed experiment.

    Attributes:
        recipe: name in `training.recipes.RECIPES`.
        settings: the recipe's own settings.
        preprocessing, augmentation, network, optimizer, engine: see their classes.
        paradigm: how a recipe learns from labels: settings of one of `training.paradigms.PARADIGMS`.
        data: name of the prepared data set, a folder in the folder of data sets.
        labelled: share of the training patients that take part, see `training.data.labelled`; 1 where none need be.
        masks: whose predictions are the cases' first masks instead of the coarse ones.
        values: everything, as plain values: what a checkpoint's folder and a model card keep.
    """

    recipe: str
    settings: Any
    preprocessing: Preprocessing
    augmentation: Augmentation
    network: NetworkSettings
    optimizer: OptimizerSettings
    engine: EngineSettings
    paradigm: Any
    data: str
    labelled: float
    masks: FirstMasks
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not 0 < self.labelled <= 1:
            raise ValueError("'labelled', a share of the training patients, must lie above 0 and be at most 1")
        starts = getattr(self.settings, "starts", None)
        if self.masks.run and starts and starts.simulated:
            raise ValueError(
                "'masks' and 'settings.starts.simulated' both say what the first masks are: set one of them"
            )

    @property
    def builds_on(self) -> list[str]:
        """The runs that it takes something over from, by their names without a seed, each once."""
        names = [*(start.run for start in self.network.start), getattr(self.settings, "teacher", ""), self.masks.run]
        return list(dict.fromkeys(name for name in names if name))

    def dataset(self, data_folder: Path) -> DataSet:
        """Open the data set, and of pre-training those that are pooled with it."""
        dataset = read_dataset(data_folder / self.data)
        more = self.settings.pool if isinstance(self.settings, PretrainSettings) else ()
        return pooled([dataset, *(read_dataset(data_folder / name) for name in more)]) if more else dataset

    def parts(self, data_folder: Path, seed: int, limit: int = 0, runs: Path = Path("runs")) -> Parts:
        """Open the data set, as far as it is `labelled`, and put together what the recipe needs."""
        dataset = labelled_part(self.dataset(data_folder), self.labelled, seed)
        return self.parts_of(with_first_masks(dataset, self.masks, data_folder, runs, seed), seed, limit, runs)

    def parts_of(self, dataset: DataSet, seed: int, limit: int = 0, runs: Path = Path("runs")) -> Parts:
        """What the recipe needs, of a data set that is open already."""
        return Parts(
            dataset=dataset,
            preprocessing=self.preprocessing,
            network_settings=self.network,
            optimizer_settings=self.optimizer,
            seed=seed,
            augmentation=self.augmentation,
            limit=limit,
            runs=runs,
            paradigm_settings=self.paradigm,
        )

    def make(self, parts: Parts) -> Any:
        """The recipe itself."""
        registered = RECIPES[self.recipe]
        recipe = registered.recipe(self.settings, parts)
        if registered.paradigms:
            other = replace(parts, second=True)
            recipe.paradigm.prepare(recipe, parts, lambda: registered.recipe(self.settings, other))
        return recipe

    def companions(self, recipe: Any) -> Mapping[str, Learner]:
        """What learns beside a recipe, see `Paradigm`."""
        return recipe.paradigm.companions if RECIPES[self.recipe].paradigms else {}


def read_experiment(path: Path, *, small: bool = False, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment.

    Args:
        path: the YAML file.
        small: apply its section ``small``.
        overrides: ``key.subkey=value`` texts that win over the file.

    Raises:
        InputError: with file and line, for an unknown key or a value of the wrong type.
    """
    values, texts = _read_yaml(path)
    smaller = values.pop("small", None) or {}
    for over in [*([smaller] if small else []), *(_override(text) for text in overrides)]:
        values = _overridden(_with_named_paradigm(values), _with_named_paradigm(over))
    try:
        return parse_experiment(values)
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(_with_line(path, texts, str(error), small=small)) from error


def _read_yaml(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[Path, str]]:
    """A file's values over those of its base, and the text of each file, the last base first."""
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(f"The experiment '{path}' cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(f"'{path}' is not an experiment: it must hold keys and values.")
    if (base := values.pop("base", None)) is None:
        return values, {path: text}
    if (deeper := (*above, path.resolve())).count(deeper[-1]) > 1:
        raise InputError(f"'{path}' is its own base: name another file.")
    below, texts = _read_yaml(path.parent / str(base), deeper)
    return _merged(below, values), {**texts, path: text}


def parse_experiment(values: Mapping[str, Any]) -> Experiment:
    """Turn plain values into an experiment.

    Raises:
        ArgumentError, ValueError, TypeError: for an unknown key or a value of the wrong type.
    """
    if values.get("recipe") not in list(RECIPES):
        raise ValueError(f"'recipe' must be one of {', '.join(RECIPES)}.")
    values = _with_named_paradigm(values)
    named = values.get("paradigm", {})
    name = named.get("name", "plain") if isinstance(named, dict) else named
    if name not in PARADIGMS:
        raise ValueError(f"'paradigm' must be one of {', '.join(PARADIGMS)}.")
    if name != "plain" and not RECIPES[values["recipe"]].paradigms:
        raise ValueError(f"The recipe '{values['recipe']}' does not learn from labels, which paradigm {name} needs.")
    parser = _parser(values["recipe"], name)
    parsed = vars(parser.instantiate(parser.parse_object(dict(values))))
    # What learns without labels learns from all cases, however few are labelled for others.
    labelled = parsed["labelled"] if RECIPES[values["recipe"]].segments else 1.0
    return Experiment(**{**parsed, "labelled": labelled, "values": values})


def differences(one: Experiment, other: Experiment) -> list[str]:
    """The keys whose values differ, defaults filled in, in the order of the settings."""
    ours, theirs = _every(one), _every(other)
    return [key for key in ours | theirs if ours.get(key) != theirs.get(key)]


def fingerprint(experiment: Experiment) -> str:
    """Eight characters that tell settings, defaults filled in, from others."""
    return f"{zlib.crc32(repr(sorted(_every(experiment).items())).encode()):08x}"


def _every(experiment: Experiment) -> dict[str, Any]:
    return _flat({key: value for key, value in asdict(experiment).items() if key != "values"})


def _with_named_paradigm(values: Mapping[str, Any]) -> dict[str, Any]:
    """``paradigm: dale`` is short for ``paradigm: {name: dale}``."""
    named = values.get("paradigm")
    return {**values, "paradigm": {"name": named}} if isinstance(named, str) else dict(values)


@cache
def _parser(recipe: str, paradigm: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--recipe", type=str, required=True)
    parser.add_argument("--data", type=str, required=True)
    parser.add_argument("--labelled", type=float, default=1.0)
    parser.add_argument("--masks", type=FirstMasks, default=FirstMasks())
    parser.add_argument("--settings", type=RECIPES[recipe].settings, default=RECIPES[recipe].settings())
    parser.add_argument("--preprocessing", type=Preprocessing, required=True)
    parser.add_argument("--augmentation", type=Augmentation, default=Augmentation())
    parser.add_argument("--network", type=NetworkSettings, default=NetworkSettings())
    parser.add_argument("--optimizer", type=OptimizerSettings, default=OptimizerSettings())
    parser.add_argument("--paradigm", type=PARADIGMS[paradigm].settings, default=PARADIGMS[paradigm].settings())
    parser.add_argument("--engine", type=EngineSettings, default=EngineSettings())
    return parser


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _overridden(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values and what wins over them; another network that comes with its arguments has none of the first one's."""
    network, other = (each.get("network") for each in (values, over))
    if isinstance(network, dict) and isinstance(other, dict) and {"name", "arguments"} <= other.keys():
        named = network.get("name", NetworkSettings.name)
        values = {**values, "network": network if other["name"] == named else {**network, "arguments": {}}}
    return _merged(values, over)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def _nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if not (key and equals):
            raise ValueError("it must read KEY=VALUE")
        return _nested(key.split("."), yaml.safe_load(value))
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"The setting '{text}' cannot be used: {' '.join(str(error).split())}.") from error


def _with_line(path: Path, texts: Mapping[Path, str], message: str, *, small: bool) -> str:
    """Put file and line of the longest key of the YAML that the parser's message names before the message.

    Of several files that have the key, it is the one whose value counts.
    """
    message = " ".join(message.split())
    quoted = re.findall(r"""["']([\w.]+)["']""", message)
    # The parser names a key whole, or its group and the rest of it one after the other.
    names = {*quoted, *(f"{group}.{rest}" for group, rest in pairwise(quoted))}
    every = [(key, file, line) for file, text in texts.items() for key, line in _key_lines(yaml.compose(text))]
    used = [item for item in every if small or not item[0].startswith("small.")]
    keys = [(key.removeprefix("small."), file, line) for key, file, line in used]
    found = [item for item in keys if item[0] in names]
    found = found or [item for item in keys if item[0].rpartition(".")[2] in quoted]
    if not found:
        return f"{path}: {message}"
    _, file, line = sorted(found, key=lambda item: len(item[0]))[-1]
    return f"{file}, line {line}: {message}"


def _key_lines(node: Any, prefix: str = "") -> list[tuple[str, int]]:
    lines = []
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{prefix}{key.value}"
        lines += [(name, key.start_mark.line + 1), *_key_lines(value, f"{name}.")]
    return lines
