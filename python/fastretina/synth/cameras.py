"""How cameras of different modality paint what they see of an eye.

Each camera has its usual fields of view, optics, noise and artefacts; ``photograph`` turns layers into a picture.
Planes are in [0, 1]; ``rng`` draws what differs from one exposure to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.synth.eye import Layers, Plane

Rng = np.random.Generator
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """One modality. ``paint``: (layers, pigment 0 ... 1, rng) -> (H, W) or (H, W, 3) in about [0, 1]."""

    name: str
    paint: Callable[[Layers, float, Rng], Floats]
    fields_deg: tuple[float, ...]  # usual fields of view
    round_share: float  # of pictures with a round aperture
    vignetting: tuple[float, float]  # loss of light at the border
    blur_deg: tuple[float, float]  # deviation of the optics' point spread
    noise: tuple[float, float]  # deviation at full signal
    speckle: float = 0.0  # multiplicative noise of coherent light
    at_fovea: bool = False  # else anywhere between fovea and disc


def photograph(
    camera: Camera, layers: Layers, pigment: float, deg_per_px: float, noise: float, rng: Rng
) -> NDArray[np.float32]:
    """The picture of a camera without its aperture; ``noise`` is a factor, 1 for a usual exposure."""
    plane = camera.paint(layers, pigment, rng)
    plane = np.clip(plane, 0, 1.3) * shading(plane.shape[0], plane.shape[1], camera, rng).reshape(
        plane.shape[:2] + (1,) * (plane.ndim - 2)
    )
    plane = _sensor(plane, camera, rng.uniform(*camera.blur_deg) / deg_per_px, noise, rng)
    if camera.name in ("OCT", "OCTA"):
        plane = _scan(plane, camera.name == "OCTA", rng)
    return np.asarray(plane, dtype=np.float32)


def aperture(height: int, width: int, camera: Camera, rng: Rng) -> Plane:
    """Where a camera sees anything: a disc, a disc cut by the frame, or the whole frame."""
    if rng.random() >= camera.round_share:
        return np.ones((height, width), np.float32)
    radius = float(rng.choice([0.485, 0.5, 0.54])) * min(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2)
    return np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


def shading(height: int, width: int, camera: Camera, rng: Rng) -> Plane:
    """How the light falls off from a middle that is hardly ever the frame's."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cx, cy = rng.uniform(0.35, 0.65, 2) * (width, height)
    off_sq = ((x - cx) ** 2 + (y - cy) ** 2) / (0.5 * min(height, width)) ** 2
    return np.clip(1.06 - rng.uniform(*camera.vignetting) * off_sq, 0.25, 1.2).astype(np.float32)


# ---- modalities ---------------------------------------------------------------------------------------------------
_PRIMARIES = (  # base, absorption by blood, the disc's brightness, by the macular pigment, texture, sheen
    (0.68, 0.17, 0.96, 0.22, 0.8, 0.03),
    (0.36, 0.46, 0.72, 0.34, 1.2, 0.10),
    (0.17, 0.32, 0.42, 0.34, 1.0, 0.10),
)


