"""The native decode loop: a language model's whole step in the compiled library, for families described as data.

One call reads some tokens of one or several texts and gives the logits. Packed layers run on the kernels, layers that were left
alone as they are stored. transformers' own forward is the reference it must equal.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netweight.errors import KernelError, SettingsError
from netweight.models import Model
from netweight.runtime._linear import Packed, PackedLinear
from netweight.runtime.kernels import _library

PLAIN = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
ACTIVATIONS = {"silu": 0, "swish": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "gelu_fast": 1, "gelu": 2, "relu": 3}
RMS, LAYER = 0, 1


@dataclass(frozen=True)
class Decoder:
    """A family's names: paths inside a block, and from the root of the model. ``""``: there is no such layer."""

    model_types: tuple[str, ...]
    norm: int
    blocks: str
    attention_norm: str
    q: str  # with no k and v: one layer that gives all three
    k: str
    v: str
    o: str
    mlp_norm: str
    gate: str
    up: str
    down: str
    embedding: str
    final_norm: str
    head: str
    positions: str = ""
    activation: str = "hidden_act"  # fields of the config
    eps: str = "rms_norm_eps"
    refused: tuple[tuple[str, Any], ...] = ()  # config fields that must have this value if they are there


DECODERS = (
    Decoder(
        model_types=("llama", "mistral", "qwen2"),
        norm=RMS,
        blocks="model.layers",
        attention_norm="input_layernorm",
        q="self_attn.q_proj",
        k="self_attn.k_proj",
        v="self_attn.v_proj",
        o="self_attn.o_proj",
        mlp_norm="post_attention_layernorm",
        gate="mlp.gate_proj",
        up="mlp.up_proj",
        down="mlp.down_proj",
        embedding="model.embed_tokens",
        final_norm="model.norm",
        head="lm_head",
        refused=(("sliding_window", None),),
    ),
    Decoder(
        model_types=("gpt2",),
        norm=LAYER,
        blocks="transformer.h",
        attention_norm="ln_1",
        q="attn.c_attn",
        k="",
        v="",
        o="attn.c_proj",
        mlp_norm="ln_2",
        gate="",
        up="mlp.c_fc",
        down="mlp.c_proj",
        embedding="transformer.wte",
        final_norm="transformer.ln_f",
        head="lm_head",
        positions="transformer.wpe",
        activation="activation_function",
        eps="layer_norm_epsilon",
        refused=(("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)),
    ),
)


def decoder_of(model: Model) -> tuple[Decoder | None, str]:
    """The row for a model, or None and why there is no native decode loop for it."""
    config = model.config
    found = next((row for row in DECODERS if getattr(config, "model_type", None) in row.model_types), None)
    if found is None:
        return None, f"no native decode loop for {getattr(config, 'model_type', model.kind)}"
    for name, wanted in found.refused:
        if name == "sliding_window" and not getattr(config, "use_sliding_window", True):
            continue
        if getattr(config, name, wanted) != wanted:
            return None, f"no native decode loop with {name} = {getattr(config, name)}"
    if getattr(config, found.activation) not in ACTIVATIONS:
        return None, f"no native decode loop with the activation {getattr(config, found.activation)}"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") in ("dynamic", "longrope"):
        return None, f"no native decode loop with {rope['rope_type']} rotary positions"
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        return None, "no native decode loop with partial rotary positions"
    if _head_dim(config) % 16:
        return None, f"no native decode loop for heads {_head_dim(config)} wide"
    return found, ""


class NativeDecoder:
    """A language model as the library sees it. It shares the module's memory and must not outlive changes to it."""

    def __init__(self, model: Model, *, longest: int | None = None, exact: bool | None = None) -> None:
        """
        Args:
          longest: most tokens of a text; the model's own limit if absent.
          exact: float32 activations in packed layers, for verification; as the model was loaded, if absent.
        Raises:
          KernelError: no native loop for this model, or no compiled kernels.
        """
        row, why = decoder_of(model)
        if row is None:
            raise KernelError(f"{model.name}: {why}")
        self._library, self._kept = _library.library(), []
        self.vocab = int(model.config.vocab_size)
        self.longest = min(longest or model.longest or 2048, model.longest or 2**30)
        with torch.no_grad():
            self._decoder = self._describe(model, row, _exact(model) if exact is None else exact)

    def session(self, capacity: int | None = None) -> Session:
        """An empty text of at most ``capacity`` tokens. Raises: MemoryError: its keys and values find no room."""
        return Session(self, min(capacity or self.longest, self.longest))

    def forward(
        self, sessions: Sequence[Session], tokens: Sequence[Sequence[int] | Tensor], *, all_positions: bool = False
    ) -> Tensor:
        """Read further tokens of each text.

        Returns:
          (texts, V) logits after the last token of each, or (all tokens, V) one text after another.
        Raises:
          SettingsError: a text grows beyond its capacity, a token the model has not, an empty list, a session twice.
          NotFiniteError: activations are no longer finite.
        """
        rows = [torch.as_tensor(part, dtype=torch.int32) for part in tokens]
        flat = torch.cat(rows) if rows else torch.empty(0, dtype=torch.int32)
        if not len(rows) or len(rows) != len(sessions) or not all(len(part) for part in rows):
            raise SettingsError("every text needs at least one token")
        if len({id(session) for session in sessions}) != len(sessions):
            raise SettingsError("a session may appear only once in a call")
        if bool((flat < 0).any()) or bool((flat >= self.vocab).any()):
            raise SettingsError(f"tokens must lie in 0 … {self.vocab - 1}")
        for session, part in zip(sessions, rows, strict=True):
            if len(session) + len(part) > session.capacity:
                raise SettingsError(
                    f"{len(session)} + {len(part)} tokens are more than the {session.capacity} of the session"
                )
        logits = torch.empty(len(flat) if all_positions else len(rows), self.vocab)
        handles = (ctypes.c_void_p * len(rows))(*(session.handle for session in sessions))
        counts = (ctypes.c_int32 * len(rows))(*(len(part) for part in rows))
        status = self._library.nw_decode(
            self._decoder, handles, counts, len(rows), flat.data_ptr(), logits.data_ptr(), int(all_positions)
        )
        _library.checked(status, "a step of the decode loop")
        return logits

    def next(self, session: Session, token: int, *, temperature: float = 0.0, seed: int = 0, step: int = 0) -> int:
        """Read one token and choose the one after it."""
        return self.choose(self.forward((session,), ((token,),))[0], temperature=temperature, seed=seed, step=step)

    def choose(self, logits_V: Tensor, *, temperature: float = 0.0, seed: int = 0, step: int = 0) -> int:
        """The likeliest token, or for a temperature above 0 a draw that ``seed`` and ``step`` decide."""
        return self._library.nw_sample(logits_V.data_ptr(), self.vocab, temperature, seed, step)

    def _describe(self, model: Model, row: Decoder, exact: bool):
        config, module = model.config, model.module
        blocks = module.get_submodule(row.blocks)
        described = (_library.Block * len(blocks))()  # pyright: ignore[reportArgumentType, reportOperatorIssue]
        for to, block in zip(described, blocks, strict=True):  # pyright: ignore[reportArgumentType]
            for name in ("attention_norm", "mlp_norm"):
                norm = block.get_submodule(getattr(row, name))
                setattr(to, name, self._keep(norm.weight))
                setattr(to, name + "_bias", self._keep(getattr(norm, "bias", None)))
            for name in ("q", "k", "v", "o", "gate", "up", "down"):
                if path := getattr(row, name):
                    setattr(to, name, self._layer(block.get_submodule(path)))
            if hasattr(block, "self_attn") and hasattr(block.self_attn, "q_norm"):
                raise KernelError(f"{model.name}: no native decode loop with norms of queries and keys")
        final, head_dim = module.get_submodule(row.final_norm), _head_dim(config)
        cos, sin = (None, None) if row.positions else _rotary(module, self.longest)
        self._kept.append(described)
        return _library.Decoder(
            config.hidden_size,
            len(blocks),  # pyright: ignore[reportArgumentType]
            config.num_attention_heads,
            getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            head_dim,
            self.vocab,
            self.longest,
            row.norm,
            ACTIVATIONS[getattr(config, row.activation)],
            int(exact),
            getattr(config, row.eps),
            head_dim**-0.5,
            self._keep(cos),
            self._keep(sin),
            self._keep(_table(module.get_submodule(row.positions)) if row.positions else None),
            self._keep(final.get_parameter("weight")),
            self._keep(final._parameters.get("bias")),
            self._layer(module.get_submodule(row.embedding)),
            self._layer(module.get_submodule(row.head)),
            described,
        )

    def _keep(self, tensor: Tensor | None) -> int | None:
        """Address of a float32 copy, or of the tensor itself, that lives as long as this object."""
        if tensor is None:
            return None
        held = tensor.detach().float().contiguous()
        self._kept.append(held)
        return held.data_ptr()

    def _layer(self, module: nn.Module) -> _library.Layer:
        bias = self._keep(module._parameters.get("bias"))
        if isinstance(module, Packed):
            self._kept.append(module.matrix)
            return _library.Layer(module.matrix.pointer, None, 0, *module.matrix.shape, bias)
        weight = module.get_parameter("weight").detach()
        weight = weight.T if type(module).__name__ == "Conv1D" else weight
        if weight.dtype not in PLAIN:
            weight = weight.float()
        weight = weight.contiguous()
        self._kept.append(weight)
        return _library.Layer(None, weight.data_ptr(), PLAIN[weight.dtype], weight.shape[0], weight.shape[1], bias)

    @property
    def description(self):
        """What the library takes."""
        return self._decoder


class Session:
    """The keys and values of one text, in float16."""

    def __init__(self, decoder: NativeDecoder, capacity: int) -> None:
        self._library, self._decoder, self.capacity = _library.library(), decoder, capacity
        self.handle = self._library.nw_session_new(decoder.description, capacity)
        if not self.handle:
            raise MemoryError(f"no room for the keys and values of {capacity} tokens")
        weakref.finalize(self, self._library.nw_session_free, self.handle)

    def __len__(self) -> int:
        return self._library.nw_session_length(self.handle)

    @property
    def nbytes(self) -> int:
        return self._library.nw_session_bytes(self.handle)

    def cut(self, length: int) -> None:
        """Forget what comes after the first ``length`` tokens. Raises: SettingsError: there are not so many."""
        if self._library.nw_session_cut(self.handle, length) != 0:
            raise SettingsError(f"cannot cut a text of {len(self)} tokens to {length}")


def _table(embedding: nn.Module) -> Tensor:
    """All rows of an embedding, packed or not."""
    return embedding.matrix.decode() if isinstance(embedding, Packed) else embedding.get_parameter("weight")


def _exact(model: Model) -> bool:
    return any(part.exact for part in model.module.modules() if isinstance(part, PackedLinear))


def _head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _rotary(module: nn.Module, longest: int) -> tuple[Tensor, Tensor]:
    """(T, head_dim / 2) cosines and sines as the model's own module gives them."""
    rotary = next(part for name, part in module.named_modules() if name.endswith("rotary_emb"))
    cos, sin = rotary(torch.zeros(1), torch.arange(longest).unsqueeze(0))
    half = cos.shape[-1] // 2
    return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
