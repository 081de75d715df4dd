"""From a finished run to a weight set: f32, int8 and safetensors files and their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastretina.engines import export

LICENCES = {
    "research": "For research, non-commercial use: trained on DRIVE, CHASE_DB1, HRF, LES-AV, RAVIR, IOSTAR, OCTA-500, "
    "a synthetic OCTA set and a set of FA and FAF images, several of which allow nothing else. The code is Apache-2.0.",
    "clean": "Apache-2.0, like the code: trained on synthetic eyes of this project and on octa_synth (MIT) alone.",
}
CALIBRATION_IMAGES = 64


def release(
    checkpoint: Path,
    data_folder: Path,
    out: Path,
    name: str = "retina",
    *,
    command: str = "",
    date: str = "",
    remark: str = "",
    working_size: int | None = None,
    confidence: dict[str, float] | None = None,
) -> Path:
    """Write ``NAME.onnx``, ``NAME.int8.onnx``, ``NAME.safetensors`` and ``NAME.toml`` into ``out``; returns the last.

    The int8 file is calibrated on training images (never held-out ones) of ``data_folder``.  ``command``, ``date`` and
    ``remark`` (what the command does not say about the run) are recorded as given; ``working_size`` (px) and the
    weights of ``confidence`` (evaluation/calibration.py) are what this network is meant to be used with, if not the
    defaults.
    """
    from fastretina.networks.retina_craquelure import PAD_MULTIPLE, STRIDE
    from fastretina.training import data
    from fastretina.training.loop import load_checkpoint
    from fastretina.training.recipes.retina import load_network

    state = load_checkpoint(checkpoint)
    network = load_network(checkpoint)
    config = state["config"]
    chosen = {key: config[key] for key in ("sets", "synthetic", "synthetic_share")}
    samples, held_out = data.load(data_folder, checkpoint.parent / "cache.npz", **chosen)
    out.mkdir(parents=True, exist_ok=True)
    f32 = export.export_onnx(network, out / f"{name}.onnx")
    tensors = export.export_safetensors(network, out / f"{name}.safetensors")
    pick = np.random.default_rng(0).permutation(len(samples))[:CALIBRATION_IMAGES]
    planes = export.calibration_planes([samples[i].planes[0] for i in pick], PAD_MULTIPLE)
    int8 = export.quantise(f32.path, out / f"{name}.int8.onnx", planes)
    facts: dict[str, Any] = {
        "name": name,
        "architecture": "RetinaCraquelureNet (networks/retina_craquelure.py)",
        "parameters": sum(p.numel() for p in network.parameters()),
        "stride": STRIDE,
        "pad_multiple": PAD_MULTIPLE,
        "descriptor_dims": network.size.dim,
        "onnx_opset": export.OPSET,
        **({"working_size": working_size} if working_size else {}),
        **({"confidence": confidence} if confidence else {}),
        "network": network.size.as_dict(),
        "input": {
            "name": export.INPUT,
            "plane": "green of a colour image, else the gray values",
            "normalisation": "local mean and deviation on 4-px cells, two 7x7-cell boxes, clipped to [-4, 4]",
            "padding": "zeros at the right and bottom to pad_multiple",
            "shape": "1, 1, height, width",
        },
        "output": {
            "class_maps": "1, 2, height/4, width/4: logits of vessel and background",
            "descriptors": "1, descriptor_dims, height/4, width/4: not normalised",
            "cell_centre": "cell i is centred on pixel 4 i + 1.5",
        },
        "training": {
            "sets": config["sets"],
            "licence": LICENCES[config["sets"]],
            "non_commercial": config["sets"] != "clean",
            "data": sorted({s.name.split("/")[0] for s in samples}),
            "images": len(samples),
            "held_out_images": len(held_out),
            "synthetic_eyes": config["synthetic"],
            "start": config["start"] or "",
            "teacher": config["teacher"] or "",
            "loss": config["loss"],
            "seed": config["seed"],
            "steps": state["step"],
            "pairs": state["step"] * config["pairs"],
            "minutes": round(state["minutes"], 1),
            "command": command,
            "remark": remark,
            "date": date,
            "int8_calibration_images": len(pick),
        },
    }
    manifest = out / f"{name}.toml"
    export.write_manifest(manifest, facts, {"onnx": f32, "onnx_int8": int8, "safetensors": tensors})
    return manifest
