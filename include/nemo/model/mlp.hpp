// The dense feed-forward mixer: out = W_down relu(W_up x)^2.
#pragma once

#include <nemo/model/matrix.hpp>

#include <vector>

namespace nemo {

struct MlpWeights {
  Matrix up;                     // [ff, d]
  Matrix down;                   // [d, ff]
  std::vector<float> up_bias;    // empty or [ff]
  std::vector<float> down_bias;  // empty or [d]
};

/// x: normalised input rows; out: [tokens, d], ldo floats apart.
void mlp(Compute& compute, const MlpWeights& w, Activations& x, float* out, std::int64_t ldo);

}  // namespace nemo
