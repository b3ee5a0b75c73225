// The Checkpoint view of GGUF files: good ones, old and odd ones, contradictory ones.
#include "catch.hpp"
#include "support/model_file.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/half.hpp>
#include <nemo/checkpoint/checkpoint.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace nemo;
using test::ModelFile;
using test::OpenModel;

namespace {

const std::string kData = std::string(NEMO_SOURCE_DIR) + "/tests/data/gguf/";

std::string failure(const ModelFile& file) {
  try {
    const OpenModel model(file);
    return "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.find('\n') == std::string::npos);
    return message;
  }
}

}  // namespace

TEST_CASE("llama.cpp's models have the sizes their description states") {
  for (const auto& entry : std::filesystem::directory_iterator(kData)) {
    if (entry.path().extension() != ".gguf") continue;
    INFO(entry.path());
    const auto checkpoint = open_checkpoint(entry.path());
    const ModelConfig& c = checkpoint->config();
    auto description = entry.path();
    const auto bytes = test::read_bytes(description.replace_extension(".json"));
    const auto json =
        nlohmann::json::parse(reinterpret_cast<const char*>(bytes.data()),
                              reinterpret_cast<const char*>(bytes.data()) + bytes.size());
    const auto& expected = json["config"];
    CHECK(c.pattern() == expected["pattern"]);
    CHECK(c.hidden == expected["hidden"]);
    CHECK(c.vocab == expected["vocab"]);
    CHECK(c.mamba.heads == expected["mamba_heads"]);
    CHECK(c.mamba.head_dim == expected["mamba_head_dim"]);
    CHECK(c.mamba.groups == expected["mamba_groups"]);
    CHECK(c.mamba.state == expected["state"]);
    CHECK(c.mamba.conv_kernel == expected["conv"]);
    CHECK(c.norm_eps == Approx(expected["rms_eps"].get<double>()));
    CHECK(c.tied_head == expected["tied_output"]);
    CHECK(c.parameters() == json["parameters"]);
    for (const LayerConfig& l : c.layers) {
      if (l.kind == LayerKind::attention) {
        CHECK(l.q_heads == expected["heads"]);
        CHECK(l.kv_heads == expected["kv_heads"]);
        CHECK(l.head_dim == expected["head_dim"]);
      }
      if (l.kind != LayerKind::moe) continue;
      CHECK(l.experts == expected["experts"]);
      CHECK(l.experts_used == expected["top_k"]);
      CHECK(l.expert_ff == expected["expert_ff"]);
      CHECK(l.shared_ff == expected["shared_ff"]);
      CHECK(l.latent == expected["latent"]);
      CHECK(c.router.scale == expected["routed_scale"]);
      CHECK(c.router.normalize == expected["norm_topk"]);
      CHECK(c.router.groups == expected["expert_groups"]);
      CHECK(c.router.groups_used == expected["expert_groups_used"]);
    }
    CHECK(checkpoint->ignored().empty());
    CHECK(!checkpoint->chat_template().empty());
    std::int64_t elements = 0;
    for (const TensorRef& tensor : checkpoint->tensors()) elements += tensor.elements();
    CHECK(elements == c.parameters());
    CHECK(checkpoint->tokenizer().tokens.size() == static_cast<std::size_t>(c.vocab));
  }
}

TEST_CASE("NVFP4 matrices carry their side scales") {
  const auto checkpoint = open_checkpoint(kData + "latent128.NVFP4.gguf");
  CHECK(checkpoint->tensor("layers.0.mixer.in_proj.weight").scales.size() == 1);
  const TensorRef& experts = checkpoint->tensor("layers.1.mixer.experts.up_proj.weight");
  CHECK(experts.type == DType::nvfp4);
  CHECK(experts.count() == 12);
  CHECK(experts.rows() == 64);
  CHECK(experts.cols() == 64);
  REQUIRE(experts.scales.size() == 12);
  for (const float scale : experts.scales) CHECK(scale > 0);
  CHECK(checkpoint->tensor("layers.2.mixer.q_proj.weight").scales.empty());
}

