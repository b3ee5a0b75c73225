// Directories with random weights: random codes, and scales that give them the wanted spread.
//
//   value = scale * unit,  scale = stddev / rms(unit) with a random spread of a quarter,
//
// where `unit` is what uniformly random codes decode to.
#include "directory_config.hpp"
#include "row_chunks.hpp"
#include "synth_tokenizer.hpp"
#include "synth_values.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/half.hpp>
#include <nemo/checkpoint/config_writer.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/io/atomic_folder.hpp>
#include <nemo/io/safetensors_writer.hpp>
#include <nemo/tensor/random_blocks.hpp>
#include <nemo/text/tokenizer_json_writer.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kTritsPerWord = 20;

double rms(const std::vector<float>& levels) {
  double sum = 0;
  for (const float x : levels) sum += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(sum / static_cast<double>(levels.size()));
}

/// Root mean square of uniformly random codes before their scale.
double unit_rms(const WeightFormat& f) {
  switch (f.code) {
    case WeightCode::bf16:
      return 1.0;
    case WeightCode::affine: {
      const double last = static_cast<double>((1 << f.bits) - 1);
      return std::sqrt(last * (last + 2) / 12);
    }
    case WeightCode::turboquant:
      return rms(turboquant_codebook(f.bits));
    case WeightCode::fp8:
    case WeightCode::mxfp8: {
      std::vector<float> levels;
      for (int x = 0; x < 0x7f; ++x) levels.push_back(ue4m3(static_cast<std::uint8_t>(x)));
      return rms(levels);
    }
    case WeightCode::modelopt_nvfp4:
    case WeightCode::mxfp4:
    case WeightCode::nvfp4:
      break;
  }
  return std::sqrt(68.5 / 8);  // squares of 0, 0.5, 1, 1.5, 2, 3, 4, 6
}

/// A scale of one byte is too coarse for any one value: `low` is used and, with some odds that keep
/// the mean square, the next higher one.
struct CoarseScale {
  std::uint8_t low = 0;
  double odds = 0;

  [[nodiscard]] std::uint8_t pick(double u) const {
    return static_cast<std::uint8_t>(u < odds ? low + 1 : low);
  }
};
CoarseScale coarse_scale(WeightCode code, double value) {
  const bool e4m3 = code == WeightCode::nvfp4;
  const auto read = [e4m3](int x) {
    return e4m3 ? static_cast<double>(ue4m3(static_cast<std::uint8_t>(x)))
                : std::ldexp(1.0, x - 127);
  };
  int low = 0;
  while (low + 1 < (e4m3 ? 0x7e : 0xfe) && read(low + 1) <= value) ++low;
  const double a = read(low);
  const double b = read(low + 1);
  return {static_cast<std::uint8_t>(low), (value * value - a * a) / (b * b - a * a)};
}

/// A tensor to be written, with what its random values need.
struct Piece {
  DirectoryTensor tensor;
  const LayoutTensor* source;
  double scale;        // of the matrix: stddev / rms(unit)
  CoarseScale coarse;  // the same in the format's bytes
  std::uint64_t seed;  // of the matrix
  std::size_t index;   // in the writer

  [[nodiscard]] std::int64_t cols() const { return tensor.shape.empty() ? 1 : tensor.shape.back(); }
  [[nodiscard]] std::int64_t rows() const { return tensor.elements() / cols(); }
  [[nodiscard]] std::int64_t row_bytes() const { return tensor.bytes() / rows(); }
};

template <class T>
void put(std::byte*& to, T value) {
  std::memcpy(to, &value, sizeof(T));
  to += sizeof(T);
}

/// Of a group: 0.75 to 1.25, with a random sign for formats whose codes are not symmetric.
double spread(const Piece& piece, std::uint64_t group) {
  return 0.75 + 0.5 * uniform(~piece.seed, group);
}
double sign(const Piece& piece, std::uint64_t group) {
  return (mixed(piece.seed ^ mixed(group)) & 1) != 0 ? 1.0 : -1.0;
}

/// ModelOpt's block scales lie between 16 and 30, so that the factor carries the size.
std::uint8_t modelopt_scale(std::uint64_t random) {
  return static_cast<std::uint8_t>(0x58 + (random & 7));
}
double modelopt_scale_rms() {
  std::vector<float> levels;
  for (std::uint64_t i = 0; i < 8; ++i) levels.push_back(ue4m3(modelopt_scale(i)));
  return rms(levels);
}

