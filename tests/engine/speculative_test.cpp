// Guessing tokens ahead changes the speed of generation and nothing else.
#include "catch.hpp"
#include "engine/byte_tokenizer.hpp"
#include "engine/fake_session.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/generator.hpp>
#include <nemo/engine/model.hpp>

#include <memory>
#include <string>
#include <vector>

namespace {

using namespace nemo_test;
using nemo::DraftOptions;
using nemo::GenerateOptions;
using nemo::GenerateResult;

const std::shared_ptr<const nemo::Model>& tiny() {
  static const auto model = nemo::load(NEMO_SOURCE_DIR "/models/nemo-tiny.gguf",
                                       {.kv = "fp16", .kernels = {}, .threads = 2, .context = 600});
  return model;
}

struct Run {
  GenerateResult result;
  std::string streamed;
  Tokens held;  // by the session afterwards
};

Run run(const std::string& prompt, const GenerateOptions& options) {
  const auto session = tiny()->new_session();
  const auto ids = tiny()->tokenizer().encode(prompt, {.parse_special = true, .add_bos = true});
  Run r;
  r.result = generate(*session, tiny()->tokenizer(), ids, options, [&](std::string_view piece) {
    r.streamed += piece;
    return true;
  });
  r.held.assign(session->tokens().begin(), session->tokens().end());
  return r;
}

void check_same(const Run& plain, const Run& drafted) {
  CHECK(plain.result.tokens == drafted.result.tokens);
  CHECK(plain.result.text == drafted.result.text);
  CHECK(plain.result.finish == drafted.result.finish);
  CHECK(plain.streamed == drafted.streamed);
  CHECK(plain.held == drafted.held);
}

// What the model knows, with text to copy from.
std::vector<std::string> prompts() {
  std::vector<std::string> all;
  for (int i = 0; i < 8; ++i) {
    all.push_back("<|im_start|>user\nWhat is " + std::to_string(11 + 7 * i) + " + " +
                  std::to_string(90 - 9 * i) + "?<|im_end|>\n<|im_start|>assistant\n<think>\n");
  }
  all.emplace_back("one two three four one two three four one two");
  all.emplace_back("a");
  return all;
}

std::vector<DraftOptions> drafts() {
  return {{.lookup = 1}, {.lookup = 4}, {.lookup = 15}, {.mtp = 1}, {.mtp = 3}, {.mtp = 6}};
}

template <class Change>
void check_all(const Change& change) {
  std::int64_t accepted = 0;
  for (const auto& prompt : prompts()) {
    GenerateOptions options;
    options.max_tokens = 60;
    change(options);
    const Run plain = run(prompt, options);
    CHECK(plain.result.drafts.passes == 0);
    for (const auto& draft : drafts()) {
      INFO(prompt << " mtp " << draft.mtp << " lookup " << draft.lookup);
      options.draft = draft;
      const Run drafted = run(prompt, options);
      check_same(plain, drafted);
      const auto& d = drafted.result.drafts;
      CHECK(d.accepted <= d.drafted);
      CHECK(d.passes + d.accepted >= static_cast<std::int64_t>(plain.result.tokens.size()) - 1);
      accepted += d.accepted;
    }
  }
  CHECK(accepted > 0);
}

}  // namespace

TEST_CASE("greedy tokens, text and finish are the same with and without drafts") {
  check_all([](GenerateOptions& o) { o.sampling.temperature = 0.0F; });
}

TEST_CASE("100 greedy answers are the same with the draft head, which is right most of the time") {
  nemo::DraftStatistics all;
  for (int i = 0; i < 100; ++i) {
    const std::string prompt = "<|im_start|>user\nSolve: " + std::to_string(10 + i * 37 % 90) +
                               " + " + std::to_string(10 + i * 53 % 90) +
                               "<|im_end|>\n<|im_start|>assistant\n<think>\n";
    GenerateOptions options;
    options.sampling.temperature = 0.0F;
    options.max_tokens = 60;
    const Run plain = run(prompt, options);
    options.draft.mtp = 2;
    const Run drafted = run(prompt, options);
    check_same(plain, drafted);
    all.drafted += drafted.result.drafts.drafted;
    all.accepted += drafted.result.drafts.accepted;
  }
  CHECK(all.acceptance() > 0.75);
}

