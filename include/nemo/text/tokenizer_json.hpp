// Reads Hugging Face's tokenizer.json (byte-level BPE) and what tokenizer_config.json adds to it.
#pragma once

#include <nemo/text/tokenizer_data.hpp>

#include <string_view>

namespace nemo::text {

/// The tokenizer described by the content of a tokenizer.json and, unless empty, of the
/// tokenizer_config.json beside it (names of bos/eos/unk/pad, further added tokens). Truncation,
/// padding and add_bos_token are not read: they concern training or other tokenizer classes.
/// Throws Error{bad_file} naming the field that is malformed, Error{unsupported} naming a component
/// that byte-level BPE models do not use.
[[nodiscard]] TokenizerData load_tokenizer_json(std::string_view tokenizer_json,
                                                std::string_view tokenizer_config_json = {});

}  // namespace nemo::text
