// A written tokenizer.json means what the tokenizer meant that it was written from.
#include "catch.hpp"
#include "text/tokenizer_files.hpp"

#include <nemo/base/error.hpp>
#include <nemo/text/tokenizer_json_writer.hpp>

using namespace nemo::text;
using namespace tokenizer_files;

TEST_CASE("golden tokenizers are written and read back with the same ids and names") {
  const std::string suffix = GENERATE("", "_llama3");
  const TokenizerData original = golden_data(suffix);
  const TokenizerData back =
      load_tokenizer_json(write_tokenizer_json(original), write_tokenizer_config(original));
  CHECK(back.tokens == original.tokens);
  CHECK(back.merges == original.merges);
  const Tokenizer before(original);
  const Tokenizer after(back);
  const std::string text =
      "Hello, w\xc3\xb6rld!  12345\n\n\tx = 'y'; \xe4\xbd\xa0\xe5\xa5\xbd <s>[INST] don't\r\n ";
  CHECK(after.encode(text) == before.encode(text));
  const Json golden = read_json(data("tokenizer/encode" + suffix + ".json"));
  for (const Json& c : golden["cases"]) {
    const auto input = c["text"].get<std::string>();
    INFO(input);
    const EncodeOptions options{.parse_special = true, .add_bos = true, .add_eos = true};
    CHECK(after.encode(input, options) == before.encode(input, options));
    CHECK(after.decode(after.encode(input)) == before.decode(before.encode(input)));
  }
}

TEST_CASE("split rules that a GGUF can name are found by their expression") {
  CHECK(gguf_name_of(golden_data("")) == "tekken");
  CHECK(gguf_name_of(golden_data("_llama3")) == "dbrx");
  TokenizerData named = byte_vocabulary({});
  CHECK(!gguf_name_of(named));
  named.splits.reset();
  named.pre_name = "pixtral";
  CHECK(gguf_name_of(named) == "pixtral");
}
