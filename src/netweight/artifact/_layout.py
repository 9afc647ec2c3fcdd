"""How a quantized layer's tensors are named and shaped in the file: the compressed-tensors layout where it can say the format,
our own keys where it cannot.

Source: compressed-tensors 0.20 (``pack-quantized``, ``nvfp4-pack-quantized``, ``mxfp4-pack-quantized``, ``mxfp6-pack-quantized``,
``mxfp8-quantized``, ``float-quantized``).

transformers loads such a file in one of two ways. By itself it makes empty packed layers, fills them, and decodes them when
the model first runs: exact, but it makes the zero points of asymmetric integers in the wrong shape, and decodes block floats to
bfloat16 whatever the model's type. Told to ``dequantize`` it decodes each tensor as it is read, into the model's type: that
works for every format, but by the first scheme of the file for all layers. So formats of the second kind stand alone in a
file; a mix of them with others is stored in our own layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from netweight import formats
from netweight.errors import CorruptError
from netweight.formats import Format, QTensor
from netweight.models import weight_name

Layout = Literal["compressed-tensors", "netweight"]
WHOLE_TENSOR = -1  # ``Format.group`` of one scale for everything
OWN = ("codes", "scale", "zero", "tensor_scale", "row_scale")
BLOCK_FLOATS = {"nvfp4": "nvfp4-pack-quantized", "mxfp4": "mxfp4-pack-quantized", "mxfp6-e2m3": "mxfp6-pack-quantized"}
MXFP8 = "mxfp8-e4m3"


def compression_format(format: Format) -> str | None:
    """The compressed-tensors format that stores exactly this, or None."""
    if format.ragged:
        return None
    if format.name in BLOCK_FLOATS:
        return BLOCK_FLOATS[format.name]
    if format.name == MXFP8:
        return "mxfp8-quantized"
    if format.family == "integer" and format.group >= 0 and format.zero != "fp16" and format.scale == "fp16":
        return "pack-quantized"
    if format.family == "minifloat" and format.element == "e4m3":
        return "float-quantized"
    return None


def layout_for(used: Iterable[Format]) -> Layout:
    """compressed-tensors where its readers load these formats together, else our own."""
    used = set(used)
    foreign = bool(used) and all(compression_format(format) for format in used)
    return (
        "compressed-tensors" if foreign and (len(used) == 1 or not any(map(_decoded_while_read, used))) else "netweight"
    )


def _decoded_while_read(format: Format) -> bool:
    return format.zero == "packed" or format.scale in ("e8m0", "e4m3")


def scheme(format: Format) -> dict[str, Any]:
    """The ``weights`` table of a compressed-tensors config group."""
    strategy = {0: "channel", -1: "tensor"}.get(format.group, "group")
    table: dict[str, Any] = {
        "num_bits": format.bits,
        "type": "int" if format.family == "integer" else "float",
        "symmetric": format.zero == "none",
        "strategy": "tensor_group" if format.tensor_scale else strategy,
        "group_size": format.group if format.group > 0 else None,
        "dynamic": False,
    }
    if format.scale in ("e8m0", "e4m3"):
        table["scale_dtype"] = "torch.uint8" if format.scale == "e8m0" else "torch.float8_e4m3fn"
    return table


def store(layer: str, q: QTensor, layout: Layout) -> dict[str, Tensor]:
    """Tensors of one layer by their name in the file."""
    arrays = formats.pack(q)
    if layout == "netweight":
        return {f"{weight_name(layer)}.{key}": value.contiguous() for key, value in arrays.items()}
    kind = compression_format(q.format)
    stored: dict[str, Tensor] = {"weight_scale": _foreign_scale(arrays["scale"], q.format)}
    if kind == "pack-quantized":
        stored["weight_packed"] = _words(arrays["codes"])
        stored["weight_shape"] = torch.tensor(q.shape, dtype=torch.int64)
        if "zero" in arrays:
            stored["weight_zero_point"] = _words(arrays["zero"].T).T
    elif kind in ("mxfp8-quantized", "float-quantized"):
        stored["weight"] = arrays["codes"].view(torch.float8_e4m3fn)
    else:
        stored["weight_packed"] = arrays["codes"]
    if "tensor_scale" in arrays:
        stored["weight_global_scale"] = arrays["tensor_scale"]
    return {f"{layer}.{key}": value.contiguous() for key, value in stored.items()}


def keys(layer: str, format: Format, layout: Layout) -> tuple[str, ...]:
    """Names in the file that belong to one layer's weight."""
    if layout == "netweight":
        parts = ["codes", "scale"] + (["zero"] if format.zero != "none" else []) + (["row_scale"] * format.two_level)
        return tuple(f"{weight_name(layer)}.{p}" for p in parts + (["tensor_scale"] if format.tensor_scale else []))
    kind = compression_format(format)
    parts = ["weight_scale", "weight" if kind in ("mxfp8-quantized", "float-quantized") else "weight_packed"]
    if kind == "pack-quantized":
        parts += ["weight_shape"] + (["weight_zero_point"] if format.zero != "none" else [])
    return tuple(f"{layer}.{p}" for p in parts + (["weight_global_scale"] if format.tensor_scale else []))


