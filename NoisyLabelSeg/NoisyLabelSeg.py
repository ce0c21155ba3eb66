"""3D Slicer module: a rough segmentation refined stage by stage, looked at change by change, accepted or reverted.

Here are the module, what it saves with a scene, and when the panel comes and goes; the panel itself is in
`NoisyLabelSegSlicer.panel`. What takes time to import is imported when the panel is opened.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import slicer
import vtk
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from NoisyLabelSegSlicer.translation import _


class NoisyLabelSeg(ScriptedLoadableModule):
    """What Slicer's list of modules shows."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "NoisyLabelSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The NoisyLabelSeg contributors"]
        parent.helpText = _(
            "For segmentations that are not good enough yet: a model refines a rough mask stage by stage, on this "
            "computer. Look at every change, keep it or take it back; the mask you gave stays as it was."
            "<p>Research software, not a medical device: a person has to look at every result.</p>"
            "<p>If you use it, please cite the paper of the method:<br>{papers}</p>"
        ).format(papers="<br>".join(PAPERS))
        parent.acknowledgementText = _(
            "The methods are by R. Jiang, Changtai Li, X. Ban and co-authors, see the help text. The models that come "
            "with the module were trained on LIDC-IDRI and on the Medical Segmentation Decathlon; their licences are "
            "under “Details” in the panel."
        )
        slicer.app.connect("startupCompleted()", self._offer_samples)

    def _offer_samples(self) -> None:
        from NoisyLabelSegSlicer import samples

        samples.register(Path(self.resourcePath("Icons")))


PAPERS = (
    "R. Jiang, Changtai Li, X. Ban, S. Yin, C. Yao, Y. Guo, M. S. Obaidat: From non-expert to expert: Recurrent "
    "refined learning for medical image segmentation. IEEE BIBM 2024, 2086–2093. "
    '<a href="https://doi.org/10.1109/BIBM62325.2024.10821757">doi:10.1109/BIBM62325.2024.10821757</a>',
    "Changtai Li: Medical Image Segmentation under Multiple Real-World Constraints. PhD thesis, University of "
    "Groningen, 2026, chapter 3.",
)


class Device(enum.Enum):
    """Where to compute; the values are those of a request to the worker."""

    AUTO = "auto"
    GPU = "gpu"
    CPU = "cpu"

    def label(self) -> str:
        """What the panel shows."""
        return {"auto": _("GPU if there is one"), "gpu": _("GPU"), "cpu": _("CPU")}[self.value]


@parameterNodeWrapper
class NoisyLabelSegParameterNode:
    """What is chosen in the panel, saved with the scene.

    Attributes:
        model: name of the model.
        volume, segmentation, segments: the image, the rough mask and the identifiers of the segments to work on.
        roi: outside of it nothing changes, or is looked for; None allows the whole volume.
        keep_others: no result grows into a segment that is not worked on.
        device, stages: settings of the run; 0 stages are as many as the model asks for.
        result: the refined segmentation that is shown.
    """

    model: str
    volume: slicer.vtkMRMLScalarVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    segments: list[str]
    roi: slicer.vtkMRMLMarkupsROINode
    keep_others: bool = True
    device: Device = Device.AUTO
    stages: Annotated[int, WithinRange(0, 9)] = 0
    result: slicer.vtkMRMLSegmentationNode


class NoisyLabelSegLogic(ScriptedLoadableModuleLogic):
    """Knows the parameter node; what computes is a process of its own, see `NoisyLabelSegSlicer.client`."""

    def getParameterNode(self) -> NoisyLabelSegParameterNode:  # noqa: N802 (overrides)
        """The scene's only one, made when there is none."""
        wrapped: Any = NoisyLabelSegParameterNode  # the decorator has replaced what it is made of
        return wrapped(super().getParameterNode())


class NoisyLabelSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Binds the panel to the scene while both are there."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._parameters: Any = None
        self._gui = -1
        self._shown = False

    def setup(self) -> None:
        """Make the panel; called when the module is opened for the first time."""
        from NoisyLabelSegSlicer.panel.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        self.logic = NoisyLabelSegLogic()
        widget = slicer.util.loadUI(self.resourcePath("UI/NoisyLabelSeg.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.panel = Panel(self.ui)
        for event, react in (
            (slicer.vtkMRMLScene.StartCloseEvent, self._leave_scene),
            (slicer.vtkMRMLScene.EndCloseEvent, self._enter_scene),
            (slicer.vtkMRMLScene.EndImportEvent, self._enter_scene),
        ):
            # After the hierarchy, which looks for what belongs to it at the same moment.
            self.addObserver(slicer.mrmlScene, event, react, priority=-1.0)

    def cleanup(self) -> None:
        """Called before the application ends or the module is loaded anew."""
        self._leave_scene()
        self.panel.end()
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the module is shown."""
        self._shown = True
        self._enter_scene()
        self.panel.listen(True)

    def exit(self) -> None:
        """Called each time another module is shown; a computation goes on."""
        self._shown = False
        self.panel.listen(False)
        self._disconnect()

    def _enter_scene(self, *_event: Any) -> None:
        """Bind widgets and panel to the parameter node, unless nobody looks.

        After an import anew: while one goes on, the node names others that are not there yet.
        """
        if not self._shown:
            return
        self._disconnect()
        self._parameters = self.logic.getParameterNode()
        self._choose_first()
        self._gui = self._parameters.connectGui(self.ui)
        self.addObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._update)
        self.panel.bind(self._parameters)

    def _leave_scene(self, *_event: Any) -> None:
        self._disconnect()
        self.panel.release()

    def _disconnect(self) -> None:
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._update)
            self._parameters = None

    def _choose_first(self) -> None:
        """Take the scene's first volume and segmentation where none is chosen: it may be loaded after the panel."""
        chosen = self._parameters
        if chosen.result is None:
            chosen.volume = chosen.volume or first_visible("vtkMRMLScalarVolumeNode")
            chosen.segmentation = chosen.segmentation or first_visible("vtkMRMLSegmentationNode")

    def _update(self, *_event: Any) -> None:
        self.panel.update()


def first_visible(kind: str) -> Any:
    """The scene's first node of exactly this class that a person sees in a list; None without one."""
    nodes = slicer.util.getNodesByClass(kind)
    return next((node for node in nodes if node.GetClassName() == kind and not node.GetHideFromEditors()), None)


class NoisyLabelSegTest(ScriptedLoadableModuleTest):
    """Drives the panel through the whole job with the real worker, see `NoisyLabelSegSlicer.self_test`."""

    def runTest(self) -> None:  # noqa: N802 (overrides)
        """Run everything; raises when something is not as it should be."""
        self.test_the_whole_job()

    def test_the_whole_job(self) -> None:
        """From a sample to a reviewed result in a saved scene."""
        from NoisyLabelSegSlicer.self_test import run

        run(self)
