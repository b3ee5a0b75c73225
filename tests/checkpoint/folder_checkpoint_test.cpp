// Folders of safetensors as checkpoints: every stored form of a matrix, prefixes and spellings, and
// one clear message for each way in which files contradict themselves.
#include "catch.hpp"
#include "support/safetensors_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/check_scales.hpp>
#include <nemo/checkpoint/folder_checkpoint.hpp>
#include <nemo/kernels.hpp>
#include <nemo/model/weights.hpp>

#include <cmath>
#include <filesystem>
#include <functional>

using namespace nemo;
using namespace nemo::test;
using Json = nlohmann::ordered_json;

namespace {

constexpr std::int64_t kHidden = 64, kVocab = 48, kExperts = 4, kExpertFf = 32, kFf = 96;

/// Values of about a tenth, BF16.
BuiltTensor bf16(std::vector<std::int64_t> shape, unsigned seed) {
  std::mt19937 random(seed);
  std::size_t n = 1;
  for (const auto d : shape) n *= static_cast<std::size_t>(d);
  std::vector<std::uint16_t> values(n);
  for (auto& v : values) {
    v = to_bfloat16(static_cast<float>(random() % 2001) / 10000.0f - 0.1f).bits;
  }
  return built("BF16", std::move(shape), values);
}

BuiltTensor random_bytes(const std::string& dtype, std::vector<std::int64_t> shape, unsigned seed,
                         unsigned low = 0, unsigned span = 256) {
  std::mt19937 random(seed);
  std::size_t n = dtype == "U32" ? 4 : 1;
  for (const auto d : shape) n *= static_cast<std::size_t>(d);
  std::vector<std::uint8_t> values(n);
  for (auto& v : values) v = static_cast<std::uint8_t>(low + random() % span);
  return built(dtype, std::move(shape), values);
}

/// A tiny model "ME*-" as Hugging Face stores it, to be changed by each test.
struct Model {
  Json config = {{"model_type", "nemotron_h"},
                 {"vocab_size", kVocab},
                 {"hidden_size", kHidden},
                 {"hybrid_override_pattern", "ME*-"},
                 {"num_hidden_layers", 4},
                 {"mamba_num_heads", 4},
                 {"mamba_head_dim", 16},
                 {"n_groups", 2},
                 {"ssm_state_size", 16},
                 {"conv_kernel", 4},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"head_dim", 16},
                 {"intermediate_size", kFf},
                 {"n_routed_experts", kExperts},
                 {"num_experts_per_tok", 2},
                 {"moe_intermediate_size", kExpertFf},
                 {"moe_shared_expert_intermediate_size", 64}};
  BuiltTensors tensors;
  std::string file;

  Model() {
    unsigned seed = 1;
    const auto put = [&](const std::string& name, std::vector<std::int64_t> shape) {
      tensors["backbone." + name] = bf16(std::move(shape), seed++);
    };
    put("embeddings.weight", {kVocab, kHidden});
    put("norm_f.weight", {kHidden});
    tensors["lm_head.weight"] = bf16({kVocab, kHidden}, seed++);
    for (int i = 0; i < 4; ++i) put("layers." + std::to_string(i) + ".norm.weight", {kHidden});
    const std::string m = "layers.0.mixer.";
    put(m + "in_proj.weight", {64 + 128 + 4, kHidden});
    put(m + "conv1d.weight", {128, 1, 4});
    put(m + "conv1d.bias", {128});
    for (const char* name : {"A_log", "D", "dt_bias"}) put(m + name, {4});
    put(m + "norm.weight", {64});
    put(m + "out_proj.weight", {kHidden, 64});
    const std::string e = "layers.1.mixer.";
    put(e + "gate.weight", {kExperts, kHidden});
    put(e + "gate.e_score_correction_bias", {kExperts});
    for (int j = 0; j < kExperts; ++j) {
      const std::string expert = e + "experts." + std::to_string(j);
      put(expert + ".up_proj.weight", {kExpertFf, kHidden});
      put(expert + ".down_proj.weight", {kHidden, kExpertFf});
    }
    put(e + "shared_experts.up_proj.weight", {64, kHidden});
    put(e + "shared_experts.down_proj.weight", {kHidden, 64});
    put("layers.2.mixer.q_proj.weight", {64, kHidden});
    put("layers.2.mixer.k_proj.weight", {32, kHidden});
    put("layers.2.mixer.v_proj.weight", {32, kHidden});
    put("layers.2.mixer.o_proj.weight", {kHidden, 64});
    put("layers.3.mixer.up_proj.weight", {kFf, kHidden});
    put("layers.3.mixer.down_proj.weight", {kHidden, kFf});
  }