TEST_CASE("a side scale that is not finite or has another size is refused") {
  ModelFile file;
  file.add("blk.0.ssm_in.scale", {2});
  CHECK_THAT(failure(file), Contains("blk.0.ssm_in.scale"));
  file.tensor("blk.0.ssm_in.scale").dims = {1};
  CHECK(failure(file) == "no error");
  file.types["blk.0.ssm_in.scale"] = DType::i32;
  CHECK_THAT(failure(file), Contains("expected F32"));
}

TEST_CASE("canonical names have the shapes the header states") {
  const OpenModel model{ModelFile()};
  const Checkpoint& c = *model.checkpoint;
  const auto shape = [&c](const char* name) {
    const TensorRef& t = c.tensor(name);
    return std::vector<std::int64_t>(t.shape.begin(), t.shape.begin() + t.rank);
  };
  using S = std::vector<std::int64_t>;
  CHECK(shape("embeddings.weight") == S{300, 64});
  CHECK(shape("norm_f.weight") == S{64});
  CHECK(shape("lm_head.weight") == S{300, 64});
  CHECK(shape("layers.0.norm.weight") == S{64});
  CHECK(shape("layers.0.mixer.in_proj.weight") == S{164, 64});
  CHECK(shape("layers.0.mixer.conv1d.weight") == S{96, 4});
  CHECK(shape("layers.0.mixer.conv1d.bias") == S{96});
  CHECK(shape("layers.0.mixer.A") == S{4});
  CHECK(shape("layers.0.mixer.D") == S{4});
  CHECK(shape("layers.0.mixer.dt_bias") == S{4});
  CHECK(shape("layers.0.mixer.norm.weight") == S{64});
  CHECK(shape("layers.0.mixer.out_proj.weight") == S{64, 64});
  CHECK(shape("layers.1.mixer.gate.weight") == S{8, 64});
  CHECK(shape("layers.1.mixer.gate.bias") == S{8});
  CHECK(shape("layers.1.mixer.experts.up_proj.weight") == S{8, 96, 32});
  CHECK(shape("layers.1.mixer.experts.down_proj.weight") == S{8, 32, 96});
  CHECK(shape("layers.1.mixer.shared_experts.up_proj.weight") == S{128, 64});
  CHECK(shape("layers.1.mixer.shared_experts.down_proj.weight") == S{64, 128});
  CHECK(shape("layers.1.mixer.fc1_latent_proj.weight") == S{32, 64});
  CHECK(shape("layers.1.mixer.fc2_latent_proj.weight") == S{64, 32});
  CHECK(shape("layers.2.mixer.q_proj.weight") == S{128, 64});
  CHECK(shape("layers.2.mixer.k_proj.weight") == S{64, 64});
  CHECK(shape("layers.2.mixer.o_proj.weight") == S{64, 128});
  CHECK(shape("layers.3.mixer.up_proj.weight") == S{96, 64});
  CHECK(shape("layers.3.mixer.down_proj.weight") == S{64, 96});
  CHECK(c.find("layers.2.mixer.q_proj.bias") == nullptr);
  CHECK_THROWS_WITH(c.tensor("layers.9.norm.weight"), Contains("'layers.9.norm.weight'"));
  CHECK(c.container() == "GGUF v3");
}

TEST_CASE("every missing tensor is named, but a missing head is a tied one") {
  for (const LayoutTensor& tensor : ModelFile().tensors) {
    INFO(tensor.name);
    ModelFile file;
    file.drop(tensor.name);
    if (tensor.name == "output.weight") {
      const OpenModel model(file);
      CHECK(model.checkpoint->config().tied_head);
      CHECK(model.checkpoint->find("lm_head.weight") == nullptr);
    } else if (tensor.name == "blk.1.ffn_gate_inp.weight") {
      // Without the router the layer reads as a dense one.
      CHECK_THAT(failure(file), Contains("'blk.1.ffn_up.weight' is missing"));
    } else if (tensor.name == "blk.1.ffn_up_shexp.weight") {
      CHECK_THAT(failure(file), Contains("'blk.1.ffn_up_shexp.weight' is missing"));
    } else {
      CHECK_THAT(failure(file), Contains("'" + tensor.name + "' is missing"));
    }
  }
}

