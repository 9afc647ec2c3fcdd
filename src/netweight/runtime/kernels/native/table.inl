// The table of one instruction set. NW_NAME is its name, NW_GEMM and NW_SCRATCH the GEMM it uses, NW_ROUNDING how it rounds.
inline const Ops *table() {
  static const Ops all = {NW_NAME,  gemv_any, NW_GEMM,  NW_SCRATCH, nullptr,   nullptr,  exact_tile, quantize_row,
                          read_all, multiply, rms_norm, layer_norm, gate_rows, add_rows, attend,     store_half, float_rows,
                          NW_ROUNDING};
  return &all;
}
