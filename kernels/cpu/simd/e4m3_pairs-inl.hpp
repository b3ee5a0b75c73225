// Products of FP8 weights, E4M3 codes without scales, as bf16 numbers, which hold them exactly.
//
// Activations are taken as the sum of two bf16 parts, which loses at most 2^-17 of them. Every sum
// runs over the columns in the same order, so results do not depend on how many tokens share a call.
// Pairs as in bf16_pairs-inl.hpp, with
//   e4m3_words(codes, first, second)  4 * kLanes codes as words of neighbours: those of the first
//                                     half and of the second
// Included after the instruction set's vector.hpp.
#pragma once

#include "bf16_pairs-inl.hpp"
#include "dot-inl.hpp"
#include "streams-inl.hpp"

namespace nemo {
namespace {

constexpr std::int64_t kE4m3Step = 4 * kLanes;  // columns
constexpr std::int64_t kE4m3Tokens = 4;         // that share expanded codes

/// A row of n numbers in steps: words of the high parts, then of the low ones.
template <class Pairs>
NEMO_SIMD void pack_parts(const float* x, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; i += kE4m3Step, out += kE4m3Step) {
    for (std::int64_t half = 0; half < 2; ++half) {
      const std::int64_t c = i + 2 * kLanes * half;
      const F whole[2] = {load_upto(x + c, n - c), load_upto(x + c + kLanes, n - c - kLanes)};
      F high[2];
      for (int k = 0; k < 2; ++k) {
        high[k] = as_floats(
            and_bits(add_words(as_words(whole[k]), all_words(0x8000)), all_words(-0x10000)));
      }
      float* to = out + kLanes * half;
      Pairs::store_row(high[0], high[1], to);
      Pairs::store_row(whole[0] - high[0], whole[1] - high[1], to + 2 * kLanes);
    }
  }
}

/// out[t] = rows . token t over `cols` columns.
template <class Pairs, int kTokens>
void e4m3_dots(const std::byte* const (&rows)[kStreams], std::int64_t cols, const float* x,
               std::int64_t ldx, Four* out) noexcept {
  F acc[kTokens][kStreams];
  for (auto& row : acc) {
    for (F& v : row) v = F(0.0f);
  }
  const auto step = [&](const std::byte* const (&codes)[kStreams], std::int64_t c)
                        NEMO_SIMD_LAMBDA {
                          for (int i = 0; i < kStreams; ++i) {
                            I first, second;
                            Pairs::e4m3_words(codes[i], first, second);
                            for (int t = 0; t < kTokens; ++t) {
                              const float* parts = x + t * ldx + c;
                              F sum = acc[t][i];
                              for (int part = 0; part < 2; ++part, parts += 2 * kLanes) {
                                sum = Pairs::add(sum, first, load_bytes(parts));
                                sum = Pairs::add(sum, second, load_bytes(parts + kLanes));
                              }
                              acc[t][i] = sum;
                            }
                          }
                        };
  std::int64_t c = 0;
  for (; c + kE4m3Step <= cols; c += kE4m3Step) {
    const std::byte* const codes[kStreams] = {rows[0] + c, rows[1] + c, rows[2] + c, rows[3] + c};
    step(codes, c);
  }
  if (c < cols) {
    std::byte last[kStreams][kE4m3Step] = {};
    for (int i = 0; i < kStreams; ++i) {
      __builtin_memcpy(last[i], rows[i] + c, static_cast<std::size_t>(cols - c));
    }
    const std::byte* const codes[kStreams] = {last[0], last[1], last[2], last[3]};
    step(codes, c);
  }
  for (int t = 0; t < kTokens; ++t) out[t] = sums(acc[t][0], acc[t][1], acc[t][2], acc[t][3]);
}

/// e4m3_dots for 1 .. kE4m3Tokens tokens.
template <class Pairs, int kTokens = kE4m3Tokens>
NEMO_SIMD void e4m3_dots_any(std::int64_t tokens, const std::byte* const (&rows)[kStreams],
                             std::int64_t cols, const float* x, std::int64_t ldx, Four* out) {
  if (tokens == kTokens) {
    e4m3_dots<Pairs, kTokens>(rows, cols, x, ldx, out);
  } else if constexpr (kTokens > 1) {
    e4m3_dots_any<Pairs, kTokens - 1>(tokens, rows, cols, x, ldx, out);
  }
}

template <class Pairs>
void e4m3_matmul(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
                 std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
                 std::byte* scratch) noexcept {
  const std::int64_t ldx = (w.cols + kE4m3Step - 1) / kE4m3Step * kE4m3Step;
  const std::int64_t most = std::int64_t{kMatmulScratchBytes} / (4 * ldx);
  if (w.planes.type != ScaleType::none || most < kE4m3Tokens) {
    Pairs::vectors()
        .format(DType::e4m3)
        .matmul(w, row0, rows, acts, act_stride, tokens, y, ldy, scratch);
    return;
  }
  auto* packed = reinterpret_cast<float*>(scratch);  // [tokens, ldx]
  for (std::int64_t t = 0; t < tokens; t += most) {
    const std::int64_t count = tokens - t < most ? tokens - t : most;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto* x = reinterpret_cast<const float*>(acts + (t + i) * act_stride);
      pack_parts<Pairs>(x, w.cols, packed + i * ldx);
    }
    for_streams(rows, [&](const std::int64_t(&at)[kStreams]) NEMO_SIMD_LAMBDA {
      const std::byte* four[kStreams];
      for (std::int64_t i = 0; i < kStreams; ++i) four[i] = w.data + (row0 + at[i]) * w.row_bytes;
      for (std::int64_t i = 0; i < count; i += kE4m3Tokens) {
        const std::int64_t some = count - i < kE4m3Tokens ? count - i : kE4m3Tokens;
        Four sums[kE4m3Tokens];
        e4m3_dots_any<Pairs>(some, four, w.cols, packed + i * ldx, ldx, sums);
        for (std::int64_t j = 0; j < some; ++j) {
          float* to = y + (t + i + j) * ldy;
          for (std::int64_t k = 0; k < kStreams; ++k) to[at[k]] = sums[j][k];
        }
      }
    });
  }
}

}  // namespace
}  // namespace nemo
