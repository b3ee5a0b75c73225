// The element types of stored tensors: names, block sizes, GGUF type numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace nemo {

/// Storage type of a tensor. Values are our own; `DTypeInfo::ggml_id` has the file's number.
// clang-format off
enum class DType : std::uint8_t {
  f32, f16, bf16,
  q4_0, q4_1, q5_0, q5_1, q8_0,
  q2_k, q3_k, q4_k, q5_k, q6_k,
  iq1_s, iq1_m, iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s, iq4_nl, iq4_xs,
  tq1_0, tq2_0, q1_0, q2_0, mxfp4, nvfp4,
  i8, i16, i32, i64, f64,
  // codes only, whose scales lie in tensors of their own: formats_planar.hpp
  affine2, affine3, affine4, affine5, affine6, affine8, e2m1, e4m3,
  turbo1, turbo2, turbo3, turbo4, turbo_t,
  count
};
// clang-format on
inline constexpr int kDTypeCount = static_cast<int>(DType::count);
inline constexpr std::uint32_t kNotGgml = 0xffffffffu;

/// Whether a matrix of this type needs scales from other tensors.
[[nodiscard]] constexpr bool is_planar(DType type) noexcept { return type >= DType::affine2; }

/// What a reader needs to size and name a tensor of this type.
struct DTypeInfo {
  DType type;
  std::string_view name;  // as in file names: "Q4_K"
  std::uint32_t ggml_id;  // type number in GGUF; kNotGgml: GGUF has no such type
  std::int32_t block_elements;
  std::int32_t block_bytes;
};

[[nodiscard]] const DTypeInfo& info(DType type) noexcept;
/// Nothing when the number is unknown or retired.
[[nodiscard]] std::optional<DType> dtype_from_ggml(std::uint32_t ggml_id) noexcept;
/// Case-insensitive; nothing when unknown.
[[nodiscard]] std::optional<DType> dtype_from_name(std::string_view name) noexcept;
[[nodiscard]] std::span<const DTypeInfo> all_dtypes() noexcept;

/// Bytes of one row of `cols` elements. Block formats need whole blocks; planar rows may end in a
/// padded word.
[[nodiscard]] inline std::int64_t row_bytes(DType type, std::int64_t cols) noexcept {
  const DTypeInfo& i = info(type);
  return (cols + i.block_elements - 1) / i.block_elements * i.block_bytes;
}

}  // namespace nemo
