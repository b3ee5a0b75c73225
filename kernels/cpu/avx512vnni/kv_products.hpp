// Integer products on packed KV tiles with VNNI, included by kv.cpp behind vector.hpp.
//
// Scores: 16 tokens are the lanes; four channels of a token are the bytes of its lane, so one
// instruction multiplies a quad of one query with 16 keys and nothing is ever summed across lanes.
//   score[r, t] = sum_g qs[r, g] * ks[g, t] * (sum_c u8[c, t] * q8[r, c] - 128 * sum_c q8[r, c])
// Mixing: 16 channels are the lanes and four tokens their bytes. Weights w = p * scale become
// 16-bit integers against the largest of 128 tokens, as two bytes, so that a long tail of small
// weights beside a large one is not rounded away:
//   out[r, c] += max/65535 * (256 * sum_t high[r, t] * s8[t, c] + sum_t low[r, t] * s8[t, c])
// Levels are bytes, rounded to 1/127 of the largest: that adds 1 % to the error of 4-bit codes.
#pragma once

#include <nemo/kv_kernels.hpp>
#include <nemo/tensor/lloyd_max.hpp>

#include <type_traits>

namespace nemo {
namespace {

constexpr int kBatchTiles = 8;  // 128 tokens: sums of 16-bit weights times bytes stay in int32
constexpr int kBatchTokens = kBatchTiles * 16;

template <int kBits>
struct ByteLevels {
  alignas(64) std::int8_t values[1 << kBits];
  float scale;  // level = scale * byte
};
template <int kBits>
constexpr ByteLevels<kBits> make_byte_levels() {
  ByteLevels<kBits> table{};
  const auto levels = lloyd_max_levels<kBits>();
  const float largest = levels[levels.size() - 1];
  for (std::size_t k = 0; k < levels.size(); ++k) {
    const float x = levels[k] / largest * 127.0f;
    table.values[k] = static_cast<std::int8_t>(x < 0 ? x - 0.5f : x + 0.5f);
  }
  table.scale = largest / 127.0f;
  return table;
}
template <int kBits>
constexpr ByteLevels<kBits> kByteLevels = make_byte_levels<kBits>();

/// Reads rows of 64 codes of one tile, as the bytes that enter products.
template <int kBits, bool kAffine>
class CodeRows {
 public:
  static constexpr float kScale = [] {
    if constexpr (kBits == 8 || kAffine) return 1.0f;
    if constexpr (kBits < 8 && !kAffine) return kByteLevels<kBits>.scale;
  }();

  /// flip: xor of the signed bytes, 0x80 makes them unsigned with a bias of 128.
  NEMO_SIMD explicit CodeRows(int flip) : flip_(all_bytes(flip)) {
    if constexpr (kBits < 8 && !kAffine) {
      constexpr int kChunks = kBits > 4 ? 1 << (kBits - 4) : 1;
      constexpr int kEntries = kBits > 4 ? 16 : 1 << kBits;
      for (int n = 0; n < kChunks; ++n) {
        alignas(16) std::int8_t chunk[16] = {};
        __builtin_memcpy(chunk, kByteLevels<kBits>.values + 16 * n, kEntries);
        tables_[n] = xor_bits(broadcast_16_bytes(chunk), flip_);
      }
    }
  }

  /// Rows j..j+3 of a tile of `rows` rows; j is a multiple of 4.
  NEMO_SIMD void load(const std::byte* tile, std::int64_t rows, std::int64_t j, I (&out)[4]) const {
    if constexpr (kBits == 8) {
      for (int k = 0; k < 4; ++k) {
        const I code = load_bytes(tile + (j + k) * 64);
        out[k] = kAffine ? code : xor_bits(code, flip_);
      }
      return;
    }
    for (I& code : out) code = _mm512_setzero_si512();
    if constexpr ((kBits & 4) != 0) {
      const I low = all_bytes(15);
      const I a = load_bytes(tile + j * 32), b = load_bytes(tile + j * 32 + 64);
      out[0] = and_bits(a, low);
      out[1] = and_bits(shift_right<4>(a), low);
      out[2] = and_bits(b, low);
      out[3] = and_bits(shift_right<4>(b), low);
      tile += rows * 32;
    }
    if constexpr ((kBits & 2) != 0) {
      const I mask = all_bytes((kBits & 4) != 0 ? 0x30 : 3);
      const I a = load_bytes(tile + j * 16);
      if constexpr ((kBits & 4) != 0) {
        out[0] = or_bits(out[0], and_bits(shift_left<4>(a), mask));
        out[1] = or_bits(out[1], and_bits(shift_left<2>(a), mask));
        out[2] = or_bits(out[2], and_bits(a, mask));
        out[3] = or_bits(out[3], and_bits(shift_right<2>(a), mask));
      } else {
        out[0] = and_bits(a, mask);
        out[1] = and_bits(shift_right<2>(a), mask);
        out[2] = and_bits(shift_right<4>(a), mask);
        out[3] = and_bits(shift_right<6>(a), mask);
      }
      tile += rows * 16;
    }
    if constexpr ((kBits & 1) != 0) {
      for (int k = 0; k < 4; ++k) {
        std::uint64_t bits;
        __builtin_memcpy(&bits, tile + (j + k) * 8, 8);
        out[k] = or_bits(out[k], _mm512_maskz_set1_epi8(bits, 1 << (kBits - 1)));
      }
    }
    if constexpr (!kAffine) {
      for (I& code : out) code = level_of(code);
    }
  }

