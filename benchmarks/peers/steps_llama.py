"""llama.cpp's language model steps: ``python steps_llama.py MODEL.gguf THREADS``, in the environment of llama-cpp-python.

Its C interface is called directly: the convenience class does more in Python for each token than the model costs.
"""

from __future__ import annotations

import sys
import time

import llama_cpp
import numpy as np
from _serve import serve_steps

LONGEST = 1024


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    begun = time.perf_counter()
    model = llama_cpp.Llama(
        path, n_ctx=LONGEST, n_threads=threads, n_threads_batch=threads, n_batch=512, n_ubatch=512, verbose=False
    )
    load_s = time.perf_counter() - begun
    context, vocabulary = model.ctx, model.n_vocab()
    memory = llama_cpp.llama_get_memory(context)
    batch = llama_cpp.llama_batch_init(LONGEST, 0, 1)
    token, position = 0, 0

    def step(ids: list[int]) -> int:
        nonlocal position
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position + i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, i + 1 == len(ids)
        batch.n_tokens = len(ids)
        position += len(ids)
        if llama_cpp.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (vocabulary,))
        return int(logits.argmax())

    def prefill(ids: list[int]) -> None:
        nonlocal token, position
        position = 0
        llama_cpp.llama_memory_clear(memory, True)
        token = step(ids)

    def write(count: int) -> None:
        nonlocal token
        for _ in range(count):
            token = step([token])

    serve_steps({"path": f"llama-cpp-python {llama_cpp.__version__}", "load_s": load_s}, prefill, write)


if __name__ == "__main__":
    main()