TEST_CASE("every mis-shaped tensor is named with found and expected dims") {
  for (std::size_t i = 0; i < ModelFile().tensors.size(); ++i) {
    ModelFile file;
    LayoutTensor& tensor = file.tensors[i];
    tensor.dims.back() += 32;
    INFO(tensor.name);
    CHECK_THAT(failure(file), Contains("'" + tensor.name + "' has dims {") &&
                                  Contains("the model's sizes ask for {"));
  }
  ModelFile file;
  std::swap(file.tensor("blk.0.ssm_conv1d.weight").dims[0],
            file.tensor("blk.0.ssm_conv1d.weight").dims[1]);
  CHECK_THAT(failure(file), Contains("has dims {96, 4}") && Contains("ask for {4, 96}"));
}

TEST_CASE("tensors of a type that cannot serve are refused") {
  for (const LayoutTensor& tensor : ModelFile().tensors) {
    INFO(tensor.name);
    ModelFile file;
    file.types[tensor.name] = DType::i32;
    CHECK_THAT(failure(file), Contains("'" + tensor.name + "' has type I32"));
    if (tensor.is_matrix() || tensor.role == TensorRole::router) continue;
    file.types[tensor.name] = DType::f16;
    CHECK(failure(file) == "no error");
    if (tensor.dims[0] % 32 != 0) continue;
    file.types[tensor.name] = DType::q8_0;
    CHECK_THAT(failure(file), Contains("has type Q8_0, expected F32, F16 or BF16"));
  }
}

TEST_CASE("small tensors read as float from each float type") {
  const float values[] = {1.0f, -2.5f, 0.0f, 1024.0f};
  TensorRef ref;
  ref.shape[0] = 4;
  ref.data = reinterpret_cast<const std::byte*>(values);
  CHECK(read_floats(ref) == std::vector<float>(values, values + 4));
  Half halves[4];
  BFloat16 brains[4];
  for (int i = 0; i < 4; ++i) {
    halves[i] = to_half(values[i]);
    brains[i] = to_bfloat16(values[i]);
  }
  ref.type = DType::f16;
  ref.data = reinterpret_cast<const std::byte*>(halves);
  CHECK(read_floats(ref) == std::vector<float>(values, values + 4));
  ref.type = DType::bf16;
  ref.data = reinterpret_cast<const std::byte*>(brains);
  CHECK(read_floats(ref) == std::vector<float>(values, values + 4));
  ref.type = DType::q4_0;
  ref.stored = "t";
  CHECK_THROWS_WITH(read_floats(ref), Contains("'t' has type Q4_0"));
}

TEST_CASE("squeezed, flat and fused spellings of tensors are accepted") {
  ModelFile file;
  file.tensor("blk.0.ssm_conv1d.weight").dims = {4, 1, 96};
  file.tensor("blk.0.ssm_a").dims = {4};
  file.tensor("blk.0.ssm_norm.weight").dims = {64};
  file.tensor("blk.1.ffn_latent_down.weight").name = "blk.1.ffn_latent_in.weight";
  file.tensor("blk.1.ffn_latent_up.weight").name = "blk.1.ffn_latent_out.weight";
  file.drop("blk.2.attn_q.weight");
  file.drop("blk.2.attn_k.weight");
  file.tensor("blk.2.attn_v.weight").name = "blk.2.attn_qkv.weight";
  file.tensor("blk.2.attn_qkv.weight").dims = {64, 128 + 64 + 64};
  file.add("blk.2.attn_output.bias", {64});
  file.add("blk.3.ffn_up.bias", {96});
  file.add("rope_freqs.weight", {7});
  const OpenModel model(file);
  const Checkpoint& c = *model.checkpoint;
  const TensorRef& q = c.tensor("layers.2.mixer.q_proj.weight");
  const TensorRef& k = c.tensor("layers.2.mixer.k_proj.weight");
  const TensorRef& v = c.tensor("layers.2.mixer.v_proj.weight");
  CHECK(q.rows() == 128);
  CHECK(k.rows() == 64);
  CHECK(k.data == q.data + 128 * 64 * 4);
  CHECK(v.data == k.data + 64 * 64 * 4);
  CHECK(c.find("layers.2.mixer.o_proj.bias") != nullptr);
  CHECK(c.find("layers.3.mixer.up_proj.bias") != nullptr);
  REQUIRE(c.ignored().size() == 1);
  CHECK(c.ignored()[0] == "rope_freqs.weight");
  file.tensor("blk.2.attn_qkv.weight").dims = {64, 200};
  CHECK_THAT(failure(file), Contains("'blk.2.attn_qkv.weight' has dims"));
}