void scales_row(const Piece& p, std::uint64_t row, std::byte* to) {
  const WeightFormat& f = p.tensor.format;
  for (std::int64_t c = 0; c < p.cols(); ++c) {
    const std::uint64_t group =
        row * static_cast<std::uint64_t>(p.cols()) + static_cast<std::uint64_t>(c);
    const double value = p.scale * spread(p, group);
    switch (f.code) {
      case WeightCode::affine:
        put(to, to_bfloat16(static_cast<float>(value * sign(p, group))));
        break;
      case WeightCode::turboquant:
        put(to, to_half(static_cast<float>(value)));
        break;
      case WeightCode::modelopt_nvfp4:
        put(to, modelopt_scale(mixed(p.seed + group)));
        break;
      default:
        put(to, p.coarse.pick(uniform(~p.seed, group)));
    }
  }
}

/// Takes the mean of the codes away from the scale as it is stored.
void biases_row(const Piece& p, std::uint64_t row, std::byte* to) {
  const float mean = 0.5f * static_cast<float>((1 << p.tensor.format.bits) - 1);
  std::vector<BFloat16> scales(static_cast<std::size_t>(p.cols()));
  scales_row(p, row, reinterpret_cast<std::byte*>(scales.data()));
  for (const BFloat16 scale : scales) put(to, to_bfloat16(-mean * to_float(scale)));
}

void codes_row(const Piece& p, std::uint64_t row, std::byte* to) {
  const auto bytes = static_cast<std::size_t>(p.row_bytes());
  random_bytes(mixed(p.seed + row), to, bytes);
  const WeightFormat& f = p.tensor.format;
  if (f.code == WeightCode::fp8 || f.code == WeightCode::mxfp8) {
    for (std::size_t i = 0; i < bytes; ++i) {  // 0x7f and 0xff are not numbers
      if ((to[i] & std::byte{0x7f}) == std::byte{0x7f}) to[i] ^= std::byte{1};
    }
  }
  if (f.code != WeightCode::turboquant) return;
  // Bits behind the last index of a word, and indices behind the row's end, are zero.
  const std::int64_t in = p.source->dims[0];
  const std::int64_t per_word = f.bits == 0 ? kTritsPerWord : 32 / f.bits;
  for (std::int64_t w = 0; w < p.cols(); ++w) {
    std::uint64_t limit = 1;
    for (std::int64_t i = 0; i < std::min(per_word, in - w * per_word); ++i) {
      limit *= f.bits == 0 ? 3u : 1u << f.bits;
    }
    std::uint32_t word;
    std::memcpy(&word, to + 4 * w, 4);
    word = static_cast<std::uint32_t>(word % limit);
    std::memcpy(to + 4 * w, &word, 4);
  }
}

void values_row(const Piece& p, std::uint64_t row, std::byte* to) {
  const LayoutTensor& source = *p.source;
  if (source.is_matrix() || source.role == TensorRole::router) {
    random_row(DType::bf16, p.cols(), static_cast<float>(p.scale), mixed(p.seed + row), to);
    return;
  }
  for (std::int64_t c = 0; c < p.cols(); ++c) {
    const std::uint64_t at =
        row * static_cast<std::uint64_t>(p.cols()) + static_cast<std::uint64_t>(c);
    float value = small_value(source.role, uniform(p.seed, at));
    if (source.role == TensorRole::a) value = std::log(-value);
    if (p.tensor.dtype == "F32") {
      put(to, value);
    } else {
      put(to, to_bfloat16(value));
    }
  }
}

void fill_row(const Piece& p, std::uint64_t row, std::byte* to) {
  switch (p.tensor.plane) {
    case Plane::values:
      return values_row(p, row, to);
    case Plane::codes:
      return codes_row(p, row, to);
    case Plane::scales:
      return scales_row(p, row, to);
    case Plane::biases:
      return biases_row(p, row, to);
    case Plane::codebook:
      for (const float level : turboquant_codebook(p.tensor.format.bits)) put(to, to_half(level));
      return;
    case Plane::signs:
      for (std::int64_t i = 0; i < p.cols(); ++i) {
        put(to, to_half(static_cast<float>(sign(p, static_cast<std::uint64_t>(i)))));
      }
      return;
    case Plane::factor:
      return put(to, static_cast<float>(p.scale * spread(p, 0)));
    case Plane::input_scale:
      return put(to, 0.02f);  // activations of up to 9 in E4M3
  }
}

