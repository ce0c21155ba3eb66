"""3D Slicer as the set-up and the worker need it: see `installation.Application` and `worker_command.Slicer`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import qt
import slicer

import NoisyLabelSegLib
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.worker_command import Slicer

RESUME = "NoisyLabelSeg/ResumeSetup"


class SlicerApplication:
    """What the set-up asks of 3D Slicer."""

    def has_torch_extension(self) -> bool:
        """Whether the PyTorch extension's module is loaded."""
        return hasattr(slicer.modules, "pytorchutils")

    def install_torch_extension(self) -> None:
        """Install the PyTorch extension; it is there after a restart."""
        if not hasattr(slicer.app, "extensionsManagerModel"):  # a 3D Slicer built without
            raise InputError(_("This 3D Slicer cannot install extensions: let another Python compute (Set-up)."))
        manager: slicer.qSlicerExtensionsManagerModel = slicer.app.extensionsManagerModel()
        before = manager.interactive
        manager.interactive = False
        try:
            installed = manager.installExtensionFromServer("PyTorch", False)
        finally:
            manager.interactive = before
        if not installed:
            raise InputError(_("The extension “PyTorch” could not be installed: try the Extensions Manager."))

    def install_torch(self, specifier: str) -> None:
        """Let the PyTorch extension choose and install a build."""
        from PyTorchUtils import PyTorchUtilsLogic

        PyTorchUtilsLogic().installTorch(torchVersionRequirement=specifier)

    def pip(self, arguments: list[str]) -> None:
        """Install into Slicer's Python."""
        slicer.util.pip_install(arguments)

    def remember_to_resume(self, on: bool) -> None:
        """Keep whether the set-up is to go on after a restart."""
        qt.QSettings().setValue(RESUME, on)

    def is_to_resume(self) -> bool:
        """What was kept."""
        return bool(slicer.util.settingsValue(RESUME, False, converter=slicer.util.toBool))

    def restart(self) -> None:
        """Restart the application, unless the person would rather save something first."""
        text = _(
            "3D Slicer has to restart now. What is not saved is lost: to save it, choose Cancel and restart later."
        )
        if slicer.util.confirmOkCancelDisplay(text):
            slicer.util.restart()


def slicer_for_worker() -> Slicer:
    """Where Slicer's Python and this library are, and the environments."""
    python = shutil.which("PythonSlicer") or sys.executable
    library = Path(NoisyLabelSegLib.__file__).resolve().parents[1]
    return Slicer(Path(slicer.app.slicerHome), Path(python), library, os.environ, slicer.util.startupEnvironment())