TEST_CASE("biases of every projection are read, and what a layer cannot use is refused") {
  ModelFile file;
  file.add("blk.0.ssm_in.bias", {file.tensor("blk.0.ssm_in.weight").dims[1]});
  file.add("blk.0.ssm_out.bias", {64});
  const auto experts = file.tensor("blk.1.ffn_up_exps.weight").dims;
  file.add("blk.1.ffn_up_exps.bias", {experts[1], experts[2]});
  file.add("blk.1.ffn_down_exps.bias", {experts[0], experts[2]});
  file.add("blk.1.ffn_down_shexp.bias", {64});
  file.add("blk.1.ffn_latent_down.bias", {experts[0]});
  const OpenModel model(file);
  const Checkpoint& c = *model.checkpoint;
  CHECK(c.ignored().empty());
  CHECK(c.find("layers.0.mixer.in_proj.bias") != nullptr);
  CHECK(c.find("layers.0.mixer.out_proj.bias") != nullptr);
  CHECK(c.tensor("layers.1.mixer.experts.up_proj.bias").count() == experts[2]);
  CHECK(c.tensor("layers.1.mixer.experts.down_proj.bias").cols() == experts[0]);
  CHECK(c.find("layers.1.mixer.shared_experts.down_proj.bias") != nullptr);
  CHECK(c.find("layers.1.mixer.fc1_latent_proj.bias") != nullptr);
  for (const char* name : {"blk.2.attn_q_norm.weight", "blk.0.ssm_dt.weight", "blk.3.any.bias"}) {
    ModelFile other;
    other.add(name, {64});
    CHECK_THAT(failure(other), Contains(std::string("'") + name + "' has no use"));
  }
}

TEST_CASE("missing and contradictory keys are named") {
  for (const char* key :
       {"block_count", "embedding_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "ssm.conv_kernel", "ssm.state_size", "ssm.group_count",
        "ssm.inner_size", "ssm.time_step_rank", "expert_count", "expert_used_count"}) {
    ModelFile file;
    file.keys.erase(key);
    CHECK_THAT(failure(file), Contains("'nemotron_h_moe." + std::string(key) + "' is missing"));
    file.word(key, "x");
    CHECK_THAT(failure(file), Contains("has type string"));
  }
  const auto with = [](const char* key, std::int64_t value) {
    ModelFile file;
    file.number(key, value);
    return failure(file);
  };
  CHECK_THAT(with("block_count", 0), Contains("block_count"));
  CHECK_THAT(with("block_count", 3), Contains("has 4 values for 3 layers"));
  CHECK_THAT(with("block_count", 4000000000), Contains("expected 1 to 4096"));
  CHECK_THAT(with("embedding_length", 65), Contains("has dims"));
  CHECK_THAT(with("embedding_length", 0), Contains("hidden size"));
  CHECK_THAT(with("vocab_size", 301), Contains("'token_embd.weight' has dims"));
  CHECK_THAT(with("vocab_size", 4294967295), Contains("vocabulary size"));
  CHECK_THAT(with("ssm.time_step_rank", 0), Contains("not a multiple"));
  CHECK_THAT(with("ssm.time_step_rank", 3), Contains("not a multiple"));
  CHECK_THAT(with("ssm.group_count", 0), Contains("groups"));
  CHECK_THAT(with("ssm.state_size", 4294967295), Contains("state size"));
  CHECK_THAT(with("ssm.conv_kernel", 0), Contains("kernel"));
  CHECK_THAT(with("attention.head_count", 0), Contains("attention heads"));
  CHECK_THAT(with("attention.head_count", 3), Contains("does not divide"));
  CHECK_THAT(with("attention.value_length", 16), Contains("different width"));
  CHECK_THAT(with("expert_used_count", 9), Contains("experts used"));
  CHECK_THAT(with("expert_used_count", 0), Contains("experts used"));
  CHECK_THAT(with("expert_count", 4294967295), Contains("number of experts"));
  CHECK_THAT(with("expert_group_count", 3), Contains("expert groups"));
  CHECK_THAT(with("nextn_predict_layers", 4), Contains("nextn_predict_layers"));
  ModelFile file;
  file.real("attention.layer_norm_rms_epsilon", -1.0f);
  CHECK_THAT(failure(file), Contains("epsilon"));
  file = ModelFile();
  file.list("feed_forward_length", {0, 96, 0});
  CHECK_THAT(failure(file), Contains("has 3 values for 4 layers"));
  file = ModelFile();
  file.list("feed_forward_length", {0, 96, 0, -96});
  CHECK_THAT(failure(file), Contains("feed-forward size"));
}

