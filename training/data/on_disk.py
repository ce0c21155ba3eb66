"""What training needs of a case, in a temporary folder and mapped into memory: all cases may be larger than it."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class OnDisk(Sequence[T]):
    """Dataclasses of arrays, each made when it is first asked for and then mapped from a folder (beneath ``TMPDIR``)
    that is deleted in the end; fields that are None keep their defaults.
    """

    def __init__(self, kind: Callable[..., T], makers: Sequence[Callable[[], T]]) -> None:
        self.kind, self.makers = kind, makers
        self.folder = Path(tempfile.mkdtemp(prefix="noisylabelseg-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(self.makers)

    def __getitem__(self, number: Any) -> Any:
        folder = self.folder / str(number)
        if not folder.is_dir():
            self._make(number, folder)
        return self.kind(**{file.stem: np.load(file, mmap_mode="r") for file in folder.iterdir()})

    def _make(self, number: int, folder: Path) -> None:
        made = self.makers[number]()
        temporary = Path(tempfile.mkdtemp(dir=self.folder))
        for name, array in vars(made).items():
            if array is not None:
                np.save(temporary / f"{name}.npy", array)
        try:
            os.replace(temporary, folder)
        except OSError:  # another loader process was faster
            shutil.rmtree(temporary)
