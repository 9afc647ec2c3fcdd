"""llama.cpp's matrix product (ggml's CPU backend): ``python kernels_ggml.py q4_0 --outputs …``, in the environment of llama-cpp-python.

The weights lie in the buffer that llama.cpp itself would choose: the first of the CPU's extra kinds (AMX, repacked) that takes the
product, else the plain one.
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np
from _serve import parse_task, serve

TYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 8, "q2_K": 10, "q3_K": 11, "q4_K": 12, "mxfp4": 39, "nvfp4": 40}
F32 = 0


class Params(ctypes.Structure):
    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


def libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise SystemExit("llama-cpp-python is not installed here")
    folder = Path(spec.origin).parent / "lib"
    base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    return base, ctypes.CDLL(str(folder / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)


def declare(library: ctypes.CDLL, name: str, result: object, *arguments: object) -> None:
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)


def main() -> None:
    task = parse_task()
    base, cpu = libraries()
    p = c_void_p
    for name, result, arguments in (
        ("ggml_init", p, (Params,)),
        ("ggml_new_tensor_2d", p, (p, c_int, c_int64, c_int64)),
        ("ggml_mul_mat", p, (p, p, p)),
        ("ggml_new_graph", p, (p,)),
        ("ggml_build_forward_expand", None, (p, p)),
        ("ggml_nbytes", c_size_t, (p,)),
        ("ggml_quantize_chunk", c_size_t, (c_int, p, p, c_int64, c_int64, c_int64, p)),
        ("ggml_backend_buft_alloc_buffer", p, (p, c_size_t)),
        ("ggml_backend_buft_get_alloc_size", c_size_t, (p, p)),
        ("ggml_backend_buft_name", c_char_p, (p,)),
        ("ggml_backend_buffer_get_base", p, (p,)),
        ("ggml_backend_tensor_alloc", c_int, (p, p, p)),
        ("ggml_backend_tensor_set", None, (p, p, c_size_t, c_size_t)),
        ("ggml_backend_get_device", p, (p,)),
        ("ggml_backend_get_default_buffer_type", p, (p,)),
        ("ggml_backend_dev_supports_op", c_bool, (p, p)),
        ("ggml_backend_reg_get_proc_address", p, (p, c_char_p)),
        ("ggml_backend_graph_compute", c_int, (p, p)),
    ):
        declare(base, name, result, *arguments)
    declare(cpu, "ggml_backend_cpu_init", p)
    declare(cpu, "ggml_backend_cpu_reg", p)
    declare(cpu, "ggml_backend_cpu_set_n_threads", None, p, c_int)

    backend = cpu.ggml_backend_cpu_init()
    cpu.ggml_backend_cpu_set_n_threads(backend, task.threads)
    device = base.ggml_backend_get_device(backend)
    plain = base.ggml_backend_get_default_buffer_type(backend)
    address = base.ggml_backend_reg_get_proc_address(cpu.ggml_backend_cpu_reg(), b"ggml_backend_dev_get_extra_bufts")
    kinds: list[int] = []
    if address:
        found = CFUNCTYPE(POINTER(c_void_p), p)(address)(device)
        for kind in iter(found):
            if not kind:
                break
            kinds.append(kind)

    kind_of_weight, outputs, inputs = TYPES[task.variant], task.outputs, task.inputs
    context = base.ggml_init(Params(1 << 26, None, True))
    x = base.ggml_new_tensor_2d(context, F32, inputs, task.rows)

    def placed(tensor: int, kind: int) -> None:
        buffer = base.ggml_backend_buft_alloc_buffer(kind, base.ggml_backend_buft_get_alloc_size(kind, tensor))
        if base.ggml_backend_tensor_alloc(buffer, tensor, base.ggml_backend_buffer_get_base(buffer)):
            raise SystemExit("ggml refused the buffer")

    placed(x, plain)
    values = np.random.default_rng(0).standard_normal((task.rows, inputs), dtype=np.float32)
    base.ggml_backend_tensor_set(x, values.ctypes.data, 0, values.nbytes)

    probe = base.ggml_new_tensor_2d(context, kind_of_weight, inputs, outputs)
    nbytes = base.ggml_nbytes(probe)
    weight = np.random.default_rng(1).standard_normal((outputs, inputs), dtype=np.float32) * np.float32(0.05)
    quantized = np.empty(nbytes, np.uint8)
    base.ggml_quantize_chunk(kind_of_weight, weight.ctypes.data, quantized.ctypes.data, 0, outputs, inputs, None)

    chosen = plain
    for kind in kinds:
        trial = base.ggml_new_tensor_2d(context, kind_of_weight, inputs, outputs)
        placed(trial, kind)
        if base.ggml_backend_dev_supports_op(device, base.ggml_mul_mat(context, trial, x)):
            chosen = kind
            break
    graphs = []
    for _ in range(task.copies(nbytes)):
        copy = base.ggml_new_tensor_2d(context, kind_of_weight, inputs, outputs)
        placed(copy, chosen)
        base.ggml_backend_tensor_set(copy, quantized.ctypes.data, 0, nbytes)
        product = base.ggml_mul_mat(context, copy, x)
        placed(product, plain)
        graph = base.ggml_new_graph(context)
        base.ggml_build_forward_expand(graph, product)
        graphs.append((graph, product))
    result = np.empty((task.rows, outputs), np.float32)
    declare(base, "ggml_backend_tensor_get", None, p, p, c_size_t, c_size_t)
    base.ggml_backend_graph_compute(backend, graphs[0][0])
    base.ggml_backend_tensor_get(graphs[0][1], result.ctypes.data, 0, result.nbytes)
    want = values @ weight.T
    error = float(np.linalg.norm(result - want) / np.linalg.norm(want))
    if not error < 0.6:  # 2-bit blocks lose about a third of a normal variable
        raise SystemExit(f"ggml's product is not the product: relative error {error:.2f}")
    where = base.ggml_backend_buft_name(chosen).decode()
    serve(
        task,
        f"llama.cpp {task.variant} ({where})",
        nbytes,
        lambda i: base.ggml_backend_graph_compute(backend, graphs[i][0]),
    )


if __name__ == "__main__":
    main()
