"""Warnings about an image that was acquired otherwise than a model expects."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import Ellipsoid, MakeImage
from dicom_phantom import ball, places, write_slices
from numpy.typing import NDArray
from scipy import ndimage
from test_bundle import DESCRIPTION
from tiny_models import picture, voxels, write_model, write_uncertainty_model

from NoisyLabelSegLib import cli
from NoisyLabelSegLib.bundle import ExpectedAcquisition, ExpectedIntensity, ModelDescription, Network, load_bundle
from NoisyLabelSegLib.dicom_series import CONTRAST_AGENT, MODALITY
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid
from NoisyLabelSegLib.inference.acquisition import acquisition_remarks, cross_section_cm2, enhanced_blood
from NoisyLabelSegLib.inference.checks import check_part
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegLib.worker.kinds import WarmModel, outcome_of
from NoisyLabelSegLib.worker.messages import Request

CT = ExpectedIntensity(-3100, 4100, "CT in Hounsfield units", "HU", -300)
EIGHT_BITS = ExpectedIntensity(0, 255, "CT scaled to 8 bits", "")
PET = ExpectedIntensity(-0.5, 200, "PET in SUV", "")
SHAPE, SPACING = (50, 80, 100), (2.0, 2.0, 2.0)
WITHOUT = ExpectedAcquisition(contrast_agent="none")

Volume = NDArray[np.float32]


def model(expected: ExpectedAcquisition = WITHOUT, *kinds: ExpectedIntensity) -> ModelDescription:
    return replace(DESCRIPTION, expected_acquisition=expected, expected_intensity=kinds or (CT,))


@pytest.fixture(scope="module")
def trunk(ellipsoid: Ellipsoid) -> Volume:
    """Soft tissue with a spine of uneven spongy bone in a dense shell, noise of 8 HU, air around; no agent."""
    rng = np.random.default_rng(0)
    values = np.full(SHAPE, -1000.0)
    values[np.broadcast_to(ellipsoid((1, *SHAPE[1:]), (0, 40, 50), (1, 30, 40)), SHAPE)] = 45
    bone, sponge = (np.broadcast_to(ellipsoid((1, *SHAPE[1:]), (0, 58, 50), (1, r, r)), SHAPE).copy() for r in (10, 9))
    bone[::14] = sponge[::14] = False  # discs
    texture = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 0.6)
    values[bone] = 700
    values[sponge] = (210 + 45 * texture / texture.std())[sponge]
    return (values + rng.normal(0, 8, SHAPE)).astype(np.float32)


def with_vessel(trunk: Volume, ellipsoid: Ellipsoid, radius: float, value: float, slices: int = 40) -> Volume:
    """A vessel of that radius, in mm, in so many slices of 2 mm."""
    inside = np.broadcast_to(ellipsoid((1, *SHAPE[1:]), (0, 38, 54), (1, radius / 2, radius / 2)), SHAPE).copy()
    inside[slices:] = False
    return np.where(inside, trunk - trunk[inside].mean() + value, trunk)


@pytest.mark.parametrize(
    ("radius", "value", "found"),
    [(10, 180, True), (10, 350, True), (8, 250, True), (10, 90, False), (10, 600, False), (2.5, 300, False)],
)
def test_enhanced_vessels_are_found(
    trunk: Volume, ellipsoid: Ellipsoid, make_image: MakeImage, radius: float, value: float, found: bool
) -> None:
    image = make_image(with_vessel(trunk, ellipsoid, radius, value), SPACING)
    volume, mean = enhanced_blood(Part.whole(image))
    assert (volume > 2) == found
    if found:
        assert volume == pytest.approx(np.pi * radius**2 * 80 / 1000, rel=0.35)
        assert mean == pytest.approx(value, abs=10)


@pytest.mark.parametrize("noise", [0, 10, 20, 40, 80])
def test_bone_is_not_taken_for_blood_in_any_noise(trunk: Volume, make_image: MakeImage, noise: float) -> None:
    noisy = trunk + np.random.default_rng(1).normal(0, noise, SHAPE).astype(np.float32)
    assert 200 < np.median(noisy[20:26, 55:60, 48:52]) < 230, "there is bone in the range of enhanced blood"
    image = make_image(noisy, SPACING)
    assert enhanced_blood(Part.whole(image))[0] < 2


def test_the_same_is_found_in_thin_slices_and_in_any_orientation(
    trunk: Volume, ellipsoid: Ellipsoid, make_image: MakeImage
) -> None:
    image = make_image(with_vessel(trunk, ellipsoid, 10, 200), SPACING)
    expected = enhanced_blood(Part.whole(image))[0]
    fine = sitk.Expand(image, (2, 2, 2), sitk.sitkNearestNeighbor)
    turned = sitk.DICOMOrient(image, "PIR")
    for other in (fine, turned):
        assert enhanced_blood(Part.whole(other))[0] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("expected", "kinds", "said"),
    [
        (WITHOUT, (CT,), True),
        (ExpectedAcquisition(), (CT,), False),
        (WITHOUT, (EIGHT_BITS,), False),
        (WITHOUT, (PET,), False),
    ],
)
def test_an_agent_is_told_to_models_without_one_in_hounsfield_units(
    trunk: Volume,
    ellipsoid: Ellipsoid,
    make_image: MakeImage,
    expected: ExpectedAcquisition,
    kinds: tuple[ExpectedIntensity, ...],
    said: bool,
) -> None:
    image = make_image(with_vessel(trunk, ellipsoid, 10, 200), SPACING)
    part = Part.whole(image)
    remarks = acquisition_remarks(part, part.voxels.box, model(expected, *kinds))
    assert [("looks contrast-enhanced" in remark, "use the non-contrast series" in remark) for remark in remarks] == (
        [(True, True)] if said else []
    )


def test_values_scaled_to_8_bits_say_nothing_of_an_agent(
    trunk: Volume, ellipsoid: Ellipsoid, make_image: MakeImage
) -> None:
    bright = np.clip(with_vessel(trunk, ellipsoid, 10, 200), 0, 255)
    image = make_image(bright, SPACING)
    part = Part.whole(image)
    assert enhanced_blood(part)[0] > 2
    assert acquisition_remarks(part, part.voxels.box, model(WITHOUT, CT, EIGHT_BITS)) == []


@pytest.mark.parametrize(("agent", "said"), [("Iodine", True), ("", False), ("NONE ", False), ("no", False)])
def test_the_header_counts_where_voxels_say_nothing(
    trunk: Volume, make_image: MakeImage, agent: str, said: bool
) -> None:
    image = make_image(trunk, SPACING)
    image.SetMetaData(CONTRAST_AGENT, agent)
    part = Part.whole(image)
    remarks = acquisition_remarks(part, part.voxels.box, model())
    assert [f"header names a contrast agent, but {DESCRIPTION.name}" in remark for remark in remarks] == [True] * said


@pytest.mark.parametrize(
    ("extent", "slices", "said"),
    [
        ((60, 120), (0, 50), ""),
        ((60, 90), (0, 50), "100 mm long from head to foot, but tiny was made for 60 to 90 mm: draw a region"),
        ((60, 90), (10, 45), ""),
        ((60, 90), (10, 30), "40 mm long from head to foot, but tiny was made for 60 to 90 mm: give more"),
    ],
)
@pytest.mark.parametrize("orientation", ["LPS", "RIP"])
def test_the_extent_of_what_is_looked_at_counts(
    make_image: MakeImage, extent: tuple[float, float], slices: tuple[int, int], said: str, orientation: str
) -> None:
    image = sitk.DICOMOrient(make_image(np.zeros(SHAPE, np.int16), SPACING), orientation)
    part = Part.whole(image)
    box = list(part.voxels.box)
    box[0 if orientation == "LPS" else 1] = slice(*slices)
    remarks = acquisition_remarks(part, tuple(box), model(ExpectedAcquisition(extent_mm=extent)))
    assert len(remarks) == bool(said) and said in "".join(remarks)


@pytest.mark.parametrize("hounsfield", [True, False])
def test_the_cross_section_is_the_filled_body_without_the_table(
    trunk: Volume, make_image: MakeImage, hounsfield: bool
) -> None:
    values = trunk.copy()
    values[:, 30:40, 30:40] = -850  # lung
    values[:, 74:76] = 60  # table
    values = values if hounsfield else np.maximum(values + 1000, 0)
    image = make_image(values, SPACING)
    part = Part.whole(image)
    area = cross_section_cm2(part, part.voxels.box, hounsfield=hounsfield)
    assert area == pytest.approx(np.pi * 60 * 80 / 100, rel=0.03)


def test_the_cross_section_is_compared_where_nothing_is_cut_off(trunk: Volume, make_image: MakeImage) -> None:
    image = make_image(trunk, SPACING)
    part = Part.whole(image)
    head = model(ExpectedAcquisition(cross_section_cm2=(100, 130)))
    (remark,) = acquisition_remarks(part, part.voxels.box, head)
    assert "cross-section is about 150 cm², but tiny was made for 100 to 130 cm²: is this the liver?" in remark
    assert acquisition_remarks(part, (slice(5, 9), *part.voxels.box[1:]), head) == [remark]
    assert acquisition_remarks(part, (slice(0, 50), slice(10, 60), slice(0, 100)), head) == []
    assert acquisition_remarks(part, part.voxels.box, model(ExpectedAcquisition(cross_section_cm2=(100, 160)))) == []


# ---------------------------------------------------------------------------------------------- channels and modality


def paired(*further: ExpectedIntensity) -> ModelDescription:
    network = Network("unet", {"in_channels": 1 + len(further)})
    return replace(
        DESCRIPTION, kind="segment", network=network, expected_intensity=(CT,), expected_channels=further, modality="CT"
    )


CT_VALUES, PET_VALUES = (-1024.0, 1900.0), (0.0, 18.0)


@pytest.mark.parametrize(
    ("description", "ranges", "said"),
    [
        (paired(PET), [CT_VALUES, PET_VALUES], []),
        (paired(PET), [PET_VALUES, CT_VALUES], ["channels 1 and 2 look swapped: tiny takes CT in Hounsfield units as"]),
        (paired(PET), [PET_VALUES, PET_VALUES], ["A CT has negative values: this may be a PET"]),
        (paired(PET), [CT_VALUES, CT_VALUES], ["channel 2 run from -1024 to 1900.*those of a CT in Hounsfield"]),
        (paired(PET), [CT_VALUES, (0, 30000)], ["channel 2 run from 0 to 30000, but tiny was made for PET in SUV"]),
        (paired(PET, PET), [PET_VALUES, PET_VALUES, CT_VALUES], ["channels 1 and 3 look swapped"]),
        (paired(), [PET_VALUES], ["A CT has negative values: this may be a PET"]),
        (replace(paired(), expected_intensity=(PET,)), [CT_VALUES], ["those of a CT in Hounsfield units"]),
        (replace(paired(PET), expected_channels=()), [PET_VALUES, CT_VALUES], ["is this CT"]),
    ],
)
def test_mixed_up_values_are_told(
    description: ModelDescription, ranges: list[tuple[float, float]], said: list[str]
) -> None:
    remarks = description.remarks_on_channels(ranges)
    assert len(remarks) == len(said)
    for remark, pattern in zip(remarks, said, strict=True):
        assert re.search(pattern, remark), remark


@pytest.mark.parametrize(
    ("header", "modality", "said"),
    [("PT", "CT", True), ("PT", "PET/CT", False), ("CT", "CT", False), ("MR", "MR (T1)", False), ("US", "CT", False)],
)
def test_a_header_of_another_modality_is_told(make_image: MakeImage, header: str, modality: str, said: bool) -> None:
    image = make_image(np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 900)
    image.SetMetaData(MODALITY, header)
    remarks = check_part(Part.whole(image), replace(paired(), modality=modality))
    assert [f"By its header the image is a PET, but tiny was made for {modality}" in r for r in remarks] == [
        True
    ] * said


# ---------------------------------------------------------------------------------------------- bundle


def test_a_bundle_without_expectations_stays_readable_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    folder = write_uncertainty_model(tmp_path / "tiny", dimensions=2, network="unet")
    file = folder / "configs" / "model.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    for key in ("expected_acquisition", "expected_channels"):
        del values[key]
    file.write_text(json.dumps(values), encoding="utf-8")
    assert load_bundle(folder).description.expected_acquisition == ExpectedAcquisition()
    given = {"contrast_agent": "none", "extent_mm": [30, 120.5]}
    file.write_text(json.dumps({**values, "expected_acquisition": given}), encoding="utf-8")
    assert load_bundle(folder).description.expected_acquisition == ExpectedAcquisition("none", (30, 120.5))
    kind = {"minimum": 0, "maximum": 9, "description": "x", "unit": ""}
    for wrong, said in (
        ({"expected_acquisition": {"contrast_agent": "some"}}, "must be one of 'none', 'any'"),
        ({"expected_acquisition": {"extent_mm": [3]}}, "must have 2 entries"),
        ({"expected_acquisition": {"extent_mm": [3, 2]}}, "a least and a larger, largest number, not 3 and 2"),
        ({"expected_acquisition": {"tilt": 3}}, "unknown key 'tilt'"),
        ({"expected_channels": [kind]}, "expected_channels must be 0"),
    ):
        file.write_text(json.dumps({**values, **wrong}), encoding="utf-8")
        with pytest.raises(InputError, match=said):
            load_bundle(folder)


def test_a_card_carries_what_is_expected(tmp_path: Path) -> None:
    from training.export import read_card

    cards = Path(__file__).parents[1] / "training" / "cards"
    text = (cards / "lidc-nodule-refine.yaml").read_text(encoding="utf-8")
    more = (
        "expected_acquisition: {contrast_agent: none, extent_mm: [250, 500]}\n"
        "expected_channels: [{minimum: 0, maximum: 200, description: PET in SUV, unit: ''}]\n"
    )
    card = tmp_path / "card.yaml"
    card.write_text(text + more, encoding="utf-8")
    read = read_card(card)
    assert read.expected_acquisition == ExpectedAcquisition("none", (250, 500))
    assert read.expected_channels == (ExpectedIntensity(0, 200, "PET in SUV", ""),)
    assert read_card(cards / "lidc-nodule-refine.yaml").expected_acquisition == ExpectedAcquisition()


# ---------------------------------------------------------------------------------------------- one way through


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tilted series, and a model that segments and expects a long image."""
    folder = write_uncertainty_model(tmp_path / "models" / "finder", dimensions=2, network="unet", temperatures=[2.5])
    file = folder / "configs" / "model.json"
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    values |= {"kind": "segment", "method": "weak_to_strong", "expected_acquisition": {"extent_mm": [200, 900]}}
    file.write_text(json.dumps(values), encoding="utf-8")
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(tmp_path / "models"))
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    positions, axes = places(np.arange(-9, 10, 3.0), 14, np.eye(3))
    write_slices(tmp_path / "ct", ball(positions, axes), positions, axes)
    return tmp_path


