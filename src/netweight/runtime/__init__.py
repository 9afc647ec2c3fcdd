"""Use an artifact: load it, generate text, know which path each layer takes."""

from netweight.runtime._generate import check_kind, check_request, generate
from netweight.runtime._load import Loaded, bytes_in_memory, load

__all__ = ["Loaded", "bytes_in_memory", "check_kind", "check_request", "generate", "load"]
