"""Write what a Hugging Face folder needs beside the weights: config, generation config and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

from netweight.errors import ModelError
from netweight.models._model import Model

# What says where or with what a file was made, not what the model is; and what would make readers expect packed weights.
LEFT_OUT = (
    "transformers_version",
    "_name_or_path",
    "_model_name_or_path",
    "name_or_path",
    "quantization_config",
    "is_local",
    "local_files_only",
    "_from_model_config",
    "_commit_hash",
)


def save_tokenizer_and_config(model: Model, folder: str | Path) -> tuple[str, ...]:
    """Write config.json, generation_config.json and the tokenizer's files, byte for byte the same for the same model.

    No paths, dates or versions are written. A model without a tokenizer gets none.
    Returns:
      Names of the files written, sorted.
    Raises:
      ModelError: the model has no transformers config, or its tokenizer cannot be read.
    """
    if model.config is None:
        raise ModelError(
            f"{model.name} is a {type(model.module).__name__} without a transformers config; there is none to write"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = ["config.json"]
    values = model.config.to_dict() | {"architectures": [type(model.module).__name__]}
    _write(folder / "config.json", values | {"dtype": str(model.dtype).removeprefix("torch.")})
    if isinstance(model.module, transformers.GenerationMixin) and model.module.generation_config is not None:
        _write(folder / "generation_config.json", model.module.generation_config.to_diff_dict())
        written.append("generation_config.json")
    if model.open_tokenizer is not None:
        written += _save_tokenizer(model.tokenizer(), folder)
    return tuple(sorted(written))


def _save_tokenizer(tokenizer: Any, folder: Path) -> list[str]:
    names = sorted({Path(path).name for path in tokenizer.save_pretrained(str(folder)) if Path(path).is_file()})
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        _write(settings, json.loads(settings.read_text(encoding="utf-8")))
    return names


def _write(path: Path, values: dict[str, Any]) -> None:
    kept = {key: value for key, value in values.items() if key not in LEFT_OUT}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
