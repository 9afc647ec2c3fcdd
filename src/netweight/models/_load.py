"""``models.load``: a folder, a GGUF file, a llama2.c checkpoint, a hub name or a live module as one ``Model``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from accelerate import init_empty_weights
from torch import nn
from transformers import initialization

from netweight.errors import ModelError
from netweight.models import _gguf, _llama2c
from netweight.models._family import Family, base_path, family_of, join
from netweight.models._model import Model
from netweight.models._stream import check_complete, tied_names
from netweight.models._weights import (
    PICKLES,
    LiveSource,
    PickleSource,
    Renamed,
    WeightSource,
    is_pickle,
    safetensors,
    shards,
)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "tokenizer_config.json")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")


def load(
    source: str | Path | nn.Module,
    *,
    dtype: torch.dtype = torch.float32,
    trust_pickle: bool = False,
    tokenizer: Any = None,
) -> Model:
    """A model whose parameters stay on ``meta`` until ``materialize`` asks for them.

    Args:
      source: a Hugging Face folder, a ``.safetensors`` file with its config.json beside it, a ``.gguf`` file or a folder
        with exactly one, a llama2.c checkpoint (version 0) with its tokenizer.bin, a hub name such as
        ``"HuggingFaceTB/SmolLM2-135M"``, or any ``nn.Module``, which is used as it is.
      dtype: of every floating-point parameter once filled; a live module keeps its own.
      trust_pickle: read ``.bin``, ``.pt`` and ``.pth`` checkpoints too. They are refused otherwise.
      tokenizer: of a live module.
    Raises:
      ModelError: missing, damaged or incomplete files, a pickle that is not trusted, an unknown or already compressed
        model. Weights are checked for NaN and Inf when they are filled.
    """
    if isinstance(source, nn.Module):
        return _live(source, tokenizer)
    path = Path(source)
    if not path.exists():
        path = _from_hub(str(source), trust_pickle)
    name = (
        str(source) if not Path(source).exists() else (path.resolve().stem if path.is_file() else path.resolve().name)
    )
    model = _file(path, dtype, trust_pickle) if path.is_file() else _folder(path, dtype, trust_pickle)
    return replace(model, source=str(source), name=name)


def _live(module: nn.Module, tokenizer: Any) -> Model:
    config = getattr(module, "config", None) if isinstance(module, transformers.PreTrainedModel) else None
    family = family_of(getattr(config, "model_type", None))
    first = next(module.parameters(), None)
    return Model(
        module=module,
        source=type(module).__name__,
        name=type(module).__name__,
        kind=_kind(module, family),
        family=family,
        config=config,
        weights=LiveSource(module),
        dtype=torch.float32 if first is None else first.dtype,
        tied=tied_names(module),
        open_tokenizer=None if tokenizer is None else lambda: tokenizer,
    )


def _folder(folder: Path, dtype: torch.dtype, trust_pickle: bool) -> Model:
    if (folder / "config.json").is_file():
        return _hugging_face(folder, _weight_source(folder, trust_pickle), dtype)
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) == 1:
        return _from_gguf(ggufs[0], dtype)
    if ggufs:
        raise ModelError(f"{folder} holds {len(ggufs)} GGUF files; name one: {', '.join(p.name for p in ggufs)}")
    checkpoints = [p for p in sorted(folder.glob("*.bin")) if p.name != "tokenizer.bin" and _llama2c.is_checkpoint(p)]
    if len(checkpoints) == 1:
        return _from_llama2c(checkpoints[0], dtype)
    raise ModelError(
        f"no config.json in {folder}; a model folder holds config.json and *.safetensors, or one .gguf file, and a trained run training.json"
    )


def _file(path: Path, dtype: torch.dtype, trust_pickle: bool) -> Model:
    if path.suffix == ".gguf":
        return _from_gguf(path, dtype)
    if path.suffix == ".safetensors":
        return _hugging_face(path.parent, safetensors([path]), dtype)
    if is_pickle(path):
        _refuse_pickle(path, trust_pickle)
        return _hugging_face(path.parent, PickleSource([path]), dtype)
    if path.suffix == ".bin":
        return _from_llama2c(path, dtype)
    raise ModelError(
        f"{path} is not a model file known here: .gguf, .safetensors, or a llama2.c .bin; or name its folder"
    )


def _weight_source(folder: Path, trust_pickle: bool) -> WeightSource:
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        return safetensors([single])
    if index.is_file():
        return safetensors(shards(index))
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return safetensors(others)
    if (index := folder / "pytorch_model.bin.index.json").is_file():
        pickles = shards(index)
    else:
        pickles = tuple(sorted(p for p in folder.iterdir() if p.suffix in PICKLES and p.is_file() and is_pickle(p)))
    if not pickles:
        raise ModelError(f"no weights in {folder}: expected model.safetensors or model.safetensors.index.json")
    _refuse_pickle(pickles[0], trust_pickle)
    return PickleSource(pickles)


def _refuse_pickle(path: Path, trust_pickle: bool) -> None:
    if not trust_pickle:
        raise ModelError(
            f"{path} is a pickle, which can run code when opened, and was not opened; convert it to safetensors, "
            "or pass trust_pickle=True if you trust where it came from"
        )


def _hugging_face(folder: Path, source: WeightSource, dtype: torch.dtype) -> Model:
    config = read_config(folder)
    module, family = empty_module(config, dtype)
    drop_absent(module, family, source)
    set_generation(module, folder)
    weights = Renamed(source, _match(module, family, source))
    return assemble(module, family, config, weights, dtype, tokenizer_in(folder), str(folder))


def _from_gguf(path: Path, dtype: torch.dtype) -> Model:
    header = _gguf.read_header(path)
    table = _gguf.table_of(header)
    model_type = table.model_types[header.architecture]
    values = _gguf.config_values(header, table)
    config = transformers.AutoConfig.for_model(model_type, **values)
    module, family = empty_module(config, dtype)
    source = _gguf.GGUFSource(header, table, config.num_attention_heads, config.num_key_value_heads)
    opener = tokenizer_opener(path.parent, path.name) if "tokenizer.ggml.tokens" in header.metadata else None
    return assemble(module, family, config, source, dtype, opener, str(path))


def _from_llama2c(path: Path, dtype: torch.dtype) -> Model:
    source, config, beside = _llama2c.Llama2cSource(path), _llama2c.config_of(path), path.parent / "tokenizer.bin"
    module, family = empty_module(config, dtype)
    opener = (lambda: _llama2c.tokenizer_of(beside, config.vocab_size)) if beside.is_file() else None
    return assemble(module, family, config, source, dtype, opener, str(path))


def assemble(
    module: nn.Module,
    family: Family,
    config: Any,
    source: WeightSource,
    dtype: torch.dtype,
    opener: Callable[[], Any] | None,
    where: str,
) -> Model:
    tied: Mapping[str, str] = tied_names(module)
    model = Model(module, where, Path(where).name, _kind(module, family), family, config, source, dtype, tied, opener)
    check_complete(model)
    return model


def set_generation(module: nn.Module, folder: Path) -> None:
    """How the model wants to be sampled and where it stops, from the folder's generation_config.json."""
    if isinstance(module, transformers.GenerationMixin) and (folder / "generation_config.json").is_file():
        module.generation_config = transformers.GenerationConfig.from_pretrained(folder)


