"""The network: shapes, the cell convention, no bias under flips and quarter turns, export."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network definition needs torch")

from fastretina import EngineError, InvalidInput, engines  # noqa: E402
from fastretina.networks.retina_craquelure import (  # noqa: E402
    NetworkSize,
    RetinaCraquelureNet,
    sample_descriptors,
)


def drawn_vessels(size: int, seed: int) -> np.ndarray:
    """A plane in [0, 1] with a dark, anti-aliased random vessel tree on a noisy background."""
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(seed)
    plane = np.full((size, size), 0.6, np.float32)
    for _ in range(14):
        angle = np.cumsum(rng.normal(0, 0.12, 60)) + rng.uniform(0, 2 * np.pi)
        step = np.stack([np.cos(angle), np.sin(angle)], 1) * size / 50
        line = np.cumsum(step, 0) + rng.uniform(0.2, 0.8, 2) * size
        points = np.round(line * 16).astype(np.int32)
        cv2.polylines(plane, [points], False, float(rng.uniform(0.2, 0.45)), int(rng.integers(2, 6)), cv2.LINE_AA, 4)
    return plane + rng.normal(0, 0.01, plane.shape).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    return engines.load_manifest("default").torch_network().eval()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 96), (120, 72)])
def test_shapes(height, width):
    network = RetinaCraquelureNet().eval()
    class_maps, dense = network(torch.zeros(2, 1, height, width))
    assert class_maps.shape == (2, 2, height // 4, width // 4)
    assert dense.shape == (2, network.size.dim, height // 4, width // 4)


def test_the_default_network_is_small():
    assert sum(p.numel() for p in RetinaCraquelureNet().parameters()) < 500_000


@pytest.mark.parametrize("shape", [(1, 1, 60, 64), (1, 3, 64, 64), (1, 64, 64), (1, 1, 0, 64)])
def test_misuse(shape):
    with pytest.raises(InvalidInput, match="plane"):
        RetinaCraquelureNet().eval()(torch.zeros(shape))


def test_size_survives_a_round_trip_through_plain_values():
    size = NetworkSize(quarter_dilations=(1, 2))
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in size.as_dict().items()}
    assert NetworkSize.from_dict(values) == size


def test_a_mirrored_network_gives_the_mirrored_maps_exactly_where_cells_should_lie():
    """Weights mirrored with the image: only a wrong cell convention could shift the result."""
    network = RetinaCraquelureNet().eval()
    mirrored = RetinaCraquelureNet().eval()
    state = {k: v.flip(-1) if v.ndim == 4 else v for k, v in network.state_dict().items()}
    mirrored.load_state_dict(state)
    plane = torch.randn(1, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for a, b in zip(network(plane), mirrored(plane.flip(-1)), strict=True):
            # Only the order of float32 sums differs.
            assert torch.allclose(a, b.flip(-1), rtol=1e-4, atol=1e-4 * float(a.abs().max()))


def test_sample_descriptors_against_a_loop():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    points = np.concatenate([rng.uniform(0, [27, 23], (20, 2)), [[1.5, 1.5], [0, 0], [27, 23], [5.5, 9.5]]])
    image = rng.integers(0, 2, len(points))
    got = sample_descriptors(torch.from_numpy(dense), torch.from_numpy(points), torch.from_numpy(image)).numpy()
    for row, (x, y), n in zip(got, points, image, strict=True):
        cx, cy = np.clip((x + 0.5) / 4 - 0.5, 0, 6), np.clip((y + 0.5) / 4 - 0.5, 0, 5)
        expected = np.zeros(5)
        for j in range(6):
            for i in range(7):
                expected += max(0, 1 - abs(cx - i)) * max(0, 1 - abs(cy - j)) * dense[n, :, j, i]
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-5)


TURNS = {
    "mirror": lambda a: a.flip(-1),
    "upside down": lambda a: a.flip(-2),
    "quarter turn": lambda a: a.rot90(1, (-2, -1)),
    "half turn": lambda a: a.rot90(2, (-2, -1)),
    "three quarters": lambda a: a.rot90(3, (-2, -1)),
}


@pytest.mark.parametrize("name", TURNS)
def test_flips_and_quarter_turns_do_not_move_keypoints(trained, name):
    """Mean displacement (the bias) at most 0.1 px in x and y, over several hundred keypoints."""
    from fastretina.training.normalise import normalise
    from fastretina.training.validate import detect_points

    turn = TURNS[name]
    size = 320
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy")).float()
    back = turn(grid)  # at every turned pixel: where it was
    moved = []
    for seed in range(16):
        plane = torch.from_numpy(drawn_vessels(size, seed))[None, None]
        mask = torch.ones_like(plane)
        normalised = normalise(plane, mask)
        found = []
        for view in (normalised, turn(normalised)):
            with torch.no_grad():
                class_maps = trained(view.contiguous())[0]
            points, _ = detect_points(class_maps, mask, 200, edge_px=12)[0]
            found.append(_sub_pixel(class_maps, points))
        x, y = found[1][:, 0], found[1][:, 1]
        original = _bilinear(back, x, y)
        distance = torch.cdist(found[0], original)
        nearest = distance.argmin(1)
        close = distance.min(1).values < 2.5
        moved.append((original[nearest] - found[0])[close])
    offsets = torch.cat(moved)
    assert len(offsets) > 400
    # The mean of K displacements is itself uncertain by their deviation / sqrt(K), about 0.03 px here.
    uncertain = offsets.std(0) / len(offsets) ** 0.5
    assert (offsets.mean(0).abs() - 2 * uncertain).max() <= 0.1


def _bilinear(field, x, y):
    x0, y0 = x.floor().long(), y.floor().long()
    fx, fy = x - x0, y - y0
    top = field[:, y0, x0] * (1 - fx) + field[:, y0, x0 + 1] * fx
    bottom = field[:, y0 + 1, x0] * (1 - fx) + field[:, y0 + 1, x0 + 1] * fx
    return (top * (1 - fy) + bottom * fy).T


def _sub_pixel(class_maps, points):
    """Parabola through the maximum and its neighbours: integer points would hide, or fake, a tenth of a pixel."""
    difference = class_maps[:, :1] - class_maps[:, 1:]
    c = torch.nn.functional.interpolate(difference, scale_factor=4, mode="bicubic", align_corners=False)[0, 0]
    x, y = points.long().T

    def vertex(before, centre, after):
        return (after - before) / (2 * (2 * centre - before - after)).clamp_min(1e-6)

    dx = vertex(c[y, x - 1], c[y, x], c[y, x + 1]).clamp(-0.5, 0.5)
    dy = vertex(c[y - 1, x], c[y, x], c[y + 1, x]).clamp(-0.5, 0.5)
    return torch.stack([x + dx, y + dy], 1)


def test_export_folds_batch_norm_and_takes_any_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the exported file is run with onnxruntime")
    onnx = pytest.importorskip("onnx", reason="export needs onnx")
    from fastretina.engines.export import export_onnx

    torch.manual_seed(0)
    network = RetinaCraquelureNet()
    for module in network.modules():  # running statistics that matter
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    network.eval()
    written = export_onnx(network, tmp_path / "net.onnx")
    kinds = {n.op_type for n in onnx.load(written.path).graph.node}
    assert "BatchNormalization" not in kinds
    session = onnxruntime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 64, 96), (1, 1, 120, 40)):
        plane = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(plane))
        for a, b in zip(session.run(None, {"plane": plane}), expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_int8_really_runs_int8_convolutions():
    ov = pytest.importorskip("openvino", reason="the runtime precision is asked of OpenVINO")
    core = ov.Core()
    if "INT8" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no int8 kernels")
    manifest = engines.load_manifest("default")
    model = core.read_model(manifest.weights("int8"))
    model.reshape([1, 1, 160, 160])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    precision = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        if str(info["layerType"].astype(str)) == "Convolution":
            precision.append(str(info["runtimePrecision"].astype(str)))
    assert len(precision) > 15
    assert sum(p in ("u8", "i8") for p in precision) == len(precision)


def test_manifests_agree_and_name_the_licence(repository_manifest):
    shipped = engines.load_manifest("default")
    if not repository_manifest.is_file():
        pytest.skip("installed package: engines/ is only in the repository")
    assert repository_manifest.read_bytes() == (shipped.folder / "retina.toml").read_bytes()
    for name, free in (
        ("retina", True),
        ("retina_fast", True),
        ("retina_research", False),
        ("retina_fast_research", False),
    ):
        manifest = engines.load_manifest(name)
        training = manifest.data["training"]
        assert training["sets"] == ("clean" if free else "research")
        assert training["non_commercial"] is not free
        assert ("non-commercial" in training["licence"]) is not free
        assert free is (set(training["data"]) == {"octa_synth", "synthetic"})
        for precision in ("f32", "int8", "torch"):
            assert manifest.weights(precision).is_file()


@pytest.fixture
def repository_manifest():
    from pathlib import Path

    return Path(__file__).resolve().parents[1] / "engines" / "retina.toml"


def test_weights_keep_their_facts_and_their_values_in_half_precision(tmp_path):
    from fastretina.networks.weight_files import load_weights, save_weights

    pytest.importorskip("safetensors", reason="weight files need safetensors")
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    path = tmp_path / "net.safetensors"
    save_weights(network, path, {"channels": 4, "licence": "ours"})

    def build(facts):
        return torch.nn.Sequential(torch.nn.Conv2d(1, facts["channels"], 3), torch.nn.BatchNorm2d(facts["channels"]))

    read, facts, digest = load_weights(build, path)
    assert facts == {"channels": 4, "licence": "ours"}
    assert len(digest) == 64
    assert not read.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], value.half().to(value.dtype) if value.ndim else value)
    with pytest.raises(EngineError, match=r"net.safetensors is not a file of this network"):
        load_weights(lambda facts: build({"channels": 5}), path)
    with pytest.raises(EngineError, match="is missing"):
        load_weights(build, tmp_path / "none.safetensors")
    network[0].weight.data.fill_(1e6)
    with pytest.raises(EngineError, match="not finite"):
        save_weights(network, tmp_path / "huge.safetensors", {})
    assert not list(tmp_path.glob("*.partial"))
