"""Synthetic eyes: procedural vessels and lesions, seen by cameras of any modality, with exact correspondences."""

from fastretina.synth.pair import SyntheticPair, synthetic_pair
from fastretina.synth.tree import Branch, VesselTree, vessel_tree

__all__ = ["Branch", "SyntheticPair", "VesselTree", "synthetic_pair", "vessel_tree"]
