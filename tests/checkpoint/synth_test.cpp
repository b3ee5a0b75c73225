// Synthetic checkpoints: exact structure, the same bytes for the same seed, healthy activations.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/presets.hpp>
#include <nemo/checkpoint/quant_mix.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/model/weights.hpp>
#include <nemo/text/tokenizer.hpp>

#include <algorithm>
#include <cmath>

using namespace nemo;

namespace {

std::filesystem::path write(const test::TemporaryFolder& folder, const ModelConfig& config,
                            const SynthOptions& options, const std::string& name = "m.gguf") {
  write_synthetic_gguf(folder / name, config, options);
  return folder / name;
}

/// Token ids spread over a vocabulary.
std::vector<std::int32_t> some_tokens(std::int64_t vocab, int count) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int32_t>((std::int64_t{i} * 7919 + 37) % vocab));
  }
  return ids;
}

}  // namespace

TEST_CASE("a synthetic file has the keys and tensors of a converted one") {
  const test::TemporaryFolder folder("synth-structure");
  const ModelConfig tiny = synth_config("tiny", 0);
  const std::string mix =
      GENERATE("F32", "BF16", "Q4_0", "Q4_K_M", "IQ2_XXS", "MXFP4_MOE", "NVFP4");
  SynthOptions options;
  options.mix = mix;
  const auto path = write(folder, tiny, options);
  const Gguf gguf = Gguf::open(path);
  for (const char* key :
       {"general.name", "general.type", "general.quantization_version", "nemotron_h_moe.vocab_size",
        "nemotron_h_moe.context_length", "nemotron_h_moe.attention.layer_norm_epsilon",
        "nemotron_h_moe.rope.freq_base", "nemotron_h_moe.rope.dimension_count",
        "nemotron_h_moe.rope.scaling.finetuned", "nemotron_h_moe.expert_shared_count",
        "nemotron_h_moe.expert_group_count", "tokenizer.chat_template"}) {
    CHECK(gguf.has(key));
  }
  CHECK(gguf.get_int("general.file_type") ==
        static_cast<std::int64_t>(find_quant_mix(mix).file_type));
  const auto checkpoint = open_checkpoint(path);
  const ModelConfig& c = checkpoint->config();
  CHECK(c.pattern() == tiny.pattern());
  CHECK(c.parameters() == tiny.parameters());
  CHECK(c.active_parameters() == tiny.active_parameters());
  CHECK(c.router.scale == tiny.router.scale);
  CHECK(checkpoint->ignored().empty());
  CHECK(checkpoint->tensor_bytes() == planned_weight_bytes(tiny, mix));
  if (mix == "NVFP4") {
    CHECK(checkpoint->tensor("layers.1.mixer.experts.up_proj.weight").scales.size() == 8);
  }
}

TEST_CASE("layers can be cut, and configurations of all families written") {
  const test::TemporaryFolder folder("synth-cut");
  const std::string data = std::string(NEMO_SOURCE_DIR) + "/tests/data/configs/";
  CHECK(synth_config("nano-30b", 9).pattern() == "MEMEM*EME");
  CHECK(synth_config("super-120b-a12b", 1).architecture == "nemotron_h");
  CHECK_THROWS_WITH(synth_config("nano-4b", 43), Contains("1 to 42"));
  CHECK_THROWS_WITH(synth_config("nano-5b", 0), Contains("unknown architecture"));
  CHECK_THROWS_WITH(synth_config(data + "none.json", 0), Contains("No such file"));

  // Experts of different sizes, a state of 96, a draft head that is left out; made small.
  ModelConfig puzzle = synth_config(data + "puzzle-75b-a9b.json", 12);
  CHECK(puzzle.mtp.empty());
  puzzle.vocab = 300;
  puzzle.hidden = 64;
  std::int64_t width = 32;
  for (LayerConfig& l : puzzle.layers) {
    if (l.kind != LayerKind::moe) continue;
    l.experts = 16;
    l.latent = 32;
    l.expert_ff = width;
    l.shared_ff = 64;
    width += 32;
  }
  puzzle.validate();
  const auto checkpoint = open_checkpoint(write(folder, puzzle, {}));
  CHECK(checkpoint->config().parameters() == puzzle.parameters());
  CHECK(checkpoint->config().active_parameters() == puzzle.active_parameters());
}

TEST_CASE("the bytes depend on the seed and on nothing else") {
  const test::TemporaryFolder folder("synth-seed");
  const ModelConfig tiny = synth_config("tiny", 3);
  const auto with = [&](std::uint64_t seed, int threads) {
    SynthOptions options;
    options.seed = seed;
    options.threads = threads;
    return test::read_bytes(write(folder, tiny, options));
  };
  const auto one = with(1, 1);
  CHECK(one == with(1, 4));
  CHECK(one != with(2, 1));
}

TEST_CASE("progress is reported, and stopping leaves no file") {
  const test::TemporaryFolder folder("synth-progress");
  const ModelConfig tiny = synth_config("tiny", 0);
  std::uint64_t last = 0;
  SynthOptions options;
  options.threads = 2;
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    CHECK(done > last);
    CHECK(done <= total);
    last = done;
    return true;
  };
  const auto path = write(folder, tiny, options);
  CHECK(last > std::filesystem::file_size(path) * 9 / 10);
  options.progress = [](std::uint64_t, std::uint64_t) { return false; };
  CHECK_THROWS_WITH(write(folder, tiny, options, "stopped.gguf"), Contains("cancelled"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder / ""), {}) == 1);
}

