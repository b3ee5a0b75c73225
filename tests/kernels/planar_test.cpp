// Formats whose scales lie apart (formats_planar.hpp) against golden vectors of MLX and of
// turboquant-mlx, on every kernel table; products of all of them against the decoded rows.
#include "catch.hpp"
#include "fast_support.hpp"
#include "support/safetensors.hpp"

#include <nemo/tensor/formats_planar.hpp>
#include <nemo/tensor/hadamard.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#ifdef NEMO_HAVE_EMULATED_UNIT
#include "emulated_unit.hpp"
#endif

using namespace nemo;
using namespace nemo::test;

namespace {

const std::map<std::string, TestTensor>& golden_planes() {
  static const auto tensors =
      read_safetensors(std::string(NEMO_SOURCE_DIR) + "/tests/data/planar/planar.safetensors");
  return tensors;
}

/// A recorded matrix.
struct Stored : StoredMatrix {
  DType type = DType::f32;
};

ScaleType scale_type_of(const std::string& dtype) {
  return dtype == "F32" ? ScaleType::f32 : dtype == "F16" ? ScaleType::f16 : ScaleType::bf16;
}

/// "affine_b4_g64_bf16" and the like.
Stored mlx_golden(const std::string& name) {
  const auto& weight = golden_planes().at(name + ".weight");
  const auto& scales = golden_planes().at(name + ".scales");
  Stored m;
  m.rows = weight.shape[0];
  m.bytes = weight.bytes;
  m.row_bytes = static_cast<std::int64_t>(m.bytes.size()) / m.rows;
  m.scales = scales.bytes;
  const bool wide = golden_planes().count(name + ".dequant_f32") != 0;
  m.cols = golden_planes().at(name + (wide ? ".dequant_f32" : ".dequant")).shape[1];
  m.planes.group = m.cols / scales.shape[1];
  m.planes.stride = static_cast<std::int64_t>(m.scales.size()) / m.rows;
  if (name.starts_with("affine")) {
    const DType types[] = {DType::affine2, DType::affine3, DType::affine4,
                           DType::affine5, DType::affine6, DType::affine8};
    const int bits = name[8] - '0';
    m.type = types[bits == 8 ? 5 : bits - 2];
    m.planes.type = scale_type_of(scales.dtype);
    m.biases = golden_planes().at(name + ".biases").bytes;
  } else {
    m.type = name.starts_with("mxfp8") ? DType::e4m3 : DType::e2m1;
    m.planes.type = name.starts_with("nvfp4") ? ScaleType::e4m3 : ScaleType::e8m0;
  }
  return m;
}

/// "tq.w448_b3_g64" and the like.
Stored turbo_golden(const std::string& name) {
  const auto& weight = golden_planes().at(name + ".weight");
  Stored m;
  m.rows = weight.shape[0];
  m.bytes = weight.bytes;
  m.row_bytes = static_cast<std::int64_t>(m.bytes.size()) / m.rows;
  m.scales = golden_planes().at(name + ".scales").bytes;
  m.cols = golden_planes().at(name + ".signs").shape[0];
  for (const std::uint16_t bits : golden_planes().at(name + ".codebook").as<std::uint16_t>()) {
    m.levels.push_back(to_float(Half{bits}));
  }
  const DType types[] = {DType::turbo1, DType::turbo2, DType::turbo3, DType::turbo4};
  m.type = types[std::countr_zero(m.levels.size()) - 1];
  m.planes.type = ScaleType::f16;
  m.planes.group = m.cols / golden_planes().at(name + ".scales").shape[1];
  m.planes.stride = static_cast<std::int64_t>(m.scales.size()) / m.rows;
  return m;
}

std::vector<float> decoded(const FormatKernels& format, const StoredMatrix& m) {
  std::vector<float> out(at(m.rows * m.cols));
  for (std::int64_t r = 0; r < m.rows; ++r) {
    format.decode_row(m.view(), r, out.data() + r * m.cols);
  }
  return out;
}

std::vector<std::string> golden_names(const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : golden_planes()) {
    if (name.starts_with(prefix) && name.ends_with(".weight")) {
      names.push_back(name.substr(0, name.size() - 7));
    }
  }
  return names;
}

