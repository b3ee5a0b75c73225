// The named quantization mixes of llama.cpp ("Q4_K_M"): which type each tensor of a file gets.
#pragma once

#include <nemo/checkpoint/gguf_layout.hpp>
#include <nemo/tensor/dtype.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace nemo {

/// One mix by name.
struct QuantMix {
  std::string_view name;
  DType base;               // type of most matrices
  std::uint32_t file_type;  // general.file_type
};

[[nodiscard]] std::span<const QuantMix> quant_mixes() noexcept;
/// Case-insensitive; "Q4_K" means Q4_K_M and so on. Throws Error{usage} listing the names.
[[nodiscard]] const QuantMix& find_quant_mix(std::string_view name);

/// Types of the tensors of one model under one mix, as llama.cpp's quantizer assigns them without
/// an importance matrix; rows that do not fit a block format fall back to one with 32 elements.
class MixAssigner {
 public:
  MixAssigner(const QuantMix& mix, const ModelConfig& config);
  /// Must be asked for every tensor of gguf_layout() once, in order.
  [[nodiscard]] DType next(const LayoutTensor& tensor);

 private:
  [[nodiscard]] DType wanted(const LayoutTensor& tensor);
  [[nodiscard]] DType attention_v();
  [[nodiscard]] DType attention_output() const;
  [[nodiscard]] DType ffn_down(const LayoutTensor& tensor);
  [[nodiscard]] bool more_bits(int index, int count) const noexcept;

  const QuantMix& mix_;
  int layers_;
  std::int64_t experts_;  // of the first MoE layer; 8 has rules of its own
  int attention_layers_;
  bool tied_head_;
  int attention_v_seen_ = 0;
  int ffn_down_seen_ = 0;
};

}  // namespace nemo