  BuiltTensor& operator[](const std::string& name) { return tensors["backbone." + name]; }
  void erase(const std::string& name) { tensors.erase("backbone." + name); }

  /// Writes a folder of it, for what is read from further files.
  std::filesystem::path write(const char* name) {
    const auto folder = std::filesystem::temp_directory_path() / name;
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    write_file(folder / "config.json", config.dump());
    write_file(folder / "model.safetensors", build_safetensors(tensors));
    return folder;
  }
  std::shared_ptr<const Checkpoint> open() {
    file = build_safetensors(tensors);
    return checkpoint_from_folder(
        {"m",
         {},
         config.dump(),
         Safetensors::from_memory(std::as_bytes(std::span(file.data(), file.size())))});
  }
  std::string failure() {
    try {
      check_scales(*open(), 1);
      return "no error";
    } catch (const Error& error) {
      return error.what();
    }
  }
};

bool says(const std::string& message, const char* part) {
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
  return message.find('\n') == std::string::npos;
}
std::string failure_of(const std::function<void(Model&)>& change) {
  Model model;
  change(model);
  return model.failure();
}

/// Element (r, c) of matrix `index` of a tensor, all factors included.
float element(const TensorRef& t, std::int64_t index, std::int64_t r, std::int64_t c) {
  const Matrix m{t.type, t.count(), t.rows(), t.cols(), t.data, t.scales, t.side};
  std::vector<float> row(static_cast<std::size_t>(t.cols()));
  select_kernels("reference").format(t.type).decode_row(m.view(index), r, row.data());
  return row[static_cast<std::size_t>(c)] * m.scale(index);
}

float e2m1_value(unsigned code) {
  const float values[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return (code & 8) != 0 ? -values[code & 7] : values[code & 7];
}
float e4m3_value(unsigned code) {
  const int exponent = static_cast<int>(code >> 3 & 15);
  const float mantissa = static_cast<float>(code & 7) / 8.0f;
  const float x = exponent == 0 ? std::ldexp(mantissa, -6) : std::ldexp(1 + mantissa, exponent - 7);
  return (code & 128) != 0 ? -x : x;
}
unsigned byte_at(const BuiltTensor& t, std::int64_t i) {
  return static_cast<unsigned char>(t.bytes[static_cast<std::size_t>(i)]);
}
BuiltTensor scalar(float x) { return built<float>("F32", {}, {x}); }

/// Puts ModelOpt's NVFP4 in the place of a matrix.
void make_nvfp4(Model& m, const std::string& stem, std::int64_t rows, std::int64_t cols,
                float factor, unsigned seed) {
  m[stem + ".weight"] = random_bytes("U8", {rows, cols / 2}, seed);
  m[stem + ".weight_scale"] = random_bytes("F8_E4M3", {rows, cols / 16}, seed + 1, 40, 30);
  m[stem + ".weight_scale_2"] = scalar(factor);
}
/// MLX affine with BF16 scales.
void make_affine(Model& m, const std::string& stem, std::vector<std::int64_t> shape,
                 std::int64_t bits, std::int64_t group, unsigned seed) {
  std::vector<std::int64_t> words = shape, groups = shape;
  words.back() = shape.back() * bits / 32;
  groups.back() = shape.back() / group;
  m[stem + ".weight"] = random_bytes("U32", words, seed);
  m[stem + ".scales"] = bf16(groups, seed + 1);
  m[stem + ".biases"] = bf16(groups, seed + 2);
}

}  // namespace

