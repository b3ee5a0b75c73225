// Measures means with a cache policy that adds up what it is given.
#include <nemo/base/error.hpp>
#include <nemo/cache/dense_cache.hpp>
#include <nemo/engine/kv_calibration.hpp>
#include <nemo/model/nemotron_h.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace nemo {
namespace {

/// Keys and values in float, and the sums of all that were appended since construction.
class SummingCache : public Fp32Cache {
 public:
  struct Sums {
    std::vector<double> keys, values;  // [kv_heads * head_dim]
  };
  static constexpr std::string_view kName = "sums";

  explicit SummingCache(const KvShape& shape) : Fp32Cache(shape) {
    for (const KvShape::Layer& layer : shape.layers) {
      const auto width = static_cast<std::size_t>(layer.kv_heads * layer.head_dim);
      sums_.push_back({std::vector<double>(width), std::vector<double>(width)});
    }
  }
  void append(const Kernels& kernels, std::int64_t layer, std::int64_t first, const float* keys,
              const float* values, std::int64_t stride, std::int64_t tokens) {
    Fp32Cache::append(kernels, layer, first, keys, values, stride, tokens);
    Sums& sums = sums_[static_cast<std::size_t>(layer)];
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::size_t i = 0; i < sums.keys.size(); ++i) {
        sums.keys[i] += static_cast<double>(keys[t * stride + static_cast<std::int64_t>(i)]);
        sums.values[i] += static_cast<double>(values[t * stride + static_cast<std::int64_t>(i)]);
      }
    }
  }
  [[nodiscard]] SummingCache fork() const { return {Fp32Cache::fork(), sums_}; }
  [[nodiscard]] const std::vector<Sums>& sums() const noexcept { return sums_; }

 private:
  SummingCache(Fp32Cache&& cache, std::vector<Sums> sums)
      : Fp32Cache(std::move(cache)), sums_(std::move(sums)) {}
  std::vector<Sums> sums_;
};

std::vector<float> mean_of(const std::vector<double>& sum, std::size_t count) {
  std::vector<float> mean;
  for (const double x : sum) mean.push_back(static_cast<float>(x / static_cast<double>(count)));
  return mean;
}

}  // namespace

KvMeans calibrate_kv(const Model& model, std::span<const std::int32_t> tokens,
                     const KvCalibrationOptions& options) {
  if (options.window < 1) throw Error(ErrorCode::usage, "window: at least 1 token");
  if (tokens.empty()) throw Error(ErrorCode::bad_input, "calibration: the text has no tokens");
  if (!model.config().has(LayerKind::attention)) {
    throw Error(ErrorCode::bad_input, "calibration: this model has no attention layers");
  }
  for (const std::int32_t id : tokens) {
    if (id < 0 || id >= model.config().vocab) {
      throw Error(ErrorCode::bad_input,
                  "calibration: token " + std::to_string(id) + " is outside the vocabulary");
    }
  }
  // The weights outlive this call with the model.
  const NemotronH<SummingCache> network(
      std::shared_ptr<const ModelWeights>(std::shared_ptr<void>(), &model.weights()));
  Compute compute(model.kernels(), model.threads());
  constexpr std::size_t kChunk = 512;
  const auto window = static_cast<std::size_t>(options.window);
  auto state = network.new_state(static_cast<std::int64_t>(std::min(window, tokens.size())));
  std::vector<Mamba2State> const fresh = state.mamba;
  for (std::size_t begin = 0; begin < tokens.size();) {
    const std::size_t in_window = begin % window;
    if (in_window == 0) {
      state.kv.truncate(0);
      state.mamba = fresh;
      state.tokens = 0;
    }
    const std::size_t count = std::min({kChunk, window - in_window, tokens.size() - begin});
    network.forward(compute, state, tokens.subspan(begin, count), {}, nullptr);
    begin += count;
    if (options.progress && !options.progress(begin, tokens.size()) && begin < tokens.size()) {
      throw Error(ErrorCode::cancelled, "calibration cancelled");
    }
  }
  KvMeans means;
  for (const SummingCache::Sums& sums : state.kv.sums()) {
    means.push_back({mean_of(sums.keys, tokens.size()), mean_of(sums.values, tokens.size())});
  }
  return means;
}

}  // namespace nemo