def test_the_command_tells_all_and_writes_the_resampled_image(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["segment", "ct", "--model", "finder", "-o", "out", "--device", "cpu"]
    assert cli.main(command) == 0
    error, image = " ".join(capsys.readouterr().err.split()), read_image("ct")
    figures = json.loads(Path("out/figures.json").read_text("utf-8"))
    report = Path("out/report.html").read_text("utf-8")
    for said in ("14.0 degrees", "21 mm long from head to foot", "calibrated on validation data (temperature 2.5)"):
        assert said in error and any(said in note for note in figures["notes"]) and said in report
    written = read_image("out/image_resampled.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(image))
    assert written.GetSize() == sitk.ReadImage("out/segmentation.seg.nrrd").GetSize()
    sitk.WriteImage(picture(voxels()), "image.nii.gz")
    assert cli.main(["segment", "image.nii.gz", *command[2:], "--overwrite"]) == 0
    assert not Path("out/image_resampled.nrrd").exists(), "it does not pass for the new result's"


def test_a_refinement_writes_the_resampled_image_beside_it(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(desk / "models" / "refiner")
    command = ["refine", "ct", "--from-nothing", "--model", "refiner", "-o", "out.seg.nrrd", "--device", "cpu"]
    assert cli.main(command) == 0
    assert "14.0 degrees" in capsys.readouterr().err
    written, result = read_image("out_resampled.nrrd"), sitk.ReadImage("out.seg.nrrd")
    assert same_grid(written, read_image("ct"), 1e-6) and written.GetSize() == result.GetSize()
    Path("out.seg.nrrd").unlink()
    assert cli.main(command) == 2
    assert "out_resampled.nrrd exists already" in capsys.readouterr().err


def test_the_worker_tells_the_same(desk: Path) -> None:
    image = read_image("ct")
    part = Part.whole(image)
    whole = Region(part.voxels.box, np.ones(part.voxels.values.shape, bool))
    request = Request(
        kind="segment",
        model="finder",
        device="cpu",
        stages=None,
        grid=part.grid,
        value_range=part.value_range,
        segments=(Segment("all", 1, id="a"),),
        voxels=part.voxels,
        masks=(whole,),
    )
    notes = outcome_of(request, WarmModel(), lambda step: None).notes
    assert any("21 mm long from head to foot" in note for note in notes)
    assert any("temperature 2.5" in note for note in notes)