TEST_CASE("absent optional keys have their defaults") {
  ModelFile file;
  for (const char* key : {"context_length", "vocab_size", "attention.layer_norm_rms_epsilon",
                          "attention.value_length", "expert_shared_feed_forward_length",
                          "expert_feed_forward_length", "expert_weights_scale"}) {
    file.keys.erase(key);
  }
  file.number("expert_group_count", 0);
  file.number("expert_group_used_count", 0);
  const OpenModel model(file);
  const ModelConfig& c = model.checkpoint->config();
  CHECK(c.vocab == 300);
  CHECK(c.norm_eps == 1e-5f);
  CHECK(c.layers[1].expert_ff == 96);
  CHECK(c.layers[1].shared_ff == 128);
  CHECK(c.router.scale == 1.0f);
  CHECK(c.router.normalize);
  CHECK(c.router.groups == 1);
  CHECK(model.checkpoint->chat_template().empty());
  CHECK_THROWS_WITH(model.checkpoint->tokenizer(), Contains("'tokenizer.ggml.model' is missing"));
}

TEST_CASE("sizes given once for all layers take the kinds from the tensors") {
  ModelFile file;
  file.number("feed_forward_length", 96);
  file.number("attention.head_count_kv", 2);
  file.list("attention.head_count", {0, 0, 4, 0});
  file.list("expert_used_count", {0, 3, 0, 0});
  const OpenModel model(file);
  CHECK(model.checkpoint->config().pattern() == "ME*-");
  CHECK(model.checkpoint->config().layers[2].kv_heads == 2);
  CHECK(model.checkpoint->config().layers[1].experts_used == 3);
  file.drop("blk.0.ssm_in.weight");
  CHECK_THAT(failure(file), Contains("layer 0 has no tensors that tell its kind"));
}

TEST_CASE("other architectures and kinds of files are refused by name") {
  ModelFile file;
  file.architecture = "llama";
  CHECK_THAT(failure(file), Contains("architecture 'llama' is not a Nemotron-H model; nemo runs "
                                     "nemotron_h and nemotron_h_moe"));
  test::GgufBuilder b;
  b.string("general.type", "adapter").string("general.architecture", "nemotron_h");
  const auto bytes = b.build();
  CHECK_THROWS_WITH(config_from_gguf(Gguf::from_memory(bytes)), Contains("type 'adapter'"));
  const auto empty = test::GgufBuilder().build();
  CHECK_THROWS_WITH(config_from_gguf(Gguf::from_memory(empty)),
                    Contains("'general.architecture' is missing"));
}

