// Sessions over every KV cache policy: forks, ways back and saved states, bit by bit.
#include "catch.hpp"

#include <nemo/base/error.hpp>
#include <nemo/cache/kv_pairing.hpp>
#include <nemo/cache/policies.hpp>
#include <nemo/engine/generator.hpp>
#include <nemo/engine/kv_calibration.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/engine/model_session.hpp>
#include <nemo/model/weights.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace {

using nemo::Session;
using Tokens = std::vector<std::int32_t>;

const std::string kModel = NEMO_SOURCE_DIR "/tests/data/gguf/moe192.Q4_K_M.gguf";
const char* const kPolicies[] = {"fp16",
                                 "fp32",
                                 "turbo:8,4,sink=4",
                                 "turbo:8,3",
                                 "turbo:3,2,sink=0",
                                 "rotor:4,64",
                                 "rotor:8,32,v=4,sink=20",
                                 "rotor:3,64,sink=0,preset=iso-full",
                                 "affine:4,64",
                                 "affine:8,32"};

Tokens some_tokens(std::int64_t count, std::uint32_t seed, std::int64_t vocab) {
  Tokens tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    tokens.push_back(static_cast<std::int32_t>(seed >> 8) % static_cast<std::int32_t>(vocab));
  }
  return tokens;
}

std::vector<float> fed(Session& session, const Tokens& tokens, std::int64_t chunk = 64) {
  session.feed(tokens, {chunk, {}});
  return {session.logits().begin(), session.logits().end()};
}

std::vector<std::byte> written(const Session& session) {
  std::vector<std::byte> bytes;
  session.write([&](const void* data, std::size_t n) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), from, from + n);
  });
  return bytes;
}

void read(Session& session, const std::vector<std::byte>& bytes) {
  std::size_t at = 0;
  session.read([&](void* data, std::size_t n) {
    if (n > bytes.size() - at) throw nemo::Error(nemo::ErrorCode::bad_file, "ends early");
    if (n > 0) std::memcpy(data, bytes.data() + at, n);
    at += n;
  });
}

}  // namespace

TEST_CASE("a fork and its parent go on as if the other were not there, with every policy") {
  const auto base = nemo::load(kModel, {.threads = 2, .context = 512});
  const std::int64_t vocab = base->config().vocab;
  const Tokens start = some_tokens(173, 1, vocab), one = some_tokens(90, 2, vocab),
               other = some_tokens(75, 3, vocab);
  for (const char* policy : kPolicies) {
    INFO(policy);
    const auto model = base->with_kv(policy);
    const auto alone = [&](const Tokens& rest) {
      const auto session = model->new_session();
      fed(*session, start);
      return fed(*session, rest, 16);
    };
    const auto parent = model->new_session();
    fed(*parent, start);
    const auto child = parent->fork();
    CHECK(child->logits().empty());
    CHECK(std::vector<std::int32_t>(child->tokens().begin(), child->tokens().end()) == start);
    CHECK(fed(*child, other, 16) == alone(other));
    CHECK(fed(*parent, one, 16) == alone(one));
    const auto grandchild = child->fork();
    CHECK(written(*grandchild) == written(*child));
  }
}

TEST_CASE("a restored session goes on as if nothing had happened since, with every policy") {
  const auto base = nemo::load(kModel, {.threads = 2, .context = 512});
  const std::int64_t vocab = base->config().vocab;
  const Tokens start = some_tokens(141, 4, vocab), rest = some_tokens(60, 5, vocab),
               wrong = some_tokens(200, 6, vocab);
  for (const char* policy : kPolicies) {
    INFO(policy);
    const auto session = base->with_kv(policy)->new_session();
    fed(*session, start);
    const auto state = written(*session);
    const auto mark = session->save();
    const std::vector<float> expected = fed(*session, rest, 7);
    session->restore(*mark);
    CHECK(written(*session) == state);
    fed(*session, wrong, 33);
    session->restore(*mark);
    CHECK(written(*session) == state);
    CHECK(fed(*session, rest, 7) == expected);
  }
}

