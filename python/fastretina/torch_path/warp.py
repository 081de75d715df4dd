"""Room warp in PyTorch: the same rule as the compiled core, positions in float64.

Positions agree within 1e-4 px, so values agree within that times the local gradient, and integers by rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastretina.displacement import Rectangle, solve
from fastretina.transform_math import Floats

NEWTON_STEPS = 16
NEWTON_TOLERANCE = 1e-9


def _matrix_positions(matrix: Tensor, xy: Tensor, centre: Tensor) -> Tensor:
    """Where output pixels (N, 2) come from; NaN on the far side of a homography's pole."""
    u, v, w = (torch.linalg.inv(matrix) @ torch.cat([xy, torch.ones_like(xy[:, :1])], 1).T).unbind(0)
    source = torch.stack([u / w, v / w], 1)
    side = (source @ matrix[2, :2] + matrix[2, 2]) * (centre @ matrix[2, :2] + matrix[2, 2])
    return torch.where((side > 0)[:, None], source, torch.nan)


def _quadratic(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Images and Jacobians (N, 2, 2) of points (N, 2)."""
    x, y = q.unbind(1)
    one = torch.ones_like(x)
    image = torch.stack([one, x, y, x * x, x * y, y * y], 1) @ p.T
    zero = torch.zeros_like(x)
    dx, dy = torch.stack([zero, one, zero, 2 * x, y, zero], 1), torch.stack([zero, zero, one, zero, x, 2 * y], 1)
    return image, torch.stack([dx @ p.T, dy @ p.T], 2)


def _quadratic_positions(p: Tensor, xy: Tensor, centre: Tensor) -> Tensor:
    """Newton's method from the linear inverse in the centre; NaN where it meets a fold or does not converge."""
    image, jacobian = _quadratic(p, centre[None])
    orientation = torch.linalg.det(jacobian)
    q = centre + torch.linalg.solve(jacobian[0], (xy - image).T).T
    done = torch.zeros(len(xy), dtype=torch.bool, device=xy.device)
    alive = ~done
    for _ in range(NEWTON_STEPS):
        image, jacobian = _quadratic(p, q)
        alive &= done | (torch.linalg.det(jacobian) * orientation > 0)
        safe = torch.where(alive[:, None, None], jacobian, torch.eye(2, dtype=p.dtype, device=p.device))
        step = torch.linalg.solve(safe, xy - image)
        q = torch.where((alive & ~done)[:, None], q + step, q)
        done |= step.abs().sum(1) < NEWTON_TOLERANCE * (1 + q.abs().sum(1))
        if bool((done | ~alive).all()):
            break
    good = done & alive & (torch.linalg.det(_quadratic(p, q)[1]) * orientation > 0)
    return torch.where(good[:, None], q, torch.nan)


def _taps(interpolation: str, f: Tensor) -> list[tuple[int, Tensor]]:
    """(offset, weight) for fractions f."""
    if interpolation == "linear":
        return [(0, 1 - f), (1, f)]

    def near(d: Tensor) -> Tensor:
        return (1.25 * d - 2.25) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((-0.75 * d + 3.75) * d - 6) * d + 3

    return [(-1, far(1 + f)), (0, near(f)), (1, near(1 - f)), (2, far(2 - f))]


def _sample(moving: Tensor, source: Tensor, interpolation: str) -> Tensor:
    height, width = moving.shape[:2]

    def tap(x: Tensor, y: Tensor) -> Tensor:
        return moving[y.clamp(0, height - 1), x.clamp(0, width - 1)].to(torch.float64)

    if interpolation == "nearest":
        nearest = (source + 0.5).floor().long()
        return tap(nearest[:, 0], nearest[:, 1])
    base = source.floor()
    fraction, (x, y) = source - base, base.long().unbind(1)
    total = torch.zeros((len(source), moving.shape[2]), dtype=torch.float64, device=moving.device)
    for dy, wy in _taps(interpolation, fraction[:, 1]):
        for dx, wx in _taps(interpolation, fraction[:, 0]):
            total += (wy * wx)[:, None] * tap(x + dx, y + dy)
    return total


def warp(
    moving: Tensor,
    kind: str,
    params: Tensor,
    size: tuple[int, int],
    interpolation: str = "linear",
    field: tuple[Floats, Rectangle] | None = None,
) -> tuple[Tensor, Tensor]:
    """(H, W) or (H, W, C), a transform MOVING -> FIXED (9 or 12 params), (width, height) -> image, valid.

    ``field``: control points and rectangle of a dense map after the transform.
    """
    height, width = moving.shape[:2]
    planes = moving.reshape(height, width, -1)
    device = moving.device
    y, x = torch.meshgrid(torch.arange(size[1], device=device), torch.arange(size[0], device=device), indexing="ij")
    xy = torch.stack([x.flatten(), y.flatten()], 1).to(torch.float64)
    if field is not None:
        xy = torch.from_numpy(solve(*field, xy.cpu().numpy())).to(device)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64, device=device)
    params = params.to(device, torch.float64)
    if kind == "quadratic":
        source = _quadratic_positions(params.reshape(2, 6), xy, centre)
    else:
        source = _matrix_positions(params.reshape(3, 3), xy, centre)
    limit = torch.tensor([width - 0.5, height - 0.5], dtype=torch.float64, device=device)
    valid = ((source >= -0.5) & (source <= limit)).all(1)
    values = _sample(planes, source[valid], interpolation)
    if moving.dtype != torch.float32:
        values = (values.clamp(0, 255 if moving.dtype == torch.uint8 else 65535) + 0.5).floor()
    out = torch.zeros((len(xy), planes.shape[2]), dtype=moving.dtype, device=device)
    out[valid] = values.to(moving.dtype)
    return out.reshape(size[1], size[0], *moving.shape[2:]), valid.reshape(size[1], size[0])