TEST_CASE("a folder in BF16 gives every canonical tensor of its model") {
  Model m;
  const auto checkpoint = m.open();
  std::int64_t elements = 0;
  for (const TensorRef& t : checkpoint->tensors()) elements += t.elements();
  CHECK(elements == checkpoint->config().parameters());
  CHECK(checkpoint->container() == "safetensors, unquantized");
  CHECK(checkpoint->ignored().empty());
  const TensorRef& a = checkpoint->tensor("layers.0.mixer.A");
  const TensorRef& conv = checkpoint->tensor("layers.0.mixer.conv1d.weight");
  CHECK(conv.rows() == 128);
  CHECK(conv.cols() == 4);
  const auto logs = m["layers.0.mixer.A_log"];
  std::uint16_t first = 0;
  std::memcpy(&first, logs.bytes.data(), 2);
  CHECK(read_floats(a)[0] == -std::exp(to_float(BFloat16{first})));
  CHECK_NOTHROW(load_weights(checkpoint));
}

TEST_CASE("experts kept apart are one stack of matrices viewed where they lie") {
  Model m;
  const auto checkpoint = m.open();
  const TensorRef& up = checkpoint->tensor("layers.1.mixer.experts.up_proj.weight");
  CHECK(up.count() == kExperts);
  REQUIRE(up.side.parts.size() == kExperts);
  for (int j = 0; j < kExperts; ++j) {
    const auto& stored = m["layers.1.mixer.experts." + std::to_string(j) + ".up_proj.weight"].bytes;
    std::uint16_t bits = 0;
    std::memcpy(&bits, stored.data() + 2 * (5 * kHidden + 7), 2);
    CHECK(element(up, j, 5, 7) == to_float(BFloat16{bits}));
  }
}

TEST_CASE("all prefixes and spellings of tensor names open") {
  for (const char* prefix :
       {"backbone.", "model.", "language_model.backbone.", "language_model.model.", ""}) {
    INFO(prefix);
    Model m;
    BuiltTensors renamed;
    const std::string outer = std::string(prefix).starts_with("language") ? "language_model." : "";
    for (const auto& [name, t] : m.tensors) {
      if (name.starts_with("lm_head")) {
        renamed[outer + name] = t;
      } else {
        renamed[prefix + name.substr(9)] = t;
      }
    }
    renamed["vision_model.patch.weight"] = bf16({3}, 1);
    m.tensors = renamed;
    if (!outer.empty()) m.config = {{"model_type", "omni"}, {"llm_config", m.config}};
    const auto checkpoint = m.open();
    CHECK(checkpoint->tensors().size() == 27);
    CHECK(checkpoint->ignored().size() == 1);
  }
  Model m;
  m.tensors["model.embed_tokens.weight"] = m["embeddings.weight"];
  m.erase("embeddings.weight");
  BuiltTensors renamed;
  for (const auto& [name, t] : m.tensors) {
    renamed[name.starts_with("backbone.") ? "model." + name.substr(9) : name] = t;
  }
  m.tensors = renamed;
  CHECK(m.failure() == "no error");
}

TEST_CASE("experts stacked by MLX or fused by transformers open") {
  for (const bool mlx : {true, false}) {
    Model m;
    const std::string e = "layers.1.mixer.";
    for (int j = 0; j < kExperts; ++j) {
      m.erase(e + "experts." + std::to_string(j) + ".up_proj.weight");
      m.erase(e + "experts." + std::to_string(j) + ".down_proj.weight");
    }
    m[e + (mlx ? "switch_mlp.fc1.weight" : "experts.up_proj")] =
        bf16({kExperts, kExpertFf, kHidden}, 90);
    m[e + (mlx ? "switch_mlp.fc2.weight" : "experts.down_proj")] =
        bf16({kExperts, kHidden, kExpertFf}, 91);
    const auto checkpoint = m.open();
    CHECK(checkpoint->tensor("layers.1.mixer.experts.down_proj.weight").count() == kExperts);
  }
}

