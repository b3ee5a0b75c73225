// Integer products of 4-bit codes with fewer multiplications, for CPUs that add beside multiplying.
//
// S. Winograd, "A New Algorithm for Inner Product" (IEEE Transactions on Computers C-17, 1968):
// with weight codes w and activation codes x
//   x0 w0 + x1 w1 = (x0 + w1 + 120) (x1 + w0 - 8)
//                   - (x0 x1 - 8 x0 + 120 x1)      made with the activations (Q8Row)
//                   - (w1 + 120) (w0 - 8)          made while weights are unpacked
// One multiplication for two; codes w of 0 .. 15 and |x| <= 120 keep the factors within a byte, one
// unsigned, one signed. Zen 4 has two units that multiply and four that add: half of a tile's quads
// go this way, so that of its 13 instructions for a token (10 without) all units get as many.
// Sums are exact, so results have the bits of the products of q8_panel-inl.hpp.
// Included after the instruction set's vector.hpp.
#pragma once

#include "planar_q8-inl.hpp"
#include "quantize-inl.hpp"

namespace nemo {
namespace {

// With fewer tokens the additions of unpacking weigh more than what products save.
constexpr std::int64_t kWinogradTokens = 12;
constexpr int kMostCode = 15;  // of weights
constexpr int kFirstBias = -8;
constexpr int kSecondBias = 128 + kFirstBias;
static_assert(Q8Row::kMostWinogradCode <= kSecondBias &&
              Q8Row::kMostWinogradCode + kMostCode <= 127 - kFirstBias);

/// Whether quads `quad` and quad + 1 of a tile are multiplied together. In turns with those that
/// are not, so that units find both kinds of work.
constexpr bool winograd_quads(int quad) { return quad % 4 == 2; }

/// Unit::add_dot(acc, a, b): word r of acc += word r of a, unsigned bytes, . that of b, signed.
template <class Unit>
struct WinogradDot {
  /// Biased, where two quads are multiplied together.
  NEMO_SIMD static void arrange(I (&quads)[8]) {
    unroll<4>([&](auto pair) NEMO_SIMD_LAMBDA {
      constexpr int q = 2 * decltype(pair)::k;
      if constexpr (winograd_quads(q)) {
        quads[q] = add_bytes(quads[q], all_bytes(kFirstBias));
        quads[q + 1] = add_bytes(quads[q + 1], all_bytes(kSecondBias));
      }
    });
  }
  /// The rows' part of what sums start from; quads as arranged.
  NEMO_SIMD static I starts(const I (&quads)[8]) {
    I sums = all_words(0);
    unroll<4>([&](auto pair) NEMO_SIMD_LAMBDA {
      constexpr int q = 2 * decltype(pair)::k;
      if constexpr (winograd_quads(q)) sums = Unit::add_dot(sums, quads[q + 1], quads[q]);
    });
    return subtract_words(all_words(0), sums);
  }
  /// As Dot::panel for a whole tile.
  template <int kRows, int kTokens, int kQuads>
  NEMO_SIMD static void panel(const std::byte* codes, std::int64_t step, const std::byte* acts,
                              std::int64_t stride, I (&acc)[kRows][kTokens]) {
    static_assert(kQuads == 8);
    unroll<4>([&](auto pair) NEMO_SIMD_LAMBDA {
      constexpr int q = 2 * decltype(pair)::k;
      I first[kRows];
      I second[kRows];
      for (int i = 0; i < kRows; ++i) {
        first[i] = load_bytes(codes + i * step + kLaneBytes * q);
        second[i] = load_bytes(codes + i * step + kLaneBytes * (q + 1));
      }
      unroll<kTokens>([&](auto token) NEMO_SIMD_LAMBDA {
        constexpr int t = decltype(token)::k;
        const std::byte* x = acts + t * stride + 4 * q;
        // In registers, since several rows want them.
        const I x0 = in_register(broadcast_word(x));
        const I x1 = in_register(broadcast_word(x + 4));
        for (int i = 0; i < kRows; ++i) {
          add<q>(first[i], second[i], x0, x1, acc[i][t]);
        }
      });
    });
  }
  /// The same for one row vector with the codes in registers.
  template <int kTokens, int kQuads>
  NEMO_SIMD static void quads(const I* codes, const std::byte* acts, std::int64_t stride,
                              I (&acc)[kTokens]) {
    static_assert(kQuads == 8);
    unroll<4>([&](auto pair) NEMO_SIMD_LAMBDA {
      constexpr int q = 2 * decltype(pair)::k;
      for (int t = 0; t < kTokens; ++t) {
        const std::byte* x = acts + t * stride + 4 * q;
        add<q>(codes[q], codes[q + 1], broadcast_word(x), broadcast_word(x + 4), acc[t]);
      }
    });
  }

