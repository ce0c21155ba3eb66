"""A weak modality made of a strong one: noise as of few photons about the same mean; nothing asked changes nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from training.__main__ import main
from training.data.cases import read_dataset
from training.data.privileged import WATER, WeakModality, degrade, projections, quantum_noise, ramp, weaken_dataset

NOTHING = WeakModality()
FLAT = np.full((12, 48, 48), 0.001)
CALM: dict[str, Any] = {"electronic": 0.0, "views": 90}


def image() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (3, 32, 40)).astype(np.uint8)


def noise(dose: float, seed: int = 0, **more: Any) -> np.ndarray:
    return quantum_noise(FLAT, WeakModality(dose, **{**CALM, **more}), np.random.default_rng(seed))


def test_what_changes_nothing_gives_the_image_back() -> None:
    assert np.array_equal(degrade(image(), NOTHING, np.random.default_rng(0)), image())


def test_projection_and_reconstruction_are_each_other_s_inverse() -> None:
    rows, columns = np.indices((64, 64)) - 31.5
    disc = np.where(rows**2 + columns**2 < 20**2, WATER, 0.0)
    found = np.zeros((64 * 64, 1))
    for rays in projections((64, 64), 120):
        line = 0.7 * (rays.T @ disc.reshape(-1, 1))
        assert line.sum() == pytest.approx(0.7 * disc.sum())
        assert line.max() == pytest.approx(0.7 * 40 * WATER, rel=0.15), "rays between pixels ripple"
        found += rays @ ramp(line, 0.7) * math.pi / 120
    inner, outer = rows**2 + columns**2 < 16**2, rows**2 + columns**2 > 24**2
    assert found.reshape(64, 64)[inner].mean() == pytest.approx(WATER, rel=0.02)
    assert abs(found.reshape(64, 64)[outer].mean()) < 0.02 * WATER


@pytest.mark.parametrize("dose", [1e5, 1e6])
def test_variance_is_as_one_over_the_dose(dose: float) -> None:
    assert noise(dose).var() / noise(4 * dose, 1).var() == pytest.approx(4, rel=0.1)


def test_variance_is_that_of_filtered_back_projection() -> None:
    """pi² · variance of a ray / (12 · views · pixel²), times what linear interpolation leaves of a ramp."""
    settings = WeakModality(1e6, **CALM)
    centre = noise(1e6)[:, 20:28, 20:28].var()
    photons = 1e6 * math.exp(-WATER * settings.body - 0.001 * settings.voxel * 48)
    frequencies = np.linspace(0, 0.5, 2001)
    left = (frequencies**2 * np.sinc(frequencies) ** 4).sum() / (frequencies**2).sum()
    expected = math.pi**2 / (12 * settings.views * settings.voxel**2) / photons * left
    assert centre == pytest.approx(expected, rel=0.25)


def test_noise_leaves_the_mean() -> None:
    flat = np.full((16, 48, 48), 120, np.uint8)
    weak = degrade(flat, WeakModality(3e5, **CALM), np.random.default_rng(0))
    assert weak.std() > 5
    assert abs(weak.mean() - 120) < 0.02 * weak.std()


def test_noise_is_anticorrelated_and_its_spectrum_rises() -> None:
    found = noise(1e6)
    # Next but one: between neighbours, linear interpolation of the rays outweighs the ramp.
    beside = np.corrcoef(found[:, :, 2:].ravel(), found[:, :, :-2].ravel())[0, 1]
    assert beside < -0.04
    power = (np.abs(np.fft.fft2(found)) ** 2).mean(axis=0)
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(48)] * 2, indexing="ij"))
    bands = [power[(radius > low) & (radius <= low + 0.05)].mean() for low in (0.02, 0.1, 0.2)]
    assert bands[0] < bands[1] / 2 and bands[1] < bands[2]


def test_slices_have_noise_of_their_own() -> None:
    first, second = noise(1e6)[:2]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1


def test_a_larger_body_and_electronic_noise_add_noise() -> None:
    plain = noise(1e5).var()
    assert noise(1e5, body=230.0).var() / plain == pytest.approx(math.exp(WATER * 30), rel=0.1)
    assert noise(1e5, electronic=60.0).var() > 1.5 * plain


@pytest.mark.parametrize("contrast", [1.0, 0.5, 0.1])
def test_contrast_is_compressed_about_soft_tissue(contrast: float) -> None:
    soft = (NOTHING.soft - NOTHING.low) / NOTHING.unit
    weak = degrade(image(), WeakModality(contrast=contrast), np.random.default_rng(0))
    assert np.allclose(weak - soft, contrast * (image() - soft))


def test_blur_has_the_width_asked_for_and_stays_in_its_slice() -> None:
    point = np.zeros((3, 41, 41))
    point[1, 20, 20] = 100
    weak = degrade(point, WeakModality(blur=6), np.random.default_rng(0))
    assert not weak[[0, 2]].any()
    assert weak.sum() == pytest.approx(100)
    assert weak[1, 20, 17] == pytest.approx(weak[1, 20, 20] / 2, rel=0.01), "half maximum at half the width"


def test_a_seed_gives_the_same_image() -> None:
    settings = WeakModality(1e5, 0.5, 2, views=20)
    first, same, other = (degrade(image(), settings, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    assert np.isfinite(degrade(image(), replace(settings, dose=1), np.random.default_rng(0))).all(), "hardly a photon"


@pytest.mark.parametrize(
    "wrong", [{"dose": 0}, {"dose": -1}, {"contrast": 0}, {"contrast": 1.5}, {"blur": -1}, {"dose": math.nan}]
)
def test_impossible_strengths_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="above 0"):
        WeakModality(**wrong)  # type: ignore[arg-type]


def test_a_weakened_data_set_keeps_the_strong_images_and_its_numbers(tiny_dataset: Path) -> None:
    command = ["weaken", "tiny", "--name", "weak", "--dose", "1e6", "--blur", "1.5", "--data", str(tiny_dataset)]
    assert main(command) == 0
    strong, weak = (read_dataset(tiny_dataset / name) for name in ("tiny", "weak"))
    assert "simulated" in weak.name
    assert weak.simulation["dose"] == 1e6 and weak.simulation["blur"] == 1.5 and weak.simulation["contrast"] == 1
    assert [(c.id, c.label, c.coarse, c.split) for c in weak.cases] == [
        (c.id, c.label, c.coarse, c.split) for c in strong.cases
    ]
    for one, other in zip(strong.cases, weak.cases, strict=True):
        assert other.strong == one.image.resolve() or other.strong == one.image
        images = [sitk.ReadImage(str(path)) for path in (one.image, other.image)]
        assert images[0].GetSpacing() == images[1].GetSpacing() and images[0].GetOrigin() == images[1].GetOrigin()
        assert not np.array_equal(sitk.GetArrayFromImage(images[0]), sitk.GetArrayFromImage(images[1]))
    assert main(command) == 2, "nothing is written over"


def test_noise_follows_from_the_seed_and_the_case_s_name(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(tiny_dataset / "tiny")
    settings = WeakModality(1e6, views=10)
    whole = weaken_dataset(dataset, tmp_path / "a", settings, 0)
    part = weaken_dataset(replace(dataset, cases=dataset.cases[3:4]), tmp_path / "b", settings, 0)
    other = weaken_dataset(replace(dataset, cases=dataset.cases[3:4]), tmp_path / "c", settings, 1)
    arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(case.image))) for case in (whole.cases[3], *part.cases)]
    assert np.array_equal(arrays[0], arrays[1])
    again = sitk.GetArrayFromImage(sitk.ReadImage(str(other.cases[0].image)))
    assert not np.array_equal(arrays[0], again)
    with pytest.raises(InputError, match="has several channels or a strong image"):
        weaken_dataset(part, tmp_path / "d", settings, 0)


def test_no_noise_is_valid_json(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(tiny_dataset / "tiny")
    weaken_dataset(replace(dataset, cases=dataset.cases[:1]), tmp_path, WeakModality(blur=1), 0)

    def refuse(value: str) -> float:
        raise AssertionError(value)

    text = (tmp_path / "dataset.json").read_text(encoding="utf-8")
    assert "dose" not in json.loads(text, parse_constant=refuse)["simulation"]


def test_hounsfield_units_are_not_taken_for_8_bit_values(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(tiny_dataset / "tiny")
    image = sitk.ReadImage(str(dataset.cases[0].image)) - 1000
    sitk.WriteImage(image, str(tmp_path / "hu.nii.gz"))
    case = replace(dataset.cases[0], image=tmp_path / "hu.nii.gz")
    with pytest.raises(InputError, match="only images of about 0 to 255"):
        weaken_dataset(replace(dataset, cases=(case,)), tmp_path / "weak", WeakModality(), 0)
