// Finds how a matrix lies in safetensors files: which tensors it consists of and what they mean.
//
//   P.codebook                               TurboQuant-MLX   P.{weight, scales, signs, codebook}
//   P.weight U32, P.scales, P.biases         MLX affine       w = scale q + bias
//   P.weight U32, P.scales U8                MLX mxfp4, mxfp8, nvfp4
//   P.weight F8_E4M3, P.weight_scale         ModelOpt FP8
//   P.weight U8, P.weight_scale(_2)          ModelOpt NVFP4
//   P.weight BF16, F16 or F32                plain
#pragma once

#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/io/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace nemo {

class StoredMatrices {
 public:
  /// `config` is config.json, whose `quantization` must not contradict the tensors. Both must
  /// outlive the object, and the object the matrices it gives.
  StoredMatrices(const Safetensors& weights, const nlohmann::ordered_json& config,
                 std::string name);

  /// The matrix (count = 0), or the `count` stacked ones, that module `stem` stores in
  /// `stem`.weight (or, of fused experts, in `stem`). Throws Error{bad_file} or {unsupported}.
  [[nodiscard]] TensorRef matrix(const std::string& stem, std::int64_t count, std::int64_t rows,
                                 std::int64_t cols);
  /// A stack of which each matrix is a module of its own: before + "J" + after.
  [[nodiscard]] TensorRef scattered(const std::string& before, const std::string& after,
                                    std::int64_t count, std::int64_t rows, std::int64_t cols);
  /// -exp of a tensor of [heads] logarithms; F64 as well, which conversion may need to be exact.
  std::vector<float> decay(const std::string& name, std::int64_t heads);
  /// Small tensors of numbers. `shape` may differ from the stored one in dimensions of one.
  [[nodiscard]] TensorRef values(const std::string& name, const std::vector<std::int64_t>& shape);

  [[nodiscard]] bool has(const std::string& name) const { return weights_.find(name) != nullptr; }
  [[nodiscard]] bool was_used(const std::string& name) const { return used_.contains(name); }
  /// What the quantized matrices are: "MLX affine", "TurboQuant-MLX", ...; sorted.
  [[nodiscard]] const std::map<std::string, int>& kinds() const noexcept { return kinds_; }

  [[noreturn]] void fail(const std::string& message) const;

 private:
  [[nodiscard]] const SafeTensor& require(const std::string& name);
  void check_shape(const SafeTensor& t, const std::vector<std::int64_t>& shape) const;
  [[nodiscard]] std::vector<float> floats(const SafeTensor& t) const;
  [[nodiscard]] ScaleType float_scale_type(const SafeTensor& t) const;
  [[nodiscard]] std::int64_t group_of(const SafeTensor& scales, std::int64_t count,
                                      std::int64_t rows, std::int64_t cols) const;
  void confirm(const std::string& stem, const std::string& mode, std::int64_t bits,
               std::int64_t group) const;
  [[nodiscard]] std::shared_ptr<const Rotation> rotation(const SafeTensor& signs,
                                                         std::int64_t cols);

  void fill_mlx(TensorRef& ref, const std::string& stem, const SafeTensor& weight);
  void fill_turbo(TensorRef& ref, const std::string& stem, const SafeTensor& weight);
  void fill_fp8(TensorRef& ref, const std::string& stem);
  void fill_nvfp4(TensorRef& ref, const std::string& stem);
  void set_planes(TensorRef& ref, const SafeTensor& scales, ScaleType type, std::int64_t group);

  const Safetensors& weights_;
  const nlohmann::ordered_json* quantization_ = nullptr;
  std::string name_;
  std::unordered_set<std::string_view> used_;
  std::map<std::string, int> kinds_;
  std::deque<std::vector<float>> levels_;  // distinct codebooks, which planes point at
  std::map<std::vector<float>, std::shared_ptr<const Rotation>> rotations_;
};

}  // namespace nemo
