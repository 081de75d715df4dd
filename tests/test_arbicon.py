"""The network by dense correlation: layers against slow sums, losses by hand, a run killed and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs torch (fastretina[torch])")
cv2 = pytest.importorskip("cv2", reason="training needs OpenCV")
pytest.importorskip("tqdm", reason="training needs tqdm (fastretina[train])")

from fastretina import InvalidInput  # noqa: E402
from fastretina.networks import arbicon, weight_files  # noqa: E402
from fastretina.networks.arbicon import FRAME_PX, Arbicon, ArbiconSize, Look  # noqa: E402
from fastretina.training import data, frame_losses, frame_pairs, loop, losses, synthetic  # noqa: E402
from fastretina.training.recipes import arbicon as recipe  # noqa: E402
from fastretina.training.sample import Sample  # noqa: E402

TINY = ArbiconSize(grid=5, consensus=2, code=4)
SHIFT = torch.tensor([12 * 2 / FRAME_PX, 0.0])  # 12 px; a frame is 2 wide


# ---- layers -----------------------------------------------------------------------------------------------------
def test_conv4d_is_the_sum_over_four_neighbourhoods() -> None:
    torch.manual_seed(0)
    conv, x = arbicon.Conv4d(2, 3), torch.randn(2, 2, 4, 5, 6, 3)
    kernel = conv.kernels.weight.reshape(3, 3, 3, 2, 3, 3)  # i, j, outputs, inputs, k, l
    padded = torch.nn.functional.pad(x, (1,) * 8)
    expected = torch.zeros(2, 3, 4, 5, 6, 3)
    for i, j, k, m in np.ndindex(3, 3, 3, 3):
        part = padded[:, :, i : i + 4, j : j + 5, k : k + 6, m : m + 3]
        expected += torch.einsum("oc,ncabde->noabde", kernel[i, j, :, :, k, m], part)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_mutual_matching_by_hand() -> None:
    # 0.6 is not the best of either of its cells: 0.6 * (0.6 / 0.8)^2; the 0.8 are the best of both; below 0 is 0
    cosines = torch.tensor([[0.6, 0.8], [0.8, -0.6]]).reshape(1, 1, 1, 2, 1, 2)
    matched = arbicon.mutual(cosines)[0, 0, 0, :, 0]
    torch.testing.assert_close(matched, torch.tensor([[0.3375, 0.8], [0.8, 0.0]]), rtol=1e-4, atol=1e-4)


def test_a_pair_of_cells_has_its_largest_cosine_and_remembers_the_places() -> None:
    """Against the sum written out: FIXED shows the most trusted of each 3 x 3 cells, MOVING all."""
    torch.manual_seed(2)
    side, grid = 12, 2
    looks = [
        Look(
            torch.nn.functional.normalize(torch.randn(1, 4, side, side), dim=1),
            torch.rand(1, side, side),
            torch.empty(0),
        )
        for _ in range(2)
    ]
    found = arbicon.correlate(*looks, grid)
    f, m = ((look.rows * look.trust[:, None] ** arbicon.TRUST)[0].numpy() for look in looks)
    trust = looks[0].trust[0].numpy()
    blocks = [np.s_[y : y + 3, x : x + 3] for y, x in np.ndindex(side, side) if y % 3 == x % 3 == 0]
    shown = [(b[0].start + i // 3, b[1].start + i % 3) for b in blocks for i in [int(trust[b].argmax())]]
    for gy, gx, hy, hx in np.ndindex(grid, grid, grid, grid):
        candidates = [
            (float(f[:, a, b] @ m[:, c, d]), (b, a), (d, c))
            for a, b in shown if (a // 6, b // 6) == (gy, gx)
            for c in range(6 * hy, 6 * hy + 6) for d in range(6 * hx, 6 * hx + 6)
        ]  # fmt: skip
        cosine, at_fixed, at_moving = max(candidates)
        assert float(found.cosines[0, 0, gy, gx, hy, hx]) == pytest.approx(cosine, abs=1e-6)
        for places, cell in ((found.fixed, at_fixed), (found.moving, at_moving)):
            expected = (torch.tensor(cell) + 0.5) * 2 / side - 1
            torch.testing.assert_close(places[0, gy, gx, hy, hx], expected, rtol=0, atol=1e-6)


def test_consensus_does_not_know_which_image_is_fixed() -> None:
    consensus = arbicon.Consensus(3).eval()
    x = torch.rand(1, 1, 5, 5, 5, 5)
    swapped = consensus(x.permute(0, 1, 4, 5, 2, 3)).permute(0, 1, 4, 5, 2, 3)
    torch.testing.assert_close(consensus(x), swapped)


def test_a_fit_finds_the_map_that_most_agrees_with() -> None:
    rng = torch.Generator().manual_seed(3)
    true = torch.tensor([[[1.1, 0.2, 0.1], [-0.15, 0.95, -0.2]]])
    moving = 2 * torch.rand(1, 200, 2, generator=rng) - 1
    wrong = torch.arange(200) % 5 < 2  # of five matches
    fixed = torch.where(wrong[None, :, None], 2 * torch.rand(1, 200, 2, generator=rng) - 1, arbicon.apply(true, moving))
    weight = torch.ones(1, 200, requires_grad=True)
    found, agreeing = arbicon.fit(weight, fixed, moving)
    torch.testing.assert_close(found, true, rtol=0, atol=0.01)
    assert 0.95 * 120 < float(agreeing.detach()) < 130
    plain, _ = arbicon.fit(weight, fixed, moving, (1e3,))
    assert (plain - true).abs().max() > 0.1
    plain.square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0
    nothing, none = arbicon.fit(torch.zeros(1, 200), fixed, moving)
    torch.testing.assert_close(nothing, torch.eye(2, 3)[None])
    assert not none


def test_affine_maps() -> None:
    a = torch.tensor([[[1.1, 0.2, 0.3], [-0.1, 0.9, -0.2]]])
    b = torch.tensor([[[0.8, 0.0, 0.1], [0.3, 1.2, 0.0]]])
    points = torch.rand(1, 7, 2)
    torch.testing.assert_close(
        arbicon.apply(arbicon.compose(a, b), points), arbicon.apply(a, arbicon.apply(b, points)), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(arbicon.compose(arbicon.invert(a), a), torch.eye(2, 3)[None], rtol=0, atol=1e-6)


def test_an_image_seen_under_a_map_has_its_points_where_the_map_puts_them() -> None:
    image = torch.zeros(1, 1, FRAME_PX, FRAME_PX)
    image[0, 0, 100, 60] = 1.0  # y, x
    moved = arbicon.resample(image, torch.tensor([[[1.0, 0.0, 24 / FRAME_PX], [0.0, 1.0, -48 / FRAME_PX]]]))
    assert np.unravel_index(int(moved.argmax()), (FRAME_PX, FRAME_PX)) == (100 - 24, 60 + 12)  # a frame is 2 wide


@pytest.mark.parametrize("size", [TINY, ArbiconSize(grid=6, consensus=2, code=4)])
def test_shapes_and_an_untrained_network_does_not_bend(size: ArbiconSize) -> None:
    network = Arbicon(size).eval()
    planes, masks = torch.randn(2, 1, FRAME_PX, FRAME_PX), torch.ones(2, 1, FRAME_PX, FRAME_PX)
    with torch.no_grad():
        look = network.look(planes, masks)
        agreed = network.agreed(look, look)
        code = network.code(agreed)
    assert look.rows.shape == (2, 128, 90, 90)
    assert look.vessels.shape == planes.shape
    assert agreed.weight.shape == (2, *(size.grid,) * 4)
    assert code.shape == (2, 4)
    assert not network.displacement(torch.rand(2, 9, 2), code).any()


def test_outside_the_field_of_view_nothing_correlates() -> None:
    masks = torch.ones(1, 1, FRAME_PX, FRAME_PX)
    masks[..., : FRAME_PX // 5] = 0
    with torch.no_grad():
        look = Arbicon(TINY).eval().look(torch.randn_like(masks) * masks, masks)
        found = arbicon.correlate(look, look, 5)
        agreed = Arbicon(TINY).eval().agreed(look, look)
    assert not found.cosines[:, :, :, 0].any()
    assert not agreed.weight[..., 0].any()
    assert found.cosines[:, :, :, 1:, :, 1:].amin((1, 2, 3)).max() > 0


def test_the_trunk_is_not_trained() -> None:
    network = Arbicon(TINY).train()
    assert not any(module.training for module in network.trunk.levels.modules())
    assert network.trunk.vessels.training
    assert not any(p.requires_grad for p in network.trunk.levels.parameters())


def test_the_full_network_is_the_papers() -> None:
    size = arbicon.SIZES["full"]
    assert (size.grid, size.consensus, size.code) == (15, 10, 256)
    assert Arbicon(size).encode.weight.shape == (256, 50625 + 3 * 225)


def test_misuse_of_the_network() -> None:
    with pytest.raises(InvalidInput, match="grid: got 7; allowed: 5, 6, 10"):
        ArbiconSize(grid=7)
    with pytest.raises(InvalidInput, match=r"planes: got \(1, 1, 64, 64\); allowed: \(N, 1, 360, 360\)"):
        Arbicon(TINY).look(torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64))


# ---- pairs and losses ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def eye() -> Sample:
    return synthetic.prepare_synthetic(1)


@pytest.fixture(scope="module")
def batch(eye: Sample) -> frame_pairs.FrameBatch:
    return next(frame_pairs.batches([eye], 3, seed=2, start=4))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_the_truth_lays_the_vessels_on_each_other(batch: frame_pairs.FrameBatch) -> None:
    n = len(batch.truth)
    pixels = arbicon.cell_centres(FRAME_PX).expand(n, -1, -1)
    where = frame_pairs.truth_at(batch.truth, pixels).reshape(n, FRAME_PX, FRAME_PX, 2)
    shown = torch.cat([batch.vessels[:n], batch.masks[:n]], 1)
    shown = torch.nn.functional.grid_sample(shown, where, align_corners=False)
    both = (shown[:, 1] > 0.99) & (batch.masks[n:, 0] > 0.99)  # each view has an aperture of its own
    for i in range(n):
        moving = batch.vessels[n + i, 0]
        assert correlation(shown[i, 0][both[i]], moving[both[i]]) > 0.8
        assert correlation(shown[i, 0][both[i]], moving.roll(12, 1)[both[i]]) < 0.4


def test_a_batch_depends_on_seed_and_step_only(eye: Sample, batch: frame_pairs.FrameBatch) -> None:
    steps = frame_pairs.batches([eye], 3, seed=2, start=3)
    _, again, next_one = next(steps), next(steps), next(steps)
    assert torch.equal(again.planes, batch.planes)
    assert torch.equal(again.truth, batch.truth)
    assert not torch.equal(next_one.truth, batch.truth)
    with pytest.raises(InvalidInput, match="samples: no training image"):
        frame_pairs.batches([], 3, 2, 0)


def test_the_truth_between_the_points_of_its_grid() -> None:
    grid, affine = frame_pairs.grid_points(1), torch.tensor([[[0.9, 0.1, 0.2], [-0.2, 1.1, 0.0]]])
    truth = arbicon.apply(affine, grid).transpose(1, 2).reshape(1, 2, frame_pairs.GRID, frame_pairs.GRID)
    points = 1.8 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0)) - 0.9
    torch.testing.assert_close(frame_pairs.truth_at(truth, points), arbicon.apply(affine, points), rtol=0, atol=1e-5)


def test_grid_loss_is_a_mean_distance_and_counts_less_outside() -> None:
    truth = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])  # the second is outside FIXED's frame
    found = truth + torch.tensor([[[0.3, 0.4], [0.0, 1.0]]])
    assert float(frame_losses.grid_loss(found, truth)) == pytest.approx((0.5 + 0.1 * 1.0) / 1.1)
    two, first = torch.cat([found, truth + 9]), torch.tensor([True, False])
    assert float(frame_losses.grid_loss(two, torch.cat([truth, truth]), first)) == pytest.approx(0.6 / 1.1)


def test_matching_loss_is_the_share_of_weight_on_right_matches() -> None:
    truth = torch.zeros(2, 3, 2)
    found = truth.clone()
    found[0, 1:] = 0.5  # of the first pair one of three is right, of the second none
    found[1] = 0.5
    weight = torch.tensor([[1.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    assert float(frame_losses.matching_loss(weight, found, truth)) == pytest.approx(np.log(4), rel=1e-4)
    assert float(frame_losses.matching_loss(weight, truth, truth)) == pytest.approx(0, abs=1e-4)


def test_segmentation_losses_by_hand() -> None:
    vessels, masks = torch.tensor([[[[1.0, 0.0, 1.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0]]]])
    logits = torch.tensor([[[[0.0, 0.0, 9.0]]]])  # a half twice; the third is outside
    assert float(losses.dice_loss(logits, vessels, masks)) == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))
    assert float(frame_losses.cross_entropy(logits, vessels, masks)) == pytest.approx(2 * np.log(2) / 3)


def test_chamfer_and_hinge_want_vessels_on_vessels_and_inside() -> None:
    vessels = torch.zeros(1, 1, FRAME_PX, FRAME_PX)
    vessels[..., 100:103, 20:320] = 1.0
    masks, cells = torch.ones_like(vessels), arbicon.cell_centres(30)[None]
    points = frame_losses.vessel_points(vessels, 64, 0)
    distance = frame_losses.distance_to_vessels(vessels)
    shift = SHIFT.flip(0)
    assert float(frame_losses.chamfer_loss(distance, masks, points)) < 1e-3
    px = float(frame_losses.chamfer_loss(distance, masks, points + shift)) * FRAME_PX / 2
    assert px == pytest.approx(12, abs=1)  # of a vessel 3 px wide

    def hinge(where: torch.Tensor) -> float:
        return float(frame_losses.reverse_hinge(vessels, vessels, where.reshape(1, 30, 30, 2)))

    assert hinge(cells) < 1e-3
    assert hinge(cells + shift) == pytest.approx(1)
    assert hinge(cells / 0.05) > 0.8  # shrunk to a point: what chamfer alone would like
    assert float(frame_losses.chamfer_loss(distance, masks, points + 5)) == 0  # left: what the hinge is for


# ---- the recipe ---------------------------------------------------------------------------------------------------
class KilledError(Exception):
    pass


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, eye: Sample) -> None:
    monkeypatch.setitem(arbicon.SIZES, "small", TINY)
    monkeypatch.setattr(data, "load", lambda *_, **__: ([eye], []))


def config(out: Path, **changes: object) -> recipe.Config:
    settings = {"data": out, "out": out, "steps": 4, "pairs": 1, "threads": 1, "progress": False}
    return recipe.Config(**(settings | changes))  # type: ignore[arg-type]


@pytest.mark.usefixtures("tiny")
def test_a_killed_run_resumes_to_the_same_network_and_releases_it(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = {"dense_from": 0.2, "joint_from": 0.5}  # every kind of step is killed over
    loop.run(recipe.build(c := config(whole, weights=tmp_path / "arbicon.safetensors", **options)), c)

    def stop(learner: loop.Learner) -> None:
        if learner.step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        loop.run(recipe.build(c := config(broken, checkpoint_every_s=0, **options)), c, stop)
    loop.run(recipe.build(c := config(broken, resume=True, **options)), c)
    a, b = (loop.load_checkpoint(out / "last.pt")["network"] for out in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)

    network, facts, _ = weight_files.load_weights(
        lambda facts: Arbicon(ArbiconSize(**facts["size"])), tmp_path / "arbicon.safetensors"
    )
    assert (facts["recipe"], facts["steps"], facts["non_commercial"]) == ("arbicon", 4, False)
    assert network.size == TINY
    last = (whole / "log.csv").read_text().splitlines()[-1].split(",")
    columns = (whole / "log.csv").read_text().splitlines()[0].split(",")
    assert float(last[columns.index("chamfer")]) > 0  # the joint losses were on


@pytest.mark.usefixtures("tiny")
def test_steps_on_one_batch_lower_the_loss(
    tmp_path: Path, batch: frame_pairs.FrameBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "CAUGHT", 9.0)  # the field is learned on every pair, however far
    learner = recipe.build(config(tmp_path, warmup_steps=1, rate=3e-3, dense_from=0.0))
    rows = [learner.update(batch, 0.0) for _ in range(18)]  # the first ones may raise a loss
    for name in ("matching", "affine", "dense", "segmentation"):
        assert rows[-1][name] < 0.8 * rows[0][name]


def test_the_trunk_starts_from_retina(tmp_path: Path) -> None:
    from fastretina.training.recipes.retina import load_network

    network = recipe.build(config(tmp_path)).network
    assert torch.equal(network.trunk.levels.level4[0][0].weight, load_network("retina").level4[0][0].weight)


def test_misuse_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="network: got 'smal'; did you mean 'small'"):
        recipe.build(config(tmp_path, network="smal"))
    with pytest.raises(InvalidInput, match=r"dense_from, joint_from: got 0\.9 and 0\.8; allowed: 0 <= dense_from"):
        recipe.build(config(tmp_path, dense_from=0.9, joint_from=0.8))
    with pytest.raises(InvalidInput, match="pairs: must be positive"):
        recipe.build(config(tmp_path, pairs=0))