std::vector<float> signs_of(const std::string& name) {
  std::vector<float> signs;
  for (const std::uint16_t bits : golden_planes().at(name + ".signs").as<std::uint16_t>()) {
    signs.push_back(to_float(Half{bits}));
  }
  return signs;
}

}  // namespace

TEST_CASE("planar formats of MLX decode to MLX's bits") {
  for (const Kernels* table : available_kernels()) {
    int compared = 0;
    for (const char* kind : {"affine", "mxfp4_b", "mxfp8_b", "nvfp4_b"}) {
      for (const std::string& name : golden_names(kind)) {
        INFO(table->name << " " << name);
        const Stored m = mlx_golden(name);
        const std::vector<float> out = decoded(table->format(m.type), m);
        const bool wide = golden_planes().count(name + ".dequant_f32") != 0;
        const auto& expected = golden_planes().at(name + (wide ? ".dequant_f32" : ".dequant"));
        if (expected.dtype == "F32") {
          CHECK(out == expected.as<float>());
        } else {
          // Recorded in half precision: product and sum were each rounded to 11 bits, relative to
          // terms that are at most twice the largest weight.
          const auto halves = expected.as<std::uint16_t>();
          float largest = 0;
          for (const float x : out) largest = std::max(largest, std::abs(x));
          for (std::size_t i = 0; i < out.size(); ++i) {
            CHECK(std::abs(out[i] - to_float(Half{halves[i]})) <= 3 * 0x1p-11f * largest);
          }
        }
        ++compared;
      }
    }
    CHECK(compared == 6 * 7 + 9);
  }
}

TEST_CASE("a tensor-wide factor completes MLX's nvfp4") {
  Stored m = mlx_golden("nvfp4_global");
  m.type = DType::e2m1;
  const float factor =
      golden_planes().at("nvfp4_global.global_scale").as<float>()[0] / (448.0f * 6.0f);
  const auto expected = golden_planes().at("nvfp4_global.dequant").as<float>();
  const auto out = decoded(select_kernels("reference").format(m.type), m);
  for (std::size_t i = 0; i < out.size(); ++i) {
    CHECK(std::abs(out[i] * factor - expected[i]) <= 1e-6f * std::abs(expected[i]));
  }
}

TEST_CASE("TurboQuant codes decode to the recorded rotated weights") {
  for (const Kernels* table : available_kernels()) {
    const auto names = golden_names("tq.");
    CHECK(names.size() == 24);
    for (const std::string& name : names) {
      INFO(table->name << " " << name);
      const Stored m = turbo_golden(name);
      CHECK(decoded(table->format(m.type), m) ==
            golden_planes().at(name + ".dequant_rot_f32").as<float>());
    }
  }
}

TEST_CASE("base-3 digits unpack twenty to a word") {
  const auto packed = golden_planes().at("tq.trit.packed");
  const auto codes = golden_planes().at("tq.trit.codes").as<std::uint32_t>();
  StoredMatrix m{packed.bytes, packed.shape[0], 192, row_bytes(DType::turbo_t, 192)};
  m.levels = {0.0f, 1.0f, 2.0f};
  const auto out = decoded(select_kernels("reference").format(DType::turbo_t), m);
  CHECK(std::equal(out.begin(), out.end(), codes.begin(),
                   [](float a, std::uint32_t b) { return a == static_cast<float>(b); }));
}

TEST_CASE("inputs rotate as MLX and turboquant-mlx rotate them") {
  for (const Kernels* table : available_kernels()) {
    int compared = 0;
    const auto check = [&](const std::vector<float>& x, const std::vector<float>& signs,
                           const std::vector<float>& expected) {
      const auto n = static_cast<std::int64_t>(x.size());
      std::vector<float> y(x.size());
      table->rotate(x.data(), signs.data(), n, hadamard_block(n), y.data());
      float largest = 0;
      for (const float v : expected) largest = std::max(largest, std::abs(v));
      // Float sums of up to 2048 terms, in another order than the recorded ones.
      for (std::size_t i = 0; i < y.size(); ++i) {
        CHECK(std::abs(y[i] - expected[i]) <= 1e-6f * largest);
      }
      std::vector<float> in_place = x;
      table->rotate(in_place.data(), signs.data(), n, hadamard_block(n), in_place.data());
      CHECK(in_place == y);
      ++compared;
    };
    for (const auto& [name, tensor] : golden_planes()) {
      INFO(table->name << " " << name);
      if (name.starts_with("hadamard.x_")) {
        const auto x = tensor.as<float>();
        check(x, std::vector<float>(x.size(), 1.0f),
              golden_planes().at("hadamard.y_" + name.substr(11)).as<float>());
      } else if (name.starts_with("tq.") && name.ends_with(".x_rot")) {
        const std::string stem = name.substr(0, name.size() - 6);
        check(golden_planes().at(stem.substr(0, stem.find('_')) + ".x").as<float>(), signs_of(stem),
              tensor.as<float>());
      }
    }
    CHECK(compared == 8 + 24);
  }
}

