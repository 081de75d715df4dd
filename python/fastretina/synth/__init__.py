"""Synthetic eyes: a procedural vessel tree, seen by two cameras of different modality, with the true transform."""

from fastretina.synth.pair import SyntheticPair, synthetic_pair
from fastretina.synth.tree import Branch, VesselTree, vessel_tree

__all__ = ["Branch", "SyntheticPair", "VesselTree", "synthetic_pair", "vessel_tree"]
