"""The review: whatever was changed is listed once, and what is decided about it is what the masks become."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.regions import Region, box_of
from NoisyLabelSegLib.review import COLUMNS, Change, Review, changes, constrain, uncertainty_of, write_csv

SHAPE = (6, 9, 12)
SIZE = SHAPE[::-1]
WHOLE = tuple(slice(0, n) for n in SHAPE)
SPACING = (0.5, 0.75, 2.0)
VOXEL = 0.75
IDS = ("Segment_1", "lésion_ß", "empty")
SEEDS = range(8)

Mask = NDArray[np.bool_]


def region(mask: Mask) -> Region:
    return Region(box_of(mask), mask[box_of(mask)])


def whole(part: Region) -> Mask:
    return part.cut(WHOLE)


def drawn(*voxels: tuple[int, int, int]) -> Region:
    """A mask of single voxels, (I, J, K)."""
    mask = np.zeros(SHAPE, bool)
    for i, j, k in voxels:
        mask[k, j, i] = True
    return region(mask)


def random_stages(seed: int, count: int = 4) -> list[list[Region]]:
    """Of three segments: noise in a box, the same shrunk and shifted, and one that is always empty."""
    rng = np.random.default_rng(seed)

    def mask() -> Region:
        noise = np.zeros(SHAPE, bool)
        noise[1:5, 1:8, 2:11] = rng.random((4, 7, 9)) < 0.3
        return region(noise)

    return [[mask(), mask(), drawn()] for _ in range(count)]


def review_of(stages: Sequence[Sequence[Region]], **more: Any) -> Review:
    return Review(IDS[: len(stages[0])], stages, SPACING, SIZE, **more)


def arrays(regions: Sequence[Region]) -> list[list[Any]]:
    return [whole(part).tolist() for part in regions]


def status(review: Review) -> tuple[Any, ...]:
    decisions = [(key, review.decision(key), review.is_reviewed(key)) for key in review.listed()]
    return review.stage, decisions, arrays(review.masks())


@pytest.mark.parametrize("seed", SEEDS)
def test_changes_part_what_differs_each_voxel_once(seed: int) -> None:
    stages = random_stages(seed)
    found = changes(IDS, stages, SPACING, SIZE)
    for place in range(3):
        given, result = whole(stages[0][place]), whole(stages[-1][place])
        for kind, different in (("added", result & ~given), ("removed", given & ~result)):
            count = sum(
                (whole(c.region).astype(int) for c in found if (c.segment, c.kind) == (place, kind)), np.zeros(SHAPE)
            )
            assert np.array_equal(count, different)
    assert len({change.key for change in found}) == len(found)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_change_is_connected_measured_and_located(seed: int) -> None:
    stages = random_stages(seed)
    for change in changes(IDS, stages, SPACING, SIZE):
        voxels = np.argwhere(whole(change.region))
        assert change.voxels == len(voxels) and change.volume_mm3 == pytest.approx(VOXEL * len(voxels))
        reached, frontier = {tuple(voxels[0])}, [voxels[0]]
        while frontier:
            one = frontier.pop()
            near = [tuple(v) for v in voxels if np.abs(v - one).max() == 1 and tuple(v) not in reached]
            reached.update(near)
            frontier += [np.array(v) for v in near]
        assert len(reached) == len(voxels), "connected over corners"
        assert box_of(change.region.values) == tuple(slice(0, n) for n in change.region.values.shape), "no wider box"
        distances = np.linalg.norm((voxels - voxels.mean(axis=0)) * SPACING[::-1], axis=1)
        place = [tuple(v) for v in voxels].index(change.centre[::-1])
        assert distances[place] == pytest.approx(distances.min())


@pytest.mark.parametrize("seed", SEEDS)
def test_changes_do_not_depend_on_the_boxes_that_masks_come_in(seed: int) -> None:
    stages = random_stages(seed)
    wide = [[Region(WHOLE, whole(mask)) for mask in stage] for stage in stages]
    told = [[(c.key, c.centre, c.stage, c.volume_mm3) for c in changes(IDS, s, SPACING, SIZE)] for s in (stages, wide)]
    assert told[0] == told[1]
    sizes = [size for *_, size in told[0]]
    assert sizes == sorted(sizes, reverse=True)


def test_keys_name_kind_first_voxel_and_segment() -> None:
    stages = [[drawn((1, 1, 1)), drawn()], [drawn((2, 3, 4), (3, 3, 4)), drawn((2, 3, 4))]]
    first = 2 + 12 * (3 + 9 * 4)
    assert [change.key for change in changes(IDS[:2], stages, SPACING, SIZE)] == [
        f"added {first} Segment_1",
        f"removed {1 + 12 * (1 + 9 * 1)} Segment_1",
        f"added {first} lésion_ß",
    ]


A, B, C = (1, 1, 1), (2, 1, 1), (3, 1, 1)


@pytest.mark.parametrize(
    ("stages", "stage"),
    [
        ([(), (A,), (A,)], 1),
        ([(), (), (A,)], 2),
        ([(), (A,), (A, B), (A, B, C)], 1),  # one voxel at each stage: the earliest
        ([(), (A,), (A, B, C)], 2),
        ([(), (A, B), (C,), (A, B, C)], 1),  # at stage 1 first, though not from then on
        ([(A, B, C), (A,), ()], 1),
        ([(A, B, C), (A, B, C), (A, B, C), ()], 3),
        ([(A, B, C), (B, C), ()], 2),
    ],
)
def test_the_stage_is_where_most_voxels_first_had_their_value(stages: Any, stage: int) -> None:
    found = changes(["s"], [[drawn(*voxels)] for voxels in stages], SPACING, SIZE)
    assert [change.stage for change in found] == [stage]


@pytest.mark.parametrize(
    ("voxels", "centre"),
    [
        ([A], A),
        ([A, B, C], B),
        ([A, B], A),  # both as near: the first
        ([(1, 1, 1), (2, 2, 1), (3, 3, 1), (2, 2, 2)], (2, 2, 1)),
        ([(1, 1, 1), (1, 2, 1), (1, 3, 1), (2, 3, 1), (3, 3, 1), (3, 2, 1), (3, 1, 1)], (1, 2, 1)),  # a U, hollow
    ],
)
def test_the_centre_is_the_voxel_nearest_to_the_centroid(voxels: Any, centre: tuple[int, int, int]) -> None:
    assert [c.centre for c in changes(["s"], [[drawn()], [drawn(*voxels)]], SPACING, SIZE)] == [centre]


def test_uncertainty_is_the_mean_over_the_change() -> None:
    map_ = np.zeros(SHAPE, np.float32)
    map_[1, 1, 1:4] = 0.2, 0.4, 0.9
    stages = [[drawn(), drawn()], [drawn(A, B), drawn(C)]]
    found = changes(IDS[:2], stages, SPACING, SIZE, {0: Region(WHOLE, map_)})
    assert found[0].uncertainty == pytest.approx(0.3) and found[1].uncertainty is None


@pytest.mark.parametrize(
    ("probability", "entropy"), [(0.0, 0), (1.0, 0), (0.5, 1), (0.25, 0.811278), (0.75, 0.811278), (1.0001, 0)]
)
def test_uncertainty_is_entropy(probability: float, entropy: float) -> None:
    found = uncertainty_of(Region(WHOLE, np.full(SHAPE, probability, np.float32)))
    assert found.values.dtype == np.float32 and np.allclose(found.values, entropy, atol=1e-6) and found.box == WHOLE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stage", [1, 3])
def test_all_accepted_is_the_stage_and_all_reverted_is_what_was_given(seed: int, stage: int) -> None:
    stages = random_stages(seed)
    review = review_of(stages)
    review.use_stage(stage)
    assert arrays(review.masks()) == arrays(stages[stage])
    review.accept(review.listed())
    assert arrays(review.masks()) == arrays(stages[stage]) and review.next_unreviewed() is None
    review.revert(review.listed())
    assert arrays(review.masks()) == arrays(stages[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_decisions_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stages = random_stages(seed)
    keys = review_of(stages).listed()
    reverted = [key for key in keys if rng.random() < 0.5]
    first, second, third = review_of(stages), review_of(stages), review_of(stages)
    first.revert(reverted)
    for key in rng.permutation(reverted):
        second.revert([str(key)])
    third.revert(keys)
    third.accept(set(keys) - set(reverted))
    expected = [whole(mask) for mask in stages[-1]]
    for key in reverted:
        change = first.change(key)
        expected[change.segment][whole(change.region)] = change.kind == "removed"
    for review in (first, second, third):
        assert arrays(review.masks()) == [mask.tolist() for mask in expected]


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_step_the_box_of_its_change_is_all_that_is_new(seed: int) -> None:
    rng = np.random.default_rng(seed)
    review = review_of(random_stages(seed))
    for _ in range(10):
        change = review.changes[rng.integers(len(review.changes))]
        shown = [whole(mask) for mask in review.masks()]
        (review.revert if rng.random() < 0.7 else review.accept)([change.key])
        shown[change.segment][change.region.box] = review.mask_of(change.segment, change.region.box).values
        assert [mask.tolist() for mask in shown] == arrays(review.masks())


STEPS: list[Callable[[Review, Change], None]] = [
    lambda review, change: review.accept([change.key]),
    lambda review, change: review.revert([change.key]),
    lambda review, change: review.tick([change.key]),
    lambda review, change: review.tick([change.key], False),
    lambda review, change: review.accept(review.listed("open")),
    lambda review, change: review.revert(review.listed()),
    lambda review, change: review.use_stage(1),
    lambda review, change: review.use_stage(3),
]


@pytest.mark.parametrize("seed", SEEDS)
def test_undo_takes_every_step_back_and_redo_takes_it_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    review = review_of(random_stages(seed))
    history = [status(review)]
    for number in rng.integers(len(STEPS), size=12):
        STEPS[number](review, review.changes[rng.integers(len(review.changes))])
        if status(review) != history[-1]:
            history.append(status(review))
    assert len(history) > 3
    for past in history[-2::-1]:
        review.undo()
        assert status(review) == past
    assert not review.can_undo
    for future in history[1:]:
        review.redo()
        assert status(review) == future
    assert not review.can_redo


def test_a_step_that_changes_nothing_is_none_and_a_new_step_ends_redoing() -> None:
    review = review_of([[drawn()], [drawn(A)]])
    (key,) = review.listed()
    review.undo()
    review.redo()
    review.tick([key], False)
    review.accept([])
    review.use_stage(1)
    assert not review.can_undo
    review.revert([key])
    review.revert([key])
    review.undo()
    assert not review.can_undo and review.can_redo
    review.accept([key])
    assert not review.can_redo and review.decision(key) == "accepted"


def test_the_history_is_bounded_and_holds_no_masks() -> None:
    review = review_of([[drawn()], [drawn(A)]])
    for number in range(500):
        review.tick(review.listed(), number % 2 == 0)
    taken = 0
    while review.can_undo:
        review.undo()
        taken += 1
    assert taken == 100


def test_deciding_ticks_and_a_tick_decides_nothing() -> None:
    review = review_of([[drawn()], [drawn((1, 1, 1), (4, 4, 4), (8, 8, 5))]])
    first, second, third = review.listed()
    assert review.next_unreviewed() == first and review.next_unreviewed(second) == third
    review.accept([first])
    review.revert([second])
    assert review.is_reviewed(first) and review.is_reviewed(second) and review.listed("open") == [third]
    assert review.next_unreviewed(third) == third, "from the top again"
    review.tick([third])
    assert review.decision(third) == "open" and review.next_unreviewed() is None
    review.tick([first], False)
    assert review.decision(first) == "accepted" and review.next_unreviewed("gone") == first


def test_a_key_that_there_is_not_is_refused_and_nothing_is_decided() -> None:
    review = review_of([[drawn()], [drawn(A)]])
    with pytest.raises(KeyError):
        review.revert([*review.listed(), "added 0 nobody"])
    assert review.listed("open") == review.listed() and not review.can_undo


def test_another_stage_keeps_decisions_about_the_same_change_and_ticks_for_the_same_size() -> None:
    lone, gone = (8, 8, 5), (8, 1, 3)
    review = review_of([[drawn()], [drawn(A, lone, gone)], [drawn(A, B, lone)]])
    review.use_stage(1)
    review.revert(review.listed())
    before = status(review)
    review.use_stage(2)
    grown, same = review.listed()
    assert review.decision(grown) == "reverted" and not review.is_reviewed(grown), "nobody has seen it as it is now"
    assert review.decision(same) == "reverted" and review.is_reviewed(same)
    assert arrays(review.masks()) == arrays([drawn()])
    review.undo()
    assert status(review) == before
    review.use_stage(0)
    assert review.changes == [] and review.masks()[0].values.size == 0
    with pytest.raises(ValueError, match="no stage 3"):
        review.use_stage(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_review_survives_being_saved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stages = random_stages(seed)
    review = review_of(stages)
    review.use_stage(int(rng.integers(1, 4)))
    for number in rng.integers(6, size=10):
        STEPS[number](review, review.changes[rng.integers(len(review.changes))])
    saved = json.loads(json.dumps(review.to_json()))
    restored = Review.from_json(saved, IDS, stages, SPACING, SIZE)
    assert status(restored) == status(review) and restored.to_json() == saved
    assert restored.notes == () and not restored.can_undo


def test_masks_that_were_changed_since_lose_the_decisions_that_no_longer_fit() -> None:
    lone, gone = (8, 8, 5), (8, 1, 3)
    review = review_of([[drawn()], [drawn(A, lone, gone)]])
    review.revert(review.listed())
    restored = Review.from_json(review.to_json(), IDS[:1], [[drawn()], [drawn(A, B, lone)]], SPACING, SIZE)
    grown, same = restored.listed()
    assert restored.is_reviewed(same) and not restored.is_reviewed(grown)
    assert [note for note in restored.notes if "changed since" in note and " 2 " in note]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (None, "damaged"),
        ([], "damaged"),
        ({}, "damaged"),
        ({"version": 2, "stage": 1, "changes": {}}, "another version"),
        ({"version": 1, "stage": "1", "changes": {}}, "damaged"),
        ({"version": 1, "stage": 1, "changes": []}, "damaged"),
        ({"version": 1, "stage": 1, "changes": {"x": {}}}, "damaged"),
        ({"version": 1, "stage": 1, "changes": {"x": {"decision": [], "reviewed": True, "voxels": 1}}}, "damaged"),
        ({"version": 1, "stage": 1, "changes": {"x": {"decision": "open", "reviewed": 1, "voxels": 1}}}, "damaged"),
        ({"version": 1, "stage": 9, "changes": {}}, "stage 9, which is missing"),
        ({"version": 1, "stage": 1, "changes": {"x": {"decision": "open", "reviewed": True, "voxels": 1}}}, "1 of"),
    ],
)
def test_what_cannot_be_restored_is_said_and_left_out(content: Any, note: str) -> None:
    stages = [[drawn()], [drawn(A)]]
    restored = Review.from_json(content, IDS[:1], stages, SPACING, SIZE)
    assert status(restored) == status(review_of(stages))
    assert len(restored.notes) == 1 and note in restored.notes[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_changes_outside_of_what_is_allowed_or_inside_of_what_is_blocked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stages = random_stages(seed)
    given = stages[0]
    allowed, locked = rng.random(SHAPE) < 0.6, rng.random(SHAPE) < 0.3
    regions = (region(allowed), [region(locked), drawn(), given[1]])
    found = constrain(stages, given, *regions)
    for before, after in zip(stages, found, strict=True):
        for place, (wanted, got) in enumerate(zip(before, after, strict=True)):
            had, new = whole(given[place]), whole(got)
            blocked = locked | whole(given[1])
            assert not (new & ~had & blocked).any(), "no growth into what is blocked"
            assert np.array_equal(new[~allowed], had[~allowed]), "as given outside"
            free = allowed & (had | ~blocked)
            assert np.array_equal(new[free], whole(wanted)[free]), "as refined elsewhere"
    assert [arrays(stage) for stage in constrain(found, given, *regions)] == [arrays(stage) for stage in found]
    assert [arrays(stage) for stage in constrain(stages, given, None, [])] == [arrays(stage) for stage in stages]


def test_the_table_has_a_row_for_each_change_and_no_formula(tmp_path: Path) -> None:
    stages = [[drawn(), drawn((8, 8, 5))], [drawn(A, B, C), drawn()]]
    review = review_of(stages, uncertainty={0: Region(WHOLE, np.full(SHAPE, 0.25, np.float32))})
    review.revert(review.listed()[:1])
    file = tmp_path / "review ü.csv"
    file.write_text("old")
    write_csv(file, review, ["=cmd()\nx", "β"], lambda index: ([-2.0 * index[0], 3.0, 0.125], index[2] + 1))
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened))
    assert rows == [
        list(COLUMNS),
        ["'=cmd() x", "added", "2.25", "-4.00", "3.00", "0.12", "2", "1", "0.2500", "reverted", "yes"],
        ["β", "removed", "0.75", "-16.00", "3.00", "0.12", "6", "1", "", "open", "no"],
    ]
    with pytest.raises(InputError, match="not a folder"):
        write_csv(tmp_path / "missing" / "a.csv", review, ["a", "b"], lambda index: ([0, 0, 0], 0))


def test_without_a_change_there_is_nothing_to_review() -> None:
    for stages in ([[drawn(A)]], [[drawn(A)], [drawn(A)]], [[drawn()], [drawn()]]):
        review = review_of(stages)
        assert review.changes == [] and review.next_unreviewed() is None
        assert arrays(review.masks()) == arrays(stages[0])