TEST_CASE("fast rotations equal the reference for every order and width") {
  for (const Kernels* table : fast_tables()) {
    for (const std::int64_t n : {1,  2,  3,  4,   8,   12,  20,   24,   28,   40,   48,
                                 56, 80, 96, 112, 120, 640, 1856, 2688, 3712, 5376, 7680}) {
      INFO(table->name << " " << n);
      const auto x = random_floats(n, 1.0f, static_cast<unsigned>(n));
      auto signs = random_floats(n, 1.0f, static_cast<unsigned>(n) + 1);
      for (float& s : signs) s = s < 0 ? -1.0f : 1.0f;
      std::vector<float> expected(at(n)), got(at(n));
      const std::int64_t block = hadamard_block(n);
      CHECK(n % block == 0);
      select_kernels("reference").rotate(x.data(), signs.data(), n, block, expected.data());
      table->rotate(x.data(), signs.data(), n, block, got.data());
      for (std::int64_t i = 0; i < n; ++i) CHECK(std::abs(got[at(i)] - expected[at(i)]) < 2e-5f);
    }
  }
}

TEST_CASE("block sizes of rotations are those of turboquant-mlx") {
  const std::int64_t sizes[][2] = {{64, 64},     {192, 192},   {448, 448},   {576, 192},
                                   {1856, 64},   {2688, 896},  {3136, 448},  {1024, 1024},
                                   {4096, 4096}, {5376, 1792}, {8192, 8192}, {3712, 128},
                                   {12544, 1792}};
  for (const auto& [cols, block] : sizes) CHECK(hadamard_block(cols) == block);
}

TEST_CASE("planar products of every table match the decoded rows for every tail") {
  for (const Kernels* table : available_kernels()) {
    for (const DType type : weight_types(true)) {
      const FormatKernels& format = table->format(type);
      for (const std::int64_t group : {16, 32, 64, 128}) {
        for (const ScaleType scale : {ScaleType::none, ScaleType::f32, ScaleType::f16,
                                      ScaleType::bf16, ScaleType::e8m0, ScaleType::e4m3}) {
          const std::int64_t cols = group == 64 ? 1984 : 3 * group;  // more than one piece
          const StoredMatrix m = random_planar(type, 11, cols, group, scale, 5);
          INFO(table->name << " " << info(type).name << " group " << group << " scales "
                           << static_cast<int>(scale));
          const auto x = random_floats(7 * cols, 1.0f, 3);
          const auto acts = pack_activations(*table, format.act, x, cols);
          AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
          CHECK(decoded(format, m) == decoded(select_kernels("reference").format(type), m));
          const ExactProducts exact(type, m, acts.values);
          for (const std::int64_t tokens : {1, 3, 7}) {
            for (const std::int64_t rows : {1, 4, 10}) {
              std::vector<float> y(at(tokens * (rows + 1)), 99.0f);
              format.matmul(m.view(), 1, rows, acts.bytes.data(), acts.stride, tokens, y.data(),
                            rows + 1, scratch.data());
              int wrong = exact.wrong(y, rows + 1, 1, rows, tokens, 1e-5);
              for (std::int64_t t = 0; t < tokens; ++t) {
                wrong += y[at(t * (rows + 1) + rows)] != 99.0f;
              }
              CHECK(wrong == 0);
            }
          }
        }
      }
    }
  }
}

/// The products of FP8 rows that tables decode with, and the emulated ones.
std::vector<std::pair<std::string, Matmul>> fp8_matmuls() {
  std::vector<std::pair<std::string, Matmul>> matmuls;
  for (const Kernels* table : available_kernels()) {
    matmuls.emplace_back(table->name, table->format(DType::e4m3).matmul);
  }
#ifdef NEMO_HAVE_EMULATED_UNIT
  if (find_table("avx2") != nullptr) {
    matmuls.emplace_back("emulated", kEmulatedPartProducts.e4m3_matmul);
  }
#endif
  return matmuls;
}