TEST_CASE("a prompt cancelled between layers leaves its earlier chunks, with every policy") {
  const auto base = nemo::load(kModel, {.threads = 2, .context = 512});
  const std::int64_t vocab = base->config().vocab;
  const Tokens start = some_tokens(70, 1, vocab), prompt = some_tokens(300, 2, vocab);
  for (const char* policy : kPolicies) {
    INFO(policy);
    const auto model = base->with_kv(policy);
    const auto whole = model->new_session();
    fed(*whole, start);
    const auto expected = fed(*whole, prompt, 100);

    const auto session = model->new_session();
    fed(*session, start);
    const auto layers = static_cast<int>(base->config().layers.size());
    int asked = 0;
    nemo::FeedOptions options;
    options.chunk_tokens = 100;
    // The first chunk, its end, and all layers of the second but one.
    options.progress = [&](std::uint64_t done, std::uint64_t total) {
      const int chunk = asked <= layers ? 0 : 1;
      const int layer = chunk == 0 ? asked : asked - layers - 1;
      CHECK(done == static_cast<std::uint64_t>(100 * chunk + 100 * layer / layers));
      CHECK(total == 300);
      return ++asked < 2 * layers;
    };
    bool cancelled = false;
    try {
      session->feed(prompt, options);
    } catch (const nemo::Error& e) {
      cancelled = e.code() == nemo::ErrorCode::cancelled;
    }
    CHECK(cancelled);
    REQUIRE(session->tokens().size() == 170);
    const Tokens rest(prompt.begin() + 100, prompt.end());
    CHECK(fed(*session, rest, 100) == expected);
  }
}

TEST_CASE("a session that was written and read gives the same bits, with every policy") {
  const auto base = nemo::load(kModel, {.threads = 2, .context = 512});
  const std::int64_t vocab = base->config().vocab;
  const Tokens start = some_tokens(150, 7, vocab), rest = some_tokens(40, 8, vocab);
  for (const char* policy : kPolicies) {
    INFO(policy);
    const auto model = base->with_kv(policy);
    const auto session = model->new_session();
    fed(*session, start);
    const auto bytes = written(*session);
    const auto copy = model->new_session();
    fed(*copy, rest);  // whatever it held before is gone
    read(*copy, bytes);
    CHECK(written(*copy) == bytes);
    CHECK(fed(*copy, rest, 16) == fed(*session, rest, 16));
  }
}

TEST_CASE("saved sessions of another policy, model or length, and damaged ones, are refused") {
  const auto model = nemo::load(kModel, {.kv = "turbo:8,4,sink=4", .threads = 2, .context = 256});
  const auto session = model->new_session();
  fed(*session, some_tokens(100, 9, model->config().vocab));
  const auto bytes = written(*session);
  const auto refused = [&](const nemo::Model& other, const std::vector<std::byte>& data) {
    const auto reader = other.new_session();
    CHECK_THROWS_AS(read(*reader, data), nemo::Error);
    CHECK(reader->tokens().empty());
    fed(*reader, {1, 2, 3});  // and it still works
  };
  for (const char* policy :
       {"turbo:8,3,sink=4", "turbo:8,4,sink=8", "rotor:4,64", "fp16", "fp32"}) {
    refused(*model->with_kv(policy), bytes);
  }
  refused(*nemo::load(NEMO_SOURCE_DIR "/tests/data/gguf/moe256.Q2_K.gguf",
                      {.kv = "turbo:8,4,sink=4", .threads = 2, .context = 256}),
          bytes);
  refused(*nemo::load(kModel, {.kv = "turbo:8,4,sink=4", .threads = 2, .context = 99}), bytes);
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{24}, std::size_t{100},
                                 bytes.size() / 2, bytes.size() - 1}) {
    refused(*model, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
  }
  for (const std::size_t at : {std::size_t{0}, std::size_t{9}, std::size_t{23}}) {
    auto damaged = bytes;
    damaged[at] ^= std::byte{0x55};
    refused(*model, damaged);
  }
}