def tokenizer_in(folder: Path) -> Callable[[], Any] | None:
    """Opens the folder's tokenizer; None where it holds none."""
    has_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return tokenizer_opener(folder) if has_tokenizer else None


def tokenizer_opener(folder: Path, gguf_file: str | None = None) -> Callable[[], Any]:
    extra = {"gguf_file": gguf_file} if gguf_file else {}
    return lambda: transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, **extra)


def read_config(folder: Path, *, compressed: Literal["refuse", "ignore"] = "refuse") -> Any:
    if not (folder / "config.json").is_file():
        raise ModelError(f"no config.json in {folder}; it says which model the weights belong to")
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'} does not describe a model transformers knows: {error}") from error
    if getattr(config, "quantization_config", None):
        if compressed == "ignore":
            delattr(config, "quantization_config")
            return config
        method = dict(config.quantization_config).get("quant_method", "unknown")
        raise ModelError(f"{folder} is already compressed (quant_method {method!r}); start from the original model")
    return config


def empty_module(config: Any, dtype: torch.dtype) -> tuple[nn.Module, Family]:
    """The transformers module of a config: parameters on ``meta``, buffers computed, in evaluation mode."""
    family = family_of(config.model_type)
    names = config.architectures or []
    if names and getattr(transformers, names[0], None) is None:
        raise ModelError(
            f"config.json names the architecture {names[0]!r}, which transformers {transformers.__version__} lacks"
        )
    with init_empty_weights(include_buffers=False), initialization.no_init_weights():
        if names:
            module = getattr(transformers, names[0])._from_config(config, dtype=dtype)
        else:
            module = getattr(transformers, family.auto).from_config(config, dtype=dtype)
    module.tie_weights()
    if not config.architectures:
        config.architectures = [type(module).__name__]
    return module.eval(), family


def drop_absent(module: nn.Module, family: Family, source: WeightSource) -> None:
    """Leave out optional parts, such as a pooler, that the checkpoint does not hold."""
    base = base_path(module)
    for part in family.optional:
        holder = module.get_submodule(base)
        if part in dict(holder.named_children()) and not any(f"{part}." in name for name in source.names()):
            setattr(holder, part, None)


def _match(module: nn.Module, family: Family, source: WeightSource) -> dict[str, str]:
    """Parameter name -> name in the files, which may come with or without the base model's prefix, or with old endings."""
    prefix = getattr(type(module), "base_model_prefix", "")
    stored = {_modern(name, family): name for name in source.names()}
    found = {}
    for name in module.state_dict():
        for candidate in (name, name.removeprefix(prefix + "."), join(prefix, name)):
            if candidate in stored:
                found[name] = stored[candidate]
                break
    return found


def _modern(name: str, family: Family) -> str:
    for old, new in family.renamed.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _kind(module: nn.Module, family: Family) -> str:
    if type(module).__name__.endswith(CAUSAL_ENDINGS):
        return "causal-lm"
    return "encoder" if family.kind == "encoder" else "module"


def _from_hub(name: str, trust_pickle: bool) -> Path:
    """The snapshot folder of a hub model, fetched when it is not in the cache. Pickles are fetched only if trusted."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if not HUB_NAME.fullmatch(name) or name.endswith((".gguf", ".safetensors", *PICKLES)):
        raise ModelError(f"no such file or folder: {name}")
    patterns = HUB_FILES + (["*.bin"] if trust_pickle else [])
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ModelError(f"{name!r} is no file or folder here, and the hub did not give it: {error}") from error
