// Arbitrary bytes as a matrix of any weight format and as activations: every kernel table of this
// CPU gives the reference's products, and the same bits however rows and tokens are split over
// calls and whatever the order of the rows in memory.
//
// Formats whose scales lie apart go both roads: with float activations and with int8 ones.
//
// Bytes: format, rows, blocks a row, tokens, two that seed the splits, for planes three that choose
// scales, then activations and weights, over and over from the start when they do not suffice.
#include "fuzz/fuzz_targets.hpp"
#include "kernels/fast_support.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <random>
#include <vector>

namespace {

using namespace nemo;
using namespace nemo::test;

/// The input's bytes, without end.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::uint8_t next() { return size_ == 0 ? std::uint8_t{0} : data_[at_++ % size_]; }
  /// 1 .. most
  std::int64_t count(int most) { return 1 + next() % most; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

/// Any magnitude from 2^-24 to 2^7 in every 32 elements, zeros and equal neighbours included.
std::vector<float> take_activations(Bytes& bytes, std::int64_t count) {
  std::vector<float> x(at(count));
  int exponent = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i % 32 == 0) exponent = bytes.next() % 26 - 24;
    x[at(i)] = std::ldexp(static_cast<float>(static_cast<std::int8_t>(bytes.next())), exponent);
  }
  return x;
}

/// Zero, subnormal, tiny, huge and negative numbers among ordinary ones; products stay finite.
void take_scales(Bytes& bytes, ScaleType type, std::vector<std::byte>& plane) {
  constexpr float kEdges[] = {0.0f,    -0.0f, 0x1p-149f, 0x1p-126f, -0x1p-24f,
                              0x1p-8f, -1.0f, 0x1p15f,   1e25f,     -1e25f};
  const auto size = static_cast<std::size_t>(scale_bytes(type));
  for (std::size_t i = 0; i < plane.size(); i += size) {
    const std::uint8_t byte = bytes.next();
    float value = byte < std::size(kEdges) ? kEdges[byte] : 2.0f - static_cast<float>(byte) * 0.01f;
    if (type == ScaleType::f16 && std::abs(value) > 1e5f) value = std::copysign(65504.0f, value);
    const int exponent = std::min<int>(byte, 127 + 80);
    put_scale(type, value, type == ScaleType::e8m0 ? static_cast<std::uint32_t>(exponent) : byte,
              plane.data() + i);
  }
}

/// y[tokens, ldy]
std::vector<float> multiply(Matmul matmul, const StoredMatrix& m, const Activations& a,
                            std::int64_t tokens, std::int64_t ldy, std::mt19937* splits) {
  AlignedBuffer<std::byte> scratch(kMatmulScratchBytes);
  std::vector<float> y(at(tokens * ldy));
  const std::int64_t unit = std::max<std::int64_t>(m.lanes, 1);
  for (std::int64_t r = 0; r < m.rows;) {
    const std::int64_t height =
        splits ? std::min(static_cast<std::int64_t>(1 + (*splits)() % 20) * unit, m.rows - r)
               : m.rows;
    for (std::int64_t t = 0; t < tokens;) {
      const std::int64_t count =
          splits ? std::min<std::int64_t>(1 + (*splits)() % 12, tokens - t) : tokens;
      matmul(m.view(), r, height, a.bytes.data() + t * a.stride, a.stride, count,
             y.data() + t * ldy + r, ldy, scratch.data());
      t += count;
    }
    r += height;
  }
  return y;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool both_nan = std::isnan(a[i]) && std::isnan(b[i]);  // of which payloads may differ
    if (!both_nan && std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return false;
  }
  return true;
}

// One rounding of each block's float operations; sums of subnormals round to their own grid.
constexpr double kFloatTolerance = 4e-5;
constexpr double kBf16Tolerance = 0x1.04p-8;  // operands rounded to 8 bits, then the same

void check(const Kernels& table, const FormatKernels::Product& product, const StoredMatrix& m,
           DType type, const std::vector<float>& x, std::int64_t tokens, unsigned seed, bool sane,
           double tolerance = kFloatTolerance) {
  const FormatKernels& format = table.format(type);
  const Activations a = pack_activations(table, product.act, x, m.cols);
  const auto whole = multiply(product.matmul, m, a, tokens, m.rows, nullptr);
  std::mt19937 splits(seed);
  fuzz_require(same_bits(multiply(product.matmul, m, a, tokens, m.rows, &splits), whole),
               "products do not depend on how they are split over calls");
  // Kernel order has one road, that of int8 activations where planes have two.
  if (format.lanes_of(m.view()) != 0 && product.act == format.product(m.view()).act) {
    const StoredMatrix ordered = in_kernel_order(format, m);
    auto expected = whole;
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::fill(expected.begin() + t * m.rows + ordered.rows, expected.begin() + (t + 1) * m.rows,
                0.0f);
    }
    fuzz_require(same_bits(multiply(product.matmul, ordered, a, tokens, m.rows, &splits), expected),
                 "products do not depend on the order of the rows in memory");
  }
  if (!sane) return;
  fuzz_require(ExactProducts(type, m, a.values).wrong(whole, tolerance) == 0,
               "products are the reference's");
}

