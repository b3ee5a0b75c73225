// GGUF files with random weights, drawn row by row from a seed of their own and written in
// parallel.
#include "row_chunks.hpp"
#include "synth_tokenizer.hpp"
#include "synth_values.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/presets.hpp>
#include <nemo/checkpoint/quant_mix.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/io/gguf_writer.hpp>
#include <nemo/io/mapped_file.hpp>
#include <nemo/tensor/random_blocks.hpp>

#include <algorithm>
#include <cstring>

namespace nemo {
namespace {

/// A tensor of the file with what its random values need.
struct Piece {
  LayoutTensor tensor;
  DType type;
  float stddev;
  std::uint64_t seed;
  std::size_t index;   // in the writer
  std::size_t scales;  // index of its side scales, NVFP4 only

  [[nodiscard]] std::int64_t cols() const { return tensor.dims[0]; }
  [[nodiscard]] std::int64_t rows() const { return tensor.elements() / tensor.dims[0]; }
};

std::vector<std::int32_t> per_layer(const ModelConfig& c, std::int64_t LayerConfig::*field) {
  std::vector<std::int32_t> values;
  for (const LayerConfig& layer : c.layers) {
    values.push_back(static_cast<std::int32_t>(layer.*field));
  }
  return values;
}

class Metadata {
 public:
  Metadata(GgufWriter& writer, const ModelConfig& config) : w_(writer), c_(config) {}

  void write(const QuantMix& mix) const {
    w_.add_string("general.architecture", c_.architecture);
    w_.add_string("general.type", "model");
    w_.add_string("general.name", "synthetic " + c_.name);
    w_.add_u32("general.quantization_version", 2);
    w_.add_u32("general.file_type", mix.file_type);
    sizes();
    if (c_.has(LayerKind::mamba)) mamba();
    if (c_.has(LayerKind::moe)) experts();
    tokenizer();
  }

 private:
  [[nodiscard]] std::string key(const char* name) const { return c_.architecture + "." + name; }
  void number(const char* name, std::int64_t value) const {
    w_.add_u32(key(name), static_cast<std::uint32_t>(value));
  }
  [[nodiscard]] const LayerConfig* first(LayerKind kind) const {
    for (const LayerConfig& layer : c_.layers) {
      if (layer.kind == kind) return &layer;
    }
    return nullptr;
  }

  void sizes() const {
    number("block_count", static_cast<std::int64_t>(c_.layers.size()));
    number("context_length", c_.context_length > 0 ? c_.context_length : 1048576);
    number("embedding_length", c_.hidden);
    number("vocab_size", c_.vocab);
    std::vector<std::int32_t> widths;
    for (const LayerConfig& l : c_.layers) {
      widths.push_back(static_cast<std::int32_t>(l.kind == LayerKind::moe ? l.expert_ff : l.ff));
    }
    w_.add_i32s(key("feed_forward_length"), widths);
    w_.add_i32s(key("attention.head_count_kv"), per_layer(c_, &LayerConfig::kv_heads));
    // Cut models may have no attention layer, but readers expect the keys.
    const LayerConfig* attention = first(LayerKind::attention);
    const std::int64_t heads = attention != nullptr ? attention->q_heads : 1;
    const std::int64_t width = attention != nullptr ? attention->head_dim : 128;
    number("attention.head_count", heads);
    number("attention.key_length", width);
    number("attention.value_length", width);
    w_.add_f32(key("attention.layer_norm_rms_epsilon"), c_.norm_eps);
    w_.add_f32(key("attention.layer_norm_epsilon"), c_.norm_eps);
    if (c_.attention_scale != 0.0f) w_.add_f32(key("attention.scale"), c_.attention_scale);
    // Present in converted files and without meaning: there is no rotary embedding.
    w_.add_f32(key("rope.freq_base"), 10000.0f);
    number("rope.dimension_count", c_.hidden / heads);
    w_.add_bool(key("rope.scaling.finetuned"), false);
  }

  void mamba() const {
    number("ssm.conv_kernel", c_.mamba.conv_kernel);
    number("ssm.state_size", c_.mamba.state);
    number("ssm.group_count", c_.mamba.groups);
    number("ssm.inner_size", c_.mamba.inner());
    number("ssm.time_step_rank", c_.mamba.heads);
  }

  /// A number, or an array where the layers differ.
  void number_or_array(const char* name, std::int64_t LayerConfig::*field) const {
    const std::int64_t common = first(LayerKind::moe)->*field;
    for (const LayerConfig& layer : c_.layers) {
      if (layer.kind == LayerKind::moe && layer.*field != common) {
        w_.add_i32s(key(name), per_layer(c_, field));
        return;
      }
    }
    number(name, common);
  }

  void experts() const {
    number_or_array("expert_count", &LayerConfig::experts);
    number_or_array("expert_used_count", &LayerConfig::experts_used);
    number_or_array("expert_feed_forward_length", &LayerConfig::expert_ff);
    number_or_array("expert_shared_feed_forward_length", &LayerConfig::shared_ff);
    number("expert_shared_count", first(LayerKind::moe)->shared_ff > 0 ? 1 : 0);
    w_.add_bool(key("expert_weights_norm"), c_.router.normalize);
    w_.add_f32(key("expert_weights_scale"), c_.router.scale);
    number("expert_group_count", c_.router.groups);
    number("expert_group_used_count", c_.router.groups_used);
    if (first(LayerKind::moe)->latent > 0) number_or_array("moe_latent_size", &LayerConfig::latent);
  }