def arrays_of(layer: str, tensors: Mapping[str, Tensor], format: Format, layout: Layout) -> dict[str, Tensor]:
    """A layer's tensors in the file as ``formats.pack`` gave them.

    Raises:
      CorruptError: a tensor is missing.
    """
    missing = [key for key in keys(layer, format, layout) if key not in tensors]
    if missing:
        raise CorruptError(f"{missing[0]} is missing from the artifact")
    if layout == "netweight":
        own = {key: f"{weight_name(layer)}.{key}" for key in OWN}
        return {key: tensors[name] for key, name in own.items() if name in tensors}
    scale = tensors[f"{layer}.weight_scale"]
    codes = tensors.get(f"{layer}.weight_packed", tensors.get(f"{layer}.weight"))
    if codes is None:
        raise CorruptError(f"{layer}: its codes are missing from the artifact")
    scale = scale.view(torch.uint8) if scale.element_size() == 1 else scale
    arrays = {"codes": _bytes(codes), "scale": scale.reshape(1, 1) if format.group == WHOLE_TENSOR else scale}
    if (zero := tensors.get(f"{layer}.weight_zero_point")) is not None:
        arrays["zero"] = _bytes(zero.T).T.contiguous()
    if (top := tensors.get(f"{layer}.weight_global_scale")) is not None:
        arrays["tensor_scale"] = top
    return arrays


def _foreign_scale(stored: Tensor, format: Format) -> Tensor:
    if format.group == WHOLE_TENSOR:
        return stored.reshape(1)
    return stored.view(torch.float8_e4m3fn) if format.scale == "e4m3" else stored


def _words(bytes_RB: Tensor) -> Tensor:
    """(R, B) bytes as (R, B / 4) 32-bit words. A single row or column may have any stride, which ``view`` refuses."""
    return bytes_RB.reshape(-1).clone().view(torch.int32).reshape(bytes_RB.shape[0], -1)


def _bytes(words_RW: Tensor) -> Tensor:
    """The bytes of each row."""
    return words_RW.reshape(-1).clone().view(torch.uint8).reshape(words_RW.shape[0], -1)


def quantization_config(layer_formats: Mapping[str, Format], layout: Layout, left: list[str]) -> dict[str, Any]:
    """The ``quantization_config`` of config.json.

    In our own layout it has no ``quant_method``: transformers then refuses the folder. A method that it does not know would
    earn no more than a warning, and layers left as they were made, at random.
    """
    if layout == "netweight":
        return {"made_by": "netweight", "load_with": "netweight.runtime.load"}
    by_format: dict[str, list[str]] = {}
    for layer, format in layer_formats.items():
        by_format.setdefault(format.name, []).append(layer)
    groups, kinds = {}, []
    for number, (name, layers) in enumerate(by_format.items()):
        kind = compression_format(formats.get(name))
        kinds.append(kind)
        groups[f"group_{number}"] = {"targets": layers, "weights": scheme(formats.get(name)), "format": kind}
    while_read = {"dequantize": True} if any(map(_decoded_while_read, layer_formats.values())) else {}
    return while_read | {
        "quant_method": "compressed-tensors",
        "format": kinds[0] if len(set(kinds)) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": left,
    }
