"""3D Slicer's slice and 3D views without its application: rendered off screen to arrays, by Slicer's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import slicer
from numpy.typing import NDArray
from PIL import Image
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkCollection
from vtkmodules.vtkRenderingCore import (
    vtkActor2D,
    vtkImageMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkRenderWindowInteractor,
    vtkWindowToImageFilter,
)

Picture = NDArray[np.uint8]
"""Red, green and blue, rows from the top: (height, width, 3)."""

SLICE_MANAGERS = ("CrosshairDisplayableManager", "ModelSliceDisplayableManager", "SegmentationsDisplayableManager2D")
THREED_MANAGERS = ("CameraDisplayableManager", "ViewDisplayableManager", "SegmentationsDisplayableManager3D")


def prepare(scene: Any) -> Any:
    """The application logic that views need; once for a scene."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtkCollection())
    logic.SetViewLogics(vtkCollection())
    return logic


class _View:
    """A render window and the managers that draw a scene's nodes in it."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.renderer = vtkRenderer()
        self.window = vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)

    def draw_with(self, factory: Any, application: Any, managers: tuple[str, ...], node: Any) -> None:
        factory.SetMRMLApplicationLogic(application)
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(f"vtkMRML{manager}"):
                factory.RegisterDisplayableManager(f"vtkMRML{manager}")
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(factory, self.renderer)
        self.group.SetMRMLDisplayableNode(node)

    def picture(self) -> Picture:
        self.window.Render()
        grabber = vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _ = image.GetDimensions()
        values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
        return np.ascontiguousarray(values[::-1, :, :3])


class SliceView(_View):
    """One slice view; what it shows is set through its `composite` node."""

    def __init__(
        self, application: Any, name: Literal["Red", "Green", "Yellow"] = "Red", size: tuple[int, int] = (400, 400)
    ) -> None:
        super().__init__(size)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application)
        application.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(application.GetMRMLScene())
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation({"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}[name])
        self.composite = self.logic.GetSliceCompositeNode()
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self._add_image()  # before all that lies over it
        self.draw_with(factory, application, SLICE_MANAGERS, self.node)
        self.logic.ResizeSliceNode(*size)

    def _add_image(self) -> None:
        self._mapper, actor = vtkImageMapper(), vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)

    def show(self, volume: Any) -> None:
        """Put a volume behind everything and fit the view to it."""
        self.composite.SetBackgroundVolumeID(volume.GetID())
        self.logic.FitSliceToBackground()

    def picture(self) -> Picture:
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        return super().picture()


class ThreeDView(_View):
    """One 3D view, seen from the front."""

    def __init__(self, application: Any, size: tuple[int, int] = (400, 400)) -> None:
        super().__init__(size)
        logic = slicer.vtkMRMLViewLogic()
        logic.SetMRMLApplicationLogic(application)
        application.GetViewLogics().AddItem(logic)
        logic.SetMRMLScene(application.GetMRMLScene())
        self.logic, self.node = logic, logic.AddViewNode("1")
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self.draw_with(factory, application, THREED_MANAGERS, self.node)

    def picture(self) -> Picture:
        self.window.Render()  # only now there is an actor for each node
        bounds = self.renderer.ComputeVisiblePropBounds()
        self.renderer.ResetCamera(bounds)
        self.renderer.ResetCameraClippingRange()
        return super().picture()


def save(path: Path, *pictures: Picture) -> None:
    """Write pictures of one height side by side."""
    Image.fromarray(np.concatenate(pictures, axis=1)).save(path)
