"""bitsandbytes' 4-bit linear layer on the CPU: ``python kernels_bitsandbytes.py nf4 …``."""

from __future__ import annotations

import bitsandbytes
import torch
from _serve import parse_task, serve


def main() -> None:
    task = parse_task()
    torch.set_num_threads(task.threads)
    nbytes = task.outputs * task.inputs // 2 + task.outputs * task.inputs // 64 * 4
    layers = []
    for _ in range(task.copies(nbytes)):
        layer = bitsandbytes.nn.Linear4bit(
            task.inputs,
            task.outputs,
            bias=False,
            compute_dtype=torch.bfloat16,
            quant_type=task.variant,
            compress_statistics=False,
        )
        layers.append(layer.to("cpu").eval())
    x = torch.randn(task.rows, task.inputs, dtype=torch.bfloat16)

    def run(i: int) -> None:
        with torch.inference_mode():
            layers[i](x)

    serve(task, f"bitsandbytes {bitsandbytes.__version__} {task.variant}", nbytes, run)


if __name__ == "__main__":
    main()