TEST_CASE("every number of threads gives the same bits over quantized caches") {
  Tokens tokens;
  std::vector<float> expected;
  for (const int threads : {1, 2, 3}) {
    const auto base = nemo::load(kModel, {.threads = threads, .context = 1024});
    if (tokens.empty()) tokens = some_tokens(700, 10, base->config().vocab);
    for (const char* policy : {"turbo:8,4", "rotor:4,64", "affine:4,64"}) {
      INFO(policy << ", " << threads << " threads");
      const auto session = base->with_kv(policy)->new_session();
      fed(*session, tokens, 128);
      const auto logits = fed(*session, {5}, 1);
      if (threads == 1) {
        expected.insert(expected.end(), logits.begin(), logits.end());
      } else {
        const std::size_t at = policy[0] == 't' ? 0 : policy[0] == 'r' ? 1 : 2;
        CHECK(std::equal(logits.begin(), logits.end(),
                         expected.begin() + static_cast<std::ptrdiff_t>(at * logits.size())));
      }
    }
  }
}

TEST_CASE("attaching a policy shares the weights and changes new sessions only") {
  const auto model = nemo::load(kModel, {.threads = 1, .context = 64});
  const auto attached = model->with_kv("rotor:4,64");
  CHECK(&attached->weights() == &model->weights());
  CHECK(attached->kv_policy() == "rotor:4,64");
  CHECK(model->kv_policy() == "fp16");
  CHECK(attached->kv().formats.size() == 2);
  CHECK_THROWS_AS(model->with_kv("rotor:4,128"), nemo::Error);
  CHECK(attached->new_session()->kv_bytes_per_token() <
        model->new_session()->kv_bytes_per_token() / 2);
}

TEST_CASE("a policy chosen at compile time gives the bits of the same policy chosen at load time") {
  const auto model = nemo::load(kModel, {.kv = "turbo:8,3,sink=16", .threads = 1, .context = 256});
  const auto weights = nemo::load_weights(nemo::open_checkpoint(kModel));
  const nemo::NemotronH<nemo::TurboCache<8, 3, 16>> network(weights);
  nemo::ModelSession<nemo::TurboCache<8, 3, 16>> session(network, model->kernels(), 1, 256);
  const Tokens tokens = some_tokens(120, 11, model->config().vocab);
  const auto expected = fed(*model->new_session(), tokens, 16);
  CHECK(fed(session, tokens, 16) == expected);
}

TEST_CASE("centering changes what is stored, not what attention computes") {
  const auto model = nemo::load(kModel, {.threads = 2, .context = 512});
  const Tokens tokens = some_tokens(300, 12, model->config().vocab);
  const nemo::KvMeans means = nemo::calibrate_kv(*model, tokens);
  REQUIRE(means.size() == 2);
  REQUIRE(means[0].keys.size() == 64);
  const auto path = std::filesystem::temp_directory_path() / "nemo-test-means.gguf";
  nemo::write_kv_means(path, means, model->config());
  const nemo::KvMeans again = nemo::read_kv_means(path, model->config());
  CHECK(again[1].values == means[1].values);

  const auto logits = [&](const std::string& kv, const std::string& file) {
    const auto m = nemo::load(kModel, {.kv = kv, .kv_means = file, .threads = 2, .context = 512});
    CHECK((m->kv().means != nullptr) == (file != "off"));
    return fed(*m->new_session(), tokens, 16);
  };
  const auto distance = [](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(double(a[i]) - double(b[i]), 2);
    return std::sqrt(sum / double(a.size()));
  };
  const auto exact = logits("fp32", "off");
  // Everything lies in the half precision tier: only its rounding is left, centered or not.
  CHECK(distance(logits("turbo:8,4,sink=1048576", path.string()), exact) < 5e-3);
  CHECK(distance(logits("turbo:8,4,sink=1048576", "off"), exact) < 5e-3);
  // At 8 bits the rounding of the codes.
  CHECK(distance(logits("turbo:8,8,sink=0", path.string()), exact) < 0.05);
  // Sessions with other means hold other numbers.
  const auto centered = nemo::load(kModel, {.kv = "turbo:8,4", .kv_means = path.string()});
  const auto plain = nemo::load(kModel, {.kv = "turbo:8,4", .kv_means = "off"});
  const auto session = centered->new_session();
  fed(*session, {1, 2, 3});
  CHECK_THROWS_AS(read(*plain->new_session(), written(*session)), nemo::Error);
}

