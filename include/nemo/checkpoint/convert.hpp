// Puts a model's weights, as they are, into another container.
#pragma once

#include <nemo/base/progress.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/checkpoint/directory_layout.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace nemo {

struct ConvertOptions {
  bool replace = false;       // an existing model
  ProgressCallback progress;  // (bytes written, bytes in all)
};

/// Writes a GGUF with the values of all tensors of the network, its tokenizer, template and
/// sampling defaults: block formats, F32, F16 and BF16 keep their bytes, small tensors become F32.
/// Returns what was left out, in sentences. Throws Error{unsupported} for weights that no GGUF can
/// hold unchanged, {io}, {cancelled}.
std::vector<std::string> convert_to_gguf(const Checkpoint& checkpoint,
                                         const std::filesystem::path& path,
                                         const ConvertOptions& options);

/// The same as a folder of safetensors. Hugging Face's form holds BF16, F16, F32, FP8 and
/// ModelOpt's NVFP4; MLX's holds the floats, affine, mxfp4, mxfp8, nvfp4 and TurboQuant.
std::vector<std::string> convert_to_directory(const Checkpoint& checkpoint,
                                              const std::filesystem::path& path, DirectoryKind kind,
                                              const ConvertOptions& options);

}  // namespace nemo
