// Assignment of block formats to tensors, following the published behaviour of llama.cpp's
// quantizer, so that a file made here has the types (and speed) of a downloaded one.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/quant_mix.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <array>
#include <cctype>

namespace nemo {
namespace {

constexpr std::array kMixes = {
    QuantMix{"F32", DType::f32, 0},          QuantMix{"F16", DType::f16, 1},
    QuantMix{"BF16", DType::bf16, 32},       QuantMix{"Q4_0", DType::q4_0, 2},
    QuantMix{"Q4_1", DType::q4_1, 3},        QuantMix{"Q5_0", DType::q5_0, 8},
    QuantMix{"Q5_1", DType::q5_1, 9},        QuantMix{"Q8_0", DType::q8_0, 7},
    QuantMix{"Q2_K", DType::q2_k, 10},       QuantMix{"Q2_K_S", DType::q2_k, 21},
    QuantMix{"Q3_K_S", DType::q3_k, 11},     QuantMix{"Q3_K_M", DType::q3_k, 12},
    QuantMix{"Q3_K_L", DType::q3_k, 13},     QuantMix{"Q4_K_S", DType::q4_k, 14},
    QuantMix{"Q4_K_M", DType::q4_k, 15},     QuantMix{"Q5_K_S", DType::q5_k, 16},
    QuantMix{"Q5_K_M", DType::q5_k, 17},     QuantMix{"Q6_K", DType::q6_k, 18},
    QuantMix{"IQ1_S", DType::iq1_s, 24},     QuantMix{"IQ1_M", DType::iq1_m, 31},
    QuantMix{"IQ2_XXS", DType::iq2_xxs, 19}, QuantMix{"IQ2_XS", DType::iq2_xs, 20},
    QuantMix{"IQ2_S", DType::iq2_xs, 28},    QuantMix{"IQ2_M", DType::iq2_s, 29},
    QuantMix{"IQ3_XXS", DType::iq3_xxs, 23}, QuantMix{"IQ3_XS", DType::iq3_s, 22},
    QuantMix{"IQ3_S", DType::iq3_s, 26},     QuantMix{"IQ3_M", DType::iq3_s, 27},
    QuantMix{"IQ4_NL", DType::iq4_nl, 25},   QuantMix{"IQ4_XS", DType::iq4_xs, 30},
    QuantMix{"TQ1_0", DType::tq1_0, 36},     QuantMix{"TQ2_0", DType::tq2_0, 37},
    QuantMix{"Q1_0", DType::q1_0, 40},       QuantMix{"MXFP4_MOE", DType::mxfp4, 38},
    QuantMix{"NVFP4", DType::nvfp4, 39},
};

bool is_any(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool has_part(const LayoutTensor& tensor, std::string_view part) {
  return tensor.name.find(part) != std::string::npos;
}

/// The 32-element format that replaces one whose blocks do not divide a row.
DType fallback(DType type, std::int64_t row) {
  const auto fits = [row](DType t) { return row % info(t).block_elements == 0; };
  if (fits(type)) return type;
  DType narrow = DType::f16;
  switch (type) {
    case DType::iq1_s:
    case DType::iq1_m:
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s:
    case DType::iq3_xxs:
    case DType::iq3_s:
    case DType::iq4_xs:
      narrow = DType::iq4_nl;
      break;
    case DType::q2_k:
    case DType::q3_k:
    case DType::q1_0:
    case DType::tq1_0:
    case DType::tq2_0:
      narrow = DType::q4_0;
      break;
    case DType::q4_k:
      narrow = DType::q5_0;
      break;
    case DType::q5_k:
      narrow = DType::q5_1;
      break;
    case DType::q6_k:
    case DType::nvfp4:
      narrow = DType::q8_0;
      break;
    default:
      break;
  }
  return fits(narrow) ? narrow : DType::f16;
}

}  // namespace

std::span<const QuantMix> quant_mixes() noexcept { return kMixes; }

const QuantMix& find_quant_mix(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (is_any(upper, {"Q3_K", "Q4_K", "Q5_K"})) upper += "_M";
  if (upper == "MXFP4") upper = "MXFP4_MOE";
  std::string known;
  for (const QuantMix& mix : kMixes) {
    if (mix.name == upper) return mix;
    known += (known.empty() ? "" : ", ") + std::string(mix.name);
  }
  throw Error(ErrorCode::usage,
              "unknown quantization type " + in_quotes(name) + "; known are " + known);
}

MixAssigner::MixAssigner(const QuantMix& mix, const ModelConfig& config)
    : mix_(mix),
      layers_(static_cast<int>(config.layers.size())),
      experts_(0),
      attention_layers_(static_cast<int>(config.count(LayerKind::attention))),
      tied_head_(config.tied_head) {
  for (const LayerConfig& layer : config.layers) {
    if (experts_ == 0) experts_ = layer.experts;
  }
}

bool MixAssigner::more_bits(int index, int count) const noexcept {
  return index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2;
}

DType MixAssigner::attention_v() {
  // The rules for strongly grouped queries never apply here: the quantizer reads the grouping off
  // layer 0, which is a Mamba layer in every model of the family.
  const int index = attention_v_seen_++;
  if (experts_ == 8) return DType::q8_0;
  if (is_any(mix_.name, {"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M"})) {
    if (experts_ >= 4) return DType::q4_k;
    return is_any(mix_.name, {"IQ2_S", "IQ2_M"}) ? DType::iq3_s : DType::q2_k;
  }
  if (mix_.name == "Q2_K") return DType::q3_k;
  if (mix_.name == "IQ3_XXS") return DType::iq3_s;
  if (mix_.name == "IQ3_M") return DType::q4_k;
  if (mix_.name == "Q3_K_M") return index < 2 ? DType::q5_k : DType::q4_k;
  if (mix_.name == "Q3_K_L") return DType::q5_k;
  if (is_any(mix_.name, {"Q4_K_M", "Q5_K_M"}) && more_bits(index, attention_layers_)) {
    return DType::q6_k;
  }
  if (mix_.name == "Q4_K_S" && index < 4) return DType::q5_k;
  return mix_.base;
}

DType MixAssigner::attention_output() const {
  if (is_any(mix_.name, {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})) {
    if (experts_ == 8) return DType::q5_k;
    if (is_any(mix_.name, {"IQ1_S", "IQ1_M"})) return DType::iq2_xxs;
    return is_any(mix_.name, {"IQ2_S", "IQ2_M"}) ? DType::iq3_s : mix_.base;
  }
  if (experts_ == 8) {
    const bool wider = is_any(mix_.name, {"Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL",
                                          "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS"});
    return wider ? DType::q5_k : mix_.base;
  }
  if (mix_.name == "Q2_K") return DType::q3_k;
  if (mix_.name == "IQ3_XXS") return DType::iq3_s;
  if (is_any(mix_.name, {"Q3_K_M", "IQ3_M"})) return DType::q4_k;
  if (mix_.name == "Q3_K_L") return DType::q5_k;
  return mix_.base;
}

DType MixAssigner::ffn_down(const LayoutTensor& tensor) {
  const int seen = ffn_down_seen_++;
  if (is_any(mix_.name, {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"})) {
    if (seen >= layers_ / 8) return mix_.base;
    return is_any(mix_.name, {"IQ2_S", "IQ2_M"}) ? DType::iq3_s : DType::q2_k;
  }
  const int index = experts_ > 1 ? tensor.layer : seen;
  const bool early = index < layers_ / 8;
  if (mix_.name == "Q2_K") return DType::q3_k;
  if (mix_.name == "Q2_K_S" && early) return DType::q4_k;
  if (mix_.name == "IQ3_XXS") return early ? DType::q4_k : DType::q3_k;
  if (mix_.name == "Q3_K_M") return index < layers_ / 16 ? DType::q5_k : DType::q4_k;
  if (mix_.name == "IQ3_M" && (early || (experts_ == 8 && more_bits(index, layers_)))) {
    return DType::q4_k;
  }
  if (mix_.name == "Q3_K_L") return DType::q5_k;
  if (is_any(mix_.name, {"Q4_K_M", "Q5_K_M"}) && more_bits(index, layers_)) return DType::q6_k;
  if (is_any(mix_.name, {"IQ4_NL", "IQ4_XS", "Q4_K_S"}) && early) return DType::q5_k;
  return mix_.base;
}

DType MixAssigner::wanted(const LayoutTensor& tensor) {
  const std::int64_t row = tensor.dims[0];
  // A tied embedding is also the head and gets the head's type.
  if (tensor.role == TensorRole::head || (tensor.role == TensorRole::embedding && tied_head_)) {
    if (mix_.base == DType::mxfp4 || row % info(mix_.base).block_elements != 0) return DType::q8_0;
    if (is_any(mix_.name, {"IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ2_S", "IQ2_M", "IQ1_M"})) {
      return DType::q5_k;
    }
    return mix_.base == DType::q8_0 ? DType::q8_0 : DType::q6_k;
  }
  if (mix_.base == DType::mxfp4) {
    return tensor.dims.size() > 2 && tensor.dims[2] > 1 ? DType::mxfp4 : DType::q8_0;
  }
  if (tensor.role == TensorRole::embedding) {
    if (is_any(mix_.name, {"IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"})) return DType::q2_k;
    if (is_any(mix_.name, {"IQ2_S", "IQ2_M", "IQ3_XXS"})) return DType::iq3_s;
    if (is_any(mix_.name, {"TQ1_0", "TQ2_0"})) return DType::q4_k;
    return mix_.base;
  }
  if (has_part(tensor, ".attn_v.")) return attention_v();
  if (has_part(tensor, ".attn_output.")) return attention_output();
  if (has_part(tensor, ".ffn_down")) return ffn_down(tensor);
  if (has_part(tensor, ".attn_k.") && experts_ == 8) {
    return is_any(mix_.name, {"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M"})
               ? DType::q4_k
               : DType::q8_0;
  }
  if (has_part(tensor, ".attn_k.") || has_part(tensor, ".attn_q.")) {
    if (mix_.name == "IQ3_XS") return DType::iq3_xxs;
    if (mix_.name == "IQ3_XXS") return DType::iq2_s;
  }
  if (has_part(tensor, ".ffn_up") && mix_.name == "IQ3_XS") {
    const int index = experts_ > 1 ? tensor.layer : ffn_down_seen_;
    if (index >= layers_ / 8 && index < 7 * layers_ / 8) return DType::iq3_xxs;
  }
  return mix_.base;
}

DType MixAssigner::next(const LayoutTensor& tensor) {
  if (!tensor.is_matrix()) return DType::f32;
  if (info(mix_.base).block_elements == 1) return mix_.base;
  if (mix_.base == DType::nvfp4) {
    // These files are not made by the quantizer but converted from ModelOpt checkpoints, which keep
    // embeddings, head, attention and latent projections in BF16.
    const bool kept =
        tensor.layer < 0 || has_part(tensor, ".attn_") || has_part(tensor, "_latent_");
    return kept || tensor.dims[0] % info(DType::nvfp4).block_elements != 0 ? DType::bf16
                                                                           : DType::nvfp4;
  }
  return fallback(wanted(tensor), tensor.dims[0]);
}

}  // namespace nemo
