"""The options of the rooms where no compiled core is there to ask. Tested equal to the C++ structs, field by field.

What a field means is said once, in the header of its room (``csrc/<room>/<room>.h``) and in ``csrc/pipeline.h``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fastretina.config import Config
from fastretina.engines.manifest import Manifest


@dataclass
class ImageOptions:
    working_size: int = 480
    multiple: int = 8
    dark_fraction: float = 0.05
    erode_px: int = 3
    clip: float = 4.0


@dataclass
class NmsOptions:
    radius: int = 4
    max_keypoints: int = 1000
    threshold: float = -6.0


@dataclass
class RidgeOptions:
    sigma_px: float = 2.4
    saturation: float = 8.0
    rim_px: int = 4
    max_points: int = 65536


@dataclass
class FeatureOptions:
    image: ImageOptions = dataclasses.field(default_factory=ImageOptions)
    detect: NmsOptions = dataclasses.field(default_factory=NmsOptions)
    ridges: RidgeOptions = dataclasses.field(default_factory=RidgeOptions)


@dataclass
class MatchOptions:
    precision: str = "f32"
    min_similarity: float = -1.0
    ratio: float = 1.0


@dataclass
class GuidedMatchOptions:
    radius_px: float = 12.0
    min_similarity: float = 0.2


@dataclass
class EstimateOptions:
    kind: str = "similarity"
    threshold_px: float = 3.0
    confidence: float = 0.999
    max_iterations: int = 100000
    seed: int = 0
    sorted: bool = True
    allow_mirror: bool = False
    min_scale: float = 0.2
    max_scale: float = 5.0


@dataclass
class UpgradeOptions:
    max_kind: str = "quadratic"
    threshold_px: float = 3.0
    min_gain: float = 0.05


@dataclass
class RefineOptions:
    kind: str = "identity"
    max_iterations: int = 30
    epsilon_px: float = 0.02
    max_shift_px: float = 60.0
    max_frame_shift_px: float = 120.0
    bend_px: float = 10.0
    samples_per_point: float = 0.036
    min_points: int = 64
    first_level: int = 0


@dataclass
class ConfidenceModel:
    bias: float = -21.3204
    ridge_correlation: float = 3.76504
    log_inliers: float = 1.46636
    inlier_ratio: float = 1.825
    overlap: float = 3.2889
    inlier_rms_px: float = 0.0
    coverage: float = 4.45788
    log_peak_to_sidelobe: float = 3.96168
    inlier_similarity: float = 9.43734
    log_attempts: float = -0.022887
    log_anisotropy: float = -14.6908


@dataclass
class FieldOptions:
    cells: int = 8
    max_iterations: int = 15
    epsilon_px: float = 0.05
    bend_px: float = 5.0
    shift_px: float = 8.0
    samples_per_point: float = 0.2
    min_points: int = 256
    min_gain_nats: float = 4.0
    min_displacement_px: float = 0.4
    max_displacement_px: float = 20.0
    min_jacobian: float = 0.3


@dataclass
class QualityOptions:
    confidence: ConfidenceModel = dataclasses.field(default_factory=ConfidenceModel)
    min_contrast: float = 0.002
    min_keypoints: int = 8
    min_inliers: int = 6
    min_scale: float = 1 / 6
    max_scale: float = 6.0
    max_anisotropy: float = 1.6
    min_overlap: float = 0.02
    min_confidence: float = 0.5
    max_central_anisotropy: float = 1.25


@dataclass
class LadderOptions:
    strong_confidence: float = 0.9
    max_rungs: int = 64


@dataclass
class ModelOptions:
    choice: str = "auto"
    quadratic_gain_nats: float = 15.0
    large_bend_px: float = 2.0
    large_bend_gain_nats: float = 5.0
    field_gain_nats: float = 110.0


@dataclass
class Options:
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    features: FeatureOptions = dataclasses.field(default_factory=FeatureOptions)
    match: MatchOptions = dataclasses.field(default_factory=MatchOptions)
    guided: GuidedMatchOptions = dataclasses.field(default_factory=GuidedMatchOptions)
    estimate: EstimateOptions = dataclasses.field(default_factory=EstimateOptions)
    upgrade: UpgradeOptions = dataclasses.field(default_factory=UpgradeOptions)
    refine: RefineOptions = dataclasses.field(default_factory=RefineOptions)
    field: FieldOptions = dataclasses.field(default_factory=FieldOptions)
    quality: QualityOptions = dataclasses.field(default_factory=QualityOptions)
    ladder: LadderOptions = dataclasses.field(default_factory=LadderOptions)


def options_of(config: Config, manifest: Manifest | None = None) -> Options:
    """The defaults with what the manifest and ``config`` set; the twin of ``registrar.native_options``."""
    options = Options()
    if manifest:
        for name, weight in manifest.confidence.items():
            setattr(options.quality.confidence, name, weight)
        options.features.image.working_size = manifest.working_size or options.features.image.working_size
    options.model.choice = config.transform
    options.estimate.seed = config.seed
    if config.working_size is not None:
        options.features.image.working_size = config.working_size
    if config.max_keypoints is not None:
        options.features.detect.max_keypoints = config.max_keypoints
    return options
