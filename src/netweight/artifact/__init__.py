"""The artifact: a folder with the compressed weights and the record of how they came about."""

from netweight.artifact._layout import Layout, compression_format, layout_for, store
from netweight.artifact._manifest import LayerRecord, Manifest
from netweight.artifact._read import Artifact, DecodedSource, open_artifact
from netweight.artifact._store import PartRecord, Store
from netweight.artifact._write import SHARD_BYTES, assemble

__all__ = [
    "SHARD_BYTES",
    "Artifact",
    "DecodedSource",
    "LayerRecord",
    "Layout",
    "Manifest",
    "PartRecord",
    "Store",
    "assemble",
    "compression_format",
    "layout_for",
    "open_artifact",
    "store",
]