 private:
  /// Adds the products of quads kQuad and kQuad + 1.
  template <int kQuad>
  NEMO_SIMD static void add(I first, I second, I x0, I x1, I& acc) {
    if constexpr (winograd_quads(kQuad)) {
      acc = Unit::add_dot(acc, add_bytes(x0, second), add_bytes(x1, first));
    } else {
      acc = Unit::add_dot(Unit::add_dot(acc, first, x0), second, x1);
    }
  }
};

template <class Unit>
struct WinogradLayouts {
  template <class Block>
  using Of = TileLayout<WinogradDot<Unit>, 32, Unpack<Block>::kHasMin>;
};

/// Formats whose codes fit: 4 bits, one scale for 32 columns.
template <class Block>
constexpr bool kFitsWinograd = Unpack<Block>::kGroup == 32 && Unpack<Block>::kMaxCode <= kMostCode;

template <Matmul few, Matmul many>
void by_tokens(const WeightRows& w, std::int64_t row0, std::int64_t rows, const std::byte* acts,
               std::int64_t act_stride, std::int64_t tokens, float* y, std::int64_t ldy,
               std::byte* scratch) noexcept {
  (tokens < kWinogradTokens ? few : many)(w, row0, rows, acts, act_stride, tokens, y, ldy, scratch);
}

/// sums[2b + 1] = the activations' part of what block b's products are too large by, and
/// sums[2b] = the rest of the sum of its codes, which both are before.
template <class Unit>
NEMO_SIMD void sums_for_winograd(const std::int8_t* codes, std::int64_t blocks,
                                 std::int32_t* sums) {
  constexpr std::int64_t kBlocks = kLaneBytes / 32;  // of a vector
  alignas(64)
      std::int32_t chosen[kLanes];  // all ones where quads are multiplied with the next ones
  for (int q = 0; q < kLanes; ++q) chosen[q] = q % 2 == 0 && winograd_quads(q % 8) ? -1 : 0;
  const I mask = load_bytes(chosen);
  const I eight = and_bits(mask, all_bytes(-kFirstBias));
  for (std::int64_t b = 0; b < blocks; b += kBlocks) {
    // Behind the last block lie its padding and the scales.
    const I x0 = load_bytes(codes + 32 * b);
    const I x1 = load_bytes(codes + 32 * b + 4);
    const I x0_positive = and_bits(mask, xor_bits(x0, all_bytes(0x80)));  // x0 + 128
    const I zero = all_words(0);
    alignas(64) std::int32_t pairs[kLanes];
    store_bytes(subtract_words(Unit::add_dot(zero, x0_positive, x1),
                               Unit::add_dot(Unit::add_dot(zero, eight, x0), eight, x1)),
                pairs);
    for (std::int64_t i = 0; i < kBlocks && b + i < blocks; ++i) {
      std::int32_t* both = sums + 2 * (b + i);
      const std::int32_t pair = pairs[8 * i + 2] + pairs[8 * i + 6];
      both[0] += both[1] - pair;
      both[1] = pair;
    }
  }
}

template <class Unit>
void quantize_q8_winograd(const float* x, std::int64_t n, void* out) noexcept {
  quantize_q8<Q8Row::kMostWinogradCode>(x, n, out, nullptr);
  const Q8Row row = Q8Row::at(out, n);
  sums_for_winograd<Unit>(row.codes, n / 32, row.sums);
}

template <class Unit, class Blocks, class Codes>
constexpr WinogradProducts winograd_products(Blocks blocks, Codes codes, const KvKernels* kv) {
  using Layouts = WinogradLayouts<Unit>;
  return {product_table(
              blocks, codes,
              []<class Block>(Block*) -> Matmul {
                if constexpr (kFitsWinograd<Block>) {
                  return by_tokens<q8_matmul<Block>, q8_matmul<Block, Layouts>>;
                }
                return nullptr;
              },
              []<class C>(C*) -> Matmul {
                if constexpr (kFitsWinograd<typename Tiles<C>::Block>) {
                  return by_tokens<planar_q8_matmul<C>, planar_q8_matmul<C, Layouts>>;
                }
                return nullptr;
              },
              ActFormat::q8_winograd),
          quantize_q8_winograd<Unit>, kv};
}

}  // namespace
}  // namespace nemo
