// A loaded model: weights, tokenizer, chat template and how to compute; makes sessions.
#pragma once

#include <nemo/base/progress.hpp>
#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/engine/session.hpp>
#include <nemo/kernels.hpp>
#include <nemo/text/tokenizer.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

struct KvPolicy;
struct ModelWeights;
namespace text {
class ChatTemplate;
}

/// Whether loading copies matrices into kernel order (checkpoint/kernel_order.hpp), which makes
/// each token cheaper and the start dearer: `automatic` copies when that is quick
/// (worth_repacking()).
enum class Repack : std::uint8_t { automatic, on, off };

struct LoadOptions {
  /// KV cache policy, e.g. "turbo:8,4,sink=128" (cache/kv_spec.hpp); empty: the one that the model
  /// is paired with, or fp16.
  std::string kv = {};
  /// Means of keys and values, a file of nemo calibrate-kv; empty: those that the model is paired
  /// with; "off": none.
  std::string kv_means = {};
  std::string kernels = {};  // kernel table by name; empty: the best of this CPU
  int threads = 0;           // 0: one per core
  /// Tokens a session can hold; 0: what the file advertises, at most 131072.
  std::int64_t context = 0;
  Repack repack = Repack::automatic;
  ProgressCallback progress = {};  // of repacking, in bytes; from any thread, one call at a time
};

/// Immutable and shared: any number of sessions, from any threads.
class Model {
 public:
  virtual ~Model() = default;

  [[nodiscard]] const ModelConfig& config() const noexcept;
  [[nodiscard]] const Checkpoint& checkpoint() const noexcept;
  [[nodiscard]] const ModelWeights& weights() const noexcept;
  /// Made on first use; throws Error{bad_file} when the file's tokenizer is missing or broken.
  [[nodiscard]] const text::Tokenizer& tokenizer() const;
  /// The file's own chat template, or the built-in one when it has none.
  [[nodiscard]] const text::ChatTemplate& chat_template() const;

  [[nodiscard]] const Kernels& kernels() const noexcept;
  /// How the matrices lie that these kernels have an order for: "file", "rows8 (pack)",
  /// "rows8 (copy)".
  [[nodiscard]] std::string order() const;
  [[nodiscard]] int threads() const noexcept;
  [[nodiscard]] std::int64_t context() const noexcept;
  /// The policy's name, e.g. "turbo:8,4,sink=128".
  [[nodiscard]] const std::string& kv_policy() const noexcept;
  /// All of it: the format of each attention layer, and where it was picked up.
  [[nodiscard]] const KvPolicy& kv() const noexcept { return *kv_; }

  /// The same model with another KV cache policy for the sessions made from it; shares the weights.
  /// Throws as load() does for options.kv.
  [[nodiscard]] std::shared_ptr<const Model> with_kv(const std::string& kv) const;

  [[nodiscard]] virtual std::unique_ptr<Session> new_session() const = 0;

 protected:
  struct Shared;
  Model(std::shared_ptr<const Shared> shared, std::shared_ptr<const KvPolicy> kv)
      : shared_(std::move(shared)), kv_(std::move(kv)) {}
  static std::shared_ptr<const Model> make_model(std::shared_ptr<const Shared> shared,
                                                 KvPolicy policy);
  std::shared_ptr<const Shared> shared_;
  std::shared_ptr<const KvPolicy> kv_;
  friend std::shared_ptr<const Model> load(const std::string&, const LoadOptions&);
};

/// Opens a checkpoint (a GGUF file, or the first file of a split one). Throws Error: {io},
/// {bad_file}, {unsupported}, or {usage} for options that name nothing.
[[nodiscard]] std::shared_ptr<const Model> load(const std::string& path,
                                                const LoadOptions& options = {});

}  // namespace nemo
