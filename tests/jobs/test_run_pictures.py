"""run on a folder of pictures: masks of the pictures' own size, what is passed over, and everything that is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import netweight
from netweight import data
from netweight.artifact import open_artifact
from netweight.cli import main
from netweight.errors import ArtifactError, CorruptError, DataError, ExistsError, KernelError, SettingsError
from netweight.jobs import _runs


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A square picture, a wide one in a patient's folder, a mask, and a file that is no picture."""
    slices, folder = data.segmentation("phantom:2x2", size=48), tmp_path / "pictures"
    (folder / "p").mkdir(parents=True)
    Image.fromarray(slices.images[0]).save(folder / "a.png")
    Image.fromarray(slices.images[1, 10:40]).save(folder / "p" / "b.jpg")
    Image.fromarray(slices.masks[0]).save(folder / "a_mask.png")
    return folder


def test_masks_are_those_of_the_simulation(vit_run, pictures, tmp_path):
    seen = []
    found = netweight.run(
        vit_run, images=pictures, masks_out=tmp_path / "m", threshold=0.4, threads=1, progress=lambda *a: seen.append(a)
    )
    assert [mask.relative_to(tmp_path / "m").as_posix() for mask in found.masks] == ["a_mask.png", "p/b_mask.png"]
    assert found.net == "vit/packed" and "nvfp4" in found.path and found.unreadable == () and found.image == 32
    assert 0 < found.p50_s <= found.p99_s and 0 < found.images_per_s <= found.net_images_per_s
    assert seen[-1] == ("pictures", 2, 2, "b.jpg")
    net, _ = _runs.net_of(_runs.read(vit_run))
    for file, mask in zip(data.pictures(pictures), found.masks, strict=True):
        image, shown = data.picture(file), np.asarray(Image.open(mask))
        with torch.inference_mode():
            logits = net(data.normalise(data.square(image, 32)[None]))
        want = data.unsquare(torch.sigmoid(logits)[0, 0].numpy(), *image.shape[:2]) >= np.float32(0.4)
        assert shown.shape == image.shape[:2] and set(np.unique(shown)) <= {0, 255}
        assert np.array_equal(shown == 255, want)
    assert 0 < sum(int(np.asarray(Image.open(m)).any()) for m in found.masks) == found.positive


def test_a_net_without_packed_form_says_so(baseline_run, pictures, tmp_path):
    found = netweight.run(baseline_run, images=pictures, masks_out=tmp_path / "m", threads=1)
    assert "float32 weights; not packed: its weights are not rounded" in found.path and len(found.masks) == 2
    with pytest.raises(KernelError, match="has no packed form"):
        netweight.run(baseline_run, images=pictures, masks_out=tmp_path / "n", require_kernels=True)


def test_a_picture_that_cannot_be_read_is_named_and_the_others_go_on(vit_run, pictures, tmp_path, capsys):
    (pictures / "broken.png").write_bytes(b"not a picture")
    words = [
        "run",
        str(vit_run / "packed"),
        "--images",
        str(pictures),
        "--masks-out",
        str(tmp_path / "m"),
        "--threads",
        "1",
    ]
    assert main(words) == 3
    shown = capsys.readouterr()
    assert "packed: 2 masks" in shown.out and "broken.png cannot be read" in shown.out and "p99" in shown.out
    assert "take it out (with its mask, if it has one)" in " ".join(shown.out.split())
    for file in ("a.png", "p/b.jpg"):
        (pictures / file).write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 pictures can be read"):
        netweight.run(vit_run, images=pictures, masks_out=tmp_path / "n", threads=1)


def test_nothing_is_overwritten(vit_run, pictures, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a_mask.png").write_bytes(b"mine")
    with pytest.raises(ExistsError, match=r"1 mask is there already .*a_mask\.png"):
        netweight.run(vit_run, images=pictures, masks_out=tmp_path / "m")
    assert (tmp_path / "m" / "a_mask.png").read_bytes() == b"mine"
    with pytest.raises(SettingsError, match="would go among the pictures"):
        netweight.run(vit_run, images=pictures, masks_out=pictures / "p" / "..")
    (pictures / "a.tif").write_bytes(b"")
    with pytest.raises(DataError, match="would have one mask"):
        netweight.run(vit_run, images=pictures, masks_out=tmp_path / "n")


@pytest.mark.parametrize(
    "given, words",
    [
        ({}, "nothing to work on; give --prompt TEXT for a language model, or --images"),
        ({"prompt": "a", "images": "x", "masks_out": "y"}, "a prompt and pictures at once"),
        ({"images": "x", "masks_out": "y", "temperature": 0.5}, "max_tokens and temperature are for text"),
        ({"images": "x"}, "name the folder for the masks"),
        ({"masks_out": "x"}, "masks_out without images"),
        ({"images": "x", "masks_out": "y", "threshold": 0}, "threshold = 0"),
        ({"images": "x", "masks_out": "y", "threshold": 1.5}, "threshold = 1.5"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_loaded(given, words):
    with pytest.raises(SettingsError, match=words):
        netweight.run("nowhere", **given)


def test_text_models_and_nets_are_told_apart(workplace, vit_run, pictures, tmp_path):
    with pytest.raises(ArtifactError, match=r"int4 is a language model.*--prompt TEXT"):
        netweight.run("int4", images=pictures, masks_out=tmp_path / "m")
    with pytest.raises(ArtifactError, match="neither a trained run nor an artifact"):
        netweight.run("model", images=pictures, masks_out=tmp_path / "m")
    for net in (vit_run, vit_run / "packed", open_artifact(vit_run / "packed")):
        with pytest.raises(ArtifactError, match="reads pictures and writes masks"):
            netweight.run(net, prompt="an object")
    with pytest.raises(DataError, match="holds no pictures"):
        netweight.run(vit_run, images=workplace, masks_out=tmp_path / "m")


def test_another_net_s_packed_form_is_not_taken(vit_run, pictures, tmp_path):
    copy = Path(shutil.copytree(vit_run, tmp_path / "copy"))
    manifest = copy / "packed" / "netweight.json"
    manifest.write_text(manifest.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(CorruptError, match="is not what copy was packed to"):
        netweight.run(copy, images=pictures, masks_out=tmp_path / "m", threads=1)
