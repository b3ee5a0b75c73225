// The table of compute kernels: one instance per instruction set, chosen once at start-up.
//
// Every function has the same meaning on every instruction set; `reference` (plain scalar float) is
// the definition and the others are tested against it. Functions never allocate, never do I/O,
// handle every tail themselves and need no alignment unless said. Matrices are row-major; `ld*` is
// the distance between rows in elements.
#pragma once

#include <nemo/base/half.hpp>
#include <nemo/tensor/dtype.hpp>
#include <nemo/tensor/formats_planar.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace nemo {

/// How activations are handed to a weight format's product.
enum class ActFormat : std::uint8_t {
  f32,          // rows of float
  q8,           // rows of Q8Row: int8 codes with one scale per 32 elements
  q8_winograd,  // the same with smaller codes and other sums (Q8Row)
};

/// One activation row quantized to int8, as separate arrays:
///   codes[cols] | scales[cols/32] | sums[cols/16],  cols a multiple of 32.
/// x[i] ~ scales[i/32] * codes[i];  sums[j] = codes[16j] + ... + codes[16j+15].
/// A scale is 0, infinite or level * 2^e with one of kLevels levels, 1, 1.25, 1.5 and 1.75, so that
/// products have fewer factors to multiply with (kernels/cpu/simd/q8_tiles-inl.hpp). The mean
/// square of the rounding errors is 1.2 times what scales of any value would give.
///
/// ActFormat::q8_winograd (kernels/cpu/simd/q8_winograd-inl.hpp): codes up to kMostWinogradCode,
///   sums[2b] + sums[2b+1] = the sum of block b's codes c,
///   sums[2b+1] = sum over i = 8..11 and 24..27 of c[i] * c[i+4] - 8 * c[i] + 120 * c[i+4].
struct Q8Row {
  static constexpr int kMostCode = 127;
  static constexpr int kMostWinogradCode = 120;
  static constexpr int kLevels = 4;
  static constexpr int kLevelAt = 21;  // the level's index is in bits 21 and 22 of a scale
  static constexpr std::int32_t kPowerBits = 0x7f800000;
  static constexpr float kLargestScale = 0x1p104f;

  std::int8_t* codes;
  float* scales;
  std::int32_t* sums;

  /// The smallest scale with which codes up to `most` reach `absmax`; 0 if that would be subnormal,
  /// having no finite inverse, and infinity beyond kLargestScale.
  [[gnu::always_inline]] static float scale_for(float absmax, int most = kMostCode) noexcept {
    constexpr std::uint32_t kBelow = (1u << kLevelAt) - 1;
    const auto bits = std::bit_cast<std::uint32_t>(absmax / static_cast<float>(most));
    const auto scale = std::bit_cast<float>((bits + kBelow) & ~kBelow);
    return scale < 0x1p-126f       ? 0.0f
           : scale > kLargestScale ? std::bit_cast<float>(kPowerBits)
                                   : scale;
  }
  /// scale = level(level_of(scale)) * power_of(scale)
  [[gnu::always_inline]] static std::int32_t level_of(float scale) noexcept {
    return static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(scale) >> kLevelAt) &
           (kLevels - 1);
  }
  [[gnu::always_inline]] static float power_of(float scale) noexcept {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scale) & kPowerBits);
  }
  [[gnu::always_inline]] static float level(std::int32_t index) noexcept {
    return 1.0f + 0.25f * static_cast<float>(index);
  }

  /// Codes are padded so that scales start on a 64-byte boundary relative to the row.
  static constexpr std::int64_t codes_bytes(std::int64_t cols) { return (cols + 63) / 64 * 64; }
  static constexpr std::int64_t bytes(std::int64_t cols) {
    return codes_bytes(cols) + ((cols / 32 * 4 + 63) / 64 + (cols / 16 * 4 + 63) / 64) * 64;
  }
  static Q8Row at(void* row, std::int64_t cols) {
    auto* base = static_cast<std::byte*>(row);
    const std::int64_t scales_at = codes_bytes(cols);
    const std::int64_t sums_at = scales_at + (cols / 32 * 4 + 63) / 64 * 64;
    return {reinterpret_cast<std::int8_t*>(base), reinterpret_cast<float*>(base + scales_at),
            reinterpret_cast<std::int32_t*>(base + sums_at)};
  }
};

