// Writes a tokenizer as Hugging Face's tokenizer.json, and finds the GGUF name of its splits.
#pragma once

#include <nemo/text/tokenizer_data.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace nemo::text {

/// The content of a tokenizer.json that load_tokenizer_json() reads back to a tokenizer with the
/// same ids for every text. Unused entries named [PADn] are left out: readers fill such gaps.
/// Throws Error{unsupported} for a pre-tokenizer name that is not known.
[[nodiscard]] std::string write_tokenizer_json(const TokenizerData& data);

/// The content of the tokenizer_config.json beside it: names of bos, eos, unk and pad.
[[nodiscard]] std::string write_tokenizer_config(const TokenizerData& data);

/// The `tokenizer.ggml.pre` whose meaning is that of the data's split rules and ignore_merges, or
/// nothing when there is none.
[[nodiscard]] std::optional<std::string_view> gguf_name_of(const TokenizerData& data);

}  // namespace nemo::text
