"""Files as the safetensors library itself reads them."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from netweight.artifact import _store


def test_every_type_and_shape_is_read_back_by_the_library(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for number, dtype in enumerate(_store.TYPES):
        values = torch.randint(0, 2, (3, 5), generator=generator)
        tensors[f"t{number}"] = values.to(dtype)
        tensors[f"strided{number}"] = values.to(dtype).T
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 4), "name with ünicode": torch.arange(7)}
    _store.save(tmp_path / "file.safetensors", tensors)
    back = load_file(tmp_path / "file.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape, name
        found, wanted = (t.contiguous().reshape(-1).view(torch.uint8) for t in (back[name], tensor))
        assert found.equal(wanted), name
    assert float(back["scalar"]) == 2.5
    with safe_open(tmp_path / "file.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_order_of_the_tensors_changes_no_byte(tmp_path):
    tensors = {"b": torch.arange(3), "a": torch.ones(5, dtype=torch.uint8), "c": torch.zeros(2)}
    _store.save(tmp_path / "one", tensors)
    _store.save(tmp_path / "two", dict(reversed(list(tensors.items()))))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
