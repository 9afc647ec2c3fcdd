"""netweight's language model steps: ``python steps_netweight.py ARTIFACT THREADS``."""

from __future__ import annotations

import sys
import time

import torch
from _serve import serve_steps

from netweight import runtime
from netweight.runtime import kernels


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    kernels.set_threads(threads)
    begun = time.perf_counter()
    loaded = runtime.load(path)
    load_s = time.perf_counter() - begun
    decoder = runtime.NativeDecoder(loaded.model, longest=1024)
    session = decoder.session()
    token = 0

    def prefill(ids: list[int]) -> None:
        nonlocal token
        session.cut(0)
        token = decoder.choose(decoder.forward((session,), (ids,))[0])

    def write(count: int) -> None:
        nonlocal token
        for _ in range(count):
            token = decoder.next(session, token)

    serve_steps({"path": loaded.summary(), "load_s": load_s}, prefill, write)


if __name__ == "__main__":
    main()
