// One view of a stored model, whatever container it came from: sizes, tensors by canonical name,
// tokenizer, chat template, sampling defaults. The model code reads nothing else.
//
// Canonical tensor names (shapes row-major, symbols of ModelConfig):
//   embeddings.weight [V, d]   norm_f.weight [d]   lm_head.weight [V, d] (absent: tied)
//   layers.N.norm.weight [d]
//   mamba      layers.N.mixer.{in_proj.weight [2I+2GN+H, d], conv1d.weight [C, K], conv1d.bias [C],
//              dt_bias [H], A [H] (already -exp(A_log)), D [H], norm.weight [I],
//              out_proj.weight [d, I]}
//   attention  layers.N.mixer.{q,k,v,o}_proj.weight
//   mlp        layers.N.mixer.{up_proj.weight [ff, d], down_proj.weight [d, ff]}
//   moe        layers.N.mixer.{gate.weight [E, d], gate.bias [E] (selection only),
//              experts.up_proj.weight [E, m, L], experts.down_proj.weight [E, L, m],
//              shared_experts.{up_proj.weight [s, d], down_proj.weight [d, s]},
//              fc1_latent_proj.weight [L, d], fc2_latent_proj.weight [d, L] (latent models)}
//   Every *_proj.weight may have a *_proj.bias [rows] (of experts [E, 1, rows]) beside it.
//   draft head (absent: none)  mtp.layers.J.* like layers.N.*, besides of the first
//              mtp.layers.0.{enorm.weight [d], hnorm.weight [d], eh_proj.weight [d, 2d]} and of the
//              last mtp.layers.J.final_layernorm.weight [d]
#pragma once

#include <nemo/checkpoint/config.hpp>
#include <nemo/checkpoint/kv_means.hpp>
#include <nemo/tensor/dtype.hpp>
#include <nemo/tensor/side_arrays.hpp>
#include <nemo/text/tokenizer_data.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemo {

/// A stored tensor. The bytes belong to the checkpoint (usually its mapped file) and are shaped
/// [.., rows, cols] with rows packed one after the other.
struct TensorRef {
  std::string name;    // canonical
  std::string stored;  // name in the file, for messages
  DType type = DType::f32;
  int rank = 1;
  std::array<std::int64_t, 3> shape = {1, 1, 1};  // row-major, outermost first
  const std::byte* data = nullptr;
  std::vector<float> scales;  // empty, or a factor for all, or one per shape[0] (stacked experts)
  SideArrays side = {};       // of planar types, and of stacks that lie in pieces
  std::int64_t lanes = 0;     // rows of a group in kernel order; 0: rows lie one after the other

  [[nodiscard]] std::int64_t cols() const noexcept {
    return shape[static_cast<std::size_t>(rank - 1)];
  }
  [[nodiscard]] std::int64_t rows() const noexcept {
    return rank > 1 ? shape[static_cast<std::size_t>(rank - 2)] : 1;
  }
  [[nodiscard]] std::int64_t count() const noexcept { return rank > 2 ? shape[0] : 1; }
  [[nodiscard]] std::int64_t elements() const noexcept { return count() * rows() * cols(); }
  /// Codes, scales and offsets.
  [[nodiscard]] std::int64_t bytes() const noexcept {
    return count() * rows() * (row_bytes(type, cols()) + side.row_bytes());
  }
};

/// "Q4_K", "BF16", "affine 4 g64", "mxfp4", "TurboQuant T g32".
[[nodiscard]] std::string stored_form(DType type, const Planes& planes);
[[nodiscard]] std::string stored_form(const TensorRef& tensor);

/// The values of an F32, F16 or BF16 tensor. Throws Error{unsupported} for other types.
[[nodiscard]] std::vector<float> read_floats(const TensorRef& tensor);

/// A KV cache policy stored with the weights (nemo pair); cache/kv_pairing.hpp gives it meaning.
struct KvPairing {
  std::optional<std::string> config;  // a kv_config.json
  std::string config_origin;          // where it came from, for messages
  std::optional<KvMeans> means;       // for centering; checked against the model
};

/// What a pack says about itself: a file with matrices in kernel order (pack.hpp).
struct PackInfo {
  std::int64_t lanes = 0;    // rows of a group
  std::string source;        // file name of the model it was made from
  std::string cpu;           // where it was made
  std::size_t matrices = 0;  // stored tensors in kernel order
};

/// What the checkpoint recommends for sampling; absent: it says nothing.
struct SamplingDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<std::int64_t> top_k;
  std::optional<float> repeat_penalty;
  std::optional<std::int64_t> repeat_last;  // window in tokens
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  [[nodiscard]] const ModelConfig& config() const noexcept { return config_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// "GGUF v3, 2 files"
  [[nodiscard]] virtual std::string container() const = 0;

  /// nullptr: all tensors lie in file order.
  [[nodiscard]] const PackInfo* pack() const noexcept { return pack_ ? &*pack_ : nullptr; }

  /// nullptr when absent.
  [[nodiscard]] const TensorRef* find(std::string_view name) const noexcept;
  /// Throws Error{bad_file} when absent.
  [[nodiscard]] const TensorRef& tensor(std::string_view name) const;
  /// All tensors of the trunk and of the draft head, layer by layer.
  [[nodiscard]] const std::deque<TensorRef>& tensors() const noexcept { return tensors_; }
  /// Stored names that the network does not use: input scales, other towers, unknown ones.
  [[nodiscard]] std::span<const std::string> ignored() const noexcept { return ignored_; }
  /// Bytes of all tensors().
  [[nodiscard]] std::int64_t tensor_bytes() const noexcept;

  /// Throws Error{bad_file} or {unsupported} when the tokenizer is missing, broken or of a kind
  /// that this library does not run.
  [[nodiscard]] virtual text::TokenizerData tokenizer() const = 0;
  /// Empty when the checkpoint has none.
  [[nodiscard]] virtual std::string chat_template() const = 0;
  [[nodiscard]] virtual SamplingDefaults sampling() const = 0;

  /// kv_config.json beside the model and, of a model that is a folder, kv_means.gguf in it;
  /// containers that can hold both themselves look there first. Throws Error{io} or {bad_file}.
  [[nodiscard]] virtual KvPairing kv_pairing() const;

  /// Asks the system to read the weights ahead.
  virtual void will_need() const = 0;
  /// Lets the pages of some bytes of a tensor go; they come back when they are touched again.
  virtual void dont_need(std::span<const std::byte> bytes) const = 0;

 protected:
  Checkpoint() = default;
  void add(TensorRef tensor);
  /// Every row of the embedding gets a token: the model can produce its id.
  void pad_vocabulary(text::TokenizerData& data) const;

  ModelConfig config_;
  std::string path_;
  std::optional<PackInfo> pack_;
  std::vector<std::string> ignored_;

 private:
  std::deque<TensorRef> tensors_;  // references stay valid while tensors are added
  std::unordered_map<std::string_view, const TensorRef*> index_;
};

/// Opens whatever model `path` names. Throws Error{io}, {bad_file} or {unsupported}.
[[nodiscard]] std::shared_ptr<const Checkpoint> open_checkpoint(const std::filesystem::path& path);

}  // namespace nemo
