"""How good a registrar is on pairs whose truth is known: cases, methods, rows, tables and plots."""

from fastretina.evaluation.cases import Case, Target
from fastretina.evaluation.pairs import Pair, load_pairs, pair_cases
from fastretina.evaluation.perturb import perturb
from fastretina.evaluation.plots import plot
from fastretina.evaluation.run import both_ways, evaluate
from fastretina.evaluation.tables import markdown, summarise

__all__ = [
    "Case", "Pair", "Target", "both_ways", "evaluate", "load_pairs", "markdown", "pair_cases", "perturb", "plot",
    "summarise",
]  # fmt: skip
