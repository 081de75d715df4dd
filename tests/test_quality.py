"""Room quality: status, plausibility, confidence."""

import itertools

import numpy as np
import pytest
from fastretina import ops
from fastretina.errors import InvalidInput
from fastretina.torch_path.options import ConfidenceModel
from fastretina.transform import Transform
from reference import quality as reference

SIZE = (640, 480)
GOOD = {
    "contrast_fixed": 0.05,
    "contrast_moving": 0.04,
    "keypoints_fixed": 900,
    "keypoints_moving": 800,
    "matches": 200,
    "inliers": 90,
    "inlier_rms_px": 1.2,
    "coverage": 0.6,
    "inlier_similarity": 0.7,
    "attempts": 1,
    "ridge_correlation": 0.55,
    "peak_to_sidelobe": 12.0,
    "overlap_px": 250_000,
}
IDENTITY = Transform.identity()


def judge(transform=IDENTITY, fixed=SIZE, moving=SIZE, **changes):
    return ops.quality(transform, fixed, moving, **(GOOD | changes))


# -- hand table ---------------


def test_a_good_pair():
    q = judge()
    assert q["status"] == "ok"
    assert q["confidence"] > 0.99
    assert (q["scale"], q["rotation_deg"], q["anisotropy"], q["mirrored"], q["pole"], q["fold"]) == (
        1,
        0,
        1,
        False,
        False,
        False,
    )
    assert q["overlap"] == pytest.approx(250_000 / (640 * 480))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"contrast_fixed": 0.001}, "no_content"),
        ({"contrast_moving": 0.0}, "no_content"),
        ({"keypoints_moving": 7}, "no_content"),
        ({"transform": None}, "too_few_matches"),
        ({"inliers": 5}, "too_few_matches"),
        ({"transform": Transform.from_matrix([[7.0, 0, 0], [0, 7, 0]])}, "implausible"),
        ({"transform": Transform.from_matrix([[0.15, 0, 0], [0, 0.15, 0]])}, "implausible"),
        ({"transform": Transform.from_matrix([[1.3, 0, 0], [0, 0.8, 0]])}, "implausible"),
        ({"transform": Transform.from_matrix([[1, 0, 0], [0, 1, 0], [-0.003, 0, 1]])}, "implausible"),
        ({"transform": Transform("quadratic", [[0, 1, 0, -1e-3, 0, 0], [0, 0, 1, 0, 0, 0]])}, "implausible"),
        ({"overlap_px": 4000}, "implausible"),
        ({"ridge_correlation": 0.02, "peak_to_sidelobe": 0.5, "inliers": 8}, "low_agreement"),
        ({}, "ok"),
        # Enough to go on, not to be trusted:
        ({"inliers": 6, "ridge_correlation": 0.3, "peak_to_sidelobe": 2.0, "inlier_similarity": 0.5}, "low_agreement"),
        ({"transform": Transform.from_matrix([[1.13, 0, 0], [0, 0.88, 0]])}, "implausible"),  # stretched as a whole
        ({"inliers": 60, "ridge_correlation": 0.3}, "ok"),
    ],
)
def test_status(changes, status):
    q = judge(**changes)
    assert q["status"] == status
    assert (q["confidence"] > 0) == (status in ("ok", "low_agreement"))


def test_the_first_reason_counts():
    worst = {"transform": Transform.from_matrix([[9.0, 0, 0], [0, 9, 0]]), "ridge_correlation": 0.0}
    assert judge(contrast_fixed=0.0, inliers=0, **worst)["status"] == "no_content"
    assert judge(inliers=0, **worst)["status"] == "too_few_matches"
    assert judge(**worst)["status"] == "implausible"


