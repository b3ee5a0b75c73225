// Products of FP8 weights, E4M3 codes, as bf16 numbers, which hold them exactly. Scales multiply
// sums over the columns that have one in common.
//
// Activations are taken as the sum of two bf16 parts, which loses at most 2^-17 of them. Every sum
// runs over the columns in the same order, so results do not depend on how many tokens share a
// call. Pairs as in bf16_pairs-inl.hpp, with
//   e4m3_words(codes, first, second)  4 * kLanes codes as words of neighbours: those of the first
//                                     half and of the second
// Included after the instruction set's vector.hpp.
#pragma once

#include "bf16_pairs-inl.hpp"
#include "dot-inl.hpp"
#include "streams-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kE4m3Half = 2 * kLanes;  // columns, which have at most one scale
constexpr std::int64_t kE4m3Step = 2 * kE4m3Half;
constexpr std::int64_t kE4m3Tokens = 4;  // that share expanded codes

/// A row of n numbers in steps of two halves: words of the high parts, then of the low ones.
template <class Pairs>
NEMO_SIMD void pack_parts(const float* x, std::int64_t n, float* out) {
  for (std::int64_t c = 0; c < n || c % kE4m3Step != 0; c += kE4m3Half, out += kLanes) {
    const F whole[2] = {load_upto(x + c, n - c), load_upto(x + c + kLanes, n - c - kLanes)};
    F high[2];
    for (int k = 0; k < 2; ++k) {
      high[k] = as_floats(
          and_bits(add_words(as_words(whole[k]), all_words(0x8000)), all_words(-0x10000)));
    }
    Pairs::store_row(high[0], high[1], out);
    Pairs::store_row(whole[0] - high[0], whole[1] - high[1], out + 2 * kLanes);
    if (c % kE4m3Step != 0) out += 2 * kLanes;
  }
}

/// Rows of weights side by side.
struct E4m3Rows {
  const std::byte* codes[kStreams];
  const float* scales;  // [kStreams, ld], one for each half; null: there are none
  std::int64_t ld;
};

/// out[t] = rows . token t over `cols` columns.
template <class Pairs, int kTokens, bool kScaled>
void e4m3_dots(const E4m3Rows& rows, std::int64_t cols, const float* x, std::int64_t ldx,
               Four* out) noexcept {
  F acc[kTokens][kStreams];
  for (auto& row : acc) {
    for (F& v : row) v = F(0.0f);
  }
  const auto step = [&](const std::byte* const(&codes)[kStreams], std::int64_t c) NEMO_SIMD_LAMBDA {
    I words[2][kStreams];
    for (int i = 0; i < kStreams; ++i) Pairs::e4m3_words(codes[i], words[0][i], words[1][i]);
    for (int half = 0; half < 2; ++half) {
      for (int t = 0; t < kTokens; ++t) {
        const float* parts = x + t * ldx + c + half * kLanes;
        const I high = load_bytes(parts);
        const I low = load_bytes(parts + 2 * kLanes);
        for (int i = 0; i < kStreams; ++i) {
          F sum = kScaled ? F(0.0f) : acc[t][i];
          sum = Pairs::add(Pairs::add(sum, words[half][i], high), words[half][i], low);
          if constexpr (kScaled) {
            const F scale(rows.scales[i * rows.ld + c / kE4m3Half + half]);
            sum = fma(sum, scale, acc[t][i]);
          }
          acc[t][i] = sum;
        }
      }
    }
  };
  std::int64_t c = 0;
  for (; c + kE4m3Step <= cols; c += kE4m3Step) {
    const std::byte* codes[kStreams];
    for (int i = 0; i < kStreams; ++i) codes[i] = rows.codes[i] + c;
    step(codes, c);
  }
  if (c < cols) {
    std::byte last[kStreams][kE4m3Step] = {};
    const std::byte* codes[kStreams];
    for (int i = 0; i < kStreams; ++i) {
      __builtin_memcpy(last[i], rows.codes[i] + c, static_cast<std::size_t>(cols - c));
      codes[i] = last[i];
    }
    step(codes, c);
  }
  for (int t = 0; t < kTokens; ++t) out[t] = sums(acc[t][0], acc[t][1], acc[t][2], acc[t][3]);
}