TEST_CASE("a disk that is too small is noticed before anything is written") {
  const test::TemporaryFolder folder("synth-space");
  ModelConfig huge = preset_config("ultra");
  for (int i = 0; i < 9; ++i) {
    huge.layers.insert(huge.layers.end(), huge.layers.begin(), huge.layers.begin() + 108);
  }
  SynthOptions options;
  options.mix = "F32";
  CHECK_THROWS_WITH(write(folder, huge, options), Contains("MiB are free on that disk"));
  CHECK(std::filesystem::is_empty(folder / ""));
  options.mix = "Q7";
  CHECK_THROWS_WITH(write(folder, synth_config("tiny", 1), options), Contains("'Q7'"));
  ModelConfig small = synth_config("tiny", 1);
  small.vocab = 200;
  CHECK_THROWS_WITH(write(folder, small, {}), Contains("too small for a synthetic model"));
}

TEST_CASE("the synthetic tokenizer has the real special ids and spells any text") {
  const test::TemporaryFolder folder("synth-tokenizer");
  ModelConfig c = synth_config("tiny", 1);
  c.vocab = GENERATE(1024, 4000, 40000);
  c.hidden = 32;
  c.mamba.heads = c.mamba.head_dim = 4;
  const auto checkpoint = open_checkpoint(write(folder, c, {}));
  const text::TokenizerData data = checkpoint->tokenizer();
  CHECK(data.tokens.size() == static_cast<std::size_t>(c.vocab));
  CHECK(data.tokens[2] == "</s>");
  CHECK(data.tokens[10] == "<|im_start|>");
  CHECK(data.tokens[11] == "<|im_end|>");
  CHECK(data.tokens[12] == "<think>");
  CHECK(data.tokens[14] == "<tool_call>");
  CHECK(data.end_ids == std::vector<std::int32_t>{11, 2});
  auto sorted = data.tokens;
  std::sort(sorted.begin(), sorted.end());
  CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
  const text::Tokenizer tokenizer(data);
  const std::string text =
      "The quick brown fox\njumps over 1234 lazy dogs; \xc3\xa9\xf0\x9f\x99\x82!";
  const auto ids = tokenizer.encode(text);
  CHECK(tokenizer.decode(ids) == text);
  CHECK(ids.size() < text.size() * 4 / 5);
}

TEST_CASE("small tensors lie in the range of trained ones") {
  const test::TemporaryFolder folder("synth-values");
  const auto checkpoint = open_checkpoint(write(folder, synth_config("tiny", 0), {}));
  const auto within = [&](const char* name, double low, double high) {
    INFO(name);
    for (const float x : read_floats(checkpoint->tensor(name))) {
      CHECK(x >= low);
      CHECK(x <= high);
    }
  };
  within("layers.0.mixer.A", -16, -1);
  within("layers.0.mixer.D", 0.9, 1.1);
  within("layers.0.norm.weight", 0.9, 1.1);
  within("layers.1.mixer.gate.bias", -0.01, 0.01);
  for (const float bias : read_floats(checkpoint->tensor("layers.0.mixer.dt_bias"))) {
    const double dt = std::log1p(std::exp(static_cast<double>(bias)));
    CHECK(dt >= 0.0009);
    CHECK(dt <= 0.11);
  }
}

TEST_CASE("activations stay near 1 and the logits are finite in every format") {
  const test::TemporaryFolder folder("synth-run");
  SynthOptions options;
  options.mix = GENERATE("F32", "Q4_0", "Q4_K_M", "IQ2_XXS", "MXFP4_MOE", "NVFP4", "TQ2_0");
  INFO(options.mix);
  LoadOptions load_options;
  load_options.context = 128;
  const auto model = load(write(folder, synth_config("tiny", 0), options).string(), load_options);
  const auto tokens = some_tokens(model->config().vocab, 100);
  const auto session = model->new_session();
  session->feed(tokens);
  double sum = 0;
  for (const float x : session->logits()) {
    REQUIRE(std::isfinite(x));
    sum += static_cast<double>(x) * x;
  }
  // The head is made for a standard deviation of 2.
  const double deviation = std::sqrt(sum / static_cast<double>(session->logits().size()));
  CHECK(deviation > 1);
  CHECK(deviation < 4);
}

TEST_CASE("the router spreads tokens over all experts") {
  const test::TemporaryFolder folder("synth-router");
  const auto weights = load_weights(open_checkpoint(write(folder, synth_config("tiny", 2), {})));
  const auto& moe = std::get<MoeWeights>(weights->layers[1].mixer);
  const std::int64_t d = weights->config.hidden;
  constexpr std::int64_t kTokens = 400;
  Compute compute(select_kernels("reference"), 1);
  Arena::Scope scope(compute.arena);
  auto* rows = compute.arena.take<float>(kTokens * padded(d));
  const auto ids = some_tokens(weights->config.vocab, kTokens);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const Matrix& table = weights->embeddings;
    float* row = rows + t * padded(d);
    compute.kernels.format(table.type)
        .decode_row(table.view(), ids[static_cast<std::size_t>(t)], row);
    compute.kernels.rms_norm(row, weights->layers[1].norm.data(), d, 1e-5f, row);
  }
  Activations x(compute, rows, kTokens, d, padded(d));
  std::vector<Route> routes(static_cast<std::size_t>(kTokens * moe.router.used));
  route(compute, moe.router, x, routes.data());
  std::vector<int> used(8);
  for (const Route& r : routes) ++used[static_cast<std::size_t>(r.expert)];
  // 100 each on average.
  for (const int count : used) {
    CHECK(count > 50);
    CHECK(count < 200);
  }
}