TEST_CASE("FP8 matrices decode as code times scale, one for the matrix or one for a row") {
  Model m;
  const std::string stem = "layers.2.mixer.q_proj";
  m[stem + ".weight"] = random_bytes("F8_E4M3", {64, kHidden}, 5, 0, 126);
  m[stem + ".weight_scale"] = scalar(0.03125f);
  m[stem + ".input_scale"] = scalar(1.0f);
  const std::string rows = "layers.2.mixer.o_proj";
  m[rows + ".weight"] = random_bytes("F8_E4M3", {kHidden, 64}, 6, 0, 126);
  m[rows + ".weight_scale"] = bf16({kHidden, 1}, 7);
  const auto checkpoint = m.open();
  CHECK(checkpoint->container() == "safetensors, FP8");
  const TensorRef& q = checkpoint->tensor(stem + ".weight");
  const TensorRef& o = checkpoint->tensor(rows + ".weight");
  for (std::int64_t i = 0; i < 64 * kHidden; ++i) {
    const float code = e4m3_value(byte_at(m[stem + ".weight"], i));
    CHECK(element(q, 0, i / kHidden, i % kHidden) == code * 0.03125f);
    if (i % 97 != 0) continue;
    std::uint16_t scale = 0;
    std::memcpy(&scale, m[rows + ".weight_scale"].bytes.data() + 2 * (i / 64), 2);
    CHECK(element(o, 0, i / 64, i % 64) ==
          e4m3_value(byte_at(m[rows + ".weight"], i)) * to_float(BFloat16{scale}));
  }
  CHECK(checkpoint->ignored().size() == 1);
}

TEST_CASE("ModelOpt's NVFP4 decodes with both scales, with experts apart and without input_scale") {
  Model m;
  for (int j = 0; j < kExperts; ++j) {
    const std::string stem = "layers.1.mixer.experts." + std::to_string(j);
    make_nvfp4(m, stem + ".up_proj", kExpertFf, kHidden, 0.01f * static_cast<float>(j + 1),
               static_cast<unsigned>(10 * j));
  }
  make_nvfp4(m, "layers.0.mixer.in_proj", 196, kHidden, 0.5f, 77);
  m["layers.0.mixer.in_proj.input_scale"] = scalar(2.0f);
  const auto checkpoint = m.open();
  CHECK(checkpoint->container() == "safetensors, NVFP4");
  const TensorRef& up = checkpoint->tensor("layers.1.mixer.experts.up_proj.weight");
  for (int j = 0; j < kExperts; ++j) {
    const std::string stem = "layers.1.mixer.experts." + std::to_string(j) + ".up_proj";
    for (std::int64_t i = 0; i < kExpertFf * kHidden; i += 7) {
      const std::int64_t r = i / kHidden, c = i % kHidden;
      const unsigned pair = byte_at(m[stem + ".weight"], i / 2);
      const float level = e2m1_value(c % 2 == 0 ? pair & 15 : pair >> 4);
      const float scale = e4m3_value(byte_at(m[stem + ".weight_scale"], r * 4 + c / 16));
      CHECK(element(up, j, r, c) == level * scale * (0.01f * static_cast<float>(j + 1)));
    }
  }
}

TEST_CASE("every bit width and group of MLX's affine form opens, config.json agreeing") {
  for (const std::int64_t bits : {2, 3, 4, 5, 6, 8}) {
    for (const std::int64_t group : {32, 64}) {
      Model m;
      make_affine(m, "layers.2.mixer.q_proj", {64, kHidden}, bits, group, 3);
      m.config["quantization"] = {{"bits", bits}, {"group_size", group}};
      const auto checkpoint = m.open();
      const TensorRef& q = checkpoint->tensor("layers.2.mixer.q_proj.weight");
      CHECK(info(q.type).name == "AFFINE" + std::to_string(bits));
      CHECK(q.side.planes.group == group);
      CHECK(checkpoint->container() == "safetensors, MLX affine");
    }
  }
}