std::vector<Piece> declare(SafetensorsWriter& writer, const ModelConfig& config,
                           const DirectoryRecipe& recipe, const std::vector<LayoutTensor>& layout,
                           std::uint64_t seed) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < layout.size(); ++i) {
    const WeightFormat format = format_of(config, recipe, layout[i]);
    double scale =
        static_cast<double>(stddev_of(layout[i], config.layers.size())) / unit_rms(format);
    if (format.code == WeightCode::modelopt_nvfp4) scale /= modelopt_scale_rms();
    for (DirectoryTensor& tensor : directory_tensors(recipe.kind, layout[i], i, format)) {
      const std::string name =
          layout[i].canonical + (tensor.expert < 0 ? "" : "." + std::to_string(tensor.expert));
      const std::size_t index = writer.add_tensor(tensor.name, tensor.dtype, tensor.shape);
      pieces.push_back({std::move(tensor), &layout[i], scale, coarse_scale(format.code, scale),
                        seed_of(seed, name), index});
    }
  }
  return pieces;
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  AtomicFile file(path);
  file.append(text);
  file.commit();
}

void write_texts(const std::filesystem::path& folder, const ModelConfig& config,
                 const DirectoryRecipe& recipe) {
  const text::TokenizerData tokenizer = synthetic_tokenizer(config.vocab);
  Json json = config_to_json(config);
  json["bos_token_id"] = *tokenizer.bos;
  json["eos_token_id"] = 2;  // the document's end; generation_config.json adds the turn's
  json["pad_token_id"] = *tokenizer.pad;
  put_quantization(json, config, recipe);
  const Json generation = {
      {"bos_token_id", *tokenizer.bos}, {"do_sample", true},  {"eos_token_id", {2, *tokenizer.eos}},
      {"pad_token_id", *tokenizer.pad}, {"temperature", 1.0}, {"top_p", 1.0}};
  if (const Json quant = hf_quant_config(config, recipe); !quant.is_null()) {
    write_text(folder / "hf_quant_config.json", quant.dump(2) + "\n");
  }
  write_text(folder / "generation_config.json", generation.dump(2) + "\n");
  write_text(folder / "tokenizer.json", text::write_tokenizer_json(tokenizer));
  write_text(folder / "tokenizer_config.json", text::write_tokenizer_config(tokenizer));
  write_text(folder / "chat_template.jinja", std::string(kSyntheticTemplate));
  write_text(folder / "config.json", json.dump(2) + "\n");
}

}  // namespace

std::int64_t planned_directory_bytes(const ModelConfig& config, const DirectoryRecipe& recipe) {
  std::int64_t bytes = 0;
  const auto layout = whole_layout(config);
  for (std::size_t i = 0; i < layout.size(); ++i) {
    const WeightFormat format = format_of(config, recipe, layout[i]);
    for (const auto& tensor : directory_tensors(recipe.kind, layout[i], i, format)) {
      bytes += tensor.bytes();
    }
  }
  return bytes;
}

void write_synthetic_directory(const std::filesystem::path& path, const ModelConfig& config,
                               const DirectoryRecipe& recipe, const SynthOptions& options,
                               bool replace) {
  config.validate();
  AtomicFolder folder(path, replace);
  write_texts(folder.path(), config, recipe);
  const bool hf = recipe.kind == DirectoryKind::hf;
  SafetensorsWriter writer(folder.path(), {.format = hf ? "pt" : "mlx", .always_index = !hf});
  const std::vector<LayoutTensor> layout = whole_layout(config);
  const std::vector<Piece> pieces = declare(writer, config, recipe, layout, options.seed);
  const std::uint64_t free = AtomicFile::free_bytes(folder.path() / "config.json");
  if (writer.data_bytes() > free) {
    throw Error(ErrorCode::io, "'" + path.string() + "' needs " +
                                   std::to_string(writer.data_bytes() >> 20) + " MiB but only " +
                                   std::to_string(free >> 20) + " MiB are free on that disk");
  }
  writer.begin();
  std::vector<RowChunk> chunks;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    add_chunks(i, pieces[i].rows(), pieces[i].row_bytes(), chunks);
  }
  write_chunks(
      chunks, options.threads, writer.data_bytes(), options.progress, [&](const RowChunk& chunk) {
        const Piece& piece = pieces[chunk.piece];
        std::vector<std::byte> buffer(static_cast<std::size_t>(chunk.rows * chunk.row_bytes));
        for (std::int64_t r = 0; r < chunk.rows; ++r) {
          fill_row(piece, static_cast<std::uint64_t>(chunk.first_row + r),
                   buffer.data() + r * chunk.row_bytes);
        }
        writer.write(piece.index, static_cast<std::uint64_t>(chunk.first_row * chunk.row_bytes),
                     buffer);
      });
  writer.finish();
  folder.commit();
}

}  // namespace nemo
