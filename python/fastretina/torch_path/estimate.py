"""Room estimate in PyTorch: the same samples, decisions and counts as the compiled core; parameters agree to about
1e-6 px on the pairs, because sums run in another order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastretina.torch_path import estimate_fit as fit
from fastretina.torch_path.estimate_fit import FORMS, MINIMAL_PAIRS, Model

GAIN_UNIT = 1024.0
PREVIEW_PAIRS = CHUNK = FIRST_ROUND = 256
LAST_ROUND = 8192
POOL_DRAWS = 20000.0
KEPT = 3
ENOUGH = 160
WIDE = 1.6
WEAK_SUPPORT = 48
GROWS = 0.5
NEAR, FAR = (1.5, 1.5, WIDE, WIDE), (4.0, 4.0, 3.0, 2.0, WIDE, WIDE)


class Estimate(NamedTuple):
    kind: str | None  # None: nothing was found
    params: Tensor  # (12,) float64, MOVING -> FIXED, layout of csrc/core/types.h
    inlier: Tensor  # (N,) bool
    iterations: int
    cost: float
    rms_px: float
    coverage: float


class Problem:
    """The pairs in the room's coordinates, in the caller's and in golden-ratio order."""

    def __init__(self, fixed_xy: Tensor, moving_xy: Tensor, weight: Tensor | None) -> None:
        self.fixed, self.moving = fixed_xy.double(), moving_xy.double()
        n = self.count = len(fixed_xy)
        self.moving_centre, self.fixed_centre = self.moving.sum(0) / n, self.fixed.sum(0) / n
        spread = float((self.moving**2).sum() / n - (self.moving_centre**2).sum())
        self.fixed_spread_sq = max(0.0, float((self.fixed**2).sum() / n - (self.fixed_centre**2).sum()))
        self.scale = math.ldexp(1.0, math.frexp(math.sqrt(spread))[1]) if spread > 0 else 1.0
        xy, uv = (self.moving - self.moving_centre) * (1 / self.scale), self.fixed - self.fixed_centre
        self.ordered = torch.cat([xy, uv], 1).float()  # (n, 4)
        self.ordered_weight = torch.ones(n) if weight is None else weight / weight.max() if weight.max() > 0 else weight
        step = max(1, int(0.6180339887498949 * n))
        while math.gcd(step, n) != 1:
            step += 1
        order = (torch.arange(n) * step) % n
        self.scattered = self.ordered[order].T.contiguous()
        self.weight = self.ordered_weight[order]

    def to_params(self, model: Model) -> Tensor:
        """From the room's coordinates to pixels: x -> (x - centre) / scale inside, + centre outside."""
        cx, cy = (-self.moving_centre / self.scale).tolist()
        s = 1 / self.scale
        p = model.p.tolist()
        out = [0.0] * 12
        if model.form == "quadratic":
            for r in (0, 6):
                a, b, c, d, e, f = p[r : r + 6]
                out[r : r + 6] = [
                    a + b * cx + c * cy + d * cx * cx + e * cx * cy + f * cy * cy + float(self.fixed_centre[r // 6]),
                    s * (b + 2 * d * cx + e * cy), s * (c + e * cx + 2 * f * cy), s * s * d, s * s * e, s * s * f,
                ]  # fmt: skip
            return torch.tensor(out, dtype=torch.float64)
        inner = torch.tensor([[s, 0, cx], [0, s, cy], [0, 0, 1]], dtype=torch.float64)
        outer = torch.eye(3, dtype=torch.float64)
        outer[:2, 2] = self.fixed_centre
        m = outer @ model.p[:9].reshape(3, 3) @ inner
        return torch.cat([(m / m[2, 2]).reshape(9), torch.zeros(3, dtype=torch.float64)])

    def from_params(self, kind: str, params: Tensor) -> Model:
        inverse = Problem.__new__(Problem)
        inverse.scale = 1 / self.scale
        inverse.moving_centre = -self.moving_centre / self.scale
        inverse.fixed_centre = -self.fixed_centre
        return Model(FORMS[kind], inverse.to_params(Model(FORMS[kind], params)))


def pool_size(pairs: int, sample: int, drawn: int) -> int:
    low, high = min(pairs, 16), pairs
    target = (float(pairs) ** sample) * drawn
    while low < high:
        middle = (low + high) // 2
        if float(middle) ** sample * POOL_DRAWS >= target:
            high = middle
        else:
            low = middle + 1
    return low


def _hits(model: Model, pairs: Tensor, squared: Tensor) -> Tensor:
    return (fit.residual_squared(model, pairs) < squared).sum(-1)


def _gain(model: Model, pairs: Tensor, weight: Tensor, squared: Tensor) -> Tensor:
    """MSAC as an exact integer: the order of the sum cannot matter."""
    slope = GAIN_UNIT / squared
    closeness = (GAIN_UNIT - fit.residual_squared(model, pairs) * slope).clamp(min=0)
    return (closeness * weight).to(torch.int64).sum(-1)


class Search:
    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self.problem, self.o = problem, options
        self.kind = options["kind"]
        self.squared = options["threshold_px"] ** 2
        self.squared32 = torch.tensor(self.squared, dtype=torch.float32)
        self.bends = self.kind in ("homography", "quadratic")
        self.sample = 2 if self.kind == "similarity" else 3
        wide = 4.0 if self.bends else 1.5
        self.proposal_squared = wide * wide * self.squared32
        unit = problem.scale**2 * (0.25 if self.bends else 1.0)
        f32 = lambda value: torch.tensor(value, dtype=torch.float64).float()  # noqa: E731
        self.rules = fit.SampleRules(
            self.kind,
            options["allow_mirror"],
            f32(min(64 * self.squared, 0.02 * problem.fixed_spread_sq)),
            f32(options["min_scale"] ** 2 * unit),
            f32(options["max_scale"] ** 2 * unit * (16.0 if self.bends else 1.0)),
        )
        noise = self.squared / 9
        self.ridge = noise * 4 if self.kind == "homography" else noise / 2500
        self.key = fit.sample_key(options["seed"])

    def propose(self, index: Tensor, pool: int) -> list[tuple[str, Tensor, Tensor]]:
        """Hypotheses as (form, index, params), the sound ones only."""
        two_hands = self.kind == "similarity" and self.o["allow_mirror"]
        every = {"homography": 4, "quadratic": 8}.get(self.kind, 0)
        full = index % every == every - 1 if every else torch.zeros_like(index, dtype=torch.bool)
        out = []
        for whole in (False, True):
            chosen = index[full == whole]
            if not len(chosen):
                continue
            bits = fit.mix64(self.key ^ (chosen >> 1 if two_hands else chosen))
            s = [self.problem.ordered[fit.pick(bits, k, pool)] for k in range(3)]
            if whole:
                more = fit.mix64(~bits)
                s += [self.problem.ordered[fit.pick(more, k, pool)] for k in range(MINIMAL_PAIRS[self.kind] - 3)]
                p, sound = (fit.homographies if self.kind == "homography" else fit.quadratics)(s, self.rules)
                form = self.kind
            elif self.kind == "similarity":
                hand = (chosen & 1) == 1 if two_hands else torch.zeros_like(chosen, dtype=torch.bool)
                (p, sound), form = fit.similarities(s[0], s[1], hand, self.rules), "affine"
            else:
                (p, sound), form = fit.affines(s[0], s[1], s[2], self.rules), "affine"
            out.append((form, chosen[sound], p[sound]))
        return out

    def scan(self, begin: int, end: int, pool: int, preview_hits: int) -> list[tuple[int, int]]:
        """The best proposals of one chunk: (gain, index)."""
        problem = self.problem
        found: list[tuple[int, int]] = []
        for form, index, p in self.propose(torch.arange(begin, end), pool):
            if problem.count > 2 * PREVIEW_PAIRS:
                at = begin // CHUNK % (problem.count // PREVIEW_PAIRS) * PREVIEW_PAIRS
                window = problem.scattered[:, at : at + PREVIEW_PAIRS]
                seen = _hits(Model(form, p), window, self.proposal_squared) >= preview_hits
                index, p = index[seen], p[seen]
            gain = _gain(Model(form, p), problem.scattered, problem.weight, self.proposal_squared)
            found += zip((-gain).tolist(), index.tolist(), strict=True)
        return [(-g, i) for g, i in sorted(found)[:KEPT]]

    def gather(self, model: Model, reach: float, enough: float) -> fit.Weighted:
        p = self.problem
        return fit.gather(p.scattered.double(), p.weight.double(), model, reach * reach * self.squared, enough)

    def plausible(self, model: Model, data: fit.Weighted) -> bool:
        x, y, mass = data.pairs[0], data.pairs[1], data.mass
        if not float(mass.sum()) > 0:
            return False
        cx, cy = (mass * x).sum() / mass.sum(), (mass * y).sum() / mass.sum()
        area = float(fit.area_ratio(model, cx, cy))
        if not self.o["min_scale"] <= math.sqrt(abs(area)) / self.problem.scale <= self.o["max_scale"]:
            return False
        if area < 0 and not self.o["allow_mirror"]:
            return False
        if model.form != "quadratic":
            return True
        pairs = self.problem.ordered.T.double()
        inside = fit.residual_squared(model, pairs) < self.squared
        return bool((fit.area_ratio(model, pairs[0], pairs[1])[inside] * area > 0).all())

    def mirrored(self, model: Model) -> bool:
        return bool(model.p[0] * model.p[4] - model.p[1] * model.p[3] < 0)

    def grow(self, form: str, p: Tensor) -> Model | None:
        model = Model(form, p.double())
        if form == "affine":
            model.p[8] = 1.0
        hand = self.mirrored(model)
        if self.bends and form == "affine":
            stepped = fit.fit_step(self.gather(model, 4.0, ENOUGH), "affine", hand, 0.0, model)
            if stepped is None:
                return None
            model = stepped[0]
        model = fit.promote(self.kind, model)
        for reach in FAR if self.bends else NEAR:
            data = self.gather(model, reach, ENOUGH)
            stepped = fit.fit_step(data, self.kind, hand, self.ridge, model)
            if stepped is None:
                return None
            model = stepped[0]
        return model if self.plausible(model, data) else None

    def gain(self, model: Model) -> int:
        single = Model(model.form, model.p.float())
        return int(_gain(single, self.problem.scattered, self.problem.weight, self.squared32))

    def hits(self, model: Model, pool: int) -> int:
        """Among the best `pool` pairs, rounded up to 16."""
        pairs = self.problem.ordered[: (pool + 15) // 16 * 16].T
        return int(_hits(Model(model.form, model.p.float()), pairs, self.squared32))

    def settle(self, model: Model, gain: int) -> tuple[Model, int]:
        hand = self.mirrored(model)
        for _ in range(8):
            data = self.gather(model, WIDE, 2 * ENOUGH)
            stepped = fit.fit_step(data, self.kind, hand, self.ridge, model)
            if stepped is None or not self.plausible(stepped[0], data):
                break
            new = self.gain(stepped[0])
            clearly = new > gain + gain // 16
            if new > gain:
                model, gain = stepped[0], new
            if not clearly:
                break
        return model, gain

    def log_miss(self, model: Model, pool: int) -> float:
        share = max(0, self.hits(model, pool) - 2 * self.sample) / pool
        chance = share**self.sample * (GROWS if self.bends else 1.0)
        return math.log1p(-chance) if chance < 1 else -1e9

    def run(self) -> tuple[Model | None, int]:
        problem, limit = self.problem, self.o["max_iterations"]
        enough = math.log(1 - min(self.o["confidence"], 1 - 1e-12))
        best, best_gain, best_proposal, support = None, 0, 0, 0
        rounds: list[tuple[int, int]] = []
        drawn, size, missed, last = 0, FIRST_ROUND, 0.0, 0.0
        while drawn < limit:
            until = 1 << 24
            if best is not None and last < 0:
                chunks = math.ceil((missed - enough) / -last / CHUNK)
                until = min(max(chunks, 1), (1 << 24) // CHUNK) * CHUNK
            now = min(size, until, limit - drawn)
            pool = pool_size(problem.count, self.sample, drawn) if self.o["sorted"] else problem.count
            preview = max(2, best_proposal * 7 * PREVIEW_PAIRS // (10 * 1024 * problem.count))
            found = []
            for begin in range(drawn, drawn + now, CHUNK):
                found += [(-g, i) for g, i in self.scan(begin, min(begin + CHUNK, drawn + now), pool, preview)]
            improved = False
            for negative, index in sorted(found)[:KEPT]:
                gain = -negative
                near_record = support < WEAK_SUPPORT and 10 * gain >= 7 * best_proposal
                if gain <= 0 or not (gain > best_proposal or near_record):
                    continue
                best_proposal = max(best_proposal, gain)
                ((form, _, p),) = self.propose(torch.tensor([index]), pool)
                model = self.grow(form, p[0])
                if model is None or self.gain(model) <= best_gain:
                    continue
                best, best_gain = self.settle(model, self.gain(model))
                support, improved = self.hits(best, problem.count), True
            drawn += now
            rounds.append((pool, now))
            if best is not None:
                known = best
                last = self.log_miss(known, pool)
                missed += now * last
                if improved:
                    missed = sum(draws * self.log_miss(known, p) for p, draws in rounds)
                if missed <= enough:
                    break
            if drawn >= 2 * FIRST_ROUND:
                size = min(2 * size, LAST_ROUND)
        return best, drawn


def polish(
    problem: Problem, kind: str, mirrored: bool, ridge: float, squared: float, steps: int, model: Model
) -> tuple[Model, fit.Weighted | None, Tensor | None]:
    """Reweighted fits on all pairs until the map stands still; the last data and inverse normal matrix."""
    pairs, weight = problem.ordered.T.double(), problem.ordered_weight.double()
    data, inverse = None, None
    for _ in range(steps):
        data = fit.gather(pairs, weight, model, squared)
        stepped = fit.fit_step(data, kind, mirrored, ridge, model)
        if stepped is None:
            break
        change = float((stepped[0].p - model.p).abs().max())
        model, inverse = stepped
        if change < 1e-4:
            break
    return model, data, inverse


def report(problem: Problem, kind: str, model: Model, threshold_px: float, iterations: int) -> Estimate:
    """Counts, cost, rms, coverage and flags of a finished map, from the caller's points."""
    params = problem.to_params(model)
    squared = threshold_px * threshold_px
    u, v, _ = fit.map_points(Model(FORMS[kind], params), problem.moving[:, 0], problem.moving[:, 1])
    r = (u - problem.fixed[:, 0]) ** 2 + (v - problem.fixed[:, 1]) ** 2
    inlier = r <= squared
    inliers = int(inlier.sum())
    low, high = problem.fixed.min(0).values, problem.fixed.max(0).values
    step = torch.where(high > low, 8 / (high - low), 0.0)
    cell = ((problem.fixed - low) * step).long().clamp(max=7)
    cell = cell[:, 1] * 8 + cell[:, 0]
    rms = math.sqrt(float(r[inlier].sum()) / inliers) if inliers else 0.0
    coverage = len(cell[inlier].unique()) / len(cell.unique())
    found = kind if inliers >= MINIMAL_PAIRS[kind] else None
    return Estimate(found, params, inlier, iterations, float(r.clamp(max=squared).sum()), rms, coverage)


def nothing(count: int, iterations: int) -> Estimate:
    params = torch.tensor([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.float64)
    return Estimate(None, params, torch.zeros(count, dtype=torch.bool), iterations, 0.0, 0.0, 0.0)


def estimate(
    fixed_xy: Tensor,
    moving_xy: Tensor,
    weight: Tensor | None = None,
    *,
    kind: str = "similarity",
    threshold_px: float = 3.0,
    confidence: float = 0.999,
    max_iterations: int = 100000,
    seed: int = 0,
    sorted: bool = True,
    allow_mirror: bool = False,
    min_scale: float = 0.2,
    max_scale: float = 5.0,
) -> Estimate:
    """Point pairs (N, 2) float32 -> the transform that explains most; see ``fastretina.ops.estimate``."""
    options = dict(locals())
    if len(fixed_xy) < MINIMAL_PAIRS[kind]:
        return nothing(len(fixed_xy), 0)
    problem = Problem(fixed_xy, moving_xy, weight)
    search = Search(problem, options)
    model, iterations = search.run()
    if model is None:
        return nothing(len(fixed_xy), iterations)
    hand = search.mirrored(model)
    polished, data, _ = polish(problem, kind, hand, search.ridge, WIDE * WIDE * search.squared, 5, model)
    if data is not None and search.plausible(polished, data):
        model = polished
    return report(problem, kind, model, threshold_px, iterations)