TEST_CASE("a config.json that contradicts the tensors is refused") {
  const auto with = [](const Json& quantization) {
    return failure_of([&](Model& m) {
      make_affine(m, "layers.2.mixer.q_proj", {64, kHidden}, 4, 32, 3);
      m.config["quantization"] = quantization;
    });
  };
  const std::string path = "backbone.layers.2.mixer.q_proj";
  CHECK(with({{"bits", 4}, {"group_size", 32}}) == "no error");
  CHECK(with({{"bits", 8}, {"group_size", 64}, {path, {{"bits", 4}, {"group_size", 32}}}}) ==
        "no error");
  CHECK(with({{"bits", 4}, {"group_size", 32}, {path, true}}) == "no error");
  CHECK(with({{"bits", 4}, {"group_size", 32}, {"lm_head", false}}) == "no error");
  CHECK(says(with({{"bits", 8}, {"group_size", 32}}), "bits 8, the tensors say 4"));
  CHECK(says(with({{"bits", 4}, {"group_size", 64}}), "group_size 64, the tensors say 32"));
  CHECK(says(with({{"bits", 4}, {"group_size", 32}, {"mode", "mxfp4"}}), "mode"));
  CHECK(says(with({{"bits", 4}, {"group_size", 32}, {path, false}}), "says it is not"));
  CHECK(says(with({{"bits", 4}, {"group_size", 32}, {path, {{"bits", 3}}}}), "bits 3"));
  CHECK(says(with({{"mode", "turboquant"}, {"fuse_rotations", true}}), "fuse_rotations"));
}

TEST_CASE("broken planes of quantized matrices are named") {
  const std::string q = "layers.2.mixer.q_proj";
  const auto affine = [&](const std::function<void(Model&)>& change) {
    return failure_of([&](Model& m) {
      make_affine(m, q, {64, kHidden}, 4, 32, 3);
      change(m);
    });
  };
  CHECK(says(affine([&](Model& m) { m.erase(q + ".scales"); }), "q_proj.scales' is missing"));
  CHECK(says(affine([&](Model& m) { m.erase(q + ".biases"); }), "q_proj.biases' is missing"));
  CHECK(says(affine([&](Model& m) { m[q + ".biases"] = bf16({64, 4}, 1); }), "biases' has shape"));
  CHECK(says(affine([&](Model& m) {
               m[q + ".scales"] = bf16({64, 3}, 1);
             }),
             "no number of groups"));
  CHECK(says(affine([&](Model& m) {
               m[q + ".weight"] = random_bytes("U32", {64, 7}, 1);
             }),
             "no whole number of bits"));
  CHECK(says(affine([&](Model& m) {
               m[q + ".weight"] = random_bytes("U32", {64, 14}, 1);
             }),
             "7 bits"));
  CHECK(says(affine([&](Model& m) {
               m[q + ".weight"] = random_bytes("U32", {32, 16}, 1);
             }),
             "has shape"));
  CHECK(says(affine([&](Model& m) {
               m[q + ".scales"].bytes[1] = '\x7f';
               m[q + ".scales"].bytes[0] = '\xc0';
             }),
             "not finite"));
  CHECK(says(affine([&](Model& m) {
               m[q + ".biases"].bytes[1] = '\xff';
               m[q + ".biases"].bytes[0] = '\x80';
             }),
             "not finite"));
  CHECK(says(failure_of([&](Model& m) {
               m[q + ".weight"] = random_bytes("U32", {64, 8}, 1);
               m[q + ".scales"] = random_bytes("U8", {64, 2}, 2, 255, 1);
             }),
             "not finite"));
  CHECK(says(failure_of([&](Model& m) {
               m[q + ".weight"] = random_bytes("I8", {64, 64}, 1);
             }),
             "no known form"));
  CHECK(says(failure_of([&](Model& m) { m[q + ".weight"] = bf16({32, 64}, 1); }), "has shape"));
  CHECK(says(failure_of([&](Model& m) { m.erase(q + ".weight"); }), "is missing"));
  CHECK(says(failure_of([&](Model& m) { make_nvfp4(m, q, 64, kHidden, NAN, 1); }),
             "weight_scale_2' is not finite"));
  CHECK(says(failure_of([&](Model& m) {
               make_nvfp4(m, q, 64, kHidden, 1, 1);
               m[q + ".weight_scale"].bytes[3] = '\x7f';
             }),
             "not finite"));
  CHECK(says(failure_of([&](Model& m) {
               make_nvfp4(m, q, 64, kHidden, 1, 1);
               m.erase(q + ".weight_scale_2");
             }),
             "weight_scale_2' is missing"));
  CHECK(says(failure_of([&](Model& m) {
               make_nvfp4(m, "layers.1.mixer.experts.2.up_proj", kExpertFf, kHidden, 1, 1);
             }),
             "different forms"));
}