/// Kernel order, in which a kernel table wants the rows of a matrix: groups of `lanes` rows are
/// interleaved. Groups of wide rows are put together to slabs, whose columns are stored in strips,
/// a strip of all groups after the other: a product reads one stream, and comes back to the
/// activations of a strip before the weights have driven them out of L1. The last slab and the last
/// strip may be smaller.
struct KernelOrder {
  static constexpr std::int64_t kSlabGroups = 8;
  static constexpr std::int64_t kStripCols = 1024;
  /// Up to here a group's weights of 4 bits and the activations fit into 32 KiB together.
  static constexpr std::int64_t kMostWholeCols = 2816;

  /// Columns of a strip: all of them, or kStripCols.
  [[gnu::always_inline]] static constexpr std::int64_t strip_cols(std::int64_t cols) {
    return cols <= kMostWholeCols ? cols : kStripCols;
  }
  /// Rows of a slab, whose bytes lie together; 1 for rows in file order.
  [[gnu::always_inline]] static constexpr std::int64_t slab_rows(std::int64_t lanes,
                                                                 std::int64_t cols) {
    return lanes == 0 ? 1 : cols <= kMostWholeCols ? lanes : kSlabGroups * lanes;
  }
};

/// Rows of a stored matrix: as they lie in the file, or in kernel order, where they take the same
/// bytes (FormatKernels::to_kernel_order).
struct WeightRows {
  const std::byte* data;  // [rows, row_bytes]
  std::int64_t row_bytes;
  std::int64_t cols;  // a multiple of the format's block_elements, unless the format is planar
  // Planar formats only.
  const std::byte* scales = nullptr;  // [rows, planes.stride]
  const std::byte* biases = nullptr;  // [rows, planes.stride] or null
  Planes planes = {};
  std::int64_t lanes = 0;  // rows of a group in kernel order; 0: file order
  std::int64_t rows = 0;   // of the matrix; kernel order only

  [[gnu::always_inline]] MatrixBytes row(std::int64_t r) const noexcept {
    return {data + r * row_bytes, scales == nullptr ? nullptr : scales + r * planes.stride,
            biases == nullptr ? nullptr : biases + r * planes.stride};
  }
};

/// Where rows of a matrix are written; of block formats codes alone.
struct RowsOut {
  std::byte* codes;
  std::byte* scales = nullptr;
  std::byte* biases = nullptr;
};

/// Scratch that a matmul call may use; one per thread, 64-byte aligned.
inline constexpr std::size_t kMatmulScratchBytes = std::size_t{5} << 20;

/// y[t*ldy + r] = sum_c W[row0+r, c] * x[t, c]  for r in [0, rows), t in [0, tokens).
/// `acts` points at row 0 of the activations (as ActFormat says), `act_stride` in bytes, rows
/// 64-byte aligned. A result depends only on its own weight row and activation row, not on how rows
/// were split over calls, nor on their order. In kernel order row0 and rows are multiples of lanes.
using Matmul = void (*)(const WeightRows& w, std::int64_t row0, std::int64_t rows,
                        const std::byte* acts, std::int64_t act_stride, std::int64_t tokens,
                        float* y, std::int64_t ldy, std::byte* scratch) noexcept;

/// The arithmetic of one storage format.
struct FormatKernels {
  ActFormat act;
  Matmul matmul;  // with activations as `act` says
  /// Expands all columns of row r to float; the same bits on every instruction set.
  void (*decode_row)(const WeightRows& w, std::int64_t r, float* out) noexcept;
  /// Rows that kernel order interleaves; 0 where a table has no such order for the format. Tables
  /// with equal lanes have the same order. Planar rows have it if lanes_of() says so.
  std::int64_t lanes = 0;
  /// Writes rows [row0, row0 + rows) of `from` in file order to `to` in kernel order, losslessly:
  /// rows * row_bytes bytes, rows * planes.stride of scales and of biases. row0 starts a slab, and
  /// rows are whole slabs or all that is left, whole groups. Null where lanes is 0.
  void (*to_kernel_order)(const WeightRows& from, std::int64_t row0, std::int64_t rows,
                          const RowsOut& to) noexcept = nullptr;
  /// Planar formats: the product with Q8Row activations, for whole tiles of 32 columns, at most
  /// kMostQ8Cols of them, and groups of 2^k >= q8_group columns. Levels of a codebook are rounded
  /// to 8 bits. Null: there is none.
  Matmul matmul_q8 = nullptr;
  ActFormat act_q8 = ActFormat::q8;  // which of the kinds of Q8Row it takes
  std::int64_t q8_group = 0;
  static constexpr std::int64_t kMostQ8Cols = 1 << 20;  // one row laid out fits in the scratch

