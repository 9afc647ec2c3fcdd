"""Nets of models.nets through the whole job: named blocks, the artifact, and back into a net that its description makes."""

from __future__ import annotations

import pytest
import torch

import nets as random_nets
import netweight
import tiny
from netweight import runtime
from netweight.jobs.compress import compress as job
from netweight.models import nets

BLOCKS = {
    "cnn": ["first", "down.*", "bottleneck", "up.*", "last"],
    "vit": ["patches", "blocks.*", "decoder"],
    "swin": ["patches", "blocks.*", "decoder"],
    "depthwise": ["first", "down.*.*", "up.*", "last"],
    "efficientnet": ["first", "down.*.*", "up.*", "last"],
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_net_is_rounded_block_by_block_and_read_back(name, tmp_path):
    image = 128 if name == "swin" else 64  # several windows
    net = nets.build(name, "500k", image=image, seed=0).eval()
    net.load_state_dict(random_nets.filled(net).state_dict())
    images = random_nets.images(2, size=(image, image), rows=1)
    step = {**tiny.step("rtn", "int8-channel"), "skip": list(nets.unquantized(name))}
    artifact = job(net, {"step": [step], "blocks": BLOCKS[name]}, out=tmp_path / "out", threads=1, calibration=images)
    rounded = {row.module for row in artifact.ledger if row.action == "quantized"}
    assert rounded and all(row.action == "left" for row in artifact.ledger if row.module not in rounded)
    assert netweight.verify(artifact, threads=1).failures() == ()
    loaded = runtime.load(tmp_path / "out", kernels="off")  # the artifact says which net it is
    with torch.no_grad():
        want, got = net(images[0]), loaded.module.eval()(images[0])
    assert 0 < (got - want).square().mean() < 0.01 * want.var()  # eight bits
