// Conversion keeps every value: logits before and after are the same bits.
#include "catch.hpp"
#include "support/gguf_builder.hpp"
#include "support/safetensors_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/convert.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/io/safetensors.hpp>
#include <nemo/text/tokenizer.hpp>

#include <algorithm>

using namespace nemo;
namespace fs = std::filesystem;

namespace {

fs::path synthetic(const test::TemporaryFolder& folder, const std::string& recipe) {
  const fs::path path = folder / ("from-" + recipe);
  write_synthetic_directory(path, synth_config("tiny", 0), find_directory_recipe(recipe), {}, true);
  return path;
}

fs::path to_gguf(const test::TemporaryFolder& folder, const fs::path& from) {
  const fs::path path = folder / (from.filename().string() + ".gguf");
  const auto notes = convert_to_gguf(*open_checkpoint(from), path, {true, {}});
  CHECK(notes.empty());
  return path;
}

fs::path to_folder(const test::TemporaryFolder& folder, const fs::path& from, DirectoryKind kind) {
  const fs::path path =
      folder / (from.filename().string() + (kind == DirectoryKind::hf ? "-hf" : "-mlx"));
  const auto notes = convert_to_directory(*open_checkpoint(from), path, kind, {true, {}});
  CHECK(notes.empty());
  return path;
}

/// Logits of the last of some tokens.
std::vector<float> logits(const fs::path& path, const std::string& kernels = "") {
  LoadOptions options;
  options.context = 64;
  options.kernels = kernels;
  const auto model = load(path.string(), options);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < 10; ++i) {
    ids.push_back(static_cast<std::int32_t>((i * 7919 + 37) % model->config().vocab));
  }
  const auto session = model->new_session();
  session->feed(ids);
  const auto row = session->logits();
  return {row.begin(), row.end()};
}

void check_same(const fs::path& a, const fs::path& b) {
  INFO(a.string() << " and " << b.string());
  CHECK(logits(a) == logits(b));
  CHECK(logits(a, "reference") == logits(b, "reference"));
  const auto before = open_checkpoint(a);
  const auto after = open_checkpoint(b);
  CHECK(before->config().parameters() == after->config().parameters());
  CHECK(before->chat_template() == after->chat_template());
  CHECK(before->sampling().temperature == after->sampling().temperature);
  const text::Tokenizer old_words(before->tokenizer());
  const text::Tokenizer new_words(after->tokenizer());
  const std::string text = "The quick brown fox <|im_end|>\n  jumps over 1234 dogs; \xc3\xa9!";
  const text::EncodeOptions options{.parse_special = true, .add_bos = true};
  CHECK(old_words.encode(text, options) == new_words.encode(text, options));
  CHECK(old_words.end_tokens() == new_words.end_tokens());
}

/// Every tensor of `b` has the bytes that it has in `a`.
void check_bytes(const fs::path& a, const fs::path& b) {
  const Safetensors before = Safetensors::open_folder(a);
  const Safetensors after = Safetensors::open_folder(b);
  for (const SafeTensor& tensor : after.tensors()) {
    INFO(tensor.name);
    const SafeTensor* old = before.find(tensor.name);
    REQUIRE(old != nullptr);
    if (tensor.name.ends_with(".A_log")) continue;  // of another float type
    CHECK(tensor.type == old->type);
    CHECK(tensor.shape == old->shape);
    REQUIRE(tensor.bytes == old->bytes);
    CHECK(std::equal(tensor.data, tensor.data + tensor.bytes, old->data));
  }
}

std::string refusal(const fs::path& from, const std::string& to, DirectoryKind kind) {
  const test::TemporaryFolder folder("convert-refused");
  try {
    if (to == "gguf") {
      (void)convert_to_gguf(*open_checkpoint(from), folder / "m.gguf", {});
    } else {
      (void)convert_to_directory(*open_checkpoint(from), folder / "m", kind, {});
    }
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unsupported);
    CHECK(fs::is_empty(folder / ""));
    return error.what();
  }
  return "not refused";
}

}  // namespace

