// Spreads that keep a random model healthy.
//
// With inputs of variance 1, a product with weights of variance 1/fan_in has variance 1. Matrices
// that write to the residual stream are divided by sqrt(2 * layers) too, so that the stream stays
// near its start however deep the model is; relu(x)^2 of a normal x has mean square 1.5.
#include "synth_values.hpp"

#include <cmath>

namespace nemo {

std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

std::uint64_t seed_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mixed(seed ^ mixed(hash));
}

double uniform(std::uint64_t seed, std::uint64_t index) {
  return static_cast<double>(mixed(seed + index) >> 11) * 0x1p-53;
}

float stddev_of(const LayoutTensor& tensor, std::size_t layers) {
  const double fan_in = 1.0 / std::sqrt(static_cast<double>(tensor.dims[0]));
  switch (tensor.role) {
    case TensorRole::embedding:
      return 1.0f;
    case TensorRole::head:
      return static_cast<float>(2.0 * fan_in);
    case TensorRole::mixer_out:
      return static_cast<float>(fan_in / std::sqrt(1.5 * 2.0 * static_cast<double>(layers)));
    default:
      return static_cast<float>(fan_in);
  }
}

float small_value(TensorRole role, double u) {
  const double spread = 2.0 * u - 1.0;
  switch (role) {
    case TensorRole::router_bias:
      return static_cast<float>(0.01 * spread);
    case TensorRole::conv:
      return static_cast<float>(0.85 * spread);  // 4 taps: variance 1
    case TensorRole::conv_bias:
      return static_cast<float>(0.1 * spread);
    case TensorRole::dt_bias: {
      // softplus(bias) is log-uniform in the trained range 0.001 to 0.1.
      const double dt = 0.001 * std::pow(100.0, u);
      return static_cast<float>(std::log(std::expm1(dt)));
    }
    case TensorRole::a:
      return static_cast<float>(-1.0 - 15.0 * u);
    default:
      return static_cast<float>(1.0 + 0.1 * spread);  // norms and D
  }
}

}  // namespace nemo
