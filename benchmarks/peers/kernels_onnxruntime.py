"""ONNX Runtime's MatMulNBits (4 bits, blocks of 64, int8 activations: accuracy level 4): ``python kernels_onnxruntime.py g64 …``."""

from __future__ import annotations

import numpy as np
import onnxruntime
from _serve import parse_task, serve
from onnx import TensorProto, helper, numpy_helper


def model(outputs: int, inputs: int, group: int) -> bytes:
    random = np.random.default_rng(1)
    groups = inputs // group
    constants = {
        "codes": random.integers(0, 256, (outputs, groups, group // 2), dtype=np.uint8),
        "scales": random.random(outputs * groups, dtype=np.float32) * np.float32(0.01),
        "zeros": random.integers(0, 256, outputs * groups // 2, dtype=np.uint8),
    }
    attributes = {"K": inputs, "N": outputs, "bits": 4, "block_size": group, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", ["x", *constants], ["y"], domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10).SerializeToString()


def main() -> None:
    task = parse_task()
    group = int(task.variant.removeprefix("g"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
    nbytes = task.outputs * task.inputs // 2 + task.outputs * (task.inputs // group) * 9 // 2
    made = model(task.outputs, task.inputs, group)
    copies = task.copies(nbytes)
    sessions = [onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"]) for _ in range(copies)]
    x = np.random.default_rng(0).standard_normal((task.rows, task.inputs), dtype=np.float32)
    name = f"ONNX Runtime {onnxruntime.__version__} MatMulNBits int4 {task.variant}"
    serve(task, name, nbytes, lambda i: sessions[i].run(None, {"x": x}))


if __name__ == "__main__":
    main()