TEST_CASE("unquantized models go from each container to each other one and back") {
  const test::TemporaryFolder folder("convert-float");
  const fs::path hf = synthetic(folder, "hf-bf16");
  const fs::path gguf = to_gguf(folder, hf);
  const fs::path mlx = to_folder(folder, gguf, DirectoryKind::mlx);
  const fs::path back = to_folder(folder, mlx, DirectoryKind::hf);
  check_same(hf, gguf);
  check_same(hf, mlx);
  check_same(hf, back);
  CHECK(Safetensors::open_folder(back).tensors().size() ==
        Safetensors::open_folder(hf).tensors().size());
  const fs::path direct = to_folder(folder, hf, DirectoryKind::mlx);
  check_same(hf, direct);
  check_bytes(direct, to_folder(folder, direct, DirectoryKind::mlx));
}

TEST_CASE("unquantized GGUF files become folders with the same decay rates to the bit") {
  const test::TemporaryFolder folder("convert-gguf");
  const std::string type = GENERATE("F32", "F16", "BF16");
  SynthOptions options;
  options.mix = type;
  const fs::path gguf = folder / (type + ".gguf");
  write_synthetic_gguf(gguf, synth_config("tiny", 0), options);
  const fs::path hf = to_folder(folder, gguf, DirectoryKind::hf);
  check_same(gguf, hf);
  check_same(gguf, to_gguf(folder, hf));
}

TEST_CASE("block formats stay as they are between GGUF files") {
  const test::TemporaryFolder folder("convert-blocks");
  SynthOptions options;
  options.mix = GENERATE("Q4_K_M", "NVFP4", "IQ2_XXS");
  const fs::path gguf = folder / "m.gguf";
  write_synthetic_gguf(gguf, synth_config("tiny", 0), options);
  const fs::path again = folder / "again.gguf";
  CHECK(convert_to_gguf(*open_checkpoint(gguf), again, {}).empty());
  check_same(gguf, again);
  CHECK_THROWS_WITH(convert_to_gguf(*open_checkpoint(gguf), again, {}), Contains("--force"));
}

TEST_CASE("quantized folders keep every byte of every plane") {
  const test::TemporaryFolder folder("convert-planes");
  const std::string recipe = GENERATE("mlx-q4", "mlx-q3g32", "oq4e", "mlx-mxfp4", "mlx-mxfp8",
                                      "mlx-nvfp4", "tq3a-tq2e-g32", "tqT", "hf-fp8", "hf-nvfp4");
  INFO(recipe);
  const fs::path from = synthetic(folder, recipe);
  const DirectoryKind kind = recipe.starts_with("hf") ? DirectoryKind::hf : DirectoryKind::mlx;
  const fs::path to = to_folder(folder, from, kind);
  check_same(from, to);
  check_bytes(from, to);
}

TEST_CASE("golden folders of every kind survive") {
  const test::TemporaryFolder folder("convert-golden");
  const fs::path data = std::string(NEMO_SOURCE_DIR) + "/tests/data/folders";
  for (const char* name : {"nano30b-mlx-wildmix", "super-tq3a-tq2e-g32"}) {
    const fs::path to = folder / name;
    (void)convert_to_directory(*open_checkpoint(data / name), to, DirectoryKind::mlx, {});
    CHECK(logits(data / name) == logits(to));
    check_bytes(data / name, to);
  }
  const fs::path grouped = data / "grouped-hf-bf16";
  (void)convert_to_gguf(*open_checkpoint(grouped), folder / "g.gguf", {});
  CHECK(logits(grouped) == logits(folder / "g.gguf"));
  (void)convert_to_directory(*open_checkpoint(folder / "g.gguf"), folder / "g", DirectoryKind::mlx,
                             {});
  CHECK(logits(grouped) == logits(folder / "g"));
}