void check_blocks(Bytes& bytes, DType type) {
  const std::int64_t rows = bytes.count(70);
  const std::int64_t block = info(type).block_elements;
  // Integer products read activations in groups of 32.
  const std::int64_t cols = bytes.count(block >= 256 ? 3 : 20) * std::max<std::int64_t>(block, 32);
  const std::int64_t tokens = bytes.count(40);
  const unsigned seed = bytes.next() + 256u * bytes.next();
  const std::vector<float> x = take_activations(bytes, tokens * cols);
  const StoredMatrix random = random_matrix(type, rows, cols, seed);
  // Arbitrary bytes as weights may be infinite, or cancel to nothing in formats with mins: no exact
  // product is known for them.
  StoredMatrix raw = random;
  for (std::byte& b : raw.bytes) b = static_cast<std::byte>(bytes.next());
  for (const Kernels* table : fast_tables()) {
    const FormatKernels::Product product = table->format(type).product(random.view());
    check(*table, product, random, type, x, tokens, seed, true);
    check(*table, product, raw, type, x, tokens, seed, false);
    if (table->prefill == nullptr) continue;
    const FormatKernels::Product own = table->prefill->format(type).product(random.view());
    if (own.matmul == product.matmul) continue;
    const double tolerance = own.act == ActFormat::f32 ? kBf16Tolerance : kFloatTolerance;
    check(*table->prefill, own, random, type, x, tokens, seed, true, tolerance);
    check(*table->prefill, own, raw, type, x, tokens, seed, false);
  }
}

void check_planes(Bytes& bytes, DType type) {
  constexpr std::int64_t kGroups[] = {16, 32, 48, 64, 96, 128};
  const std::int64_t rows = bytes.count(70);
  const int pieces = static_cast<int>(bytes.count(20));
  const std::int64_t tokens = bytes.count(40);
  const unsigned seed = bytes.next() + 256u * bytes.next();
  const std::int64_t group = kGroups[bytes.next() % std::size(kGroups)];
  const std::int64_t cols = std::max<std::int64_t>(pieces * 32 / group, 1) * group;
  const auto scale_type = static_cast<ScaleType>(bytes.next() % 6);
  const bool biased = bytes.next() % 4 != 0;
  const std::vector<float> x = take_activations(bytes, tokens * cols);
  StoredMatrix random = random_planar(type, rows, cols, group, scale_type, seed);
  if (!biased) random.biases.clear();
  // The same with scales from the edges of their types, then with arbitrary bytes everywhere.
  StoredMatrix edges = random;
  if (scale_type != ScaleType::none) take_scales(bytes, scale_type, edges.scales);
  StoredMatrix raw = random;
  for (std::vector<std::byte>* plane : {&raw.bytes, &raw.scales, &raw.biases}) {
    for (std::byte& b : *plane) b = static_cast<std::byte>(bytes.next());
  }
  for (float& level : raw.levels) {
    level = std::ldexp(static_cast<float>(static_cast<std::int8_t>(bytes.next())),
                       bytes.next() % 254 - 127);
  }
  for (const Kernels* table : fast_tables()) {
    const FormatKernels& format = table->format(type);
    const FormatKernels::Product fast = format.product(random.view());
    std::vector<FormatKernels::Product> roads = {{format.act, format.matmul}};
    if (fast.act != format.act) roads.push_back(fast);
    for (const FormatKernels::Product& road : roads) {
      check(*table, road, random, type, x, tokens, seed, true);
      check(*table, road, edges, type, x, tokens, seed, true);
      check(*table, road, raw, type, x, tokens, seed, false);
    }
    if (table->prefill == nullptr) continue;
    const FormatKernels::Product own = table->prefill->format(type).product(random.view());
    if (own.matmul == fast.matmul) continue;
    const bool rounds = own.act == ActFormat::f32;  // to bf16, where subnormals are zeros
    check(*table->prefill, own, random, type, x, tokens, seed, true,
          rounds ? kBf16Tolerance : kFloatTolerance);
    check(*table->prefill, own, edges, type, x, tokens, seed, !rounds);
    check(*table->prefill, own, raw, type, x, tokens, seed, false);
  }
}

}  // namespace

int nemo_fuzz_products(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  static const std::vector<DType> types = [] {
    std::vector<DType> all = weight_types();
    for (const DType type : weight_types(true)) all.push_back(type);
    return all;
  }();
  const DType type = types[bytes.next() % types.size()];
  if (is_planar(type)) {
    check_planes(bytes, type);
  } else {
    check_blocks(bytes, type);
  }
  return 0;
}

#ifdef NEMO_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return nemo_fuzz_products(data, size);
}
#endif
