// A byte-level BPE vocabulary of any size, made by rule.
#pragma once

#include <nemo/text/tokenizer_data.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace nemo {

/// Special tokens with the ids of the Nemotron vocabulary, the 256 bytes, then `vocab` - so many
/// merges of frequent letters. Throws Error{usage} when `vocab` is too small for the first two.
[[nodiscard]] text::TokenizerData synthetic_tokenizer(std::int64_t vocab);

}  // namespace nemo