TEST_CASE("every FP8 code multiplies as the number that it is") {
  StoredMatrix m = random_planar(DType::e4m3, 256, 1, 16, ScaleType::none, 5);
  for (std::size_t code = 0; code < 256; ++code) m.bytes[code] = static_cast<std::byte>(code);
  const auto acts = pack_activations(select_kernels("reference"), ActFormat::f32, {1.0f}, 1);
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  for (const auto& [name, matmul] : fp8_matmuls()) {
    INFO(name);
    std::vector<float> y(256);
    matmul(m.view(), 0, 256, acts.bytes.data(), acts.stride, 1, y.data(), 256, scratch.data());
    int wrong = 0;
    for (std::size_t code = 0; code < 256; ++code) {
      wrong += y[code] != e4m3(static_cast<std::uint8_t>(code));
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("FP8 rows of any width: right, and the same bits for few tokens and for many") {
  struct Shape {
    std::int64_t cols;
    ScaleType scale = ScaleType::none;
    std::int64_t group = 16;
  };
  const Shape shapes[] = {{1},
                          {7},
                          {15},
                          {17},
                          {37},
                          {64},
                          {1023},
                          {1041},
                          // More tokens and wider rows than fit into the scratch as bf16 parts.
                          {150000},
                          {400000},
                          {96, ScaleType::e8m0, 32},
                          {2080, ScaleType::e8m0, 32},
                          {192, ScaleType::f32, 64},
                          {384, ScaleType::bf16, 128},
                          {80, ScaleType::f16, 16},
                          {150016, ScaleType::e8m0, 32}};
  for (const auto& [name, matmul] : fp8_matmuls()) {
    for (const auto& [cols, scale, group] : shapes) {
      INFO(name << " " << cols << " columns, scales " << static_cast<int>(scale));
      const StoredMatrix m = random_planar(DType::e4m3, 6, cols, group, scale, 5);
      const auto acts = pack_activations(select_kernels("reference"), ActFormat::f32,
                                         random_floats(9 * cols, 1.0f, 3), cols);
      AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
      const auto multiply = [&, matmul = matmul](std::int64_t token, std::int64_t tokens) {
        std::vector<float> y(at(tokens * m.rows));
        matmul(m.view(), 0, m.rows, acts.bytes.data() + token * acts.stride, acts.stride, tokens,
               y.data(), m.rows, scratch.data());
        return y;
      };
      const std::vector<float> many = multiply(0, 9);
      CHECK(ExactProducts(DType::e4m3, m, acts.values).wrong(many, 1e-5) == 0);
      for (std::int64_t t = 0; t < 9; ++t) {
        const auto row = many.begin() + t * m.rows;
        CHECK(multiply(t, 1) == std::vector<float>(row, row + m.rows));
      }
    }
  }
}

TEST_CASE("integer products of planes match the decoded rows for every tail, split any way") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : weight_types(true)) {
      const FormatKernels& format = table->format(type);
      if (format.matmul_q8 == nullptr) continue;
      for (const std::int64_t group : {16, 32, 64, 128}) {
        if (group < format.q8_group) continue;
        for (const ScaleType scale : {ScaleType::none, ScaleType::f32, ScaleType::f16,
                                      ScaleType::bf16, ScaleType::e8m0, ScaleType::e4m3}) {
          const bool wide =
              group == 64 && scale == ScaleType::f16;  // more than one piece of scales
          const std::int64_t cols = wide          ? 4096 + 192
                                    : group == 32 ? 224
                                                  : 2 * std::max<std::int64_t>(group, 32);
          const std::int64_t all_rows = 45, most_tokens = 19;
          const StoredMatrix m = random_planar(type, all_rows, cols, group, scale, 5);
          REQUIRE(format.product(m.view()).act == ActFormat::q8);
          INFO(table->name << " " << info(type).name << " group " << group << " scales "
                           << static_cast<int>(scale));
          const auto acts = pack_activations(*table, ActFormat::q8,
                                             random_floats(most_tokens * cols, 1.0f, 3), cols);
          AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
          std::vector<float> all(at(most_tokens * all_rows));
          format.matmul_q8(m.view(), 0, all_rows, acts.bytes.data(), acts.stride, most_tokens,
                           all.data(), all_rows, scratch.data());
          CHECK(ExactProducts(type, m, acts.values).wrong(all, 1e-5) == 0);
          for (const std::int64_t tokens : {1, 2, 3, 4, 5, 9}) {
            for (const std::int64_t rows : {1, 8, 17, 44}) {
              std::vector<float> y(at(tokens * (rows + 1)), 99.0f);
              format.matmul_q8(m.view(), 1, rows, acts.bytes.data(), acts.stride, tokens, y.data(),
                               rows + 1, scratch.data());
              int different = 0;
              for (std::int64_t t = 0; t < tokens; ++t) {
                different += y[at(t * (rows + 1) + rows)] != 99.0f;
                different += std::memcmp(&y[at(t * (rows + 1))], &all[at(t * all_rows + 1)],
                                         at(rows) * sizeof(float)) != 0;
              }
              CHECK(different == 0);
            }
          }
          const StoredMatrix ordered = in_kernel_order(format, m);
          for (const std::int64_t row0 : {std::int64_t{0}, format.lanes}) {
            const std::int64_t rows = ordered.rows - row0;
            for (const std::int64_t tokens : {1, 2, 3, 4, 7, 19}) {
              std::vector<float> y(at(tokens * (rows + 1)), 99.0f);
              format.matmul_q8(ordered.view(), row0, rows, acts.bytes.data(), acts.stride, tokens,
                               y.data(), rows + 1, scratch.data());
              int different = 0;
              for (std::int64_t t = 0; t < tokens; ++t) {
                different += y[at(t * (rows + 1) + rows)] != 99.0f;
                different += std::memcmp(&y[at(t * (rows + 1))], &all[at(t * all_rows + row0)],
                                         at(rows) * sizeof(float)) != 0;
              }
              INFO("kernel order, " << tokens << " tokens, rows from " << row0);
              CHECK(different == 0);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("planes in kernel order decode to the reference's bits, whatever range they came in") {
  for (const Kernels* table : fast_tables()) {
    for (const DType type : weight_types(true)) {
      const FormatKernels& format = table->format(type);
      if (format.lanes == 0) continue;
      const std::int64_t slab = KernelOrder::kSlabGroups * format.lanes;
      for (const auto& [cols, group] :
           {std::pair{32, 32}, {96, 32}, {320, 64}, {3072 + 192, 64}, {3 * 1024, 1024}}) {
        for (const ScaleType scale :
             {ScaleType::none, ScaleType::f32, ScaleType::bf16, ScaleType::e4m3}) {
          INFO(table->name << " " << info(type).name << " " << cols << " columns, group " << group
                           << " scales " << static_cast<int>(scale));
          const StoredMatrix m = random_planar(type, slab + 16, cols, group, scale, 7);
          REQUIRE(format.lanes_of(m.view()) == format.lanes);
          const StoredMatrix ordered = in_kernel_order(format, m);
          std::vector<float> expected(at(cols)), got(at(cols));
          int different = 0;
          for (std::int64_t r = 0; r < m.rows; ++r) {
            select_kernels("reference").format(type).decode_row(m.view(), r, expected.data());
            format.decode_row(ordered.view(), r, got.data());
            different += std::memcmp(got.data(), expected.data(), at(cols) * sizeof(float)) != 0;
          }
          CHECK(different == 0);
          StoredMatrix pieces = ordered;
          for (auto* plane : {&pieces.bytes, &pieces.scales, &pieces.biases}) {
            std::fill(plane->begin(), plane->end(), std::byte{});
          }
          for (const auto& [row0, rows] : {std::pair{slab, std::int64_t{16}}, {0, slab}}) {
            const auto from = [&, first = row0](std::vector<std::byte>& plane) {
              return plane.empty() ? nullptr : plane.data() + first * m.planes.stride;
            };
            format.to_kernel_order(m.view(), row0, rows,
                                   {pieces.bytes.data() + row0 * m.row_bytes, from(pieces.scales),
                                    from(pieces.biases)});
          }
          CHECK(pieces.bytes == ordered.bytes);
          CHECK(pieces.scales == ordered.scales);
          CHECK(pieces.biases == ordered.biases);
        }
      }
    }
  }
}

TEST_CASE("integer products of the last rows of wide planes are those of the others") {
  // Rows that fill no vector are copied, a panel's columns at a time, beside the panels.
  const std::int64_t cols = 16384, rows = 15, all_rows = 32, tokens = 5;
  for (const Kernels* table : fast_tables()) {
    for (const DType type : {DType::affine4, DType::affine6, DType::e2m1, DType::turbo3}) {
      INFO(table->name << " " << info(type).name);
      const FormatKernels& format = table->format(type);
      const StoredMatrix m = random_planar(type, all_rows, cols, 64, ScaleType::f32, 3);
      const auto acts =
          pack_activations(*table, ActFormat::q8, random_floats(tokens * cols, 1.0f, 8), cols);
      AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
      std::vector<float> whole(at(tokens * all_rows)), part(at(tokens * rows));
      format.matmul_q8(m.view(), 0, all_rows, acts.bytes.data(), acts.stride, tokens, whole.data(),
                       all_rows, scratch.data());
      format.matmul_q8(m.view(), 1, rows, acts.bytes.data(), acts.stride, tokens, part.data(), rows,
                       scratch.data());
      for (std::int64_t t = 0; t < tokens; ++t) {
        CHECK(std::memcmp(&part[at(t * rows)], &whole[at(t * all_rows + 1)],
                          at(rows) * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("planes that make no whole tiles keep the float product") {
  const FormatKernels& format = available_kernels().back()->format(DType::affine4);
  const auto act = [&](std::int64_t cols, std::int64_t group) {
    return format.product(random_planar(DType::affine4, 2, cols, group, ScaleType::f16, 1).view())
        .act;
  };
  CHECK(act(192, 48) == ActFormat::f32);
  CHECK(act(96, 96) == ActFormat::f32);
  CHECK(act(48, 16) == ActFormat::f32);
  CHECK(act(64, 16) == ActFormat::f32);
  if (available_kernels().size() > 1) CHECK(act(64, 32) == ActFormat::q8);
  const StoredMatrix odd = random_planar(DType::affine4, 16, 192, 48, ScaleType::f16, 1);
  CHECK(format.lanes_of(odd.view()) == 0);
  const StoredMatrix wide = random_planar(DType::affine4, 16, 4096, 2048, ScaleType::f16, 1);
  CHECK(format.lanes_of(wide.view()) == 0);  // a group of more columns than a strip has
}

TEST_CASE("levels of a codebook of any size are rounded to within half a percent of the largest") {
  struct Codebook {
    DType type;
    double error;  // of a level, as a part of the largest
    std::vector<float> levels;
  };
  const Codebook codebooks[] = {
      {DType::turbo2, 0.001, {-1.5104f, -0.4528f, 0.4528f, 1.5104f}},
      {DType::turbo3,
       0.003,
       {-2.1520f, -1.3439f, -0.7560f, -0.2451f, 0.2451f, 0.7560f, 1.3439f, 2.1520f}},
      {DType::turbo4,
       0.005,
       {-2.7326f, -2.0690f, -1.6180f, -1.2562f, -0.9423f, -0.6568f, -0.3880f, -0.1284f, 0.1284f,
        0.3880f, 0.6568f, 0.9423f, 1.2562f, 1.6180f, 2.0690f, 2.7326f}}};
  for (const Kernels* table : fast_tables()) {
    for (const auto& [type, error, levels] : codebooks) {
      const FormatKernels& format = table->format(type);
      if (format.matmul_q8 == nullptr) continue;
      for (const float size : {1.0f, 1e-30f, 1e25f, 1e33f}) {
        INFO(table->name << " " << info(type).name << " levels times " << size);
        StoredMatrix m = random_planar(type, 16, 32, 32, ScaleType::none, 1);
        std::copy(levels.begin(), levels.end(), m.levels.begin());
        for (float& level : m.levels) level *= size;
        const auto weights = decoded(select_kernels("reference").format(type), m);
        const double most = error * static_cast<double>(levels.back() * size);
        // One activation at a time, 127 times 1 without a rounding error, picks one weight.
        int wrong = 0;
        for (std::int64_t c = 0; c < 32; ++c) {
          std::vector<float> x(32, 0.0f);
          x[at(c)] = 127.0f;
          const auto acts = pack_activations(*table, ActFormat::q8, x, 32);
          AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
          std::vector<float> y(16);
          format.matmul_q8(m.view(), 0, 16, acts.bytes.data(), acts.stride, 1, y.data(), 16,
                           scratch.data());
          for (std::int64_t r = 0; r < 16; ++r) {
            const double off = static_cast<double>(y[at(r)] / 127.0f - weights[at(r * 32 + c)]);
            wrong += !(std::abs(off) < most);
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

#ifdef NEMO_HAVE_EMULATED_UNIT
TEST_CASE("a matrix unit's products of planes have the vector units' bits") {
  const Kernels* avx2 = find_table("avx2");
  if (avx2 == nullptr) return;
  int compared = 0;
  for (const DType type : weight_types(true)) {
    const Matmul unit = kEmulatedUnitProducts.formats[static_cast<int>(type)].matmul_q8;
    if (unit == nullptr) continue;
    const std::int64_t cols = 320, rows = 37, tokens = 35;
    const StoredMatrix m = random_planar(type, rows, cols, 64, ScaleType::bf16, 9);
    const auto acts =
        pack_activations(*avx2, ActFormat::q8, random_floats(tokens * cols, 1.0f, 4), cols);
    AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
    for (const std::int64_t count : {1, 7, 8, 17, 35}) {
      INFO(info(type).name << " " << count);
      std::vector<float> expected(at(count * rows)), got(expected.size());
      avx2->format(type).matmul_q8(m.view(), 0, rows, acts.bytes.data(), acts.stride, count,
                                   expected.data(), rows, scratch.data());
      (void)take_unit_use();
      unit(m.view(), 0, rows, acts.bytes.data(), acts.stride, count, got.data(), rows,
           scratch.data());
      const UnitUse use = take_unit_use();
      CHECK(use.misuse == 0);
      CHECK((use.products > 0) == (count >= 8));
      CHECK(got == expected);
      const StoredMatrix ordered = in_kernel_order(avx2->format(type), m);
      unit(ordered.view(), 0, ordered.rows, acts.bytes.data(), acts.stride, count, got.data(), rows,
           scratch.data());
      CHECK((take_unit_use().products > 0) == (count >= 8));
      CHECK(got == expected);
      ++compared;
    }
  }
  CHECK(compared >= 45);
}
#endif

TEST_CASE("Winograd's products of planes have the bits of the plain ones") {
  struct Pair {
    std::string name;
    const FormatKernels* own;
    const Kernels* plain;
  };
  std::vector<Pair> pairs;
#ifdef NEMO_HAVE_EMULATED_UNIT
  if (const Kernels* avx2 = find_table("avx2")) {
    pairs.push_back({"emulated", kEmulatedWinogradProducts.formats.formats, avx2});
  }
#endif
  if (const Kernels* zen4 = find_table("zen4")) {
    pairs.push_back({"zen4", zen4->prefill->formats, find_table("avx512vnni")});
  }
  for (const Pair& pair : pairs) {
    int formats = 0;
    for (const DType type : weight_types(true)) {
      const FormatKernels& own = pair.own[static_cast<int>(type)];
      const FormatKernels& plain = pair.plain->format(type);
      if (own.matmul_q8 == nullptr || own.act_q8 != ActFormat::q8_winograd) continue;
      ++formats;
      for (const ScaleType scale : {ScaleType::none, ScaleType::bf16, ScaleType::f32}) {
        const std::int64_t cols = 320, rows = 53, tokens = 35;
        const StoredMatrix m = random_planar(type, rows, cols, 64, scale, 9);
        const auto acts = pack_activations(select_kernels("reference"), ActFormat::q8_winograd,
                                           random_floats(tokens * cols, 1.0f, 4), cols);
        AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
        for (const std::int64_t count : {1, 5, 11, 12, 13, 35}) {
          INFO(pair.name << " " << info(type).name << ", " << count << " tokens");
          const auto multiply = [&](Matmul matmul, const StoredMatrix& w) {
            std::vector<float> y(at(count * w.rows));
            matmul(w.view(), 0, w.rows, acts.bytes.data(), acts.stride, count, y.data(), w.rows,
                   scratch.data());
            return y;
          };
          CHECK(multiply(own.matmul_q8, m) == multiply(plain.matmul_q8, m));
          const StoredMatrix ordered = in_kernel_order(plain, m);
          CHECK(multiply(own.matmul_q8, ordered) == multiply(plain.matmul_q8, ordered));
        }
      }
    }
    CHECK(formats > 0);
  }
}
