// Gathers the float kernels of one instruction set into its table; included
// after its vector.hpp.
#pragma once

#include "attention-inl.hpp"
#include "mamba-inl.hpp"
#include "peak-inl.hpp"
#include "quantize-inl.hpp"
#include "rotate-inl.hpp"

namespace nemo {
namespace {

constexpr Kernels make_kernels(std::string_view name, const FormatKernels* formats,
                               const KvKernels* kv) {
  return {
      .name = name,
      .formats = formats,
      .quantize_q8 = quantize_q8<Q8Row::kMostCode>,
      .half_from_float = half_from_float,
      .float_from_half = float_from_half,
      .rotate = rotate,
      .gemm_nt = gemm_nt,
      .gemm_nn = gemm_nn,
      .gemm_tn = gemm_tn,
      .add = add,
      .axpy = axpy,
      .scale = scale,
      .relu2 = relu2,
      .rms_norm = rms_norm,
      .gated_group_norm = gated_group_norm,
      .exp_sum = exp_sum,
      .max = max,
      .conv_silu = conv_silu,
      .ssm_step = ssm_step,
      .scores_half = scores_half,
      .mix_half = mix_half,
      .kv = kv,
      .peak_f32 = peak_f32,
      .peak_dot4 = peak_dot<15>,
      .peak_dot8 = peak_dot<128>,
  };
}

}  // namespace
}  // namespace nemo
