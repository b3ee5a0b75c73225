// Reusing a session's state between prompts that share a beginning.
#include "catch.hpp"
#include "engine/fake_session.hpp"

#include <nemo/base/error.hpp>
#include <nemo/engine/prefix_session.hpp>
#include <nemo/engine/random.hpp>

#include <memory>
#include <numeric>
#include <vector>

namespace {

using nemo_test::FakeSession;
using nemo_test::Tokens;

struct Fixture {
  explicit Fixture(std::size_t checkpoints = 4, std::int64_t capacity = 1000)
      : fake(new FakeSession(
            100, capacity,
            [](const Tokens& held) { return std::accumulate(held.begin(), held.end(), 0) % 100; })),
        prefix(std::unique_ptr<nemo::Session>(fake), checkpoints) {}

  std::int64_t computed(const Tokens& prompt, const std::vector<std::int64_t>& boundaries = {},
                        const nemo::FeedOptions& options = {}) {
    const auto before = fake->fed;
    const auto reused = prefix.feed(prompt, boundaries, options);
    CHECK(reused + fake->fed - before == static_cast<std::int64_t>(prompt.size()));
    CHECK(Tokens(fake->tokens().begin(), fake->tokens().end()) == prompt);
    CHECK(!fake->logits().empty());
    return fake->fed - before;
  }

  FakeSession* fake;
  nemo::PrefixSession prefix;
};

}  // namespace

TEST_CASE("a prompt that extends the held tokens computes only what is new") {
  Fixture f;
  CHECK(f.computed({1, 2, 3}) == 3);
  CHECK(f.computed({1, 2, 3, 4, 5}) == 2);
  f.prefix.session().feed(Tokens{6});  // as a generator does
  CHECK(f.computed({1, 2, 3, 4, 5, 6, 7}) == 1);
}

TEST_CASE("a prompt that departs continues from the last saved state before the departure") {
  Fixture f;
  CHECK(f.computed({1, 2, 3, 4, 5}, {2, 4}) == 5);
  CHECK(f.computed({1, 2, 3, 4, 9, 9}, {5}) == 2);
  CHECK(f.computed({1, 2, 3, 4, 9, 8}) == 1);
  CHECK(f.computed({1, 2, 7}) == 1);
  CHECK(f.computed({1, 8}) == 2);  // before every saved state: from the start
  CHECK(f.computed({1, 2, 3, 4, 5}) == 5);
}

TEST_CASE("the same prompt again computes at least its last token") {
  Fixture f;
  CHECK(f.computed({1, 2, 3, 4}, {3}) == 4);
  CHECK(f.computed({1, 2, 3, 4}) == 1);
  CHECK(f.computed({1, 2, 3}) == 3);  // the state after 3 tokens brings no logits
}

TEST_CASE("old states are dropped first and boundaries outside the prompt are ignored") {
  Fixture f(2);
  CHECK(f.computed({1, 2, 3, 4, 5, 6}, {-1, 0, 1, 3, 5, 6, 99}) == 6);
  CHECK(f.computed({1, 2, 3, 9}) == 1);
  CHECK(f.computed({1, 9}) == 2);
  Fixture none(0);
  CHECK(none.computed({1, 2, 3}, {1, 2}) == 3);
  CHECK(none.computed({1, 2, 4}) == 3);
}

TEST_CASE("a cancelled or failed prompt leaves a state that the next one starts from") {
  Fixture f;
  nemo::FeedOptions options;
  options.chunk_tokens = 2;
  options.progress = [](std::uint64_t done, std::uint64_t total) {
    CHECK(total == 7);
    return done < 4;
  };
  const Tokens prompt = {1, 2, 3, 4, 5, 6, 7};
  CHECK_THROWS_AS(f.prefix.feed(prompt, std::vector<std::int64_t>{3}, options), nemo::Error);
  options.progress = nullptr;
  CHECK(f.computed(prompt, {3}, options) == 2);  // 3, then 2 more before the cancellation

  f.fake->fail_at_chunk = 1;
  CHECK_THROWS_AS(f.prefix.feed(Tokens{1, 2, 3, 9}, {}, options), nemo::Error);
  CHECK(f.computed({1, 2, 3, 4, 5}, {2, 4}) == 5);
  CHECK(f.computed({1, 2, 3, 4, 9}) == 1);
}

TEST_CASE("progress counts the tokens that are really computed, over all parts") {
  Fixture f;
  CHECK(f.computed({1, 2, 3}, {2}) == 3);
  nemo::FeedOptions options;
  options.chunk_tokens = 2;
  std::vector<std::uint64_t> seen;
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    CHECK(total == 6);
    seen.push_back(done);
    return true;
  };
  CHECK(f.computed({1, 2, 3, 4, 5, 6, 7, 8, 9}, {6}, options) == 6);
  CHECK(seen == std::vector<std::uint64_t>{2, 3, 5, 6});
}

TEST_CASE("an empty prompt and one longer than the context are refused before anything changes") {
  Fixture f(4, 4);
  CHECK(f.computed({1, 2, 3}) == 3);
  CHECK_THROWS_AS(f.prefix.feed(Tokens{}), nemo::Error);
  CHECK_THROWS_WITH(f.prefix.feed(Tokens{1, 2, 3, 4, 5}),
                    Contains("5 tokens") && Contains("holds 4"));
  CHECK(f.computed({1, 2, 3, 4}) == 1);
}

TEST_CASE("random walks through prompts always end like a fresh session") {
  nemo::Random random(5);
  Fixture f(3);
  Tokens prompt = {1};
  for (int round = 0; round < 500; ++round) {
    prompt.resize(1 + random.next() % prompt.size());
    for (std::uint64_t i = 0; i <= random.next() % 8; ++i) {
      prompt.push_back(static_cast<std::int32_t>(random.next() % 3));
    }
    const auto cut = static_cast<std::int64_t>(1 + random.next() % prompt.size());
    (void)f.computed(prompt, {cut / 2, cut});
    Fixture fresh;
    (void)fresh.computed(prompt);
    REQUIRE(
        std::equal(f.fake->logits().begin(), f.fake->logits().end(), fresh.fake->logits().begin()));
    if (round % 50 == 49) f.prefix.reset();
  }
}
