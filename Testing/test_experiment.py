"""Experiments: what is wrong in a YAML is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from NoisyLabelSegLib.bundle import Network
from NoisyLabelSegLib.bundle.weights import expected_layout
from NoisyLabelSegLib.errors import InputError
from training.data.cases import DataSet
from training.experiment import Experiment, differences, read_experiment
from training.recipes.parts import Parts
from training.recipes.rerenet import ReReNetSettings
from training.tables import read_table, trainings_of

FOLDER = Path(__file__).parents[1] / "training" / "configs"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
TABLES = sorted((FOLDER / "tables").glob("*.yaml"))
SIMULATED = "settings.starts.simulated.warp"
TEXT = """\
recipe: rerenet
data: tiny
preprocessing:
  dimensions: 2
  window: [32, 32]
  intensity: {rule: min-max, scope: slice}
network:
  arguments: {features: [4, 4, 4, 4, 4, 4]}
optimizer: {name: AdamW, learning_rate: 1.0e-3}
settings:
  stages: 3
  loss: {alpha: 0.5}
engine:
  epochs: 2
  batch_size: 8
small:
  settings: {stages: 2}
  network:
    arguments: {features: [2, 2, 2, 2, 2, 2]}
  engine: {epochs: 1}
"""


def read(folder: Path, text: str = TEXT, *overrides: str, small: bool = False) -> Experiment:
    file = folder / "tiny.yaml"
    file.write_text(text, encoding="utf-8")
    return read_experiment(file, small=small, overrides=overrides)


def test_a_file_becomes_dataclasses(tmp_path: Path) -> None:
    experiment = read(tmp_path)
    assert isinstance(experiment.settings, ReReNetSettings)
    assert (experiment.settings.stages, experiment.settings.loss.alpha) == (3, 0.5)
    assert experiment.settings.loss.factor == 10, "what is not named keeps its default"
    assert (experiment.preprocessing.window, experiment.preprocessing.intensity.rule) == ((32, 32), "min-max")
    assert (experiment.optimizer.name, experiment.optimizer.learning_rate) == ("AdamW", 1e-3)
    assert experiment.engine.epochs == 2


def test_the_small_setting_overrides_and_keeps_the_rest(tmp_path: Path) -> None:
    experiment = read(tmp_path, small=True)
    assert (experiment.settings.stages, experiment.engine.epochs) == (2, 1)
    assert (experiment.settings.loss.alpha, experiment.engine.batch_size) == (0.5, 8)
    assert experiment.network.arguments == {"features": [2] * 6}
    assert "small" not in experiment.values
    assert read(tmp_path, TEXT.partition("small:")[0] + "small:\n", small=True).engine.epochs == 2


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("engine.epochs=7", "engine.epochs", 7),
        ("settings.loss.alpha=0.25", "settings.loss.alpha", 0.25),
        ("settings.starts.simulated={warp: 0.3}", "settings.starts.simulated.warp", 0.3),
        ("preprocessing.window=[48, 64]", "preprocessing.window", (48, 64)),
        ("augmentation.jitter=0", "augmentation.jitter", 0),
        ("data=other", "data", "other"),
        ("engine.devices=2", "engine.devices", 2),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_overrides_win(tmp_path: Path, override: str, path: str, value: object, small: bool) -> None:
    found: object = read(tmp_path, TEXT, override, small=small)
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value


@pytest.mark.parametrize(
    ("override", "arguments"),
    [
        ("network={name: segresnet, arguments: {features: 8}}", {"features": 8}),
        ("network.name=attention_unet", {"features": [4] * 6}),
        ("network={name: unet, arguments: {norm: batch}}", {"features": [4] * 6, "norm": "batch"}),
        ("network.arguments={norm: batch}", {"features": [4] * 6, "norm": "batch"}),
    ],
)
def test_a_network_that_comes_with_its_arguments_has_none_of_anothers(
    tmp_path: Path, override: str, arguments: dict[str, object]
) -> None:
    assert read(tmp_path, TEXT, override).network.arguments == arguments


@pytest.mark.parametrize(
    ("wrong", "right", "line"),
    [
        ("  stagess: 3", "  stages: 3", 11),
        ("  stages: many", "  stages: 3", 11),
        ("  loss: {alpah: 0.5}", "  loss: {alpha: 0.5}", 12),
        ("  epochs: [2]", "  epochs: 2", 14),
        ("optimizer: {name: Adamm, learning_rate: 1.0e-3}", "optimizer: {name: AdamW, learning_rate: 1.0e-3}", 9),
        ("  dimensions: two", "  dimensions: 2", 4),
        ("datum: tiny", "data: tiny", 2),
    ],
)
def test_an_unknown_key_or_a_wrong_type_names_file_and_line(tmp_path: Path, wrong: str, right: str, line: int) -> None:
    assert TEXT.count(right) == 1
    with pytest.raises(InputError, match=f"tiny.yaml, line {line}: "):
        read(tmp_path, TEXT.replace(right, wrong))


def test_the_line_is_that_of_the_setting_in_use(tmp_path: Path) -> None:
    text = TEXT.replace("settings: {stages: 2}", "settings: {stages: two}")
    assert read(tmp_path, text).settings.stages == 3
    with pytest.raises(InputError, match="tiny.yaml, line 17: "):
        read(tmp_path, text, small=True)
    with pytest.raises(InputError, match="tiny.yaml, line 11: "):
        read(tmp_path, TEXT.replace("stages: 3", "stages: three"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("settings.loss.alpha=2", "alpha must lie between 0 and 1"),
        ("settings.stages=12", "between 1 and 9"),
        ("engine.batch_size=0", "at least 1"),
        ("preprocessing.window=[32]", "does not fit 2 dimensions"),
        ("engine.epoch=3", "epoch"),
        ("engine.epochs=x", "epochs"),
        ("engine.epochs", "KEY=VALUE"),
        ("engine.epochs=[1", "engine.epochs"),
        ("recipe=other", "recipe"),
        ("engine.strategy=fsdp", "strategy"),
        ("engine.precision=16-mixed", "precision"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, TEXT, override)


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [
        ((), ("settings.loss.factor=10", "engine.workers=0"), []),
        (("preprocessing.window=[32, 32]",), (), []),
        (("settings.loss.alpha=0.4", "engine.epochs=3"), (), ["settings.loss.alpha", "engine.epochs"]),
        (("settings.starts.simulated={warp: 0.3}",), ("settings.starts.simulated={warp: 0.2}",), [SIMULATED]),
        (("settings.starts.simulated={warp: 0.3}",), (), [SIMULATED]),
    ],
)
def test_experiments_are_compared_by_what_they_mean(
    tmp_path: Path, one: tuple[str, ...], other: tuple[str, ...], keys: list[str]
) -> None:
    found = differences(read(tmp_path, TEXT, *one), read(tmp_path, TEXT, *other))
    assert set(keys) <= set(found)
    assert bool(found) == bool(keys)


@pytest.mark.parametrize(
    "text", ["", "- a", "recipe: magic", "recipe: [rerenet]", "recipe: rerenet\n data: [", "recipe: rerenet"]
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="tiny.yaml"):
        read(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.yaml"):
        read_experiment(tmp_path / "none.yaml")


BASE = """\
recipe: supervised
data: tiny
preprocessing: {dimensions: 2, window: [32, 32]}
engine:
  epochs: 5
  batch_size: 8