def test_pole_and_fold():
    assert judge(Transform.from_matrix([[1, 0, 0], [0, 1, 0], [-0.003, 0, 1]]))["pole"]
    assert not judge(Transform.from_matrix([[1, 0, 0], [0, 1, 0], [-0.001, 0, 1]]))["pole"]
    assert judge(Transform("quadratic", [[0, 1, 0, -1e-3, 0, 0], [0, 0, 1, 0, 0, 0]]))["fold"]
    assert not judge(Transform("quadratic", [[0, 1, 0, -1e-4, 0, 0], [0, 0, 1, 0, 0, 0]]))["fold"]


@pytest.mark.parametrize("degrees", [-170, -90, -30, 0, 45, 90, 180])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_and_mirror(degrees, mirrored):
    a = np.radians(degrees)
    matrix = 1.5 * np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0]])
    if mirrored:
        matrix = matrix @ np.diag([-1, 1, 1])
    q = judge(Transform.from_matrix(matrix))
    assert q["mirrored"] == mirrored
    assert abs((q["rotation_deg"] - degrees + 180) % 360 - 180) < 1e-9
    assert q["scale"] == pytest.approx(1.5)


def test_overlap_is_of_the_smaller_frame():
    zoom = Transform.from_matrix([[0.5, 0, 0], [0, 0.5, 0]])
    assert judge(zoom, overlap_px=640 * 480)["overlap"] == pytest.approx(
        1
    )  # all of the moving frame, a quarter of fixed
    grow = Transform.from_matrix([[2.0, 0, 0], [0, 2, 0]])
    assert judge(grow, overlap_px=640 * 480 // 4)["overlap"] == pytest.approx(1)  # all of the fixed frame
    assert judge(grow, overlap_px=640 * 480 // 8)["overlap"] == pytest.approx(0.5)


# -- NumPy reference ---------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["similarity", "affine", "homography", "quadratic"])
def test_shape_is_the_reference(kind, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-1, 1, 2)
    flip = np.diag([rng.choice([-1, 1]), 1.0])
    linear = np.array([[a, -b], [b, a]]) @ flip
    if kind != "similarity":
        linear = linear @ (np.eye(2) + rng.uniform(-0.1, 0.1, (2, 2)))
    if kind == "quadratic":
        rows = [[5, *linear[r], *(rng.uniform(-1e-4, 1e-4, 3) * abs(a + 1j * b))] for r in (0, 1)]
        transform = Transform("quadratic", rows)
    else:
        tail = rng.uniform(-1e-4, 1e-4, 2) if kind == "homography" else [0, 0]
        transform = Transform.from_matrix(np.vstack([np.column_stack([linear, [3, 4]]), [*tail, 1]]))
    q = judge(transform)
    scale, angle, worst, mirrored = reference.shape(transform, SIZE)
    assert not q["pole"]
    assert not q["fold"]
    assert q["mirrored"] == mirrored
    assert q["scale"] == pytest.approx(scale, rel=1e-5)
    assert abs((q["rotation_deg"] - angle + 180) % 360 - 180) < 1e-3
    assert q["anisotropy"] == pytest.approx(worst, rel=1e-5)  # the worst is at a corner, which both grids have


# -- torch twin ---------------


def test_torch_twin():
    pytest.importorskip("torch")
    from fastretina.torch_path import quality as twin

    transforms = [
        None, IDENTITY, Transform.from_matrix([[-1.1, 0.1, 600], [0.1, 1.2, 3]]),
        Transform.from_matrix([[1, 0, 0], [0, 1, 0], [-0.003, 0, 1]]),
        Transform.from_matrix([[1, 0, 0], [0, 1, 0], [-3e-4, 0, 1]]),
        Transform("quadratic", [[0, 1, 0, -1e-3, 0, 0], [0, 0, 1, 0, 0, 0]]),
        Transform("quadratic", [[0, 1, 0, -1e-4, 3e-5, 0], [0, 0, 1, 0, 0, 1e-5]]),
    ]  # fmt: skip
    changes = [
        {},
        {"contrast_fixed": 0.0},
        {"inliers": 3},
        {"ridge_correlation": 0.05, "inliers": 9},
        {"overlap_px": 10},
    ]
    for transform, change in itertools.product(transforms, changes):
        measured = GOOD | change
        raw = None
        if transform is not None:
            params = np.zeros(12)
            params[: transform.params.size] = transform.params.ravel()
            raw = (transform.kind, params)
        got, expected = twin.quality(raw, SIZE, SIZE, **measured), ops.quality(transform, SIZE, SIZE, **measured)
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert got[key] == (pytest.approx(value, rel=1e-12, abs=1e-12) if isinstance(value, float) else value), key


# -- properties ---------------


@pytest.mark.parametrize(
    ("name", "values"),
    [("ridge_correlation", (0.0, 0.1, 0.2, 0.4, 0.9)), ("inliers", (6, 10, 30, 100)), ("coverage", (0.0, 0.3, 1.0))],
)
def test_more_is_never_worse(name, values):
    found = [judge(**{"ridge_correlation": 0.15, name: v})["confidence"] for v in values]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_larger_residuals_are_never_better():
    found = [judge(ridge_correlation=0.1, inlier_rms_px=v)["confidence"] for v in (0.2, 1.0, 3.0)]
    assert found == sorted(found, reverse=True)


def test_a_map_that_stretches_is_trusted_less():
    """Two cameras of one eye hardly differ in shape; a homography that nothing holds in a corner does."""
    found = []
    for tilt in (0, 1e-4, -2e-4, 3e-4):
        q = judge(Transform.from_matrix([[1, 0, 0], [0, 1, 0], [tilt, 0, 1]]), ridge_correlation=0.3, inliers=20)
        found.append((q["anisotropy"], q["confidence"]))
    assert [a for a, _ in found] == sorted(a for a, _ in found)
    assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)
    (no, trusted), (much, doubted) = found[0], found[-1]
    assert no == 1
    # The logit falls by the weight times the logarithm of the anisotropy: these pairs differ in nothing else.
    logit = np.log(doubted / (1 - doubted)) - np.log(trusted / (1 - trusted))
    assert logit == pytest.approx(ConfidenceModel().log_anisotropy * np.log(much), rel=1e-3)


def test_translation_changes_no_shape():
    a = judge(Transform.from_matrix([[1.1, 0.2, 0], [-0.1, 0.9, 0]]))
    b = judge(Transform.from_matrix([[1.1, 0.2, 50], [-0.1, 0.9, -70]]))
    assert a == b


def test_options_bound():
    assert judge(min_confidence=1.0, ridge_correlation=0.1)["status"] == "low_agreement"
    stretched = Transform.from_matrix([[1.3, 0, 0], [0, 0.8, 0]])
    assert judge(stretched, max_anisotropy=2.0, max_central_anisotropy=2.0)["status"] == "ok"
    assert judge(overlap_px=4000, min_overlap=0.001)["status"] == "ok"


# -- misuse ---------------


@pytest.mark.parametrize(
    "bad",
    [{"contrast_fixed": np.nan}, {"matches": -1}, {"inliers": -1}, {"ridge_correlation": np.inf}, {"fixed": (0, 3)}],
)
def test_misuse(bad):
    with pytest.raises(InvalidInput):
        judge(**bad)


def test_unknown_and_missing_keywords():
    with pytest.raises(InvalidInput, match="inlier: unknown option; did you mean 'inliers'"):
        judge(inlier=3)
    with pytest.raises(InvalidInput, match="contrast_fixed: missing; required: contrast_fixed, contrast_moving"):
        ops.quality(IDENTITY, SIZE, SIZE)


# -- degenerate ---------------


@pytest.mark.parametrize("side", [1, 2, 3])
def test_tiny_frames(side):
    q = judge(fixed=(side, side), moving=(side, side), overlap_px=side * side)
    assert q["overlap"] == 1
    assert q["status"] == "ok"


def test_a_singular_map_is_implausible():
    q = judge(Transform.from_matrix([[1, 1, 0], [1, 1, 0]]))
    assert q["fold"]
    assert q["status"] == "implausible"
