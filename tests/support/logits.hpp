// Comparing rows of logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace nemo::test {

inline double max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = a.size() == b.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = std::abs(double(a[i]) - double(b[i]));
    worst = d <= worst ? worst : d;  // NaN counts
  }
  return worst;
}

/// Mean over positions of KL(softmax(reference) || softmax(other)).
inline double mean_kl(const std::vector<float>& reference, const std::vector<float>& other,
                      std::size_t vocab) {
  double total = 0;
  for (std::size_t at = 0; at < reference.size(); at += vocab) {
    const auto log_sum = [&](const std::vector<float>& l) {
      const double max =
          double(*std::max_element(l.begin() + long(at), l.begin() + long(at + vocab)));
      double sum = 0;
      for (std::size_t i = 0; i < vocab; ++i) sum += std::exp(double(l[at + i]) - max);
      return max + std::log(sum);
    };
    const double zr = log_sum(reference), zo = log_sum(other);
    for (std::size_t i = 0; i < vocab; ++i) {
      const double lr = double(reference[at + i]) - zr;
      total += std::exp(lr) * (lr - (double(other[at + i]) - zo));
    }
  }
  return total / (double(reference.size()) / double(vocab));
}

/// Part of the positions at which the most probable token is the same.
inline double top1_agreement(const std::vector<float>& a, const std::vector<float>& b,
                             std::size_t vocab) {
  const auto argmax = [&](const std::vector<float>& l, std::size_t at) {
    return std::max_element(l.begin() + long(at), l.begin() + long(at + vocab)) -
           (l.begin() + long(at));
  };
  int same = 0;
  for (std::size_t at = 0; at < a.size(); at += vocab) same += argmax(a, at) == argmax(b, at);
  return same / (double(a.size()) / double(vocab));
}

}  // namespace nemo::test