TEST_CASE("broken TurboQuant modules are named") {
  const std::string q = "layers.2.mixer.q_proj";
  const auto turbo = [&](const std::function<void(Model&)>& change) {
    return failure_of([&](Model& m) {
      m[q + ".weight"] = random_bytes("U32", {64, 7}, 1, 0, 64);
      m[q + ".scales"] = built("F16", {64, 2}, std::vector<std::uint16_t>(128, 0x3c00));
      m[q + ".signs"] = built("F16", {kHidden}, std::vector<std::uint16_t>(kHidden, 0xbc00));
      m[q + ".codebook"] = built<std::uint16_t>(
          "F16", {8}, {0xc000, 0xbc00, 0xb800, 0xb000, 0x3000, 0x3800, 0x3c00, 0x4000});
      change(m);
    });
  };
  CHECK(turbo([](Model&) {}) == "no error");
  CHECK(says(turbo([&](Model& m) {
               m[q + ".codebook"] = built("F16", {5}, std::vector<std::uint16_t>(5, 0x3c00));
             }),
             "has 5 levels"));
  CHECK(says(turbo([&](Model& m) { m[q + ".codebook"].bytes[1] = '\x45'; }), "not ascending"));
  CHECK(says(turbo([&](Model& m) { m[q + ".codebook"].bytes[15] = '\x7c'; }), "not finite"));
  CHECK(says(turbo([&](Model& m) { m[q + ".signs"].bytes[1] = '\x40'; }), "else than 1 and -1"));
  CHECK(says(turbo([&](Model& m) { m.erase(q + ".signs"); }), "signs' is missing"));
  CHECK(says(turbo([&](Model& m) { m.erase(q + ".scales"); }), "scales' is missing"));
  CHECK(says(turbo([&](Model& m) { m.erase(q + ".codebook"); }), "no whole number of bits"));
  CHECK(says(turbo([&](Model& m) {
               m[q + ".weight"] = random_bytes("U32", {64, 8}, 1);
             }),
             "has shape"));
  CHECK(says(turbo([&](Model& m) { m[q + ".scales"].bytes[1] = '\x7e'; }), "not finite"));
}

