// The published recipes by name, and changes of bits by part.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/directory_layout.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <optional>

namespace nemo {
namespace {

constexpr int kTernary = 0;
constexpr int kDefaultGroup = 64;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

[[noreturn]] void unknown(std::string_view name) {
  throw Error(ErrorCode::usage,
              "unknown recipe " + in_quotes(name) +
                  "; known are hf-bf16, hf-fp8, hf-nvfp4, mlx-bf16, mlx-q4g64 (2, 3, 4, 5, 6 or 8 "
                  "bits; groups of 32, 64 or 128), mlx-mxfp4, mlx-mxfp8, mlx-nvfp4, oq4e, oq5e, "
                  "oq6e, oq8, tq3-g64 and tq3a-tq2e-g32 (1, 2, 3, 4 bits or T for ternary)");
}

/// Reads a recipe's name from left to right.
class NameReader {
 public:
  explicit NameReader(std::string_view name) : name_(name), rest_(name) {}

  bool take(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  void expect(std::string_view word) {
    if (!take(word)) unknown(name_);
  }
  int number() {
    int value = 0;
    std::size_t used = 0;
    while (used < rest_.size() && used < 4 && rest_[used] >= '0' && rest_[used] <= '9') {
      value = 10 * value + (rest_[used++] - '0');
    }
    if (used == 0) unknown(name_);
    rest_.remove_prefix(used);
    return value;
  }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }
  void expect_end() const {
    if (!at_end()) unknown(name_);
  }

