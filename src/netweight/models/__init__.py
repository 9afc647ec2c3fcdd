"""Models: ``load`` anything, stream its weights, and know where its blocks, layers, norms and ties are."""

from netweight.models import nets
from netweight.models._activations import channel_axis, round_inputs, rounded_inputs
from netweight.models._cut import Call, cut, numbers_kept, outputs_of_parts, reaching, tensors_outside
from netweight.models._device import device
from netweight.models._encoders import all_at_once, one_by_one
from netweight.models._export import save_tokenizer_and_config
from netweight.models._family import Family, Feed, below, families, family_of
from netweight.models._fold import fold
from netweight.models._forward import (
    BlockInputs,
    call_block,
    capture_block_inputs,
    evaluating,
    final_states,
    plain_call,
    readable,
    run_block,
    run_model,
    run_tail,
)
from netweight.models._inputs import stage_input
from netweight.models._layers import (
    Layer,
    is_row_major,
    kind_of,
    layers,
    matrix_of,
    matrix_shape,
    set_matrix,
    stored_layout,
)
from netweight.models._load import load
from netweight.models._model import Model, blocks, feeds
from netweight.models._parts import (
    first_tensor,
    input_geometry,
    is_convolution,
    kept_bytes,
    rest,
    spatial_axes,
    stem,
    stored_bytes,
    stored_tensors,
    weight_name,
)
from netweight.models._precision import bf16_or_why_not
from netweight.models._rebind import copied, from_folder, with_weights
from netweight.models._rotate import (
    RotatedModel,
    head_bytes,
    heads_obstacle,
    residual_obstacle,
    rotate,
    shares_embedding,
    with_stored_types,
)
from netweight.models._stream import materialize, release
from netweight.models._weights import WeightSource

__all__ = [
    "BlockInputs",
    "Call",
    "Family",
    "Feed",
    "Layer",
    "Model",
    "RotatedModel",
    "WeightSource",
    "all_at_once",
    "below",
    "bf16_or_why_not",
    "blocks",
    "call_block",
    "capture_block_inputs",
    "channel_axis",
    "copied",
    "cut",
    "device",
    "evaluating",
    "families",
    "family_of",
    "feeds",
    "final_states",
    "first_tensor",
    "fold",
    "from_folder",
    "head_bytes",
    "heads_obstacle",
    "input_geometry",
    "is_convolution",
    "is_row_major",
    "kept_bytes",
    "kind_of",
    "layers",
    "load",
    "materialize",
    "matrix_of",
    "matrix_shape",
    "nets",
    "numbers_kept",
    "one_by_one",
    "outputs_of_parts",
    "plain_call",
    "reaching",
    "readable",
    "release",
    "residual_obstacle",
    "rest",
    "rotate",
    "round_inputs",
    "rounded_inputs",
    "run_block",
    "run_model",
    "run_tail",
    "save_tokenizer_and_config",
    "set_matrix",
    "shares_embedding",
    "spatial_axes",
    "stage_input",
    "stem",
    "stored_bytes",
    "stored_layout",
    "stored_tensors",
    "tensors_outside",
    "weight_name",
    "with_stored_types",
    "with_weights",
]
