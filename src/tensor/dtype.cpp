// The table behind dtype.hpp; block sizes come from the block structs themselves.
#include <nemo/tensor/dtype.hpp>
#include <nemo/tensor/formats.hpp>

#include <array>

namespace nemo {
namespace {

struct Names {
  DType type;
  std::string_view name;
  std::uint32_t ggml_id;
};

// Numbers of ggml.h's enum ggml_type; its retired ones (4, 5, 31-33, 36-38) and the formats of
// activations only (Q8_1 9, Q8_K 15) are left out.
constexpr Names kNames[] = {
    {DType::f32, "F32", 0},
    {DType::f16, "F16", 1},
    {DType::bf16, "BF16", 30},
    {DType::q4_0, "Q4_0", 2},
    {DType::q4_1, "Q4_1", 3},
    {DType::q5_0, "Q5_0", 6},
    {DType::q5_1, "Q5_1", 7},
    {DType::q8_0, "Q8_0", 8},
    {DType::q2_k, "Q2_K", 10},
    {DType::q3_k, "Q3_K", 11},
    {DType::q4_k, "Q4_K", 12},
    {DType::q5_k, "Q5_K", 13},
    {DType::q6_k, "Q6_K", 14},
    {DType::iq1_s, "IQ1_S", 19},
    {DType::iq1_m, "IQ1_M", 29},
    {DType::iq2_xxs, "IQ2_XXS", 16},
    {DType::iq2_xs, "IQ2_XS", 17},
    {DType::iq2_s, "IQ2_S", 22},
    {DType::iq3_xxs, "IQ3_XXS", 18},
    {DType::iq3_s, "IQ3_S", 21},
    {DType::iq4_nl, "IQ4_NL", 20},
    {DType::iq4_xs, "IQ4_XS", 23},
    {DType::tq1_0, "TQ1_0", 34},
    {DType::tq2_0, "TQ2_0", 35},
    {DType::q1_0, "Q1_0", 41},
    {DType::q2_0, "Q2_0", 42},
    {DType::mxfp4, "MXFP4", 39},
    {DType::nvfp4, "NVFP4", 40},
    {DType::i8, "I8", 24},
    {DType::i16, "I16", 25},
    {DType::i32, "I32", 26},
    {DType::i64, "I64", 27},
    {DType::f64, "F64", 28},
    {DType::affine2, "AFFINE2", kNotGgml},
    {DType::affine3, "AFFINE3", kNotGgml},
    {DType::affine4, "AFFINE4", kNotGgml},
    {DType::affine5, "AFFINE5", kNotGgml},
    {DType::affine6, "AFFINE6", kNotGgml},
    {DType::affine8, "AFFINE8", kNotGgml},
    {DType::e2m1, "E2M1", kNotGgml},
    {DType::e4m3, "E4M3", kNotGgml},
    {DType::turbo1, "TURBO1", kNotGgml},
    {DType::turbo2, "TURBO2", kNotGgml},
    {DType::turbo3, "TURBO3", kNotGgml},
    {DType::turbo4, "TURBO4", kNotGgml},
    {DType::turbo_t, "TURBO_T", kNotGgml},
};
static_assert(std::size(kNames) == kDTypeCount);

using Table = std::array<DTypeInfo, kDTypeCount>;

template <class Block>
constexpr void set_size(Table& table) {
  DTypeInfo& entry = table[static_cast<std::size_t>(Block::kType)];
  entry.block_elements = Block::kElements;
  entry.block_bytes = static_cast<std::int32_t>(sizeof(Block));
}

template <class... Blocks>
constexpr void set_sizes(BlockList<Blocks...>, Table& table) {
  (set_size<Blocks>(table), ...);
}

constexpr Table make_table() {
  Table table{};
  for (const Names& n : kNames) {
    table[static_cast<std::size_t>(n.type)] = {n.type, n.name, n.ggml_id, 0, 0};
  }
  set_sizes(WeightBlocks{}, table);
  set_sizes(ScalarBlocks{}, table);
  set_sizes(PlanarCodes{}, table);
  return table;
}

constexpr Table kTable = make_table();

constexpr bool complete() {
  for (const DTypeInfo& entry : kTable) {
    if (entry.name.empty() || entry.block_bytes == 0) return false;
  }
  return true;
}
static_assert(complete(), "every DType has a name and a block struct");

constexpr char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

}  // namespace

const DTypeInfo& info(DType type) noexcept { return kTable[static_cast<std::size_t>(type)]; }

std::optional<DType> dtype_from_ggml(std::uint32_t ggml_id) noexcept {
  if (ggml_id == kNotGgml) return std::nullopt;
  for (const DTypeInfo& entry : kTable) {
    if (entry.ggml_id == ggml_id) return entry.type;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const DTypeInfo& entry : kTable) {
    bool same = entry.name.size() == name.size();
    for (std::size_t i = 0; same && i < name.size(); ++i) same = upper(name[i]) == entry.name[i];
    if (same) return entry.type;
  }
  return std::nullopt;
}

std::span<const DTypeInfo> all_dtypes() noexcept { return kTable; }

}  // namespace nemo
