"""OpenVINO's product with 4-bit weights in groups and activations in int8 groups: ``python kernels_openvino.py g64 …``."""

from __future__ import annotations

import numpy as np
import openvino
from _serve import parse_task, serve
from openvino import opset15 as ops


def main() -> None:
    task = parse_task()
    group = int(task.variant.removeprefix("g"))
    outputs, inputs = task.outputs, task.inputs
    random = np.random.default_rng(1)
    grid = (outputs, inputs // group, group)
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": task.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
    }

    def compiled() -> openvino.CompiledModel:
        x = ops.parameter([task.rows, inputs], np.float32)
        packed = openvino.Tensor(random.integers(0, 256, outputs * inputs // 2, dtype=np.uint8), grid, openvino.Type.u4)
        codes = ops.convert(ops.constant(packed), np.float16)
        zeros = openvino.Tensor(
            random.integers(0, 256, outputs * grid[1] // 2, dtype=np.uint8), (*grid[:2], 1), openvino.Type.u4
        )
        shifted = ops.subtract(codes, ops.convert(ops.constant(zeros), np.float16))
        scaled = ops.multiply(shifted, ops.constant((random.random((*grid[:2], 1)) * 0.01).astype(np.float16)))
        weight = ops.convert(ops.reshape(scaled, ops.constant(np.array([outputs, inputs])), False), np.float32)
        y = ops.matmul(x, weight, False, True)
        return core.compile_model(openvino.Model([y], [x], "product"), "CPU", options)

    nbytes = outputs * inputs // 2 + outputs * grid[1] * 5 // 2
    requests = [compiled().create_infer_request() for _ in range(task.copies(nbytes))]
    x = openvino.Tensor(np.random.default_rng(0).standard_normal((task.rows, inputs), dtype=np.float32))
    for request in requests:
        request.set_input_tensor(x)
    version = openvino.__version__.split("-")[0]
    serve(task, f"OpenVINO {version} int4 {task.variant}", nbytes, lambda i: requests[i].infer())


if __name__ == "__main__":
    main()