TEST_CASE("draft heads are one block behind the trunk or two, and an incomplete one is named") {
  const bool two_blocks = GENERATE(false, true);
  ModelFile file;
  file.number("nextn_predict_layers", 1);
  file.number("block_count", two_blocks ? 6 : 5);
  file.list("feed_forward_length", two_blocks ? std::vector<std::int32_t>{0, 96, 0, 96, 0, 96}
                                              : std::vector<std::int32_t>{0, 96, 0, 96, 96});
  file.list("attention.head_count_kv", two_blocks ? std::vector<std::int32_t>{0, 0, 2, 0, 2, 0}
                                                  : std::vector<std::int32_t>{0, 0, 2, 0, 2});
  const std::string moe = two_blocks ? "blk.5." : "blk.4.";
  file.add("blk.4.nextn.eh_proj.weight", {128, 64});
  file.add("blk.4.nextn.enorm.weight", {64});
  file.add("blk.4.nextn.hnorm.weight", {64});
  file.add("blk.4.attn_norm.weight", {64});
  file.add("blk.4.attn_q.weight", {64, 128});
  file.add("blk.4.attn_k.weight", {64, 64});
  file.add("blk.4.attn_v.weight", {64, 64});
  file.add("blk.4.attn_output.weight", {128, 64});
  file.add(moe + (two_blocks ? "attn_norm.weight" : "post_attention_norm.weight"), {64});
  file.add(moe + "nextn.shared_head_norm.weight", {64});
  file.add(moe + "ffn_gate_inp.weight", {64, 8});
  file.add(moe + "exp_probs_b.bias", {8});
  file.add(moe + "ffn_up_exps.weight", {32, 96, 8});
  file.add(moe + "ffn_down_exps.weight", {96, 32, 8});
  file.add(moe + "ffn_up_shexp.weight", {64, 128});
  file.add(moe + "ffn_down_shexp.weight", {128, 64});
  file.add(moe + "ffn_latent_down.weight", {64, 32});
  file.add(moe + "ffn_latent_up.weight", {32, 64});
  {
    ModelFile incomplete = file;
    incomplete.drop("blk.4.attn_k.weight");
    CHECK_THAT(failure(incomplete), Contains("'blk.4.attn_k.weight' is missing"));
  }
  const OpenModel model(file);
  const ModelConfig& c = model.checkpoint->config();
  CHECK(c.pattern() == "ME*-");
  REQUIRE(c.mtp.size() == 2);
  CHECK(c.mtp[0].kind == LayerKind::attention);
  CHECK(c.mtp[0].kv_heads == 2);
  CHECK(c.mtp[1].kind == LayerKind::moe);
  CHECK(c.mtp[1].expert_ff == 96);
  CHECK(c.mtp[1].experts_used == 2);
  CHECK(c.mtp_parameters() > 0);
  CHECK(model.checkpoint->ignored().empty());
  CHECK(model.checkpoint->tensor("mtp.layers.0.eh_proj.weight").cols() == 128);
  CHECK(model.checkpoint->tensor("mtp.layers.1.norm.weight").stored ==
        moe + (two_blocks ? "attn_norm.weight" : "post_attention_norm.weight"));
  CHECK(model.checkpoint->tensor("mtp.layers.1.mixer.experts.down_proj.weight").count() == 8);
}

TEST_CASE("sampling defaults come from the metadata") {
  const ModelFile file;
  test::GgufBuilder b;
  file.put_keys(b);
  b.f32("general.sampling.temp", 0.6f).f32("general.sampling.top_p", 0.95f);
  b.u32("general.sampling.top_k", 40);
  for (const LayoutTensor& t : file.tensors) b.tensor(t.name, {t.dims.begin(), t.dims.end()});
  const auto bytes = b.build();
  const SamplingDefaults s = checkpoint_from_gguf(Gguf::from_memory(bytes))->sampling();
  CHECK(s.temperature == 0.6f);
  CHECK(s.top_p == 0.95f);
  CHECK(s.top_k == 40);
  CHECK(!s.min_p);
}

TEST_CASE("paths that are no model file say so") {
  CHECK_THROWS_WITH(open_checkpoint(kData), Contains("holds no config.json"));
  CHECK_THROWS_WITH(open_checkpoint(kData + "none.gguf"), Contains("No such file"));
  CHECK_THROWS_WITH(open_checkpoint(kData + "dense96.Q4_0.json"), Contains("not a GGUF file"));
}

TEST_CASE("every flipped bit of a model's header loads or is an error") {
  const auto original = ModelFile().build();
  std::size_t loaded = 0;
  const std::size_t header = 6000;
  REQUIRE(original.size() > header);
  for (std::size_t bit = 0; bit < 8 * header; bit += 3) {
    auto bytes = std::span(original).first(header);
    std::vector<std::byte> damaged(bytes.begin(), bytes.end());
    damaged[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    damaged.insert(damaged.end(), original.begin() + header, original.end());
    try {
      const auto checkpoint = checkpoint_from_gguf(Gguf::from_memory(damaged, "f"));
      ++loaded;
      CHECK(checkpoint->config().parameters() > 0);
    } catch (const Error& error) {
      CHECK(std::string(error.what()).size() > 4);
    }
  }
  CHECK(loaded > 0);
}
