"""GLAMPoints: pairs of views, reward by matching, recipe, and the method on synthetic eyes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="GLAMPoints needs torch (fastretina[torch])")
pytest.importorskip("tqdm", reason="training needs tqdm (fastretina[train])")
pytest.importorskip("fastretina._core")

import cv2  # noqa: E402
from fastretina import EngineError, InvalidInput, Registrar  # noqa: E402
from fastretina.config import Config  # noqa: E402
from fastretina.evaluation.metrics import point_errors  # noqa: E402
from fastretina.methods import rootsift  # noqa: E402
from fastretina.methods.glampoints import GlamPoints  # noqa: E402
from fastretina.synth import synthetic_pair  # noqa: E402
from fastretina.training import glampoints, loop  # noqa: E402
from fastretina.training.glampoints import CROP_PX, Batch  # noqa: E402
from fastretina.training.recipes import glampoints as recipe  # noqa: E402
from fastretina.training.sample import Sample  # noqa: E402
from fastretina.training.warp import View  # noqa: E402

SIDE = 420


def shifted(x: float, y: float) -> View:
    """A view whose pixel (0, 0) shows the source's (x, y)."""
    return View(np.array([[1.0, 0, x], [0, 1, y]]), np.zeros((CROP_PX, CROP_PX, 2), np.float32))


def texture(seed: int, size: int = CROP_PX) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (size, size)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return (blurred / blurred.std()).astype(np.float32)


# ---- root-SIFT --------------------------------------------------------------------------------------------------
def test_rows_have_length_one_and_follow_the_plane() -> None:
    plane = texture(0)
    xy = np.array([[60, 70], [128, 100], [200, 180]], np.float32)
    sift = cv2.SIFT_create()
    rows = rootsift.describe(sift, plane, xy)
    assert rows.shape == (3, 128)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    moved = rootsift.describe(sift, np.roll(plane, (5, 9), (0, 1)), xy + np.array([9, 5], np.float32))
    np.testing.assert_allclose(moved, rows, atol=0.02)
    assert rootsift.describe(sift, plane, xy[:0]).shape == (0, 128)


# ---- pairs and reward -------------------------------------------------------------------------------------------
def batch_of(first: np.ndarray, second: np.ndarray, views: tuple[View, View]) -> Batch:
    planes = torch.from_numpy(np.stack([first, second])[:, None])
    return Batch(planes, torch.ones_like(planes), [views])


def heat_at(points: np.ndarray) -> np.ndarray:
    heat = np.full((CROP_PX, CROP_PX), 0.1, np.float32)
    for i, (x, y) in enumerate(points):
        heat[y, x] = 0.9 - 0.01 * i
    return heat


def test_true_matches_are_rewarded_and_as_many_others_count() -> None:
    wide = texture(1, CROP_PX + 20)
    first, second = wide[:CROP_PX, :CROP_PX], wide[6 : 6 + CROP_PX, 4 : 4 + CROP_PX]
    spots = np.array([[60, 60], [100, 120], [160, 80], [200, 200]])
    elsewhere = np.array([[60, 200], [120, 180]])  # points of the first view alone
    heat = np.stack([heat_at(np.concatenate([spots, elsewhere])), heat_at(spots - [4, 6])])
    batch = batch_of(first, second, (shifted(0, 0), shifted(4, 6)))
    wanted, counts, true, points = glampoints.reward(heat, np.stack([first, second]), batch, 0)
    assert sorted(map(tuple, np.argwhere(wanted[0] == 1)[:, ::-1])) == sorted(map(tuple, spots))
    assert sorted(map(tuple, np.argwhere(wanted[1] == 1)[:, ::-1])) == sorted(map(tuple, spots - [4, 6]))
    others = (counts == 1) & (wanted == 0)
    assert 1 <= others[0].sum() <= 4
    assert points >= 5
    assert 0 < true < 1
    again = glampoints.reward(heat, np.stack([first, second]), batch, 0)
    np.testing.assert_array_equal(again[1], counts)


def test_a_match_in_the_wrong_place_earns_nothing() -> None:
    plane = texture(2)
    spots = np.array([[60, 60], [100, 120], [160, 80], [200, 200]])
    batch = batch_of(plane, plane, (shifted(0, 0), shifted(40, 0)))  # the same picture, said to lie elsewhere
    wanted, counts, true, _ = glampoints.reward(
        np.stack([heat_at(spots), heat_at(spots)]), np.stack([plane, plane]), batch, 0
    )
    assert true == 0
    assert not wanted.any()
    assert counts.sum() == 2  # one point a view, to learn that it is none


def test_no_points_no_reward() -> None:
    plane = texture(3)
    batch = batch_of(plane, plane, (shifted(0, 0), shifted(0, 0)))
    batch.masks.zero_()
    flat = np.full((2, CROP_PX, CROP_PX), 0.5, np.float32)
    wanted, counts, true, points = glampoints.reward(flat, np.stack([plane, plane]), batch, 0)
    assert not wanted.any()
    assert not counts.any()
    assert (true, points) == (0, 0)