TEST_CASE("undecided tokens are in no fork, no written and no saved state, and can still be kept") {
  const auto base = nemo::load(kModel, {.threads = 2, .context = 512});
  const std::int64_t vocab = base->config().vocab;
  const Tokens start = some_tokens(139, 13, vocab), guesses = some_tokens(9, 14, vocab),
               rest = some_tokens(30, 15, vocab);
  for (const char* policy : kPolicies) {
    INFO(policy);
    const auto model = base->with_kv(policy);
    const auto session = model->new_session();
    fed(*session, start);
    const auto before = written(*session);
    (void)session->verify(guesses);  // across the end of a tile of 16
    CHECK(written(*session) == before);
    const auto child = session->fork();
    const auto mark = session->save();
    CHECK(child->tokens().size() == start.size());
    CHECK(written(*child) == before);
    const auto copy = model->new_session();
    read(*copy, before);
    CHECK(fed(*child, rest, 16) == fed(*copy, rest, 16));

    session->keep(6);
    const auto alone = model->new_session();
    fed(*alone, start);
    fed(*alone, {guesses.begin(), guesses.begin() + 6}, 1);
    CHECK(written(*session) == written(*alone));
    session->restore(*mark);
    CHECK(written(*session) == before);
    // Whatever else follows verify() takes its tokens back.
    (void)session->verify(guesses);
    const auto again = fed(*session, rest, 16);
    read(*copy, before);
    CHECK(again == fed(*copy, rest, 16));
  }
}

TEST_CASE(
    "forks and read sessions draft again once they have seen a token, and guess no wrong answer") {
  const auto base =
      nemo::load(NEMO_SOURCE_DIR "/models/nemo-tiny.gguf", {.threads = 2, .context = 512});
  const auto prompt = base->tokenizer().encode(
      "<|im_start|>user\nWhat is 25 + 17?<|im_end|>\n<|im_start|>assistant\n<think>\n",
      {.parse_special = true, .add_bos = true});
  for (const char* policy : {"fp16", "turbo:8,4,sink=4", "rotor:4,64,sink=0"}) {
    INFO(policy);
    const auto model = base->with_kv(policy);
    const auto parent = model->new_session();
    parent->start_drafting();
    fed(*parent, prompt);
    CHECK_FALSE(parent->draft(5).empty());
    const auto state = written(*parent);  // a guess is no token held

    const auto child = parent->fork();
    CHECK(child->draft(5).empty());
    child->start_drafting();
    CHECK(child->draft(5).empty());  // it has not seen the last token
    fed(*child, {5}, 1);
    CHECK_FALSE(child->draft(6).empty());

    const auto reader = model->new_session();
    reader->start_drafting();
    fed(*reader, {1, 2, 3});
    (void)reader->draft(4);
    read(*reader, state);
    CHECK(reader->draft(5).empty());
    fed(*reader, {5}, 1);
    CHECK_FALSE(reader->draft(6).empty());
    CHECK(written(*reader) == written(*child));

    // What is generated with its guesses is what is generated without any.
    const auto answer = [&](Session& session, int guesses) {
      nemo::GenerateOptions options;
      options.sampling.temperature = 0.0F;
      options.max_tokens = 40;
      options.draft.mtp = guesses;
      return nemo::generate(session, model->tokenizer(), Tokens{6}, options).tokens;
    };
    const auto plain = child->fork();
    const auto expected = answer(*plain, 0);
    CHECK(expected.size() > 5);
    CHECK(answer(*child, 3) == expected);
    CHECK(answer(*reader, 3) == expected);
  }
}