  /// The product for these rows, and the activations it takes.
  struct Product {
    ActFormat act;
    Matmul matmul;
  };
  [[nodiscard]] Product product(const WeightRows& w) const noexcept {
    const auto group = static_cast<std::uint64_t>(w.planes.group);
    const bool tiles = matmul_q8 != nullptr && w.cols % 32 == 0 && w.cols <= kMostQ8Cols &&
                       (w.planes.type == ScaleType::none ||
                        (std::has_single_bit(group) && w.planes.group >= q8_group));
    return tiles ? Product{act_q8, matmul_q8} : Product{act, matmul};
  }
  /// `lanes` if these rows have a kernel order, else 0: of planar formats those that matmul_q8
  /// takes, with groups that fit into a strip.
  [[nodiscard]] std::int64_t lanes_of(const WeightRows& w) const noexcept {
    const bool fits = w.planes.type == ScaleType::none || w.planes.group <= KernelOrder::kStripCols;
    return product(w).act != ActFormat::f32 && fits ? lanes : 0;
  }
};

struct KvKernels;

struct Kernels {
  std::string_view name;
  /// The same table but with operands of float products rounded to bf16 (8 significant bits, no
  /// worse than int8 with a scale), for when many tokens are evaluated at once. Null: there is
  /// none.
  const Kernels* prefill = nullptr;

  /// Indexed by DType; matmul is null for types that are not matrix weights (i8.., f64).
  const FormatKernels* formats;
  [[nodiscard]] const FormatKernels& format(DType type) const noexcept {
    return formats[static_cast<int>(type)];
  }

  /// Quantizes one row of n floats (n a multiple of 32) into the Q8Row at `out`:
  /// codes rounded to nearest with Q8Row::scale_for the absmax of 32; an all-zero block has scale
  /// 0, one with an infinity an infinite scale. error[i] = x[i] - scales[i/32] * codes[i], exactly
  /// rounded, unless it is null.
  void (*quantize_q8)(const float* x, std::int64_t n, void* out, float* error) noexcept;
  /// The same for ActFormat::q8_winograd. Null: no format of this table takes that.
  void (*quantize_q8_winograd)(const float* x, std::int64_t n, void* out) noexcept = nullptr;
  void (*half_from_float)(const float* x, std::int64_t n, Half* out) noexcept;
  void (*float_from_half)(const Half* x, std::int64_t n, float* out) noexcept;
  /// y = H (signs * x) / sqrt(block), each block of x by itself: the rotation of TurboQuant-MLX's
  /// inputs. H of order block = m 2^k: the Sylvester matrix along the 2^k columns of the block seen
  /// as [m, 2^k], then H_m of hadamard.hpp down the m rows. x and y may be the same.
  void (*rotate)(const float* x, const float* signs, std::int64_t n, std::int64_t block,
                 float* y) noexcept;

  // --- float matrix products; accumulate = false overwrites C ---------------------------------
  /// C[m,n] (+)= A[m,k] * B[n,k]^T
  void (*gemm_nt)(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
                  const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                  bool accumulate) noexcept;
  /// C[m,n] (+)= A[m,k] * B[k,n]
  void (*gemm_nn)(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
                  const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                  bool accumulate) noexcept;
  /// C[m,n] (+)= A[k,m]^T * B[k,n]
  void (*gemm_tn)(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
                  const float* b, std::int64_t ldb, float* c, std::int64_t ldc,
                  bool accumulate) noexcept;

  // --- elementwise ---------------------------------------------------------------------------
  /// y_i += x_i
  void (*add)(const float* x, std::int64_t n, float* y) noexcept;
  /// y_i += s * x_i
  void (*axpy)(float s, const float* x, std::int64_t n, float* y) noexcept;
  /// y_i *= s
  void (*scale)(float s, std::int64_t n, float* y) noexcept;
  /// x_i <- max(x_i, 0)^2
  void (*relu2)(float* x, std::int64_t n) noexcept;
  /// y_i = w_i * x_i / sqrt(mean(x^2) + eps); x and y may be the same.
  void (*rms_norm)(const float* x, const float* w, std::int64_t n, float eps, float* y) noexcept;
  /// g = y * silu(z); per group of `width` channels: out = g / sqrt(mean(g^2) + eps) * w.
  /// out may be y.
  void (*gated_group_norm)(const float* y, const float* z, const float* w, std::int64_t groups,
                           std::int64_t width, float eps, float* out) noexcept;
  /// y_i = exp(x_i - shift) for i in [0, n), returns their sum; x and y may be the same.
  float (*exp_sum)(const float* x, std::int64_t n, float shift, float* y) noexcept;
  float (*max)(const float* x, std::int64_t n) noexcept;  // -inf for n = 0

