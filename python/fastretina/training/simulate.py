"""Modality simulation: one real plane is given another appearance, its vessels staying where they are.

Everything is a random, smooth change of tone, contrast, texture or noise.  The two views of a training pair are changed
independently, so that a descriptor can only rely on the course of the vessels, not on how a device paints them.
Planes are float32 ``(S, S)`` in about [0, 1]; ``vessels`` is the map of where vessels are, in [0, 1].
"""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator


def smooth_field(rng: Rng, size: int, knots: int) -> np.ndarray:
    """Smooth random field ``(S, S)``, about standard normal, with ``knots`` bumps along a side."""
    grid = rng.standard_normal((knots, knots)).astype(np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def band_noise(rng: Rng, size: int, sigma_px: float) -> np.ndarray:
    """Noise with structures of about ``sigma_px``, standard deviation 1."""
    noise = rng.standard_normal((size, size)).astype(np.float32)
    if sigma_px > 0.3:
        noise = cv2.GaussianBlur(noise, (0, 0), sigma_px)
    return noise / (noise.std() + 1e-6)


def repaint_vessels(rng: Rng, plane: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Change contrast or polarity of the vessels alone: fainter, missing in places, inverted, with a reflex."""
    size = plane.shape[0]
    wide = cv2.GaussianBlur(vessels, (0, 0), 1.5)
    guide = np.clip(wide * 2.0, 0, 1)
    weight = 1.0 - 0.97 * guide
    background = cv2.GaussianBlur(plane * weight, (0, 0), 6.0) / (cv2.GaussianBlur(weight, (0, 0), 6.0) + 1e-3)
    detail = plane - background
    kind = rng.random()
    if kind < 0.45:
        factor: np.ndarray | float = rng.uniform(-1.4, 1.3)
    elif kind < 0.75:
        factor = np.clip(0.6 + 0.8 * smooth_field(rng, size, int(rng.integers(2, 5))), -0.2, 1.5)
    else:
        factor = 1.0
    out = plane + (factor - 1.0) * detail * guide
    if rng.random() < 0.2:
        core = np.clip(vessels - 1.2 * np.clip(cv2.GaussianBlur(vessels, (0, 0), 3.0), 0, 1), 0, 1)
        out = out + rng.uniform(-0.5, 0.5) * plane.std() * 2 * core
    return out


def render_vessels(rng: Rng, plane: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Paint the vessel map on a new background: capillary mesh (angiography) or a soft tissue texture."""
    size = plane.shape[0]
    ink = cv2.GaussianBlur(vessels, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.5:
        mesh = np.abs(band_noise(rng, size, rng.uniform(1.0, 2.2)))
        back = np.exp(-mesh * rng.uniform(1.5, 4.0)) * rng.uniform(0.2, 0.9)
    else:
        back = 0.5 + 0.15 * rng.uniform(0.3, 1.0) * band_noise(rng, size, rng.uniform(0.6, 5.0))
    strength = rng.uniform(0.15, 0.8) * (1 + 0.4 * np.clip(smooth_field(rng, size, 3), -1.5, 1.5))
    mix = rng.uniform(0.0, 0.4)
    return mix * plane + (1 - mix) * (back + strength * ink)


def tone(rng: Rng, plane: np.ndarray) -> np.ndarray:
    """Gamma, polarity reversal in half of the views, or a smooth tone curve that need not be monotone."""
    low, high = np.percentile(plane[::4, ::4], (1, 99))
    out = np.clip((plane - low) / (high - low + 1e-4), -0.1, 1.1)
    if rng.random() < 0.5:
        out = 1.0 - out
    kind = rng.random()
    if kind < 0.5:
        out = np.clip(out, 0, None) ** np.exp(rng.normal(0, 0.45))
    elif kind < 0.65:
        knots = np.cumsum(rng.uniform(-0.35, 1.0, 6))
        knots = (knots - knots.min()) / (np.ptp(knots) + 1e-6)
        table = np.interp(np.linspace(0, 5, 256), np.arange(6), knots).astype(np.float32)
        out = np.interp(np.clip(out, 0, 1), np.linspace(0, 1, 256), table).astype(np.float32)
    return out.astype(np.float32)


def shade(rng: Rng, plane: np.ndarray) -> np.ndarray:
    """Regional contrast and shading."""
    size = plane.shape[0]
    if rng.random() < 0.6:
        gain = np.exp(rng.uniform(0.1, 0.6) * smooth_field(rng, size, int(rng.integers(2, 5))))
        local = cv2.blur(plane, (41, 41))
        plane = local + (plane - local) * gain
    if rng.random() < 0.5:
        plane = plane + rng.uniform(0.1, 0.5) * smooth_field(rng, size, int(rng.integers(2, 4)))
    return plane


def blobs(rng: Rng, plane: np.ndarray) -> np.ndarray:
    """Lesions, leakage, drusen, laser scars: soft spots brighter or darker than the tissue."""
    out = plane.copy()
    size = plane.shape[0]
    contrast = rng.uniform(0.1, 0.7)
    for _ in range(int(rng.integers(1, 14))):
        radius = float(np.exp(rng.uniform(np.log(2), np.log(22))))
        x, y = rng.uniform(0, size, 2)
        reach = int(3 * radius) + 2
        x0, x1 = max(0, int(x) - reach), min(size, int(x) + reach)
        y0, y1 = max(0, int(y) - reach), min(size, int(y) + reach)
        if x0 >= x1 or y0 >= y1:
            continue
        ys, xs = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        squash = rng.uniform(0.6, 1.6)
        distance = np.hypot((xs - x) * squash, ys - y) / radius
        spot = 1.0 / (1.0 + np.exp(rng.uniform(2, 8) * (distance - 1)))
        out[y0:y1, x0:x1] += rng.choice([-1, 1]) * contrast * rng.uniform(0.3, 1.0) * spot
    return out


def degrade(rng: Rng, plane: np.ndarray) -> np.ndarray:
    """Texture, blur, coarse sampling, stripes, line jitter, speckle and noise."""
    size = plane.shape[0]
    deviation = float((plane - cv2.blur(plane, (41, 41))).std()) + 2e-3
    if rng.random() < 0.3:
        mesh = band_noise(rng, size, rng.uniform(0.8, 2.5))
        plane = plane + deviation * rng.uniform(0.1, 0.8) * (np.abs(mesh) if rng.random() < 0.5 else mesh)
    blur = rng.random()
    if blur < 0.4:
        plane = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.4, 2.2))
    elif blur < 0.55:
        small = max(48, int(size * rng.uniform(0.35, 0.8)))
        plane = cv2.resize(plane, (small, small), interpolation=cv2.INTER_AREA)
        plane = cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.12:
        lines = rng.standard_normal((size, 1)).astype(np.float32)
        if rng.random() < 0.5:
            lines = cv2.GaussianBlur(lines, (1, 0), sigmaX=0.1, sigmaY=1.5) * 2
        stripes = deviation * rng.uniform(0.1, 0.6) * lines
        plane = plane + (stripes if rng.random() < 0.7 else stripes.T)
    if rng.random() < 0.3:
        grain = band_noise(rng, size, float(rng.choice([0.0, 0.0, 0.6, 1.0])))
        plane = plane * (1 + rng.uniform(0.05, 0.45) * grain)
    if rng.random() < 0.6:
        grain = band_noise(rng, size, float(rng.choice([0.0, 0.0, 0.7, 1.3])))
        plane = plane + deviation * np.exp(rng.uniform(np.log(0.08), np.log(1.6))) * grain
    return plane


def restyle(rng: Rng, plane: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """One random appearance of a view; float32 ``(S, S)`` in [0, 1]."""
    kind = rng.random()
    if kind < 0.12:
        plane = render_vessels(rng, plane, vessels)
    elif kind < 0.5:
        plane = repaint_vessels(rng, plane, vessels)
    plane = tone(rng, plane)
    plane = shade(rng, plane)
    if rng.random() < 0.35:
        plane = blobs(rng, plane)
    return _stretch(degrade(rng, plane))


def retouch(rng: Rng, plane: np.ndarray) -> np.ndarray:
    """Another exposure of the same device: gamma, regional contrast, in half of the views worse quality."""
    low, high = np.percentile(plane[::4, ::4], (1, 99))
    plane = np.clip((plane - low) / (high - low + 1e-4), 0, 1.1) ** np.float32(np.exp(rng.normal(0, 0.3)))
    plane = shade(rng, plane.astype(np.float32))
    return _stretch(degrade(rng, plane) if rng.random() < 0.5 else plane)


def _stretch(plane: np.ndarray) -> np.ndarray:
    """To [0, 1], all but the extreme percent."""
    low, high = np.percentile(plane[::4, ::4], (0.5, 99.5))
    return np.clip((plane - low) / (high - low + 1e-4), 0, 1).astype(np.float32)
