"""Operators that torch knows by name, so that graphs can be traced and compiled through them.

``netweight::linear`` and ``netweight::conv2d`` take the tensors of a ``PackedMatrix`` and its spec as numbers. Inputs of any
float type are computed in float32 and given back in their own type. They are for inference: no gradient is defined.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from netweight.errors import KernelError, ModelError
from netweight.formats import activations
from netweight.runtime.kernels import _library
from netweight.runtime.kernels._matrix import Spec, c_matrix, gpu


@torch.library.custom_op("netweight::linear", mutates_args=())
def linear(
    x: Tensor,
    data: Tensor,
    row_scale: Tensor,
    row_zero: Tensor | None,
    bias: Tensor | None,
    spec: list[int],
    exact: bool,
) -> Tensor:
    """x (..., I) times the transpose of an (O, I) matrix, plus bias: (..., O).

    Args:
      exact: float32 activations; otherwise 8 bits with a scale per 64 columns. A GPU always takes x as it is. Where the spec has
        levels, x is first rounded to whole numbers with a scale per row, and 8 bits then hold it without a further error.
    Raises:
      KernelError: shapes do not match, or tensors are on several devices, or on one without kernels.
      NotFiniteError: x holds NaN or infinity; on a GPU they go into the result instead.
    """
    about = Spec(*spec)
    if x.device.type == "cuda":
        x = activations(f"int{(about.levels + 1).bit_length()}-token").round(x) if about.levels else x
        return gpu().linear(x, data, row_scale, row_zero, bias, about)
    if x.shape[-1] != about.inputs:
        raise KernelError(f"x has {x.shape[-1]} columns, the matrix {about.outputs} x {about.inputs}")
    rows_MI, bias = _plain(x).reshape(-1, about.inputs), None if bias is None else _plain(bias)
    y_MO = torch.empty(len(rows_MI), about.outputs)
    status = _library.library().nw_linear(
        c_matrix(about, data, row_scale, row_zero),
        rows_MI.data_ptr(),
        len(rows_MI),
        about.inputs,
        None if bias is None else bias.data_ptr(),
        y_MO.data_ptr(),
        about.outputs,
        int(exact),
    )
    _library.checked(status, f"a product of {tuple(x.shape)} with a {about.outputs} x {about.inputs} matrix")
    return y_MO.reshape(*x.shape[:-1], about.outputs).to(x.dtype)


@linear.register_fake
def _(x, data, row_scale, row_zero, bias, spec, exact):
    return x.new_empty(*x.shape[:-1], spec[4])


@torch.library.custom_op("netweight::conv2d", mutates_args=())
def conv2d(
    x: Tensor,
    data: Tensor,
    row_scale: Tensor,
    row_zero: Tensor | None,
    bias: Tensor | None,
    spec: list[int],
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    exact: bool,
) -> Tensor:
    """2-D convolution of x (B, C, H, W) with zeros around it, one group of channels: (B, O, H', W').

    The matrix is the weight as (O, kernel height * kernel width * C), channels innermost.
    Raises:
      KernelError: shapes do not match, or tensors are on several devices, or on one without kernels.
      NotFiniteError: x holds NaN or infinity; on a GPU they go into the result instead.
    """
    about = Spec(*spec)
    if x.device.type == "cuda":
        sizes = _out(x, kernel, stride, padding, dilation)
        patches_BLI = patches(x, kernel, stride, padding, dilation)
        y_BOL = gpu().linear(patches_BLI, data, row_scale, row_zero, bias, about).mT
        return y_BOL.reshape(len(x), about.outputs, *sizes)
    x_BCHW, bias = _plain(x), None if bias is None else _plain(bias)
    batch, channels, height, width = x_BCHW.shape
    if channels * kernel[0] * kernel[1] != about.inputs:
        raise KernelError(f"{channels} channels and a {kernel[0]} x {kernel[1]} kernel are not {about.inputs} columns")
    y = torch.empty(batch, about.outputs, *_out(x, kernel, stride, padding, dilation))
    shape = _library.Conv(
        batch, channels, height, width, *kernel, *stride, *padding, *dilation, x_BCHW.stride(0), y.stride(0)
    )
    status = _library.library().nw_conv2d(
        c_matrix(about, data, row_scale, row_zero),
        ctypes.pointer(shape),
        x_BCHW.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        int(exact),
    )
    _library.checked(status, f"a convolution of {tuple(x.shape)} with a {about.outputs} x {about.inputs} matrix")
    return y.to(x.dtype)


@conv2d.register_fake
def _(x, data, row_scale, row_zero, bias, spec, kernel, stride, padding, dilation, exact):
    return x.new_empty(x.shape[0], spec[4], *_out(x, kernel, stride, padding, dilation))


def _out(x: Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> list[int]:
    sizes = [(x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    if not all(size > 0 for size in sizes):
        raise ModelError(f"an input of {tuple(x.shape)} is smaller than the kernel {tuple(kernel)}")
    return sizes


def patches(x: Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> Tensor:
    """(B, places, columns of the matrix): what the kernel covers at each place."""
    sizes = (tuple(part) for part in (kernel, dilation, padding, stride))
    found_BLI = torch.nn.functional.unfold(x, *sizes).mT  # in the order (channel, tap); the matrix' is (tap, channel)
    return found_BLI.unflatten(-1, (x.shape[1], -1)).mT.flatten(-2)


def _plain(x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        raise KernelError(f"no kernels for {x.device}: they run on the CPU and on CUDA GPUs")
    return x.float().contiguous()