def colour(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """Reflected white light: blood absorbs green and blue, the disc is pale, the macula dark."""
    return np.stack(_reflect(layers, pigment, rng, _PRIMARIES), axis=-1)


def green(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """The green plane of a colour camera."""
    return _reflect(layers, pigment, rng, _PRIMARIES[1:2])[0]


def _reflect(layers: Layers, pigment: float, rng: Rng, primaries: tuple[tuple[float, ...], ...]) -> list[Floats]:
    melanin = 0.05 * layers["drift"] + 0.030 * layers["mottle"] + 0.015 * layers["grain"]
    melanin += (0.09 - 0.08 * pigment) * layers["choroid"]
    depth = rng.uniform(0.8, 1.15)
    planes: list[Floats] = []
    for base, blood, pale, dark, texture, sheen in primaries:
        base *= rng.uniform(0.93, 1.07) * (1.12 - 0.3 * pigment)
        plane = base * (1 + texture * melanin) * (1 - dark * layers["macula"])
        plane = plane * (1 - 0.25 * dark * layers["fovea"]) + base * sheen * layers["sheen"] * 2
        plane = plane + (pale - plane) * layers["disc"] * (0.72 + 0.28 * layers["cup"])
        plane = plane * (1 + 0.22 * layers["drusen"]) + 0.45 * (pale - plane) * layers["exudate"]
        plane = plane * (1 + 0.5 * layers["atrophy"]) + (0.5 * pale - plane) * 0.6 * layers["scar"]
        plane = plane * (1 - 1.5 * blood * np.maximum(layers["blood"], layers["aneurysm"]))
        plane = plane * (1 - 0.5 * depth * blood * layers["capillary"]) * (1 - 0.78 * depth * blood * layers["artery"])
        plane = plane * (1 - depth * blood * layers["vein"])
        plane = plane * (1 + 0.22 * layers["artery_core"] + 0.06 * layers["vein_core"])
        planes.append(plane)
    return planes


def red_free(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """Green light alone: the colour camera's green, with more contrast and the sheen of the nerve fibres."""
    plane = green(layers, pigment, rng)
    plane = plane / max(float(plane[::8, ::8].mean()), 1e-3) * rng.uniform(0.36, 0.55)
    return plane + rng.uniform(0.0, 0.10) * layers["sheen"]


def fluorescein(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """Fluorescein angiography in an early, a middle or a late phase.

    Early, veins carry dye along their walls only and the choroid is patchy; late, vessels are dim, the disc is stained
    and what leaks has spread. Blood and exudates hide the glow; atrophy lets it through.
    """
    phase = rng.choice(3, p=(0.2, 0.5, 0.3))
    artery = (rng.uniform(0.8, 1.0), rng.uniform(0.8, 1.0), rng.uniform(0.35, 0.6))[phase]
    vein = (rng.uniform(0.05, 0.6), rng.uniform(0.85, 1.0), rng.uniform(0.4, 0.65))[phase]
    leak = (0.0, rng.uniform(0.1, 0.4), rng.uniform(0.5, 1.0))[phase]
    flush = (0.4, 0.16, 0.08)[phase]
    glow = rng.uniform(0.10, 0.26) * (1.15 - 0.4 * pigment)
    glow = glow * (1 + flush * layers["drift"] + 0.10 * layers["mottle"] + 0.06 * layers["grain"])
    glow = glow * (1 + (0.12 - 0.10 * pigment) * layers["choroid"] + 1.2 * layers["atrophy"] + 0.3 * layers["drusen"])
    plane = glow * (1 - 0.55 * layers["macula"]) * (1 - 0.35 * layers["fovea"]) * (1 - 0.5 * layers["exudate"])
    fine = layers["mesh"] * (1 - layers["avascular"]) * np.exp(-(layers["drift"] ** 2) / 8)
    plane = plane + rng.uniform(0.0, 0.07) * fine * (0.3 + 0.7 * layers["macula"])
    plane = plane * (1 - 0.6 * layers["scar"]) + (0.06, 0.10, 0.28)[phase] * layers["disc"]
    core = (0.5 if phase == 0 else 0.1) * layers["vein_core"]  # laminar flow
    blood = np.maximum(artery * layers["artery"], vein * (layers["vein"] - core))
    blood = np.maximum(blood, rng.uniform(0.35, 0.8) * max(artery, vein) * layers["capillary"])
    plane = plane + (rng.uniform(0.72, 0.95) - plane) * 0.92 * blood
    plane = plane * (1 - 0.7 * layers["blood"])
    plane = plane + 0.45 * layers["aneurysm"] * (phase > 0)
    return plane + leak * layers["leak"] * (1 - 0.3 * plane)


def indocyanine(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """Indocyanine green, which shines through the pigment: vessels of the choroid, and those of the retina."""
    late = rng.random() < 0.4
    choroid = np.clip(0.5 + 0.4 * layers["choroid"], 0, 1.6)
    plane = 0.16 + (0.10 if late else 0.30) * rng.uniform(0.6, 1.1) * choroid + 0.02 * layers["mottle"]
    plane = plane * (1 + 0.15 * layers["drift"]) * (1 - 0.6 * layers["disc"]) * (1 - 0.4 * layers["atrophy"])
    plane = plane * (1 - 0.6 * layers["blood"]) + 0.25 * layers["aneurysm"]
    blood = np.maximum(0.9 * layers["artery"], layers["vein"])
    plane = plane + (rng.uniform(0.45, 0.8) - plane) * (0.45 if late else 0.8) * blood
    return plane + 0.3 * rng.uniform(0, 1) * layers["leak"]


def infrared(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """A scanning laser at 820 nm: little absorption by blood, bright walls and reflexes, the choroid shows through."""
    base = rng.uniform(0.36, 0.52)
    plane = base * (1 + 0.10 * layers["drift"] + (0.16 - 0.12 * pigment) * layers["choroid"])
    plane = plane + base * (0.07 * layers["mottle"] + 0.06 * layers["grain"]) + 0.10 * layers["sheen"]
    rim = layers["disc"] * (1 - layers["cup"])
    plane = plane * (1 - 0.10 * layers["macula"]) * (1 - rng.uniform(0.1, 0.6) * rim)
    plane = plane + rng.uniform(0.1, 0.4) * layers["cup"] * layers["disc"]
    plane = plane * (1 + 0.10 * layers["drusen"] + 0.35 * layers["exudate"] + 0.45 * layers["atrophy"])
    plane = plane * (1 - 0.25 * layers["scar"]) * (1 - 0.35 * layers["blood"]) * (1 - 0.2 * layers["aneurysm"])
    depth = rng.uniform(0.6, 1.1)
    plane = plane * (1 - 0.12 * depth * layers["capillary"]) * (1 - 0.36 * depth * layers["artery"])
    plane = plane * (1 - 0.46 * depth * layers["vein"])
    return plane + base * (0.34 * layers["artery_core"] + 0.12 * layers["vein_core"])


def autofluorescence(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """Lipofuscin glows; vessels, the disc, the macular pigment and dead tissue do not."""
    base = rng.uniform(0.40, 0.68)
    plane = base * (1 + 0.07 * layers["drift"] + 0.03 * layers["mottle"] + 0.05 * layers["grain"])
    plane = plane * (1 - rng.uniform(0.2, 0.55) * layers["macula"]) * (1 - 0.2 * layers["fovea"])
    plane = plane * (1 - 0.7 * layers["disc"]) * (1 - 0.9 * layers["atrophy"]) * (1 - 0.5 * layers["scar"])
    plane = plane * (1 + 0.2 * layers["drusen"]) * (1 - 0.6 * layers["blood"]) + 0.15 * layers["leak"]
    depth = rng.uniform(0.35, 0.6)
    plane = plane * (1 - 0.3 * depth * layers["capillary"]) * (1 - 0.8 * depth * layers["artery"])
    return plane * (1 - depth * layers["vein"])


def oct_en_face(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """The mean of a volume along its depth: vessels are faint shadows, the disc is dark or bright."""
    base = rng.uniform(0.40, 0.6)
    plane = base * (1 + 0.08 * layers["drift"] + 0.04 * layers["mottle"] + 0.04 * layers["grain"])
    plane = plane + rng.uniform(-0.02, 0.06) * layers["choroid"] * (1 - pigment)
    plane = plane * (1 - rng.uniform(-0.1, 0.3) * layers["macula"]) * (1 - rng.uniform(0, 0.4) * layers["fovea"])
    plane = plane * (1 - rng.uniform(0.2, 0.6) * layers["disc"]) + rng.uniform(0, 0.12) * layers["sheen"]
    plane = plane * (1 + 0.12 * layers["drusen"] + 0.3 * layers["exudate"] + 0.4 * layers["atrophy"])
    plane = plane * (1 - 0.35 * layers["blood"])
    depth = rng.uniform(0.2, 0.5)
    plane = plane * (1 - 0.2 * depth * layers["capillary"]) * (1 - 0.8 * depth * layers["artery"])
    return plane * (1 - depth * layers["vein"])


def oct_angiography(layers: Layers, pigment: float, rng: Rng) -> Floats:
    """Moving blood, to the capillaries: a bright mesh around a zone without any."""
    mesh = layers["mesh"] * (1 + 0.25 * layers["drift"] + 0.2 * layers["mottle"])
    around = rng.uniform(0.10, 0.45)
    plane = around * np.clip(mesh, 0, 1.6) + 0.05
    wide = np.maximum(layers["artery"], layers["vein"])
    level = rng.uniform(0.65, 0.95)
    plane = plane + (level - plane) * np.clip(wide + rng.uniform(0.6, 0.9) * layers["capillary"], 0, 1)
    plane = plane * (1 - 0.93 * layers["avascular"]) * (1 - 0.8 * layers["blood"])
    plane = plane * (1 - 0.5 * layers["atrophy"]) + 0.3 * layers["aneurysm"]
    return plane + 0.25 * layers["disc"] * layers["mesh"]


CAMERAS: dict[str, Camera] = {
    c.name: c
    for c in (
        Camera("CF", colour, (45, 50, 55), 1.0, (0.08, 0.30), (0.014, 0.034), (0.006, 0.018)),
        Camera("RF", red_free, (30, 45, 50), 0.9, (0.08, 0.30), (0.014, 0.034), (0.008, 0.022)),
        Camera("FA", fluorescein, (30, 50, 55), 0.6, (0.05, 0.30), (0.014, 0.036), (0.012, 0.035)),
        Camera("ICGA", indocyanine, (30, 45, 55), 0.6, (0.05, 0.30), (0.018, 0.040), (0.014, 0.035)),
        Camera("IR", infrared, (30, 30, 55), 0.1, (0.02, 0.20), (0.012, 0.028), (0.010, 0.035), 0.04),
        Camera("FAF", autofluorescence, (30, 50, 55), 0.4, (0.02, 0.25), (0.016, 0.034), (0.02, 0.06), 0.05),
        Camera("OCT", oct_en_face, (20, 20, 30), 0.0, (0.0, 0.12), (0.016, 0.034), (0.015, 0.04), 0.06, True),
        Camera("OCTA", oct_angiography, (10, 20, 20), 0.0, (0.0, 0.10), (0.010, 0.018), (0.02, 0.06), 0.25, True),
    )
}


# ---- the device ---------------------------------------------------------------------------------------------------
def _sensor(plane: NDArray[Any], camera: Camera, sigma_px: float, noise: float, rng: Rng) -> Floats:
    """Optics blur, then speckle, shot and read noise with a grain of about a pixel."""
    import cv2

    blurred = np.asarray(cv2.GaussianBlur(plane.astype(np.float32), (0, 0), max(sigma_px, 0.5)), np.float32)
    amount = noise * rng.uniform(*camera.noise)
    grain = _grain(blurred.shape, float(rng.choice([0.0, 0.6, 0.9])), rng)
    noisy = blurred + np.float32(amount) * grain * np.sqrt(0.3 + np.clip(blurred, 0, 1))
    if camera.speckle:
        noisy = noisy * (1 + np.float32(camera.speckle * noise) * _grain(blurred.shape[:2], 0.5, rng))
    return np.asarray(noisy, np.float32)


def _grain(shape: tuple[int, ...], sigma_px: float, rng: Rng) -> Floats:
    """Noise of unit deviation."""
    import cv2

    white = rng.standard_normal(shape, dtype=np.float32)
    if sigma_px < 0.3:
        return white
    # A Gaussian of deviation s leaves 1 / (2 s sqrt(pi)) of white noise's deviation; below a pixel a little more.
    gain = np.float32(2 * sigma_px * np.sqrt(np.pi))
    return np.asarray(cv2.GaussianBlur(white, (0, 0), sigma_px), np.float32) * max(gain, np.float32(1))


def _scan(plane: Floats, angiography: bool, rng: Rng) -> Floats:
    """What a raster scan leaves: rows of uneven gain, and in angiography bright rows where the eye moved."""
    height = plane.shape[0]
    rows = rng.standard_normal((height, 1)).astype(np.float32)
    plane = plane * (1 + np.float32(rng.uniform(0.0, 0.05)) * rows)
    if angiography and rng.random() < 0.5:
        moved = np.zeros((height, 1), np.float32)
        for _ in range(int(rng.integers(1, 8))):
            first = int(rng.integers(height))
            moved[first : first + int(rng.integers(1, 5))] = rng.uniform(0.05, 0.25)
        plane = plane + moved
    return np.asarray(plane, np.float32)