def sample() -> Sample:
    """An eye's worth of lines, dark in one plane and bright in the other."""
    rng = np.random.default_rng(0)
    label = np.zeros((500, 520), np.uint8)
    for _ in range(30):
        a, b = rng.integers(0, 500, (2, 2)).tolist()
        cv2.line(label, a, b, 255, int(rng.integers(2, 7)))
    soft = cv2.GaussianBlur(label, (0, 0), 1.0).astype(np.float32)
    planes = np.clip(np.stack([150 - 0.3 * soft, 90 + 0.4 * soft]) + rng.normal(0, 2, (2, 500, 520)), 0, 255)
    none = np.zeros((0, 2), np.float32)
    mask = np.ones(label.shape, np.uint8)
    return Sample("synthetic/1", 1.0, 14.0, planes.astype(np.uint8), mask, label, none, none, False)


def test_both_views_of_a_pair_have_one_polarity() -> None:
    rng = np.random.default_rng(0)
    agree = []
    for _ in range(12):
        planes, _masks, views = glampoints.make_pair(rng, sample())
        y, x = np.mgrid[0:CROP_PX:5, 0:CROP_PX:5].reshape(2, -1)
        there = np.round(glampoints.across(views, np.stack([x, y], 1))).astype(int)
        inside = np.all((there >= 0) & (there < CROP_PX), axis=1)
        fine = [p - cv2.blur(p, (25, 25)) for p in planes]
        values = fine[0][y[inside], x[inside]], fine[1][there[inside, 1], there[inside, 0]]
        agree.append(np.corrcoef(*values)[0, 1])
    assert min(agree) > -0.05
    assert np.median(agree) > 0.2


def test_a_batch_depends_on_seed_and_number_only() -> None:
    stream = glampoints.pairs([sample()], 1, seed=3, start=0)
    next(stream)
    second = next(stream)
    again = next(glampoints.pairs([sample()], 1, seed=3, start=1))
    torch.testing.assert_close(second.planes, again.planes, rtol=0, atol=0)
    assert second.planes.shape == (2, 1, CROP_PX, CROP_PX)


# ---- recipe -----------------------------------------------------------------------------------------------------
def test_a_run_that_is_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def config(name: str, **options: object) -> recipe.Config:
        (tmp_path / name).mkdir()
        return recipe.Config(
            data=tmp_path, out=tmp_path / name, steps=2, synthetic=1, batch=1, threads=1, bf16=False, progress=False,
            **options,  # type: ignore[arg-type]
        )  # fmt: skip

    weights = tmp_path / "glampoints.safetensors"
    whole = config("whole", weights=weights)
    straight = loop.load_checkpoint(loop.run(recipe.build(whole), whole))

    def kill(learner: loop.Learner) -> None:
        if learner.step == 1:
            raise KeyboardInterrupt

    part = config("part", checkpoint_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        loop.run(recipe.build(part), part, kill)
    part.resume = True
    resumed = loop.load_checkpoint(loop.run(recipe.build(part), part))
    for name, value in straight["network"].items():
        torch.testing.assert_close(resumed["network"][name], value, rtol=0, atol=0)
    assert GlamPoints(Config(method="glampoints"), 1, weights).facts["steps"] == 2


# ---- method -----------------------------------------------------------------------------------------------------
def error(fixed: np.ndarray, moving: np.ndarray, truth: object, **options: object) -> float:
    points = np.stack(np.meshgrid(*[np.linspace(120, 300, 7)] * 2), -1).reshape(-1, 2)
    result = Registrar(method="glampoints", threads=1, **options).register(fixed, moving)
    return float(point_errors(result.transform, points, truth(points)).mean())  # type: ignore[operator]


@pytest.mark.parametrize("number", [5, 6])
def test_it_registers_two_exposures_of_one_modality(number: int) -> None:
    pair = synthetic_pair(number, (SIDE, SIDE), ("RF", "CF"), "easy")
    assert error(pair.fixed, pair.moving, pair.truth) < 3


def test_polarity_does_not_matter() -> None:
    eye = synthetic_pair(5, (SIDE, SIDE), ("CF", "FA"), "easy").fixed[..., 1]
    assert error(eye, 255 - eye[10:, 7:], lambda xy: xy + np.array([7, 10])) < 1


def test_points_are_apart_and_inside() -> None:
    eye = synthetic_pair(5, (SIDE, SIDE), ("CF", "FA"), "easy").fixed[..., 1].copy()
    eye[:, :100] = 0
    found = GlamPoints(Config(method="glampoints", working_size=SIDE), 1)(eye, False)
    assert 40 < len(found.xy) < (SIDE / 10) ** 2
    assert found.xy[:, 0].min() > 100
    chebyshev = np.abs(found.xy[:, None] - found.xy[None]).max(2)
    assert chebyshev[~np.eye(len(found.xy), dtype=np.bool_)].min() > 10
    assert (np.diff(found.score) <= 0).all()


def test_nothing_to_see_is_refused_and_the_result_is_the_same_every_time() -> None:
    pair = synthetic_pair(5, (SIDE, SIDE), ("RF", "CF"), "easy")
    registrar = Registrar(method="glampoints", threads=1)
    assert registrar.register(pair.fixed, np.zeros((100, 120), np.uint8)).status == "no_content"
    assert (
        registrar.register(pair.fixed, pair.moving).to_json() == registrar.register(pair.fixed, pair.moving).to_json()
    )


def test_misuse() -> None:
    with pytest.raises(InvalidInput, match="engine: got 'torch', which means nothing to method 'glampoints'"):
        Config(method="glampoints", engine="torch")
    with pytest.raises(EngineError, match="is missing; remedy"):
        GlamPoints(Config(method="glampoints"), 1, Path("no.safetensors"))