TEST_CASE("embeddings and routers that are stored rotated are refused") {
  for (const auto& [stem, rows] :
       {std::pair{std::string("embeddings"), std::int64_t{kVocab}},
        std::pair{std::string("layers.1.mixer.gate"), std::int64_t{kExperts}}}) {
    for (const bool rotated : {true, false}) {
      INFO(stem << " rotated " << rotated);
      const std::string failure = failure_of([&, &stem = stem, &rows = rows](Model& m) {
        m[stem + ".weight"] = random_bytes("U32", {rows, 7}, 1, 0, 64);
        m[stem + ".scales"] =
            built("F16", {rows, 2}, std::vector<std::uint16_t>(std::size_t(2 * rows), 0x3c00));
        m[stem + ".signs"] =
            built("F16", {kHidden}, std::vector<std::uint16_t>(kHidden, rotated ? 0xbc00 : 0x3c00));
        m[stem + ".codebook"] = built<std::uint16_t>(
            "F16", {8}, {0xc000, 0xbc00, 0xb800, 0xb000, 0x3000, 0x3800, 0x3c00, 0x4000});
      });
      CHECK(says(failure, rotated ? "is stored rotated" : "no error"));
    }
  }
}

TEST_CASE("quantization tensors and layers that nothing uses are refused") {
  CHECK(says(failure_of([](Model& m) {
               m["layers.2.mixer.q_proj.scales"] = bf16({64, 2}, 1);
             }),
             "not stored in any form"));
  for (const char* name :
       {"layers.2.mixer.q_norm.weight", "layers.1.mixer.gate.bias", "layers.0.mixer.x_proj.weight",
        "layers.3.mixer.gate_proj.weight", "layers.1.mixer.experts.up_proj_bias"}) {
    CHECK(says(failure_of([&](Model& m) { m[name] = bf16({16}, 1); }), "has no use"));
  }
  CHECK(says(failure_of([](Model& m) { m["layers.0.mixer.in_proj.bias"] = bf16({195}, 1); }),
             "has shape [195]"));
  CHECK(says(failure_of([](Model& m) { m["layers.4.norm.weight"] = bf16({kHidden}, 1); }),
             "does not have"));
  CHECK(says(failure_of([](Model& m) { m["layers.1.norm.weight"].bytes[1] = '\x7f'; }), "m: "));
  CHECK(failure_of([](Model& m) { m["layers.2.mixer.k_proj.k_scale"] = scalar(1); }) == "no error");
}

TEST_CASE("biases of every projection are read, of experts apart and stacked") {
  Model m;
  m["layers.0.mixer.in_proj.bias"] = bf16({196}, 1);
  m["layers.0.mixer.out_proj.bias"] = bf16({kHidden}, 2);
  const std::string moe = "layers.1.mixer.";
  for (int j = 0; j < kExperts; ++j) {
    m[moe + "experts." + std::to_string(j) + ".up_proj.bias"] =
        built<float>("F32", {kExpertFf}, std::vector<float>(kExpertFf, float(j)));
  }
  m[moe + "shared_experts.up_proj.bias"] = bf16({64}, 3);
  m["layers.3.mixer.down_proj.bias"] = bf16({kHidden}, 4);
  const auto apart = m.open();
  const TensorRef& up = apart->tensor(moe + "experts.up_proj.bias");
  CHECK(up.count() == kExperts);
  const auto values = read_floats(up);
  REQUIRE(values.size() == std::size_t{kExperts} * kExpertFf);
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == float(i / kExpertFf));
  for (const char* name :
       {"layers.0.mixer.in_proj.bias", "layers.0.mixer.out_proj.bias",
        "layers.1.mixer.shared_experts.up_proj.bias", "layers.3.mixer.down_proj.bias"}) {
    CHECK(apart->find(name) != nullptr);
  }
  m.erase(moe + "experts.1.up_proj.bias");
  CHECK(says(m.failure(), "experts.1.up_proj.bias' is missing"));
}

TEST_CASE("contradictions inside config.json are named together with the folder") {
  const auto with = [](const char* key, const Json& value) {
    return failure_of([&](Model& m) { m.config[key] = value; });
  };
  CHECK(says(with("num_hidden_layers", 5), "m: config.json: 'num_hidden_layers' is 5"));
  CHECK(says(with("layers_block_type", Json::array({"mamba", "moe", "attention", "moe"})),
             "different layers"));
  CHECK(says(with("hybrid_override_pattern", "ME*X"), "'X'"));
  CHECK(says(with("num_experts_per_tok", 5), "experts used"));
  CHECK(says(with("vocab_size", 49), "has shape"));
  CHECK(says(with("model_type", "llama"), "not a Nemotron-H"));
  CHECK(says(with("hidden_size", -1), "hidden size"));
}

