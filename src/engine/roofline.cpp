// Timing products of single formats on made-up matrices, beside the machine's limits.
#include <nemo/base/aligned.hpp>
#include <nemo/base/error.hpp>
#include <nemo/base/machine.hpp>
#include <nemo/base/page_buffer.hpp>
#include <nemo/base/parallel.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/engine/roofline.hpp>
#include <nemo/model/matrix.hpp>
#include <nemo/tensor/random_blocks.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

namespace nemo {
namespace {

double seconds_of(const std::function<void()>& job) {
  const auto start = std::chrono::steady_clock::now();
  job();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The shortest of several runs: three at least, then until about half a second is over. `between`
/// is run after each.
double fastest_seconds(
    const std::function<void()>& job, const std::function<void()>& between = [] {}) {
  constexpr double kBudgetSeconds = 0.5;
  double best = 1e30;
  double total = 0;
  for (int run = 0; run < 3 || (run < 50 && total < kBudgetSeconds); ++run) {
    const double seconds = seconds_of(job);
    best = std::min(best, seconds);
    total += seconds;
    between();
  }
  return best;
}

/// Operations a second of all threads together in a kernel table's yardstick loop.
template <class Sink>
double peak(int threads, Sink start, std::int64_t (*loop)(std::int64_t, Sink*) noexcept) {
  // Runs of about 5 ms: long beside starting a parallel region, short beside other processes.
  std::int64_t rounds = 1 << 12;
  for (double seconds = 0; seconds < 0.005; rounds *= 2) {
    Sink sink = start;
    seconds = seconds_of([&] { loop(rounds, &sink); });
  }
  std::int64_t ops = 0;
  const double seconds = fastest_seconds([&] {
    parallel_for(threads, threads, [&](std::int64_t i) {
      Sink sink = start;
      const std::int64_t done = loop(rounds, &sink);
      if (i == 0) ops = done;
    });
  });
  return static_cast<double>(ops) * threads / seconds;
}

/// How a matrix is stored; without groups: complete in itself, or with one scale for all of it.
struct Form {
  DType type;
  ScaleType scales = ScaleType::none;
  std::int64_t group = 0;
};
// Of the folders that MLX, TurboQuant-MLX and ModelOpt write.
constexpr Form kPlanarForms[] = {
    {DType::affine2, ScaleType::bf16, 64}, {DType::affine3, ScaleType::bf16, 64},
    {DType::affine4, ScaleType::bf16, 32}, {DType::affine4, ScaleType::bf16, 64},
    {DType::affine5, ScaleType::bf16, 64}, {DType::affine6, ScaleType::bf16, 64},
    {DType::affine8, ScaleType::bf16, 64}, {DType::e2m1, ScaleType::e8m0, 32},
    {DType::e2m1, ScaleType::e4m3, 16},    {DType::e4m3},
    {DType::e4m3, ScaleType::e8m0, 32},    {DType::turbo1, ScaleType::f16, 64},
    {DType::turbo2, ScaleType::f16, 64},   {DType::turbo3, ScaleType::f16, 64},
    {DType::turbo4, ScaleType::f16, 64},   {DType::turbo_t, ScaleType::f16, 64}};

std::vector<Form> forms_of(DType type) {
  if (!is_planar(type)) return {{type}};
  std::vector<Form> forms;
  std::copy_if(std::begin(kPlanarForms), std::end(kPlanarForms), std::back_inserter(forms),
               [type](const Form& form) { return form.type == type; });
  return forms;
}

/// A matrix of about `bytes` bytes, in pages as weights are held in: random rows, repeated.
class TestMatrix {
 public:
  static constexpr std::int64_t kDistinct = 128;

  TestMatrix(const Form& form, std::int64_t cols, std::int64_t bytes) {
    matrix_.type = form.type;
    matrix_.count = 1;
    matrix_.cols = cols;
    Planes& planes = matrix_.side.planes;
    if (form.group > 0) {
      planes = {form.scales, form.group, cols / form.group * scale_bytes(form.scales), kLevels};
    }
    planes.levels = kLevels;
    const bool biased = form.type >= DType::affine2 && form.type <= DType::affine8;
    const std::int64_t row = row_bytes(form.type, cols);
    const std::int64_t size = row + planes.stride * (biased ? 2 : 1);
    matrix_.rows = std::max(bytes / size / kDistinct, std::int64_t{1}) * kDistinct;
    // An ordinary number in every type of scales.
    planes_ = PageBuffer(static_cast<std::size_t>(matrix_.rows * (size - row)));
    std::fill_n(planes_.data(), planes_.size(), std::byte{0x3c});
    matrix_.side.scales = planes_.data();
    if (biased) matrix_.side.biases = planes_.data() + matrix_.rows * planes.stride;
    bytes_ = PageBuffer(static_cast<std::size_t>(matrix_.rows * row));
    for (std::int64_t r = 0; r < kDistinct; ++r) {
      const auto seed = static_cast<std::uint64_t>(r);
      if (is_planar(form.type)) {
        random_bytes(seed, bytes_.data() + r * row, static_cast<std::size_t>(row));
      } else {
        random_row(form.type, cols, 0.1f, seed, bytes_.data() + r * row);
      }
    }
    for (std::int64_t r = kDistinct; r < matrix_.rows; ++r) {
      std::memcpy(bytes_.data() + r * row, bytes_.data() + (r - kDistinct) * row,
                  static_cast<std::size_t>(row));
    }
    matrix_.data = bytes_.data();
  }
  [[nodiscard]] const Matrix& get() const noexcept { return matrix_; }

  /// Scales and biases, all alike, have no order.
  void to_kernel_order(const FormatKernels& format) {
    const std::int64_t group = kDistinct * row_bytes(matrix_.type, matrix_.cols);
    AlignedBuffer<std::byte> ordered(static_cast<std::size_t>(group));
    std::vector<std::byte> planes(planes_.size());
    format.to_kernel_order(matrix_.view(), 0, kDistinct,
                           {ordered.data(), planes.data(), planes.data()});
    for (std::int64_t r = 0; r < matrix_.rows; r += kDistinct) {
      std::memcpy(bytes_.data() + r / kDistinct * group, ordered.data(),
                  static_cast<std::size_t>(group));
    }
    matrix_.lanes = format.lanes;
  }

 private:
  static constexpr float kLevels[16] = {-2.7f, -2.1f, -1.6f, -1.3f, -0.9f, -0.7f, -0.4f, -0.1f,
                                        0.1f,  0.4f,  0.7f,  0.9f,  1.3f,  1.6f,  2.1f,  2.7f};
  Matrix matrix_;
  PageBuffer bytes_;
  PageBuffer planes_;
};

/// Seconds of one product with `tokens` activation rows, which are quantized beforehand; `between`
/// as in fastest_seconds.
double product_seconds(const Kernels& kernels, int threads, const Matrix& w, std::int64_t tokens,
                       const std::function<void()>& between) {
  Compute compute(kernels, threads);
  compute.fine_activations = tokens == 1;  // as in a decoding step
  Arena::Scope scope(compute.arena);
  const std::int64_t ldx = padded(w.cols);
  auto* x = compute.arena.take<float>(tokens * ldx);
  for (std::int64_t i = 0; i < tokens * ldx; ++i) {
    x[i] = static_cast<float>(i * 37 % 101 - 50) / 50.0f;
  }
  Activations rows(compute, x, tokens, w.cols, ldx);
  auto* y = compute.arena.take<float>(tokens * padded(w.rows));
  const Product product{&w, 0, rows.form(w), tokens, y, padded(w.rows)};
  return fastest_seconds([&] { run_products(compute, {&product, 1}); }, between);
}

/// `large` with one token, `small` with a batch.
ProductSpeed product_speed(const Kernels& kernels, int threads, const Matrix& large,
                           const Matrix& small, const MachineLimits& limits, std::int64_t tokens) {
  ProductSpeed speed;
  // Products and plain reading of the same bytes in turns: the speed of a shared memory changes.
  const std::span codes(large.data,
                        static_cast<std::size_t>(large.rows * row_bytes(large.type, large.cols)));
  double read = 1e30;
  speed.bytes_per_second =
      static_cast<double>(large.bytes()) / product_seconds(kernels, threads, large, 1, [&] {
        read = std::min(read, seconds_to_read(threads, codes));
      });
  speed.read_bytes_per_second = static_cast<double>(codes.size()) / read;
  speed.bandwidth_fraction = speed.bytes_per_second / speed.read_bytes_per_second;
  const double seconds = product_seconds(kernels, threads, small, tokens, [] {});
  speed.ops_per_second = 2.0 * static_cast<double>(small.rows * small.cols * tokens) / seconds;
  const bool floats = kernels.format(small.type).product(small.view()).act == ActFormat::f32;
  const bool bf16 = small.type == DType::bf16 && limits.bf16_ops_per_second > 0;
  speed.peak_fraction = speed.ops_per_second / (bf16     ? limits.bf16_ops_per_second
                                                : floats ? limits.f32_ops_per_second
                                                         : limits.dot4_ops_per_second);
  return speed;
}

}  // namespace

MachineLimits measure_limits(const Kernels& kernels, int threads) {
  return {measure_read_bandwidth(threads), peak(threads, 1e-3f, kernels.peak_f32),
          kernels.peak_bf16 == nullptr ? 0.0 : peak(threads, 1e-3f, kernels.peak_bf16),
          peak(threads, 1, kernels.peak_dot4), peak(threads, 1, kernels.peak_dot8)};
}

void measure_formats(const Kernels& kernels, int threads, std::span<const DType> types,
                     const MachineLimits& limits, const RooflineOptions& options,
                     const std::function<void(const FormatSpeed&)>& report) {
  if (options.tokens < 1) throw Error(ErrorCode::usage, "--tokens: at least 1");
  for (const DType type : types) {
    const FormatKernels& format = kernels.format(type);
    if (format.matmul == nullptr) continue;
    for (const Form& form : forms_of(type)) {
      const std::string name = stored_form(type, {form.scales, form.group});
      const std::int64_t block =
          is_planar(type) ? std::max<std::int64_t>(form.group, 32) : info(type).block_elements;
      const std::int64_t cols = options.cols / block * block;
      if (cols < block) {
        throw Error(ErrorCode::usage,
                    "--cols: " + name + " needs at least " + std::to_string(block));
      }
      TestMatrix large(form, cols, options.matrix_bytes);
      // About 4 GOP; a small batch gets a matrix that comes from memory, like the experts of a MoE.
      const std::int64_t rows = std::max<std::int64_t>(2'000'000'000 / cols / options.tokens, 1024);
      TestMatrix small(form, cols, std::min(rows * row_bytes(type, cols), options.matrix_bytes));
      const auto measure = [&] {
        return product_speed(kernels, threads, large.get(), small.get(), limits, options.tokens);
      };
      FormatSpeed speed{type, name, measure(), {}};
      if (format.lanes_of(large.get().view()) != 0) {
        large.to_kernel_order(format);
        small.to_kernel_order(format);
        speed.kernel = measure();
      }
      report(speed);
    }
  }
}

}  // namespace nemo