TEST_CASE("sampled tokens are the same with and without drafts, whatever the filters") {
  check_all([](GenerateOptions& o) { o.sampling.seed = 5; });
  check_all([](GenerateOptions& o) {
    o.sampling.seed = 6;
    o.sampling.temperature = 0.8F;
    o.sampling.top_k = 40;
    o.sampling.top_p = 0.95F;
    o.sampling.min_p = 0.01F;
    o.sampling.repetition_penalty = 1.05F;
    o.sampling.frequency_penalty = 0.1F;
    o.sampling.presence_penalty = 0.1F;
    o.sampling.min_tokens = 20;
  });
}

TEST_CASE("stop strings and limits end a drafted answer where they end a plain one") {
  for (const std::int64_t limit : {0, 1, 2, 7}) {
    for (const auto& draft : drafts()) {
      GenerateOptions options;
      options.sampling.temperature = 0.0F;
      options.max_tokens = limit;
      const Run plain = run(prompts()[0], options);
      options.draft = draft;
      check_same(plain, run(prompts()[0], options));
    }
  }
  check_all([](GenerateOptions& o) {
    o.sampling.temperature = 0.0F;
    o.ignore_end = true;
    o.stop = {"7", "four"};
  });
}

TEST_CASE("a drafted answer fills the context exactly as a plain one") {
  for (const std::int64_t capacity : {20, 21, 22, 23, 24}) {
    auto repeat = [](const Tokens& held) { return held[held.size() - 3]; };
    FakeSession plain(kByteVocab, capacity, repeat), drafted(kByteVocab, capacity, repeat);
    GenerateOptions options;
    options.sampling.temperature = 0.0F;
    const auto tokenizer = byte_tokenizer();
    const Tokens prompt = {100, 101, 102, 100, 101, 102};
    const auto a = generate(plain, tokenizer, prompt, options);
    options.draft.lookup = 4;
    const auto b = generate(drafted, tokenizer, prompt, options);
    CHECK(a.tokens == b.tokens);
    CHECK(a.finish == nemo::FinishReason::length);
    CHECK(b.finish == nemo::FinishReason::length);
    CHECK(Tokens(plain.tokens().begin(), plain.tokens().end()) ==
          Tokens(drafted.tokens().begin(), drafted.tokens().end()));
    CHECK(b.drafts.passes < static_cast<std::int64_t>(b.tokens.size()) / 2);
  }
}

TEST_CASE("lookups copy what followed the latest occurrence of the last three or two tokens") {
  const auto draft = [](const Tokens& tokens, std::int64_t count) {
    const auto found = nemo::lookup_draft(tokens, count);
    return Tokens(found.begin(), found.end());
  };
  CHECK(draft({1, 2, 3, 4, 5, 1, 2, 3}, 2) == Tokens{4, 5});
  CHECK(draft({1, 2, 3, 4, 1, 2, 3, 9, 1, 2, 3}, 1) == Tokens{9});
  CHECK(draft({7, 2, 3, 4, 8, 2, 3}, 5) == Tokens{4, 8, 2, 3});
  CHECK(draft({1, 1, 1, 1}, 8) == Tokens{1});
  CHECK(draft({1, 2, 3, 4}, 4).empty());
  CHECK(draft({1}, 4).empty());
  CHECK(draft({}, 4).empty());
}

TEST_CASE("draft options outside their range, or both at once, are refused by name") {
  const auto refuses = [](const DraftOptions& options, const std::string& flag) {
    try {
      validate(options);
    } catch (const nemo::Error& e) {
      return e.code() == nemo::ErrorCode::usage && std::string(e.what()).find(flag) == 0;
    }
    return false;
  };
  CHECK(refuses({.mtp = 7}, "--draft-mtp"));
  CHECK(refuses({.mtp = -1}, "--draft-mtp"));
  CHECK(refuses({.lookup = 16}, "--draft-lookup"));
  CHECK(refuses({.mtp = 1, .lookup = 1}, "--draft-mtp and --draft-lookup"));
  CHECK_NOTHROW(validate(DraftOptions{.mtp = 6}));
}