/// e4m3_dots for 1 .. kE4m3Tokens tokens.
template <class Pairs, int kTokens = kE4m3Tokens>
NEMO_SIMD void e4m3_dots_any(std::int64_t tokens, const E4m3Rows& rows, std::int64_t cols,
                             const float* x, std::int64_t ldx, Four* out) {
  if (tokens == kTokens) {
    rows.scales != nullptr ? e4m3_dots<Pairs, kTokens, true>(rows, cols, x, ldx, out)
                           : e4m3_dots<Pairs, kTokens, false>(rows, cols, x, ldx, out);
  } else if constexpr (kTokens > 1) {
    e4m3_dots_any<Pairs, kTokens - 1>(tokens, rows, cols, x, ldx, out);
  }
}

/// A row's scales, each as often as it has halves, and zeros up to `count`, with room for those of
/// another group.
NEMO_SIMD void scales_of_halves(const WeightRows& w, std::int64_t r, std::int64_t count,
                                float* out) {
  const std::int64_t groups = (w.cols + w.planes.group - 1) / w.planes.group;
  load_scales(w.planes.type, w.row(r).scales, 0, groups, out);
  const std::int64_t halves = w.planes.group / kE4m3Half;
  for (std::int64_t g = groups - 1; g >= 0 && halves > 1; --g) {
    const float scale = out[g];
    for (std::int64_t i = 0; i < halves; ++i) out[g * halves + i] = scale;
  }
  for (std::int64_t i = groups * halves; i < count; ++i) out[i] = 0.0f;
}

template <class Pairs>
void e4m3_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
                 std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
                 std::byte* scratch) noexcept {
  const bool scaled = w.planes.type != ScaleType::none;
  const std::int64_t ldx = (w.cols + kE4m3Step - 1) / kE4m3Step * kE4m3Step;
  const std::int64_t lds = scaled ? (ldx + w.planes.group) / kE4m3Half : 0;
  const std::int64_t most = (std::int64_t{kMatmulScratchBytes} / 4 - kStreams * lds) / ldx;
  if (most < kE4m3Tokens || w.biases != nullptr || (scaled && w.planes.group % kE4m3Half != 0)) {
    Pairs::vectors()
        .format(DType::e4m3)
        .matmul(w, row0, rows, acts, act_stride, tokens, y, ldy, scratch);
    return;
  }
  auto* scales = reinterpret_cast<float*>(scratch);  // [kStreams, lds]
  float* packed = scales + kStreams * lds;           // [tokens, ldx]
  for (std::int64_t t = 0; t < tokens; t += most) {
    const std::int64_t count = tokens - t < most ? tokens - t : most;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto* x = reinterpret_cast<const float*>(acts + (t + i) * act_stride);
      pack_parts<Pairs>(x, w.cols, packed + i * ldx);
    }
    for_streams(rows, [&](const std::int64_t(&at)[kStreams]) NEMO_SIMD_LAMBDA {
      E4m3Rows some{{}, scaled ? scales : nullptr, lds};
      for (std::int64_t i = 0; i < kStreams; ++i) {
        some.codes[i] = w.row(row0 + at[i]).codes;
        if (scaled) scales_of_halves(w, row0 + at[i], lds, scales + i * lds);
      }
      for (std::int64_t i = 0; i < count; i += kE4m3Tokens) {
        const std::int64_t together = count - i < kE4m3Tokens ? count - i : kE4m3Tokens;
        Four sums[kE4m3Tokens];
        e4m3_dots_any<Pairs>(together, some, w.cols, packed + i * ldx, ldx, sums);
        for (std::int64_t j = 0; j < together; ++j) {
          float* to = y + (t + i + j) * ldy;
          for (std::int64_t k = 0; k < kStreams; ++k) to[at[k]] = sums[j][k];
        }
      }
    });
  }
}

}  // namespace
}  // namespace nemo