TEST_CASE("tokenizer, template and sampling defaults come from the files of the folder") {
  constexpr std::int64_t kLargeVocab = 4400;
  Model m;
  m.config["vocab_size"] = kLargeVocab;
  m.config["eos_token_id"] = 2;
  m["embeddings.weight"] = bf16({kLargeVocab, kHidden}, 1);
  m.tensors["lm_head.weight"] = bf16({kLargeVocab, kHidden}, 2);
  const auto folder = m.write("folder_files");
  {
    const auto bare = open_checkpoint(folder);
    CHECK(bare->chat_template().empty());
    CHECK(!bare->sampling().temperature);
    CHECK_THROWS_WITH(bare->tokenizer(), Catch::Contains("no tokenizer.json"));
  }
  std::filesystem::copy_file(std::string(NEMO_SOURCE_DIR) + "/tests/data/tokenizer/tokenizer.json",
                             folder / "tokenizer.json");
  write_file(folder / "generation_config.json",
             R"({"temperature":0.6,"top_p":0.95,"top_k":40,"eos_token_id":[2,11]})");
  write_file(folder / "tokenizer_config.json", R"({"chat_template":"from the configuration"})");
  const auto checkpoint = open_checkpoint(folder);
  const text::TokenizerData data = checkpoint->tokenizer();
  CHECK(data.tokens.size() == kLargeVocab);
  CHECK(data.tokens.back() == "[PAD4399]");
  CHECK(data.end_ids == std::vector<std::int32_t>{2, 11, 2});
  CHECK(checkpoint->sampling().temperature == 0.6f);
  CHECK(checkpoint->sampling().top_p == 0.95f);
  CHECK(checkpoint->sampling().top_k == 40);
  CHECK(checkpoint->chat_template() == "from the configuration");
  write_file(folder / "tokenizer_config.json",
             R"({"chat_template":[{"name":"tool_use","template":"t"},)"
             R"({"name":"default","template":"d"}]})");
  CHECK(checkpoint->chat_template() == "d");
  write_file(folder / "chat_template.json", R"({"chat_template":"from json"})");
  CHECK(checkpoint->chat_template() == "from json");
  write_file(folder / "chat_template.jinja", "from jinja");
  CHECK(checkpoint->chat_template() == "from jinja");
  write_file(folder / "generation_config.json", R"({"do_sample":false,"temperature":0.6})");
  CHECK(checkpoint->sampling().temperature == 0.0f);
  write_file(folder / "generation_config.json", R"({"eos_token_id":"two"})");
  CHECK_THROWS_WITH(checkpoint->tokenizer(), Catch::Contains("'eos_token_id'"));
  CHECK(open_checkpoint(folder / "model.safetensors")->tensors().size() == 27);
  std::filesystem::remove(folder / "config.json");
  CHECK_THROWS_WITH(open_checkpoint(folder), Catch::Contains("holds no config.json"));
}

TEST_CASE("the form of every matrix has a name") {
  Model m;
  make_affine(m, "layers.2.mixer.q_proj", {64, kHidden}, 3, 32, 3);
  make_nvfp4(m, "layers.2.mixer.k_proj", 32, kHidden, 1, 4);
  const auto checkpoint = m.open();
  const auto form = [&](const char* name) { return stored_form(checkpoint->tensor(name)); };
  CHECK(form("layers.2.mixer.q_proj.weight") == "affine 3 g32");
  CHECK(form("layers.2.mixer.k_proj.weight") == "nvfp4");
  CHECK(form("layers.2.mixer.v_proj.weight") == "BF16");
}
