"""The fit of the confidence."""

import json

import numpy as np
import pytest
from fastretina import Registration, Transform
from fastretina.errors import InvalidInput
from fastretina.evaluation import calibration as c
from fastretina.evaluation import metrics


def outcomes(n=4000, seed=0, weights=(2.0, -1.0, 0.0), bias=0.5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(weights))) * [1, 2, 3] + [0, 1, -4]
    p = 1 / (1 + np.exp(-(bias + x @ np.array(weights))))
    return x, (rng.uniform(size=n) < p).astype(float), p


def test_it_finds_the_weights():
    x, y, p = outcomes(40000)
    found = c.fit(x, y)
    assert found.weights == pytest.approx([2, -1, 0], abs=0.06)
    assert found.bias == pytest.approx(0.5, abs=0.1)
    assert metrics.calibration_error(found.confidence(x), y) < 0.01
    assert metrics.auroc(found.confidence(x), y) == pytest.approx(metrics.auroc(p, y), abs=1e-3)


def test_the_gradient_vanishes():
    x, y, _ = outcomes(500)
    found = c.fit(x, y, ridge=2.0)
    spread = x.std(0)
    error = found.confidence(x) - y
    assert error.sum() == pytest.approx(0, abs=1e-5)
    assert ((x - x.mean(0)) / spread).T @ error + 2.0 * found.weights * spread == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, -1), (1, 1, 0), (0, 1, -1)])
def test_signs_hold_and_are_optimal(signs):
    x, y, _ = outcomes(800, seed=3)
    found = c.fit(x, y, signs)
    assert all(s * w >= 0 for s, w in zip(signs, found.weights, strict=True))
    z = (x - x.mean(0)) / x.std(0)
    gradient = z.T @ (found.confidence(x) - y) + found.weights * x.std(0)
    for s, w, g in zip(signs, found.weights, gradient, strict=True):  # the conditions of Karush, Kuhn and Tucker
        assert (abs(g) < 1e-4) if w != 0 or s == 0 else s * g > -1e-4


def test_separable_rows_stay_finite():
    x = np.linspace(-1, 1, 40)[:, None]
    found = c.fit(x, (x[:, 0] > 0).astype(float))
    assert np.isfinite(found.weights).all()
    assert metrics.auroc(found.confidence(x), x[:, 0] > 0) == 1


def test_order_and_scale_of_features_do_not_matter():
    x, y, _ = outcomes(300)
    a, b = c.fit(x, y), c.fit(x[:, ::-1] * 1000 + 5, y)
    assert a.confidence(x) == pytest.approx(b.confidence(x[:, ::-1] * 1000 + 5), abs=1e-6)


def test_misuse():
    x, y, _ = outcomes(50)
    with pytest.raises(InvalidInput, match="success"):
        c.fit(x, np.ones(50))
    with pytest.raises(InvalidInput, match="success"):
        c.fit(x, y * 0.5)
    with pytest.raises(InvalidInput, match="features"):
        c.fit(x[:, 0], y)
    with pytest.raises(InvalidInput, match="features"):
        c.fit(np.where(x > 2, np.nan, x), y)
    with pytest.raises(InvalidInput, match="signs"):
        c.fit(x, y, (1, 2, 3))
    with pytest.raises(InvalidInput, match="ridge"):
        c.fit(x, y, ridge=0)
    with pytest.raises(InvalidInput, match="coverage"):
        c.features_of({"ridge_correlation": 1, "inliers": 2, "matches": 3, "overlap": 1, "inlier_rms_px": 1})


def registrations(seed):
    """Rows as ``training/outcomes.py`` writes them: two of three right, and told apart by ridges and inliers."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(200):
        good = i % 3 > 0
        rows.append(
            {
                "ridge_correlation": rng.normal(0.5 if good else 0.1, 0.1),
                "inliers": int(rng.integers(30, 60) if good else rng.integers(4, 12)),
                "matches": 100,
                "overlap": 0.8,
                "inlier_rms_px": 1.5,
                "coverage": rng.uniform(),
                "peak_to_sidelobe": 5.0,
                "inlier_similarity": 0.7,
                "success": good,
                "wrong": i % 3 == 0,
                "error_px": 1.0 if good else None,
            }
        )
    return rows


def written(path, rows):
    path.write_text(json.dumps(rows))
    return str(path)


def test_from_a_file(tmp_path, capsys):
    c.main([written(tmp_path / "rows.json", registrations(0))])
    out = capsys.readouterr().out
    assert "[confidence]\nbias = " in out
    assert "fitted to 200 rows, 133 right; 200 unseen rows, 133 right within 5 px, 67 of different eyes" in out
    assert float(out.split("AUROC ")[1].split(",")[0]) > 0.99


def test_the_judged_rows_are_others(tmp_path, capsys):
    fitted, other = written(tmp_path / "fit.json", registrations(0)), registrations(1)[:90]
    for row in other[1::3]:  # looks as good as the right ones, and is not
        row |= {"success": False, "error_px": 12.0}
    c.main([fitted, "--judge", written(tmp_path / "judge.json", other)])
    out = capsys.readouterr().out
    assert "fitted to 200 rows, 133 right; 90 unseen rows, 30 right within 5 px, 30 of different eyes" in out
    assert float(out.split("AUROC ")[1].split(",")[0]) < 0.9
    assert "60 accepted, 30 of them off by 10 px or wrong" in out


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    rows = written(tmp_path / "rows.json", registrations(0))
    c.main([rows, "--plot", str(tmp_path / "plot.png")])
    assert (tmp_path / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_halves_are_disjoint_and_about_equal():
    pytest.importorskip("torch")
    from fastretina.training.outcomes import half_of

    halves = [half_of(f"drive/{i:02d}") for i in range(200)]
    assert halves == [half_of(f"drive/{i:02d}") for i in range(200)]
    assert set(halves) == {"fit", "judge"}
    assert 70 < halves.count("fit") < 130


def test_deformed_pairs_are_rows_with_their_truth():
    """A registrar that knows the truth of the first pair only, and is 8 px of the 640-px frame off in the other two."""
    pytest.importorskip("cv2")
    pytest.importorskip("torch")
    from fastretina.evaluation.synthetic import best_quadratic, synthetic_cases
    from fastretina.synth.geometry import GEOMETRIES
    from fastretina.training.outcomes import deformed

    cases = list(synthetic_cases(GEOMETRIES, 1, 77))
    off = Transform.from_matrix([[1, 0, 8], [0, 1, 0]])

    class Knows:
        def register(self, fixed, moving):
            number = next(i for i, case in enumerate(cases) if np.array_equal(case.fixed, fixed))
            fitted = best_quadratic(cases[number].target)
            transform = fitted if number == 0 else off @ fitted
            sizes = {"fixed_size": fixed.shape[1::-1], "moving_size": moving.shape[1::-1]}
            return Registration(status="ok", confidence=0.5, transform=transform, choices={"rung": 0}, **sizes)

    rows = list(deformed(Knows(), 1, 77))
    assert [row["fixed"] for row in rows] == [case.id for case in cases]
    assert [row["success"] for row in rows] == [True, False, False]
    assert rows[0]["error_px"] < 2
    assert rows[1]["error_px"] == pytest.approx(8, abs=2)
    assert not any(row["wrong"] for row in rows)
