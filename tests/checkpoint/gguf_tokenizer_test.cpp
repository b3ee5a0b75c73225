// Tokenizers in GGUF metadata.
#include "catch.hpp"
#include "support/gguf_builder.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>

using namespace nemo;
using test::GgufBuilder;

namespace {

GgufBuilder good() {
  GgufBuilder b;
  b.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "pixtral");
  b.strings("tokenizer.ggml.tokens", {"<unk>", "</s>", "<|im_end|>", "a", "b", "ab"});
  b.i32s("tokenizer.ggml.token_type", {2, 3, 3, 1, 1, 0});
  b.strings("tokenizer.ggml.merges", {"a b"});
  return b;
}

text::TokenizerData read(const GgufBuilder& b) {
  const auto bytes = b.build();
  return tokenizer_from_gguf(Gguf::from_memory(bytes, "f"));
}

}  // namespace

TEST_CASE("a tokenizer's lists, ids and flags are read") {
  GgufBuilder b = good();
  b.u32("tokenizer.ggml.eos_token_id", 2).u32("tokenizer.ggml.bos_token_id", 0xffffffff);
  b.number("tokenizer.ggml.add_bos_token", 7, std::uint8_t{0});
  const text::TokenizerData data = read(b);
  CHECK(data.tokens.size() == 6);
  CHECK(data.types[1] == text::TokenType::control);
  CHECK(data.types[5] == text::TokenType::normal);
  CHECK(data.merges == std::vector<std::string>{"a b"});
  CHECK(data.pre_name == "pixtral");
  CHECK(data.eos == 2);
  CHECK(!data.bos);  // -1 means none
  CHECK(data.add_bos == false);
  CHECK(!data.add_eos);
}

TEST_CASE("both end tokens end a text though the file lists one") {
  GgufBuilder b = good();
  CHECK(read(b).end_ids == std::vector<std::int32_t>{1, 2});
  b.u32("tokenizer.ggml.eos_token_id", 2);
  CHECK(read(b).end_ids == std::vector<std::int32_t>{2, 1});
  b.u32("tokenizer.ggml.eot_token_id", 3);
  CHECK(read(b).end_ids == std::vector<std::int32_t>{2, 3, 1});
}

TEST_CASE("broken tokenizers are refused") {
  const auto failure = [](const GgufBuilder& b) -> std::string {
    try {
      (void)read(b);
      return "no error";
    } catch (const Error& error) {
      return error.what();
    }
  };
  CHECK(failure(good()) == "no error");
  GgufBuilder b = good();
  b.u32("tokenizer.ggml.eos_token_id", 6);
  CHECK_THAT(failure(b), Contains("eos_token_id' is 6 but the vocabulary has 6"));
  GgufBuilder c;
  c.string("tokenizer.ggml.model", "llama");
  CHECK_THAT(failure(c), Contains("'llama' is not byte-level BPE"));
  GgufBuilder d;
  d.string("tokenizer.ggml.model", "gpt2");
  CHECK_THAT(failure(d), Contains("tokens' is missing"));
  d.strings("tokenizer.ggml.tokens", {"a", "b"});
  CHECK(failure(d) == "no error");
  GgufBuilder e = d;
  e.i32s("tokenizer.ggml.token_type", {1});
  CHECK_THAT(failure(e), Contains("has 1 entries for 2 tokens"));
  e = d;
  e.i32s("tokenizer.ggml.token_type", {1, 9});
  CHECK_THAT(failure(e), Contains("token type 9"));
  e = d;
  e.i32s("tokenizer.ggml.merges", {1});
  CHECK_THAT(failure(e), Contains("'tokenizer.ggml.merges' has type array of i32"));
  CHECK_THAT(failure(GgufBuilder()), Contains("'tokenizer.ggml.model' is missing"));
}