 private:
  std::string_view name_;
  std::string_view rest_;
};

void check_affine(int bits, int group) {
  const bool known_bits = (bits >= 2 && bits <= 6) || bits == 8;
  if (known_bits && (group == 32 || group == 64 || group == 128)) return;
  throw Error(ErrorCode::usage,
              "MLX affine weights have 2, 3, 4, 5, 6 or 8 bits in groups of 32, "
              "64 or 128, not " +
                  std::to_string(bits) + " bits in groups of " + std::to_string(group));
}

void check_turboquant(int bits, int group) {
  const bool known_group = group >= 16 && group <= 1024 && group % 16 == 0;
  if (bits >= kTernary && bits <= 4 && known_group) return;
  throw Error(ErrorCode::usage,
              "TurboQuant weights have 1 to 4 bits, or T (ternary), in groups "
              "whose size is a multiple of 16, not " +
                  std::to_string(bits) + " bits in groups of " + std::to_string(group));
}

DirectoryRecipe hugging_face(NameReader& name) {
  DirectoryRecipe recipe = uniform_recipe(DirectoryKind::hf, {});
  if (name.take("bf16")) return recipe;
  const bool nvfp4 = name.take("nvfp4");
  if (!nvfp4) name.expect("fp8");
  // As Super and Ultra: attention, latent projections, embeddings and head stay BF16.
  const WeightFormat fp8{WeightCode::fp8, 8, 0};
  const WeightFormat fp4{WeightCode::modelopt_nvfp4, 4, 16};
  recipe.base = nvfp4 ? fp4 : fp8;
  recipe.of(ModelPart::experts) = recipe.base;
  recipe.of(ModelPart::mlp) = recipe.base;
  recipe.of(ModelPart::shared_experts) = fp8;
  recipe.of(ModelPart::mamba) = fp8;
  return recipe;
}

DirectoryRecipe mlx(NameReader& name) {
  if (name.take("bf16")) return uniform_recipe(DirectoryKind::mlx, {});
  if (name.take("mxfp4")) return uniform_recipe(DirectoryKind::mlx, {WeightCode::mxfp4, 4, 32});
  if (name.take("mxfp8")) return uniform_recipe(DirectoryKind::mlx, {WeightCode::mxfp8, 8, 32});
  if (name.take("nvfp4")) return uniform_recipe(DirectoryKind::mlx, {WeightCode::nvfp4, 4, 16});
  name.expect("q");
  WeightFormat format{WeightCode::affine, name.number(), kDefaultGroup};
  name.take("-");
  if (name.take("g")) format.group = name.number();
  return uniform_recipe(DirectoryKind::mlx, format);
}

/// oQ's plan for Nemotron: shared experts, embeddings and head at 8 bits, what surrounds the
/// experts above their bits.
DirectoryRecipe oq(NameReader& name) {
  const int bits = name.number();
  const bool enhanced = name.take("e");
  DirectoryRecipe recipe =
      uniform_recipe(DirectoryKind::mlx, {WeightCode::affine, bits, kDefaultGroup});
  if (bits == 8) return recipe;
  if (!enhanced || bits < 4 || bits > 6) {
    throw Error(ErrorCode::usage, "oQ recipes are oq4e, oq5e, oq6e and oq8");
  }
  for (const ModelPart part : {ModelPart::shared_experts, ModelPart::embeddings, ModelPart::head}) {
    recipe.of(part).bits = 8;
  }
  recipe.of(ModelPart::mamba).bits = 6;
  recipe.of(ModelPart::attention).bits = std::min(bits + 1, 6);
  if (bits == 4) recipe.edge_v_bits = 6;
  return recipe;
}

int turboquant_bits(NameReader& name) { return name.take("t") ? kTernary : name.number(); }

DirectoryRecipe turboquant(NameReader& name) {
  const int first = turboquant_bits(name);
  std::optional<int> rest;
  if (name.take("a")) {
    name.expect("-tq");
    rest = turboquant_bits(name);
    name.expect("e");
  } else {
    name.take("e");  // "tqTe": the experts are most of it
  }
  int group = kDefaultGroup;
  if (name.take("-g")) group = name.number();
  DirectoryRecipe recipe = uniform_recipe(DirectoryKind::turboquant,
                                          {WeightCode::turboquant, rest.value_or(first), group});
  recipe.of(ModelPart::embeddings) = {};
  recipe.of(ModelPart::attention).bits = first;
  check_format(recipe.of(ModelPart::attention));
  return recipe;
}

constexpr std::pair<std::string_view, ModelPart> kPartNames[] = {
    {"embed", ModelPart::embeddings}, {"head", ModelPart::head},
    {"attn", ModelPart::attention},   {"mamba", ModelPart::mamba},
    {"mlp", ModelPart::mlp},          {"shared", ModelPart::shared_experts},
    {"latent", ModelPart::latent},    {"experts", ModelPart::experts},
};

int parse_bits(std::string_view text) {
  if (text == "t" || text == "T") return kTernary;
  NameReader reader(text);
  const int bits = reader.number();
  reader.expect_end();
  return bits;
}

}  // namespace

void check_format(const WeightFormat& format) {
  if (format.code == WeightCode::affine) check_affine(format.bits, format.group);
  if (format.code == WeightCode::turboquant) check_turboquant(format.bits, format.group);
}

DirectoryRecipe uniform_recipe(DirectoryKind kind, const WeightFormat& format) {
  check_format(format);
  DirectoryRecipe recipe;
  recipe.kind = kind;
  recipe.base = format;
  recipe.parts.fill(format);
  recipe.of(ModelPart::other) = {};
  return recipe;
}

bool names_directory_recipe(std::string_view name) noexcept {
  // GGUF has mixes TQ1_0 and TQ2_0.
  const std::string low = lower(name);
  return low.starts_with("hf-") || low.starts_with("mlx-") || low.starts_with("oq") ||
         (low.starts_with("tq") && low != "tq1_0" && low != "tq2_0");
}

DirectoryRecipe find_directory_recipe(std::string_view name) {
  const std::string low = lower(name);
  NameReader reader(low);
  DirectoryRecipe recipe;
  if (reader.take("hf-")) {
    recipe = hugging_face(reader);
  } else if (reader.take("mlx-")) {
    recipe = mlx(reader);
  } else if (reader.take("oq")) {
    recipe = oq(reader);
  } else {
    reader.expect("tq");
    recipe = turboquant(reader);
  }
  reader.expect_end();
  recipe.name = low;
  return recipe;
}

std::string describe(const WeightFormat& f) {
  const std::string group = " g" + std::to_string(f.group);
  switch (f.code) {
    case WeightCode::bf16:
      return "BF16";
    case WeightCode::fp8:
      return "FP8";
    case WeightCode::modelopt_nvfp4:
    case WeightCode::nvfp4:
      return "NVFP4";
    case WeightCode::mxfp4:
      return "MXFP4";
    case WeightCode::mxfp8:
      return "MXFP8";
    case WeightCode::affine:
      return "affine " + std::to_string(f.bits) + group;
    case WeightCode::turboquant:
      return "TurboQuant " + (f.bits == kTernary ? "T" : std::to_string(f.bits)) + group;
  }
  return "";
}

void set_bits(DirectoryRecipe& recipe, std::string_view bits, int group) {
  const bool adjustable =
      recipe.base.code == WeightCode::affine || recipe.base.code == WeightCode::turboquant;
  if (!adjustable) {
    throw Error(ErrorCode::usage, "--bits and --group are for MLX affine and TurboQuant weights; " +
                                      in_quotes(recipe.name) + " has neither");
  }
  std::vector<std::pair<ModelPart, int>> named;
  std::optional<int> others;
  for (std::string_view rest = bits; !rest.empty();) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      others = parse_bits(item);
      continue;
    }
    const auto* part = std::find_if(std::begin(kPartNames), std::end(kPartNames),
                                    [&](auto& p) { return p.first == item.substr(0, equals); });
    if (part == std::end(kPartNames)) {
      throw Error(ErrorCode::usage,
                  "--bits: unknown part " + in_quotes(item.substr(0, equals)) +
                      "; known are embed, head, attn, mamba, mlp, shared, latent and experts");
    }
    named.emplace_back(part->second, parse_bits(item.substr(equals + 1)));
    if (part->second == ModelPart::experts && !others) others = named.back().second;
  }
  if (others) {
    recipe.base.bits = *others;
    recipe.edge_v_bits = 0;
  }
  if (group > 0) recipe.base.group = group;
  for (WeightFormat& format : recipe.parts) {
    if (format.code == WeightCode::bf16) continue;
    if (others) format.bits = *others;
    format.group = recipe.base.group;
  }
  for (const auto& [part, value] : named) {
    recipe.of(part) = {recipe.base.code, value, recipe.base.group};
    // TurboQuant directories keep embeddings and head in MLX's affine format, if at all.
    if (recipe.kind == DirectoryKind::turboquant && value > 4 &&
        (part == ModelPart::embeddings || part == ModelPart::head)) {
      recipe.of(part) = {WeightCode::affine, value, kDefaultGroup};
    }
  }
  for (const WeightFormat& format : recipe.parts) check_format(format);
  check_format(recipe.base);
}

}  // namespace nemo
