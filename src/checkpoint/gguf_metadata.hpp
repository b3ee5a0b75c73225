// The keys of a GGUF of a model: sizes, tokenizer, template, sampling defaults.
#pragma once

#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/io/gguf_writer.hpp>

namespace nemo {

/// general.* and sizes. A draft head of `config` becomes one block behind the trunk.
void put_gguf_sizes(GgufWriter& writer, const ModelConfig& config, const std::string& name,
                    std::uint32_t file_type);
/// Throws Error{unsupported} for splits that GGUF readers have no name for.
void put_gguf_tokenizer(GgufWriter& writer, const text::TokenizerData& data);
void put_gguf_sampling(GgufWriter& writer, const SamplingDefaults& sampling);

}  // namespace nemo
