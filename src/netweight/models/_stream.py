"""Fill and empty parts of a model, so that one block at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from netweight.errors import ModelError, NotFiniteError, nearest
from netweight.formats import not_finite
from netweight.models._family import below
from netweight.models._model import Model

META = torch.device("meta")


def materialize(model: Model, prefix: str = "") -> tuple[str, ...]:
    """Fill what is empty below a dotted prefix ("" is everything) from the model's source.

    What is already filled stays as it is, changed or not. A tied parameter is filled once, as one object, wherever it occurs:
    filling the head also fills the embedding. Parameters do not require gradients.

    Args:
      prefix: name of a module or of one parameter.
    Returns:
      The names read from the source; empty for a live module, whose tensors are only checked.
    Raises:
      ModelError: nothing has that name, or the file ends too early.
      NotFiniteError: a tensor holds NaN or Inf; the module is named.
    """
    if model.live:
        for name, tensor in _tensors(model.module, prefix):
            _check_finite(name, tensor)
        return ()
    groups, read = _groups(model), []
    for owner in dict.fromkeys(model.tied.get(name, name) for name, _ in _tensors(model.module, prefix)):
        if _fill(model, owner, groups.get(owner, (owner,))):
            read.append(owner)
    return tuple(read)


def release(model: Model, prefix: str = "") -> None:
    """Empty what lies below a dotted prefix, wherever it is tied to; does nothing to a live module.

    Changes made since ``materialize`` are lost: hand them on first.
    Raises: ModelError: nothing has that name.
    """
    stored = set(model.weights.names())
    groups = _groups(model)
    names = [name for name, _ in _tensors(model.module, prefix)]
    if model.live:
        return
    for owner in dict.fromkeys(model.tied.get(name, name) for name in names):
        members = groups.get(owner, (owner,))
        if stored.isdisjoint(members):  # computed by the module itself, such as position numbers
            continue
        empty = named_tensor(model.module, owner).to(META)
        _put(model.module, members, empty)


def check_complete(model: Model) -> None:
    """Does the source hold every tensor the module needs, in its shape?

    Raises: ModelError: the first that is missing or misshapen is named.
    """
    groups, stored = _groups(model), set(model.weights.names())
    missing = []
    for name, tensor in _tensors(model.module, ""):
        owner = model.tied.get(name, name)
        found = [member for member in groups.get(owner, (owner,)) if member in stored]
        if not found and (isinstance(tensor, nn.Parameter) or tensor.is_floating_point()):
            missing.append(name)
        elif found and model.weights.shape(found[0]) != tuple(tensor.shape):
            have, want = model.weights.shape(found[0]), tuple(tensor.shape)
            raise ModelError(
                f"{model.source}: {found[0]} has shape {have}, the {type(model.module).__name__} needs {want}"
            )
    if missing:
        raise ModelError(
            f"{model.source} lacks {missing[0]} ({len(missing)} tensors missing) of a {type(model.module).__name__}; "
            "the files are incomplete, or config.json describes another model"
        )


def tied_names(module: nn.Module) -> dict[str, str]:
    """Parameter name -> the earlier name of the same object."""
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(parameter), name)
        if owner != name:
            tied[name] = owner
    return tied


def _fill(model: Model, owner: str, members: tuple[str, ...]) -> bool:
    filled = [t for name in members if (t := named_tensor(model.module, name)).device != META]
    if filled:
        _put(model.module, members, filled[0])
        return False
    stored = set(model.weights.names())
    name = next((member for member in members if member in stored), None)
    if name is None:
        raise ModelError(f"{model.source} lacks {owner}, which {model.name} needs")
    tensor = model.weights.load(name)
    empty = named_tensor(model.module, owner)
    if tensor.is_floating_point():
        tensor = tensor.to(empty.dtype)
    want = tuple(empty.shape)
    if tuple(tensor.shape) != want:
        raise ModelError(f"{model.source}: {name} has shape {tuple(tensor.shape)}, {model.name} needs {want}")
    _check_finite(name, tensor)
    _put(model.module, members, _laid_out_as(empty, tensor))
    return True


def _laid_out_as(empty: Tensor, tensor: Tensor) -> Tensor:
    """The tensor with the strides of what it fills: some kernels are chosen by them, and differ in the last bit."""
    if tensor.stride() == empty.stride():
        return tensor
    return torch.empty_strided(empty.shape, empty.stride(), dtype=tensor.dtype).copy_(tensor)


def _check_finite(name: str, tensor: Tensor) -> None:
    if tensor.device == META or not (count := not_finite(tensor)):
        return
    module, _, leaf = name.rpartition(".")
    raise NotFiniteError(
        f"{module or 'the module'}: {leaf} holds {count} NaN or Inf of {tensor.numel()} values; "
        "the checkpoint is damaged or overflowed when it was saved"
    )


def _groups(model: Model) -> dict[str, tuple[str, ...]]:
    """Owner -> itself and everything tied to it."""
    groups: dict[str, tuple[str, ...]] = {}
    for name, owner in model.tied.items():
        groups[owner] = (*groups.get(owner, (owner,)), name)
    return groups


def _tensors(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers below a prefix, every name of a shared one."""
    found = [(name, t) for name, t in module.state_dict(keep_vars=True).items() if isinstance(t, Tensor)]
    inside = [(name, t) for name, t in found if not prefix or below(name, [prefix])]
    if not inside and prefix and prefix not in dict(module.named_modules()):
        names = [name for name, _ in module.named_modules()]
        raise ModelError(f"{type(module).__name__} has no {prefix!r}{nearest(prefix, names[:256])}")
    return iter(inside)


def named_tensor(module: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of this name. Raises: ModelError: there is none."""
    parent, _, leaf = name.rpartition(".")
    holder = module.get_submodule(parent)
    tensor = holder._parameters.get(leaf)
    tensor = holder._buffers.get(leaf) if tensor is None else tensor
    if tensor is None:
        raise ModelError(f"{type(module).__name__} has no tensor {name!r}")
    return tensor


def _put(module: nn.Module, names: tuple[str, ...], tensor: Tensor) -> None:
    """One object under every name; a parameter stays a parameter."""
    shared: nn.Parameter | None = tensor if isinstance(tensor, nn.Parameter) else None
    for name in names:
        parent, _, leaf = name.rpartition(".")
        holder = module.get_submodule(parent)
        if leaf in holder._buffers:
            holder._buffers[leaf] = tensor
            continue
        if shared is None:
            shared = nn.Parameter(tensor, requires_grad=False)
        holder._parameters[leaf] = shared
