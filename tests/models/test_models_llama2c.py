"""llama2.c checkpoints against a forward pass written from the format, and real TinyStories."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
import torch

from netweight import models
from netweight.errors import ModelError
from netweight.models import _llama2c

SIZES = (16, 24, 2, 4, 2, 32, 8)  # hidden, intermediate, layers, heads, kv heads, vocabulary, length


def write_checkpoint(path, sizes=SIZES, *, tied=True, seed=0):
    """Random tensors in file order, by the name the format's documentation gives them."""
    d, f, n, heads, kv, v, length = sizes
    head = d // heads
    shapes = {
        "tok_emb": (v, d), "att_norm": (n, d), "wq": (n, d, d), "wk": (n, kv * head, d), "wv": (n, kv * head, d),
        "wo": (n, d, d), "ffn_norm": (n, d), "w1": (n, f, d), "w2": (n, d, f), "w3": (n, f, d), "final_norm": (d,),
        "rope": (2, length, head // 2),
    }  # fmt: skip
    if not tied:
        shapes["cls"] = (v, d)
    generator = np.random.default_rng(seed)
    tensors = {k: generator.normal(size=s, scale=0.3).astype(np.float32) for k, s in shapes.items()}
    header = struct.pack("<7i", d, f, n, heads, kv, v if tied else -v, length)
    path.write_bytes(header + b"".join(t.tobytes() for t in tensors.values()))
    return tensors


def reference(tensors, ids, sizes=SIZES):
    """float64 logits of the format as llama2.c computes them: rotary embedding on adjacent pairs."""
    d, _, n, heads, kv, *_ = sizes
    head = d // heads
    w = {k: t.astype(np.float64) for k, t in tensors.items()}

    def norm(x, g):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * g

    def rotate(x):  # (T, heads, head)
        angle = np.arange(len(x))[:, None] / 10000.0 ** (np.arange(0, head, 2) / head)
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        out = np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = x[..., 0::2] * c - x[..., 1::2] * s, x[..., 0::2] * s + x[..., 1::2] * c
        return out

    x, steps = w["tok_emb"][ids], len(ids)
    for i in range(n):
        h = norm(x, w["att_norm"][i])
        q = rotate((h @ w["wq"][i].T).reshape(steps, heads, head))
        k = np.repeat(rotate((h @ w["wk"][i].T).reshape(steps, kv, head)), heads // kv, axis=1)
        values = np.repeat((h @ w["wv"][i].T).reshape(steps, kv, head), heads // kv, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(head)
        scores[:, np.triu(np.ones((steps, steps), bool), 1)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", weights, values).reshape(steps, d) @ w["wo"][i].T
        h = norm(x, w["ffn_norm"][i])
        gate = h @ w["w1"][i].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["w3"][i].T)) @ w["w2"][i].T
    return norm(x, w["final_norm"]) @ w.get("cls", w["tok_emb"]).T


@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_computes_what_the_format_defines(tmp_path, tied):
    path = tmp_path / "tiny.bin"
    tensors = write_checkpoint(path, tied=tied)
    model = models.load(path)
    models.materialize(model)
    ids = np.array([1, 7, 30, 4, 4, 11])
    with torch.no_grad():
        got = model.module(torch.from_numpy(ids)[None]).logits[0].double().numpy()
    np.testing.assert_allclose(
        got, reference(tensors, ids), rtol=0, atol=1e-4
    )  # float32 against float64, logits of order 1
    assert bool(model.tied) == tied


def test_a_truncated_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "tiny.bin"
    write_checkpoint(path)
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    with pytest.raises(ModelError, match=f"holds {len(data) - 4} bytes where its llama2.c header asks for {len(data)}"):
        models.load(path)
    path.write_bytes(b"24ka" + data[4:])
    with pytest.raises(ModelError, match="not a llama2.c checkpoint of version 0"):
        models.load(path)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="its header reads"):
        models.load(path)


def test_a_missing_or_cut_tokenizer_is_said(tmp_path):
    path = tmp_path / "tiny.bin"
    write_checkpoint(path)
    with pytest.raises(ModelError, match="has no tokenizer"):
        models.load(path).tokenizer()
    (tmp_path / "tokenizer.bin").write_bytes(struct.pack("<i", 3) + struct.pack("<fi", 0.0, 1) + b"a")
    with pytest.raises(ModelError, match="truncated: 1 of 32 pieces"):
        models.load(path).tokenizer()


def llama2c_encode(pieces, text):
    """The format's own encoding: merge the pair whose union scores best, leftmost first, until none is a piece."""
    ids = {piece: i for i, (piece, _) in reversed(list(enumerate(pieces)))}
    tokens = [1] + ([ids[" "]] if text else [])
    for character in text:
        tokens += [ids[character]] if character in ids else [b + 3 for b in character.encode()]
    while True:
        unions = [pieces[a][0] + pieces[b][0] for a, b in itertools.pairwise(tokens)]
        best = max(
            (i for i, u in enumerate(unions) if u in ids), key=lambda i: (pieces[ids[unions[i]]][1], -i), default=None
        )
        if best is None:
            return tokens
        tokens[best : best + 2] = [ids[unions[best]]]


def test_stories260k_tells_its_published_story(stories):
    model = models.load(stories)
    models.materialize(model)
    tokenizer = model.tokenizer()
    ids = torch.tensor([tokenizer("Once upon a time")["input_ids"]])
    out = model.module.generate(ids, max_new_tokens=40, do_sample=False)
    story = (
        "there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."
    )
    assert story in tokenizer.decode(out[0])


def test_stories260k_is_tokenized_as_the_format_defines(stories):
    tokenizer = models.load(stories).tokenizer()
    pieces = _llama2c._pieces(stories / "tokenizer.bin", 512)
    text = (stories / "tinystories_sample.txt").read_text(encoding="utf-8")
    for part in (text[:700], text[-300:], "", "naïve – 東京\t!"):
        assert tokenizer(part)["input_ids"] == llama2c_encode(pieces, part)
    assert tokenizer.decode(tokenizer("A café!\nYes.")["input_ids"], skip_special_tokens=True) == "A café!\nYes."


def test_stories260k_has_its_published_perplexity(stories):
    """1.266 nats per token over the six stories, each after a start token: 3.55."""
    model = models.load(stories)
    models.materialize(model)
    tokenizer, total, count = model.tokenizer(), 0.0, 0
    for story in (stories / "tinystories_sample.txt").read_text(encoding="utf-8").split("<|endoftext|>"):
        if not story.strip():
            continue
        ids = torch.tensor([tokenizer(story.strip())["input_ids"]])
        with torch.no_grad():
            logits = model.module(ids).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    assert count == 1804
    assert total / count == pytest.approx(1.266, abs=5e-4)  # the published figure has three decimals