  // --- Mamba-2 -------------------------------------------------------------------------------
  /// Causal depthwise convolution and SiLU on channels [c0, c1) of `tokens` rows:
  ///   out[t,c] = silu(bias[c] + sum_j w[c*taps + j] * u[t - (taps-1) + j, c])
  /// where u of negative time is history[c*(taps-1) + ..] (oldest first). Afterwards history holds
  /// the last taps-1 inputs. `u` rows are ldu apart, `out` rows ldo apart; bias may be null.
  void (*conv_silu)(const float* u, std::int64_t ldu, std::int64_t tokens, std::int64_t c0,
                    std::int64_t c1, const float* w, const float* bias, std::int64_t taps,
                    float* history, float* out, std::int64_t ldo) noexcept;
  /// One head, one token of the state-space recurrence:
  ///   S[p,n] = decay * S[p,n] + dt * x[p] * B[n];  y[p] = sum_n S[p,n] * C[n] + d * x[p]
  void (*ssm_step)(float* state, const float* x, const float* b, const float* c, float dt,
                   float decay, float d, std::int64_t head_dim, std::int64_t state_size,
                   float* y) noexcept;

  // --- attention over a half-precision cache -------------------------------------------------
  /// scores[r*lds + t] = sum_c q[r*ldq + c] * k[t*ldk + c]
  void (*scores_half)(const float* q, std::int64_t ldq, std::int64_t rows, const Half* k,
                      std::int64_t ldk, std::int64_t tokens, std::int64_t dim, float* scores,
                      std::int64_t lds) noexcept;
  /// out[r*ldo + c] += sum_t p[r*ldp + t] * v[t*ldv + c]
  void (*mix_half)(const float* p, std::int64_t ldp, std::int64_t rows, const Half* v,
                   std::int64_t ldv, std::int64_t tokens, std::int64_t dim, float* out,
                   std::int64_t ldo) noexcept;

  const KvKernels* kv;  // of quantized caches: kv_kernels.hpp

  // --- yardsticks: the most this table's multiply units do, without memory traffic -------------
  /// Runs `rounds` rounds and returns the operations (a multiplication and an addition are two).
  /// `sink` gives a start value and takes a result, so that nothing can be left out.
  std::int64_t (*peak_f32)(std::int64_t rounds, float* sink) noexcept;
  /// Of bf16 numbers, added in float; null: no product here does that.
  std::int64_t (*peak_bf16)(std::int64_t rounds, float* sink) noexcept = nullptr;
  std::int64_t (*peak_dot4)(std::int64_t rounds, std::int32_t* sink) noexcept;  // codes 0..15
  std::int64_t (*peak_dot8)(std::int64_t rounds, std::int32_t* sink) noexcept;  // signed bytes
};

/// The best table this CPU can run (or the one named by `force`); throws Error{usage} listing the
/// available names when `force` is unknown or needs instructions this CPU lacks.
[[nodiscard]] const Kernels& select_kernels(std::string_view force = "");
/// Tables this CPU can run, slowest (reference) first.
[[nodiscard]] std::span<const Kernels* const> available_kernels() noexcept;

/// A table of this build, and whether this CPU can run it.
struct KernelChoice {
  const Kernels* table;
  std::string_view missing;  // the first CPU feature that is absent; empty: it runs
};
/// All tables of this build, slowest first.
[[nodiscard]] std::span<const KernelChoice> kernel_choices() noexcept;

/// The instruction sets of this CPU that matter for these kernels, used by a table or not.
[[nodiscard]] std::span<const std::string_view> cpu_features() noexcept;

/// Whether products ask for the lines of a single stream of weights ahead of use. Hardware sees
/// such a stream by itself, but Intel's does not read on behind a page: Q4_0 gets 86 % of plain
/// reading without and 97 % with it (Cascade Lake). AMD's does, and is disturbed: 97 and 69 %
/// (Q8_0, Zen 4).
[[nodiscard]] bool fetches_streams() noexcept;

/// Whether vector units that do not multiply add integers: AMD's do, two of four; Intel's add 64
/// bytes in the units with which they multiply them. Where they do, `zen4` is the faster of the
/// tables with AVX-512 BF16.
[[nodiscard]] bool adds_beside_products() noexcept;

}  // namespace nemo
