"""The image sets that training knows: where they lie, what they show, and what their names tell of eyes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastretina.errors import InvalidInput

SYNTHETIC = "synthetic"  # the set of the eyes that ``synth`` makes
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class ImageSet:
    """One folder of images: approximate field of view, vessel polarity and sampling weight per training run."""

    name: str
    images: str
    vessels: str | None
    field_deg: float
    bright_vessels: bool
    weight: float
    modality: str
    distinct_eyes: bool = False  # every image is known to be of an eye of its own


SETS = (
    ImageSet("drive", "drive/images", "drive/vessels", 45, False, 1.0, "CF", True),  # 40 subjects
    ImageSet("chasedb1", "chasedb1/images", "chasedb1/vessels", 30, False, 1.0, "CF", True),  # both eyes of 14 children
    ImageSet("hrf", "hrf/images", "hrf/vessels", 55, False, 1.2, "CF", True),  # number and group name an eye
    ImageSet("les_av", "les_av/images", "les_av/vessels", 32, False, 0.8, "CF"),
    ImageSet("ravir_ir", "ravir_ir/images", "ravir_ir/vessels", 30, False, 1.3, "SLO"),
    ImageSet("iostar_slo", "iostar_slo/images", "iostar_slo/vessels", 45, False, 0.5, "SLO"),
    ImageSet("octa500_3m", "octa500_3m/images", "octa500_3m/vessels", 11, True, 0.8, "OCTA", True),  # one eye a number
    ImageSet("octa_synth", "octa_synth/images", "octa_synth/vessels_608", 11, True, 0.3, "OCTA", True),  # simulated
    ImageSet("ffa_huapu4_fa", "ffa_huapu4/fa", None, 50, True, 2.0, "FA"),
    ImageSet("ffa_huapu4_faf_ir", "ffa_huapu4/faf_ir", None, 50, False, 0.5, "FAF/IR"),
)
"""Fields of view are rough (the sets do not state all of them); they only centre the range of training scales."""

CLEAN = ("octa_synth",)
"""Sets whose terms allow any use; with synthetic eyes they make weights that are free."""
CHOICES = ("research", "clean")


def image_files(folder: Path) -> Iterator[tuple[ImageSet, Path]]:
    """Every image of a data folder with its set, set by set, sorted. InvalidInput if it is no folder."""
    if not folder.is_dir():
        raise InvalidInput(f"data: {folder} is not a folder")
    # A folder of plain images without sub-sets is one set of unknown field, modality and polarity.
    plain = ImageSet(folder.name, ".", None, 45, False, 1.0, "?")
    kinds = [kind for kind in SETS if (folder / kind.images).is_dir()] or [plain]
    for kind in kinds:
        for path in sorted((folder / kind.images).iterdir()):
            if path.suffix.lower() in SUFFIXES:
                yield kind, path


def eye(name: str) -> str:
    """Which eye the image ``<set>/<file stem>`` shows, as far as names tell: images of one answer may be of one eye.

    Of a set whose subjects are not known it is the whole collection.
    """
    group = name.split("/")[0]
    kind = next((k for k in SETS if k.name == group), None)
    if group == SYNTHETIC or (kind is not None and kind.distinct_eyes):
        return name
    return group if kind is None else kind.images.split("/")[0]
