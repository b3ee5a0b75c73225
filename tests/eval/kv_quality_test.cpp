// What KV cache policies are compared on: windows of a text, and the model's own answers.
#include "catch.hpp"

#include <nemo/eval/kv_quality.hpp>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

using nemo::eval::Sequence;

TEST_CASE("a text is cut into windows, of which the second half counts") {
  std::vector<std::int32_t> ids(25);
  std::iota(ids.begin(), ids.end(), 100);
  const auto windows = nemo::eval::text_windows(ids, 10, 7, 1);
  REQUIRE(windows.size() == 2);
  CHECK(windows[1].tokens ==
        std::vector<std::int32_t>{1, 111, 112, 113, 114, 115, 116, 117, 118, 119});
  CHECK(windows[1].scored == std::vector<std::int64_t>{5, 6, 7, 8});
  CHECK(nemo::eval::text_windows(ids, 10, 1, {}).size() == 1);
  CHECK(nemo::eval::text_windows(ids, 100, 7, {}).front().tokens == ids);
  CHECK(nemo::eval::text_windows({}, 10, 7, 1).empty());
}

TEST_CASE("conversations differ, and what counts in them is what the model said") {
  const auto model = nemo::load(NEMO_SOURCE_DIR "/models/nemo-tiny.gguf", {.threads = 2});
  const auto sequences = nemo::eval::task_conversations(model, 6, 3);
  REQUIRE(sequences.size() == 6);
  std::set<std::vector<std::int32_t>> different;
  const std::int64_t vocab = model->config().vocab;
  for (const Sequence& s : sequences) {
    different.insert(s.tokens);
    REQUIRE(s.scored.size() > 3);
    CHECK(s.scored.back() == static_cast<std::int64_t>(s.tokens.size()) - 2);
    std::vector<float> logits(s.scored.size() * static_cast<std::size_t>(vocab));
    model->new_session()->feed(s.tokens, s.scored, logits.data());
    for (std::size_t i = 0; i < s.scored.size(); ++i) {
      const float* row = logits.data() + static_cast<std::int64_t>(i) * vocab;
      CHECK(std::max_element(row, row + vocab) - row ==
            s.tokens[static_cast<std::size_t>(s.scored[i] + 1)]);
    }
  }
  CHECK(different.size() == sequences.size());
}

TEST_CASE("a policy differs from itself by nothing, and coarser ones differ by more") {
  const auto fp16 = nemo::load(NEMO_SOURCE_DIR "/models/nemo-tiny.gguf", {.threads = 2});
  const std::vector<std::shared_ptr<const nemo::Model>> models = {
      fp16, fp16->with_kv("turbo:8,8,sink=0"), fp16->with_kv("turbo:8,2,sink=0")};
  const auto results =
      nemo::eval::compare_logits(*fp16, models, nemo::eval::task_conversations(fp16, 4, 3));
  CHECK(results[0].kl_mean == 0.0);
  CHECK(results[0].top1 == 1.0);
  CHECK(results[1].kl_mean > 0.0);
  CHECK(results[1].kl_mean < results[2].kl_mean);
  CHECK(results[1].kl_p99 >= results[1].kl_mean);
  for (const auto& r : results) CHECK(r.scored_tokens == results[0].scored_tokens);
}