  void tokenizer() const {
    const text::TokenizerData data = synthetic_tokenizer(c_.vocab);
    std::vector<std::int32_t> types;
    types.reserve(data.types.size());
    for (const text::TokenType type : data.types) types.push_back(static_cast<std::int32_t>(type));
    w_.add_string("tokenizer.ggml.model", "gpt2");
    w_.add_string("tokenizer.ggml.pre", data.pre_name);
    w_.add_strings("tokenizer.ggml.tokens", data.tokens);
    w_.add_i32s("tokenizer.ggml.token_type", types);
    w_.add_strings("tokenizer.ggml.merges", data.merges);
    w_.add_u32("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(*data.bos));
    w_.add_u32("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(*data.eos));
    w_.add_u32("tokenizer.ggml.unknown_token_id", static_cast<std::uint32_t>(*data.unk));
    w_.add_u32("tokenizer.ggml.padding_token_id", static_cast<std::uint32_t>(*data.pad));
    w_.add_bool("tokenizer.ggml.add_bos_token", *data.add_bos);
    w_.add_string("tokenizer.chat_template", kSyntheticTemplate);
  }

  GgufWriter& w_;
  const ModelConfig& c_;
};

/// Rows [first_row, first_row + rows) of a tensor into `out`.
void generate(const Piece& piece, std::int64_t first_row, std::int64_t rows, std::byte* out) {
  const std::int64_t bytes = row_bytes(piece.type, piece.cols());
  const bool drawn = piece.tensor.is_matrix() || piece.tensor.role == TensorRole::router;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto row = static_cast<std::uint64_t>(first_row + r);
    std::byte* to = out + r * bytes;
    if (drawn) {
      // NVFP4 blocks are drawn with variance 1; the side scale brings the size.
      const float stddev = piece.type == DType::nvfp4 ? 1.0f : piece.stddev;
      random_row(piece.type, piece.cols(), stddev, mixed(piece.seed + row), to);
      continue;
    }
    const auto cols = static_cast<std::uint64_t>(piece.cols());
    for (std::uint64_t c = 0; c < cols; ++c) {
      const float value = small_value(piece.tensor.role, uniform(piece.seed, row * cols + c));
      std::memcpy(to + c * sizeof(float), &value, sizeof(float));
    }
  }
}

std::vector<Piece> declare(GgufWriter& writer, const ModelConfig& config, const QuantMix& mix,
                           std::uint64_t seed) {
  MixAssigner types(mix, config);
  std::vector<Piece> pieces;
  for (LayoutTensor& tensor : gguf_layout(config)) {
    Piece piece{{},
                types.next(tensor),
                stddev_of(tensor, config.layers.size()),
                seed_of(seed, tensor.name),
                0,
                0};
    piece.index = writer.add_tensor(tensor.name, piece.type, tensor.dims);
    if (piece.type == DType::nvfp4) {
      const std::string stem = tensor.name.substr(0, tensor.name.rfind('.'));
      const std::int64_t count = tensor.dims.size() > 2 ? tensor.dims[2] : 1;
      piece.scales = writer.add_tensor(stem + ".scale", DType::f32, {&count, 1});
    }
    piece.tensor = std::move(tensor);
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

void write_scales(GgufWriter& writer, const Piece& piece) {
  std::vector<float> scales(writer.tensor_bytes(piece.scales) / sizeof(float));
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const double spread = 0.1 * (2.0 * uniform(~piece.seed, i) - 1.0);
    scales[i] = piece.stddev * static_cast<float>(1.0 + spread);
  }
  writer.write(piece.scales, 0, std::as_bytes(std::span(scales)));
}

}  // namespace

ModelConfig synth_config(const std::string& arch, std::int64_t layers) {
  ModelConfig config;
  if (arch.ends_with(".json")) {
    const MappedFile file{std::filesystem::path(arch)};
    const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.size());
    config = config_from_json(parse_config_json(text, arch));
    if (config.name.empty()) config.name = std::filesystem::path(arch).stem().string();
  } else {
    config = preset_config(arch);
  }
  if (layers == 0) return config;
  if (layers < 0 || layers > static_cast<std::int64_t>(config.layers.size())) {
    throw Error(ErrorCode::usage, "--layers must be 1 to " + std::to_string(config.layers.size()) +
                                      " for this model");
  }
  config.layers.resize(static_cast<std::size_t>(layers));
  config.mtp.clear();
  config.architecture = config.has(LayerKind::moe) ? "nemotron_h_moe" : "nemotron_h";
  return config;
}

void write_synthetic_gguf(const std::filesystem::path& path, const ModelConfig& config,
                          const SynthOptions& options) {
  const QuantMix& mix = find_quant_mix(options.mix);
  config.validate();
  GgufWriter writer(path);
  Metadata(writer, config).write(mix);
  const std::vector<Piece> pieces = declare(writer, config, mix, options.seed);

  const std::uint64_t total = writer.file_bytes();
  const std::uint64_t free = AtomicFile::free_bytes(path);
  if (total > free) {
    throw Error(ErrorCode::io, "'" + path.string() + "' needs " + std::to_string(total >> 20) +
                                   " MiB but only " + std::to_string(free >> 20) +
                                   " MiB are free on that disk");
  }
  writer.begin();

  std::vector<RowChunk> chunks;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    if (piece.type == DType::nvfp4) write_scales(writer, piece);
    add_chunks(i, piece.rows(), row_bytes(piece.type, piece.cols()), chunks);
  }
  write_chunks(chunks, options.threads, total, options.progress, [&](const RowChunk& chunk) {
    const Piece& piece = pieces[chunk.piece];
    std::vector<std::byte> buffer(static_cast<std::size_t>(chunk.rows * chunk.row_bytes));
    generate(piece, chunk.first_row, chunk.rows, buffer.data());
    writer.write(piece.index, static_cast<std::uint64_t>(chunk.first_row * chunk.row_bytes),
                 buffer);
  });
  writer.finish();
}

}  // namespace nemo
