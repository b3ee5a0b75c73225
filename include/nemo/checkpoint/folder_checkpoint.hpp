// The Checkpoint view of a folder with config.json and safetensors files: Hugging Face (BF16, FP8,
// NVFP4), MLX (affine and floating-point modes, mixed) and TurboQuant-MLX.
#pragma once

#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/io/safetensors.hpp>

#include <filesystem>
#include <memory>
#include <string>

namespace nemo {

/// What is read of a model's folder before its tokenizer.
struct ModelFolder {
  std::string name;              // for messages
  std::filesystem::path folder;  // of the tokenizer's files; empty: there are none
  std::string config;            // content of config.json
  Safetensors weights;
};

/// Whether `path` names a model of this kind: a folder, or one weight file in it.
[[nodiscard]] bool is_model_folder(const std::filesystem::path& path);

/// `path` is the folder, or one weight file in it. Throws Error{io}, {bad_file}, {unsupported}.
[[nodiscard]] ModelFolder read_model_folder(const std::filesystem::path& path);

/// Finds the stored form of every tensor by what is in the files (config.json only confirms it) and
/// checks all shapes. Throws Error{bad_file} naming what is missing, contradictory or left over,
/// {unsupported} for forms that this library does not compute.
[[nodiscard]] std::shared_ptr<const Checkpoint> checkpoint_from_folder(ModelFolder folder);

}  // namespace nemo
