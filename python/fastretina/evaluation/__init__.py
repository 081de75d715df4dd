"""How good a registrar is on pairs whose true transform is known."""

from fastretina.evaluation.pairs import Pair, load_pairs, perturb
from fastretina.evaluation.run import evaluate, markdown, plot, summarise

__all__ = ["Pair", "evaluate", "load_pairs", "markdown", "perturb", "plot", "summarise"]
