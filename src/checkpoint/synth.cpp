// GGUF files with random weights, drawn row by row from a seed of their own and written in
// parallel.
#include "gguf_metadata.hpp"
#include "row_chunks.hpp"
#include "synth_tokenizer.hpp"
#include "synth_values.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/presets.hpp>
#include <nemo/checkpoint/quant_mix.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/io/gguf_writer.hpp>
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
  for (LayoutTensor& tensor : whole_layout(config)) {
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

ModelConfig synth_config(const std::string& arch, std::int64_t layers, bool draft_head) {
  ModelConfig config;
  if (const auto path = config_path(arch)) {
    config = config_from_json(read_config_json(*path));
    if (config.name.empty()) config.name = std::filesystem::absolute(arch).stem().string();
  } else {
    config = preset_config(arch, draft_head);
  }
  if (layers == 0) return config;
  if (layers < 0 || layers > static_cast<std::int64_t>(config.layers.size())) {
    throw Error(ErrorCode::usage, "--layers must be 1 to " + std::to_string(config.layers.size()) +
                                      " for this model");
  }
  config.layers.resize(static_cast<std::size_t>(layers));
  if (!draft_head) config.mtp.clear();
  config.architecture = config.has(LayerKind::moe) ? "nemotron_h_moe" : "nemotron_h";
  return config;
}

void write_synthetic_gguf(const std::filesystem::path& path, const ModelConfig& config,
                          const SynthOptions& options) {
  const QuantMix& mix = find_quant_mix(options.mix);
  config.validate();
  GgufWriter writer(path);
  put_gguf_sizes(writer, config, "synthetic " + config.name, mix.file_type);
  put_gguf_tokenizer(writer, synthetic_tokenizer(config.vocab));
  writer.add_string("tokenizer.chat_template", kSyntheticTemplate);
  const std::vector<Piece> pieces = declare(writer, config, mix, options.seed);

  writer.begin();

  std::vector<RowChunk> chunks;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    if (piece.type == DType::nvfp4) write_scales(writer, piece);
    add_chunks(i, piece.rows(), row_bytes(piece.type, piece.cols()), chunks);
  }
  write_chunks(
      chunks, options.threads, writer.file_bytes(), options.progress, [&](const RowChunk& chunk) {
        const Piece& piece = pieces[chunk.piece];
        std::vector<std::byte> buffer(static_cast<std::size_t>(chunk.rows * chunk.row_bytes));
        generate(piece, chunk.first_row, chunk.rows, buffer.data());
        writer.write(piece.index, static_cast<std::uint64_t>(chunk.first_row * chunk.row_bytes),
                     buffer);
      });
  writer.finish();
}

}  // namespace nemo
