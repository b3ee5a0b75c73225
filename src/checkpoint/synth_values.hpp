// The random numbers of synthetic checkpoints, whatever container they go to.
#pragma once

#include <nemo/checkpoint/gguf_layout.hpp>

#include <cstdint>
#include <string_view>

namespace nemo {

inline constexpr std::string_view kSyntheticTemplate =
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{%- if enable_thinking is defined and not enable_thinking %}"
    "{{- '<|im_start|>assistant\\n<think></think>' }}"
    "{%- else %}"
    "{{- '<|im_start|>assistant\\n<think>\\n' }}"
    "{%- endif %}"
    "{%- endif %}";

/// Finaliser of splitmix64.
[[nodiscard]] std::uint64_t mixed(std::uint64_t x);
/// The seed of a tensor.
[[nodiscard]] std::uint64_t seed_of(std::uint64_t seed, std::string_view name);
/// Uniform in [0, 1).
[[nodiscard]] double uniform(std::uint64_t seed, std::uint64_t index);

/// Standard deviation of a matrix's elements in a model of `layers` layers.
[[nodiscard]] float stddev_of(const LayoutTensor& tensor, std::size_t layers);

/// One element of the small tensors, u uniform in [0, 1).
[[nodiscard]] float small_value(TensorRole role, double u);

}  // namespace nemo