small:
  engine: {epochs: 2}
"""


def read_based(folder: Path, text: str, base: str = BASE, *, small: bool = False) -> Experiment:
    (folder / "bases").mkdir()
    (folder / "bases" / "common.yaml").write_text(base, encoding="utf-8")
    return read(folder, f"base: bases/common.yaml\n{text}", small=small)


def test_a_file_with_a_base_holds_what_differs(tmp_path: Path) -> None:
    text = "data: other\nengine: {batch_size: 4}\nsmall: {engine: {batch_size: 2}}\n"
    full = read_based(tmp_path, text)
    assert (full.data, full.engine.epochs, full.engine.batch_size) == ("other", 5, 4)
    small = read(tmp_path, f"base: bases/common.yaml\n{text}", small=True)
    assert (small.engine.epochs, small.engine.batch_size) == (2, 2)
    assert "base" not in small.values


@pytest.mark.parametrize(
    ("text", "base", "place"),
    [
        ("engine: {epochs: few}", BASE, "tiny.yaml, line 2: "),
        ("data: other", BASE.replace("epochs: 5", "epochs: few"), "common.yaml, line 5: "),
        ("engine: {batch_size: 4}", BASE.replace("epochs: 5", "epoch: 5"), "common.yaml, line 5: "),
        ("engine: {epochs: few}", BASE.replace("epochs: 5", "epochs: some"), "tiny.yaml, line 2: "),
    ],
)
def test_an_error_names_the_file_that_it_is_in(tmp_path: Path, text: str, base: str, place: str) -> None:
    with pytest.raises(InputError, match=place):
        read_based(tmp_path, text, base)


def test_a_base_that_is_missing_or_the_file_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml"):
        read(tmp_path, "base: none.yaml\n")
    with pytest.raises(InputError, match="its own base"):
        read_based(tmp_path, "data: x", "base: ../tiny.yaml\n")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("small", [False, True], ids=["full", "small"])
def test_the_published_experiments_are_valid(config: Path, small: bool) -> None:
    assert_valid(read_experiment(config, small=small))


@pytest.mark.parametrize("file", TABLES, ids=lambda path: path.stem)
def test_the_rows_of_the_published_tables_are_valid(file: Path) -> None:
    for name, (first, *_) in trainings_of(read_table(file), file, (), small=True, data=Path(), runs=Path()).items():
        experiment = first.experiment()
        assert experiment.engine.validate_every <= experiment.engine.epochs, name
        assert_valid(experiment)


def test_there_are_published_experiments_and_tables() -> None:
    assert len(CONFIGS) >= 4
    assert len(TABLES) >= 4


def assert_valid(experiment: Experiment) -> None:
    """Windows fit the network, and it can be built."""
    if experiment.network.name in ("plain_conv_unet", "residual_encoder_unet"):
        pytest.importorskip("dynamic_network_architectures")
    preprocessing = experiment.preprocessing
    assert preprocessing.sliding or not any(size % preprocessing.multiple for size in preprocessing.window)
    dataset = DataSet("any", {1: "one", 2: "two"}, ())
    parts = Parts(dataset, preprocessing, experiment.network, experiment.optimizer, 0, experiment.augmentation)
    assert expected_layout(Network(experiment.network.name, parts.network_arguments(in_channels=2)))
