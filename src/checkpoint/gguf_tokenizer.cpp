// The tokenizer that a GGUF carries in tokenizer.ggml.*.
#include <nemo/base/error.hpp>
#include <nemo/checkpoint/gguf_checkpoint.hpp>
#include <nemo/io/printable.hpp>

#include <algorithm>
#include <limits>

namespace nemo {
namespace {

/// A token id, or nothing where the key is absent or holds "none" (-1 in 32 bits).
std::optional<std::int32_t> token_id(const Gguf& gguf, const char* key, std::size_t vocab) {
  const auto id = gguf.find_int(key);
  if (!id || *id == -1 || *id == std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  if (*id < 0 || *id >= static_cast<std::int64_t>(vocab)) {
    gguf.fail("key " + in_quotes(key) + " is " + std::to_string(*id) + " but the vocabulary has " +
              std::to_string(vocab) + " tokens");
  }
  return static_cast<std::int32_t>(*id);
}

}  // namespace

text::TokenizerData tokenizer_from_gguf(const Gguf& gguf) {
  const std::string_view model = gguf.get_string("tokenizer.ggml.model");
  if (model != "gpt2") {
    throw Error(ErrorCode::unsupported, gguf.name() + ": tokenizer model " + in_quotes(model) +
                                            " is not byte-level BPE (gpt2)");
  }
  const auto tokens = gguf.find_strings("tokenizer.ggml.tokens");
  if (!tokens || tokens->empty()) gguf.fail("key 'tokenizer.ggml.tokens' is missing or empty");

  text::TokenizerData data;
  data.tokens.assign(tokens->begin(), tokens->end());
  if (const auto types = gguf.find_ints("tokenizer.ggml.token_type")) {
    if (types->size() != tokens->size()) {
      gguf.fail("tokenizer.ggml.token_type has " + std::to_string(types->size()) + " entries for " +
                std::to_string(tokens->size()) + " tokens");
    }
    data.types.reserve(types->size());
    for (const std::int64_t type : *types) {
      // 0 is "undefined" in the file; it behaves like a normal token.
      if (type < 0 || type > 6) gguf.fail("token type " + std::to_string(type) + " is unknown");
      data.types.push_back(type == 0 ? text::TokenType::normal
                                     : static_cast<text::TokenType>(type));
    }
  }
  if (const auto merges = gguf.find_strings("tokenizer.ggml.merges")) {
    data.merges.assign(merges->begin(), merges->end());
  }
  data.pre_name = gguf.find_string("tokenizer.ggml.pre").value_or("");
  data.add_bos = gguf.find_bool("tokenizer.ggml.add_bos_token");
  data.add_eos = gguf.find_bool("tokenizer.ggml.add_eos_token");

  const std::size_t vocab = data.tokens.size();
  data.bos = token_id(gguf, "tokenizer.ggml.bos_token_id", vocab);
  data.eos = token_id(gguf, "tokenizer.ggml.eos_token_id", vocab);
  data.unk = token_id(gguf, "tokenizer.ggml.unknown_token_id", vocab);
  data.pad = token_id(gguf, "tokenizer.ggml.padding_token_id", vocab);

  // Files list one of the two end tokens; generation stops at both (and at any other end of turn).
  const auto end_with = [&data](std::optional<std::int32_t> id) {
    if (id && std::find(data.end_ids.begin(), data.end_ids.end(), *id) == data.end_ids.end()) {
      data.end_ids.push_back(*id);
    }
  };
  end_with(data.eos);
  end_with(token_id(gguf, "tokenizer.ggml.eot_token_id", vocab));
  end_with(token_id(gguf, "tokenizer.ggml.eom_token_id", vocab));
  for (std::size_t id = 0; id < vocab; ++id) {
    if (data.types.empty() || data.types[id] != text::TokenType::control) continue;
    if (data.tokens[id] == "</s>" || data.tokens[id] == "<|im_end|>") {
      end_with(static_cast<std::int32_t>(id));
    }
  }
  return data;
}

}  // namespace nemo
