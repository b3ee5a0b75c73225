// The Checkpoint view of a GGUF file of architecture nemotron_h or nemotron_h_moe.
#pragma once

#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/io/gguf.hpp>

#include <memory>

namespace nemo {

/// Sizes and layer kinds from metadata (and from the tensors' presence where it leaves a choice).
/// Validated. Throws Error{bad_file} naming the key, {unsupported} for other architectures.
[[nodiscard]] ModelConfig config_from_gguf(const Gguf& gguf);

/// The byte-level BPE tokenizer in `tokenizer.ggml.*`, of any GGUF (vocabulary-only files too).
[[nodiscard]] text::TokenizerData tokenizer_from_gguf(const Gguf& gguf);

/// Checks every tensor of the trunk against the configuration: Error{bad_file} names what is
/// missing or has another shape than expected.
[[nodiscard]] std::shared_ptr<const Checkpoint> checkpoint_from_gguf(Gguf gguf);

}  // namespace nemo