 private:
  NEMO_SIMD I level_of(I code) const {
    I level = look_up(tables_[0], code);
    if constexpr (kBits > 4) {
      const I chunk = and_bits(code, all_bytes(0x70));
      for (int n = 1; n < 1 << (kBits - 4); ++n) {
        const __mmask64 here = _mm512_cmpeq_epi8_mask(chunk, all_bytes(n << 4));
        level = _mm512_mask_shuffle_epi8(level, here, tables_[n], code);
      }
    }
    return level;
  }

  I flip_;
  I tables_[kBits < 8 && kBits > 4 ? 1 << (kBits - 4) : 1] = {};
};

void pack_queries(const KvSide& keys, const float* q, std::int64_t rows,
                  std::byte* packed) noexcept {
  const KvPackedQueries to = KvPackedQueries::at(packed, keys, rows);
  const std::int64_t groups = keys.groups();
  for (std::int64_t i = 0; i < rows * groups; ++i) {  // groups of a row lie side by side
    const float* x = q + i * keys.group;
    F largest(0.0f);
    for (std::int64_t c = 0; c < keys.group; c += 16) {
      largest = greater(absolute(load(x + c)), largest);
    }
    const float top = nemo::largest(largest);
    const F inverse(top > 0.0f ? 127.0f / top : 0.0f);
    std::int32_t sum = 0;
    for (std::int64_t c = 0; c < keys.group; c += 16) {
      const F code = round_even(load(x + c) * inverse);
      store_codes(code, to.codes + i * keys.group + c);
      sum += sum_rounded(code);
    }
    to.scales[i] = top / 127.0f;
    to.sums[i] = sum;
  }
}

/// kRows queries against the 16 keys of one tile.
template <int kBits, bool kAffine, int kRows>
NEMO_SIMD void score_tile(const CodeRows<kBits, kAffine>& codes, const KvSide& keys,
                          const std::byte* tile, const Half* scales, const KvPackedQueries& q,
                          std::int64_t row, float* out, std::int64_t ldo) {
  const std::int64_t groups = keys.groups();
  for (std::int64_t g = 0; g < groups; ++g) {
    I acc[kRows];
    for (int r = 0; r < kRows; ++r) {
      acc[r] = all_words(kAffine ? 0 : -128 * q.sums[(row + r) * groups + g]);
    }
    const std::int8_t* query = q.codes + row * keys.dim + g * keys.group;
    for (std::int64_t c = 0; c < keys.group; c += 16) {
      I quads[4];
      codes.load(tile, keys.dim / 4, (g * keys.group + c) / 4, quads);
      for (int k = 0; k < 4; ++k) {
        for (int r = 0; r < kRows; ++r) {
          acc[r] = _mm512_dpbusd_epi32(acc[r], quads[k],
                                       broadcast_word(query + r * keys.dim + c + 4 * k));
        }
      }
    }
    const F key_scale = load(scales + g * 16) * F(CodeRows<kBits, kAffine>::kScale);
    for (int r = 0; r < kRows; ++r) {
      const std::int64_t at = (row + r) * groups + g;
      F s = to_floats(acc[r]) * key_scale;
      if constexpr (kAffine) {
        s = fma(load(scales + (groups + g) * 16), F(static_cast<float>(q.sums[at])), s);
      }
      float* to = out + r * ldo;
      const F before = g == 0 ? F(0.0f) : load(to);
      store(fma(s, F(q.scales[at]), before), to);
    }
  }
}

template <int kBits, bool kAffine>
void score_tiles(const KvSide& keys, const KvTiles& tiles, const KvPackedQueries& q,
                 std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  const CodeRows<kBits, kAffine> codes(0x80);
  for (std::int64_t i = 0; i < tiles.count; ++i) {
    const std::byte* tile = tiles.codes + i * keys.tile_bytes();
    const Half* scales = tiles.scales + i * keys.tile_scales();
    float* to = out + i * 16;
    std::int64_t r = 0;
    for (; r + 16 <= rows; r += 16) {
      score_tile<kBits, kAffine, 16>(codes, keys, tile, scales, q, r, to + r * ldo, ldo);
    }
    for (; r + 4 <= rows; r += 4) {
      score_tile<kBits, kAffine, 4>(codes, keys, tile, scales, q, r, to + r * ldo, ldo);
    }
    for (; r < rows; ++r) {
      score_tile<kBits, kAffine, 1>(codes, keys, tile, scales, q, r, to + r * ldo, ldo);
    }
  }
}

/// 16-bit weights of kRows rows as bytes, [rows, kBatchTokens].
struct MixWeights {
  alignas(64) std::uint8_t high[8 * kBatchTokens];
  alignas(64) std::uint8_t low[8 * kBatchTokens];
  float unit[8];  // of the lowest bit
};

NEMO_SIMD void quantize_weights(const float* p, std::int64_t ldp, const float* scales,
                                std::int64_t rows, std::int64_t tokens, MixWeights& to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    F largest(0.0f);
    for (std::int64_t t = 0; t < tokens; t += 16) {
      largest = greater(load(p + r * ldp + t) * load(scales + t), largest);
    }
    const float top = nemo::largest(largest);
    const F inverse(top > 0.0f ? 65535.0f / top : 0.0f);
    to.unit[r] = top / 65535.0f;
    for (std::int64_t t = 0; t < tokens; t += 16) {
      const F w = load(p + r * ldp + t) * load(scales + t) * inverse;
      const I word = _mm512_cvtps_epi32(lesser(w, F(65535.0f)));
      auto* high = reinterpret_cast<__m128i*>(to.high + r * kBatchTokens + t);
      auto* low = reinterpret_cast<__m128i*>(to.low + r * kBatchTokens + t);
      _mm_store_si128(high, _mm512_cvtepi32_epi8(_mm512_srli_epi32(word, 8)));
      _mm_store_si128(low, _mm512_cvtepi32_epi8(word));
    }
  }
}

/// kRows rows of 16 channels over the tokens of one batch. bytes: [4 * tiles, 64].
template <int kRows>
NEMO_SIMD void mix_channels(const I* bytes, std::int64_t quads, const MixWeights& w, int row,
                            float level_scale, float* out, std::int64_t ldo) {
  I high[kRows], low[kRows];
  for (int r = 0; r < kRows; ++r) high[r] = low[r] = _mm512_setzero_si512();
  const std::uint8_t* wh = w.high + row * kBatchTokens;
  const std::uint8_t* wl = w.low + row * kBatchTokens;
  for (std::int64_t t = 0; t < quads; ++t) {
    const I codes = bytes[t];
    for (int r = 0; r < kRows; ++r) {
      const std::int64_t at = r * kBatchTokens + 4 * t;
      high[r] = _mm512_dpbusd_epi32(high[r], broadcast_word(wh + at), codes);
      low[r] = _mm512_dpbusd_epi32(low[r], broadcast_word(wl + at), codes);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const F sum = to_floats(add_words(shift_words_left<8>(high[r]), low[r]));
    float* to = out + r * ldo;
    store(fma(sum, F(w.unit[row + r] * level_scale), load(to)), to);
  }
}

template <int kBits>
void mix_tiles(const KvSide& values, const KvTiles& tiles, const float* p, std::int64_t ldp,
               std::int64_t rows, float* out, std::int64_t ldo) noexcept {
  const CodeRows<kBits, false> codes(0);
  const std::int64_t groups = values.groups();
  for (std::int64_t first = 0; first < tiles.count; first += kBatchTiles) {
    const std::int64_t rest = tiles.count - first;
    const std::int64_t n = rest < kBatchTiles ? rest : kBatchTiles;
    const std::byte* batch = tiles.codes + first * values.tile_bytes();
    const Half* scales = tiles.scales + first * values.tile_scales();
    for (std::int64_t g = 0; g < groups; ++g) {
      // All bytes of the group's channels, [channel block, token quad].
      I bytes[kKvMaxDim / 16 * kBatchTiles * 4];
      alignas(64) float scale[kBatchTokens];
      const std::int64_t blocks = values.group / 16;
      for (std::int64_t i = 0; i < n; ++i) {
        store(load(scales + i * values.tile_scales() + g * 16), scale + i * 16);
        for (std::int64_t b = 0; b < blocks; ++b) {
          I quads[4];
          codes.load(batch + i * values.tile_bytes(), values.dim / 4, (g * blocks + b) * 4, quads);
          for (int k = 0; k < 4; ++k) bytes[(b * n + i) * 4 + k] = quads[k];
        }
      }
      for (std::int64_t row = 0; row < rows; row += 8) {
        MixWeights w;
        const std::int64_t height = rows - row < 8 ? rows - row : 8;
        quantize_weights(p + row * ldp + first * 16, ldp, scale, height, n * 16, w);
        for (std::int64_t b = 0; b < blocks; ++b) {
          const I* from = bytes + b * n * 4;
          float* to = out + row * ldo + g * values.group + b * 16;
          constexpr float kScale = CodeRows<kBits, false>::kScale;
          if (height == 8) {
            mix_channels<8>(from, n * 4, w, 0, kScale, to, ldo);
            continue;
          }
          for (int r = 0; r < static_cast<int>(height); ++r) {
            mix_channels<1>(from, n * 4, w, r, kScale, to + r * ldo, ldo);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace nemo
