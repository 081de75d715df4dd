"""Pictures and report of a registration."""

import re

import numpy as np
import pytest
from fastretina import Registration, Transform
from fastretina.report import html_report, overlay_panels, scene
from fastretina.report.panels import checkerboard, colour_overlay, expected_error, heatmap

pytest.importorskip("cv2")

SHIFT = Transform.from_matrix([[1, 0, 10], [0, 1, -6]])


def result(status: str = "ok", **changes) -> Registration:
    moving = np.random.default_rng(0).uniform(20, 80, (12, 2))
    values = {
        "status": status,
        "confidence": 0.5,
        "transform": SHIFT,
        "fixed_size": (160, 120),
        "moving_size": (200, 100),
        "matches": np.hstack([SHIFT(moving), moving]),
        "match_scores": np.ones(12),
        "inliers": np.arange(12) < 7,
        "keypoints_fixed": SHIFT(moving),
        "heatmap_fixed": np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32),
        "choices": {"engine": "<b>", "mirrored": False},
    }
    return Registration(**(values | changes))


def view(r: Registration, dtype: str = "uint8", longer_side: int = 320):
    rng = np.random.default_rng(2)
    top = {"uint8": 255, "uint16": 4095, "float32": 1}[dtype]
    fixed = (rng.random((120, 160, 3)) * top).astype(dtype)
    moving = (rng.random((100, 200)) * top).astype(dtype)
    return scene(fixed, moving, r, r.warp(moving) if r.ok else None, longer_side)


def test_points_and_pixels_share_one_scale() -> None:
    s = view(result())
    assert s.fixed.shape == (240, 320, 3)
    assert s.moving.shape == (160, 320, 3)
    assert s.fixed_points(np.array([[0.0, 0.0], [159.0, 119.0]])).tolist() == [[0.5, 0.5], [318.5, 238.5]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_every_depth_can_be_seen(dtype: str) -> None:
    s = view(result(), dtype)
    assert 90 < s.fixed.mean() < 165  # uniform noise, also 12 bits in a 16-bit image
    assert 90 < s.moving.mean() < 165


def test_checkerboard_alternates_where_valid() -> None:
    s = view(result(), longer_side=160)
    board = checkerboard(s)
    tile = 160 // 8
    np.testing.assert_array_equal(board[:tile, :tile], s.fixed[:tile, :tile])
    np.testing.assert_array_equal(board[:tile, tile : 2 * tile], s.warped[:tile, tile : 2 * tile])
    # rows 94 ... of the fixed frame are beyond the moving image, which is 100 px high and shifted up by 6
    np.testing.assert_array_equal(board[95:], s.fixed[95:])


def test_overlay_hues_tell_the_images_apart() -> None:
    s = view(result(), longer_side=160)
    overlay = colour_overlay(s).astype(int)
    only_fixed = overlay[95:]
    assert (only_fixed[..., 0] > only_fixed[..., 1]).mean() > 0.9
    assert abs(overlay[10:90, 20:].mean((0, 1)).max() - overlay[10:90, 20:].mean((0, 1)).min()) < 30


def test_heatmap_shows_where_the_map_is_high() -> None:
    hot = np.zeros((30, 40), np.float32)
    hot[5:9, 30:34] = 9
    s = view(result(heatmap_fixed=hot, keypoints_fixed=np.zeros((0, 2))))
    base = view(result(heatmap_fixed=None, keypoints_fixed=np.zeros((0, 2))))
    change = np.abs(heatmap(s, "fixed").astype(int) - heatmap(base, "fixed")).sum(2)
    assert change[40:72, 240:272].mean() > 100
    assert change[120:].max() == 0


@pytest.mark.parametrize("status", ["ok", "low_agreement"])
def test_panels_of_any_outcome(status: str) -> None:
    panels = overlay_panels(view(result(status)))
    assert panels.dtype == np.uint8
    assert panels.shape[2] == 3
    tall = panels.shape[0]
    assert tall > 700 if status == "ok" else tall < 700  # a refused pair has no row of overlays


def test_the_expected_error_is_coloured_where_moving_shows_something() -> None:
    panel, scale = expected_error(view(result(inliers=np.zeros(12, bool)), longer_side=160))
    assert panel.shape[0] == scale.shape[0]
    body = panel[panel.shape[0] - 120 :].astype(int)
    spread = body.max(2) - body.min(2)
    assert spread[97:].max() == 0  # rows 94 ... are beyond MOVING: gray
    assert np.median(spread[20:80, 30:150]) > 20


def test_panels_without_matches_or_maps() -> None:
    empty = result(
        "no_content", transform=None, matches=np.zeros((0, 4)), match_scores=np.zeros(0), inliers=np.zeros(0, bool),
        keypoints_fixed=np.zeros((0, 2)), heatmap_fixed=None,
    )  # fmt: skip
    assert overlay_panels(view(empty)).size > 0


def test_report_is_self_contained_and_escaped() -> None:
    html = html_report(view(result()), "<script>alert(1)</script>.png", 'a"b&c.png')
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>alert" not in html
    assert "a&quot;b&amp;c.png" in html
    assert "<b>" not in html.split("<table>", 1)[1]  # values are escaped too
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "http" not in html
    assert html.count("data:image/jpeg;base64,") == 4
    assert 'type="range"' in html
    assert "registered: ok" in html


def test_report_of_a_refusal_says_why() -> None:
    html = html_report(view(result("low_agreement")), "a.png", "b.png")
    assert "refused: low_agreement" in html
    assert "do not agree" in html
    assert "Best candidate, refused" in html
    assert 'type="range"' not in html


def test_report_is_the_same_every_time() -> None:
    assert html_report(view(result()), "a", "b") == html_report(view(result()), "a", "b")
