"""SIFT and its kin, in OpenCV, as descriptions for ``keypoints.Pipeline``.

Each sees the plane that shows vessels best (green of a colour image) with its contrast evened out, at a longer side of
768 px. Settings were chosen on real multi-modal pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.config import Config
from fastretina.methods.keypoints import Features, Floats32, in_image

Plane = NDArray[np.uint8]

WORKING_SIZE_PX = 768
KEYPOINTS = 4000
CONTRAST = 0.02  # half of OpenCV's threshold: vessels of angiograms and of the infrared are faint


class Sift:
    """Lowe, "Distinctive Image Features from Scale-Invariant Keypoints" (2004)."""

    weights_hash = ""

    def __init__(self, config: Config) -> None:
        import cv2

        self.size = config.working_size or WORKING_SIZE_PX
        self.count = config.max_keypoints or KEYPOINTS
        self.choices: dict[str, Any] = {"network": None, "engine": "opencv", "precision": "f32"}
        self._sift = cv2.SIFT_create(self.count, contrastThreshold=CONTRAST)

    def __call__(self, image: NDArray[Any], inverted: bool) -> Features:
        plane, scale = clear_plane(image, self.size)
        found, rows = self.described(255 - plane if inverted else plane)
        if rows is None or not len(found):
            none = np.zeros(0, np.float32)
            return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), none, self.size)
        at = np.array([p.pt for p in found], np.float64)
        xy = in_image(at, scale)
        score = np.array([p.response for p in found], np.float32)
        order = np.argsort(-score, kind="stable")
        return Features(xy[order], self.rows(rows)[order], score[order], self.size)

    def described(self, plane: Plane) -> tuple[Any, Any]:
        """OpenCV's key points and rows of a plane."""
        return self._sift.detectAndCompute(plane, None)

    def rows(self, rows: Floats32) -> Floats32:
        """Of length 1."""
        return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)


class RootSift(Sift):
    """Arandjelovic and Zisserman, "Three Things Everyone Should Know to Improve Object Retrieval" (2012)."""

    def rows(self, rows: Floats32) -> Floats32:
        return super().rows(root(rows))


class SymmetricSift(Sift):
    """Upright SIFT that does not see polarity, in the manner of Chen et al., "A Partial Intensity Invariant Feature
    Descriptor for Multimodal Retinal Image Registration" (2010): opposite directions of the gradient are one, a cell's
    histogram over half a turn keeps their sum and the size of their difference.
    """

    def described(self, plane: Plane) -> tuple[Any, Any]:
        unique = {(p.pt, p.size): p for p in self._sift.detect(plane, None)}  # one a place: directions do not matter
        for point in unique.values():
            point.angle = 0.0
        return self._sift.compute(plane, list(unique.values()))

    def rows(self, rows: Floats32) -> Floats32:
        opposite = rows.reshape(-1, 16, 2, 4)  # cell, half turn, direction
        folded = np.stack([opposite.sum(2), np.abs(opposite[:, :, 0] - opposite[:, :, 1])], axis=2)
        return super().rows(root(folded.reshape(-1, 128)))


def clear_plane(image: NDArray[Any], longer_px: int) -> tuple[Plane, float]:
    """The 8-bit plane that is described, and its size relative to the image."""
    import cv2

    plane = image[..., 1] if image.ndim == 3 else image
    if plane.dtype != np.uint8:
        plane = cv2.normalize(plane.astype(np.float32), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    scale = longer_px / max(plane.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    plane = cv2.resize(np.ascontiguousarray(plane), None, fx=scale, fy=scale, interpolation=how)
    return np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(plane), np.uint8), scale


def root(rows: Floats32) -> Floats32:
    """Square roots of rows of sum 1: their Euclidean distance is Hellinger's."""
    return np.sqrt(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)
