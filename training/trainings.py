"""A training by its experiment's file: run it, or read what it has learnt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from NoisyLabelSegLib.errors import InputError
from training.checkpoints import Run, read_run, simulated_starts
from training.data.cases import DataSet
from training.engine import Engine, finished
from training.experiment import Experiment, differences, fingerprint, read_experiment
from training.origins import Origins, origins_of
from training.runs import holds, run_name, settings_of, write_settings


@dataclass(frozen=True)
class Training:
    """One run of an experiment.

    Attributes:
        file: the experiment's YAML.
        small: whether its section ``small`` applies.
        overrides: ``key.subkey=value`` texts that win over the file.
        seed: of everything random.
        data: the folder of prepared data sets.
        runs: the folder of training runs.
        called: the run's name, where that is not the one of file and overrides.
    """

    file: Path
    small: bool
    overrides: tuple[str, ...]
    seed: int
    data: Path
    runs: Path
    called: str = ""

    @property
    def name(self) -> str:
        """What the run is called but for its seed."""
        return self.called or run_name(self.file, small=self.small, overrides=self.overrides)

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        return self.runs / f"{self.name}-seed{self.seed}"

    def experiment(self) -> Experiment:
        """The settings as the file has them now."""
        return read_experiment(self.file, small=self.small, overrides=self.overrides)

    def settled(self) -> Training:
        """The same; under a name with its settings' fingerprint where the run of its own name has other settings."""
        experiment = self.experiment()
        other = replace(self, called=f"{self.name}-{fingerprint(experiment)}")
        found = [one for one in (self, other) if holds(one.folder, experiment)]
        begun = (self.folder / "experiment.json").is_file()
        return found[0] if found else other if begun else self

    def changed(self, *overrides: str) -> Training:
        """The same with further overrides, less those without which the experiment is the same."""
        result = replace(self, overrides=(*self.overrides, *overrides))
        wanted = result.experiment()
        for text in overrides:
            less = replace(result, overrides=tuple(other for other in result.overrides if other != text))
            with suppress(InputError):  # some settings can only be used together
                result = result if differences(less.experiment(), wanted) else less
        return result

    def finished(self) -> bool:
        """Whether it has been trained to its end."""
        return finished(self.folder, self.experiment().engine)

    def finish(self) -> None:
        """Train, or go on, unless that was done to its end.

        Raises:
            InputError: also where that was done from another data set, or weights of other runs, than there are now.
        """
        if self.finished():
            self._trained()
        else:
            self.train()

    def train(self, limit: int = 0) -> float | None:
        """Train, or go on; returns the best validation score, and None in all processes but the first.

        Args:
            limit: takes this many cases a part, for a quick look; 0 takes all.
        """
        experiment = self.experiment()
        parts = experiment.parts(self.data, self.seed, limit, self.runs)
        if not parts.cases("val"):
            raise InputError(
                f"'{parts.dataset.name}' has no validation case, by which the best weights are chosen: set 'split' of "
                "some entries to val, or prepare it anew with a larger --val."
            )
        recipe = experiment.make(parts)
        engine = Engine(recipe, experiment.engine, self.folder, self.seed, experiment.companions(recipe))
        engine.fabric.launch()
        first = engine.fabric.is_global_zero
        write_settings(self.folder, experiment, self.seed, limit, self._origins(experiment), write=first)
        if first:
            _warn_of_other_starts(experiment, parts.dataset)
        with self._alone() if first else nullcontext():
            best = engine.run()
        return best if first else None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that write the same checkpoints would spoil them."""
        try:
            with FileLock(self.folder / "training.lock", blocking=False):
                yield
        except Timeout as error:
            raise InputError(f"The run in '{self.folder}' is being trained by another process: wait for it.") from error

    def read(self) -> Run:
        """The weights of the best validation score; an `InputError` when there are none."""
        experiment = self._trained()
        return read_run(experiment, experiment.parts(self.data, self.seed, runs=self.runs), self.folder)

    def _trained(self) -> Experiment:
        experiment = self.experiment()
        return settings_of(self.folder, experiment, self._origins(experiment))

    def _origins(self, experiment: Experiment) -> Origins:
        return origins_of(experiment, self.data, self.runs, self.seed)


def _warn_of_other_starts(experiment: Experiment, dataset: DataSet) -> None:
    simulated, kept = simulated_starts(experiment), dataset.simulation.get("warp")
    if simulated and kept and abs(simulated.warp - kept) > 0.1 * kept:
        said = f"settings.starts.simulated.warp is {simulated.warp:g}, the data set's coarse masks have {kept:.3g}"
        print(f"warning: {said}", file=sys.stderr)