TEST_CASE("draft heads go along") {
  const fs::path super =
      std::string(NEMO_SOURCE_DIR) + "/../shared/golden/mlx/models/super-hf-bf16";
  if (!fs::exists(super)) return;
  const test::TemporaryFolder folder("convert-draft");
  (void)convert_to_gguf(*open_checkpoint(super), folder / "m.gguf", {});
  (void)convert_to_directory(*open_checkpoint(folder / "m.gguf"), folder / "m", DirectoryKind::hf,
                             {});
  const auto expected = open_checkpoint(super);
  for (const fs::path& path : {folder / "m.gguf", folder / "m"}) {
    const auto found = open_checkpoint(path);
    CHECK(found->config().mtp_parameters() == expected->config().mtp_parameters());
    CHECK(found->tensors().size() == expected->tensors().size());
    CHECK(found->ignored().empty());
    for (const TensorRef& tensor : expected->tensors()) {
      INFO(tensor.name);
      const TensorRef& other = found->tensor(tensor.name);
      CHECK(other.elements() == tensor.elements());
      if (tensor.rank < 3) CHECK(read_floats(other) == read_floats(tensor));
    }
  }
}

TEST_CASE("biases go along, of experts too") {
  const test::TemporaryFolder folder("convert-biases");
  const fs::path hf = synthetic(folder, "hf-bf16");
  const auto unbiased = logits(hf);
  test::BuiltTensors tensors;
  {
    const Safetensors plain = Safetensors::open_folder(hf);
    unsigned seed = 1;
    for (const SafeTensor& t : plain.tensors()) {
      const auto* bytes = reinterpret_cast<const char*>(t.data);
      tensors[t.name] = {std::string(name_of(t.type)), t.shape, std::string(bytes, t.bytes)};
      constexpr std::string_view kWeight = "_proj.weight";
      if (!t.name.ends_with(kWeight)) continue;
      std::vector<float> bias(static_cast<std::size_t>(t.shape[0]));
      for (float& x : bias) x = 0.01f * static_cast<float>(seed++ % 37);
      const std::string stem = t.name.substr(0, t.name.size() - std::string("weight").size());
      tensors[stem + "bias"] = test::built<float>("F32", {t.shape[0]}, bias);
    }
  }
  test::write_file(hf / "model.safetensors", test::build_safetensors(tensors));
  CHECK(logits(hf) != unbiased);
  const fs::path gguf = to_gguf(folder, hf);
  check_same(hf, gguf);
  check_same(hf, to_folder(folder, gguf, DirectoryKind::mlx));
  const fs::path back = to_folder(folder, gguf, DirectoryKind::hf);
  check_same(hf, back);
  for (const char* key : {"attention_bias", "mlp_bias", "mamba_proj_bias"}) {
    INFO(key);
    CHECK(read_config_json(back / "config.json").at(key) == true);
  }
}

TEST_CASE("what no format of the target can hold is refused, and nothing is written") {
  const test::TemporaryFolder folder("convert-lossy");
  const fs::path mlx = synthetic(folder, "mlx-q4");
  CHECK_THAT(refusal(mlx, "gguf", {}), Contains("affine 4 g64") && Contains("nemo quantize"));
  CHECK_THAT(refusal(mlx, "", DirectoryKind::hf), Contains("--format mlx can"));
  CHECK_THAT(refusal(synthetic(folder, "tq3"), "gguf", {}), Contains("nemo quantize"));
  CHECK_THAT(refusal(synthetic(folder, "hf-fp8"), "", DirectoryKind::mlx),
             Contains("--format hf can"));
  write_synthetic_gguf(folder / "q.gguf", synth_config("tiny", 0), {});
  CHECK_THAT(refusal(folder / "q.gguf", "", DirectoryKind::mlx),
             Contains("Q4_0") && Contains("nemo quantize"));
  ConvertOptions options;
  options.progress = [](std::uint64_t, std::uint64_t) { return false; };
  CHECK_THROWS_WITH(
      convert_to_directory(*open_checkpoint(mlx), folder / "c", DirectoryKind::mlx, options),
      Contains("cancelled"));
  CHECK(!fs::exists(folder / "c"));
}
