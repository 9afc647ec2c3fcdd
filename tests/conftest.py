"""What several rooms' tests start from: a tiny language model as a Hugging Face folder, and the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must stand before Triton is first imported

import pytest

from tiny_lm import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def real_data() -> Path:
    """The folder of real data; skips without it."""
    folder = Path(os.environ.get("NETWEIGHT_DATA") or "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; NETWEIGHT_DATA names the folder of real data")
    return folder
