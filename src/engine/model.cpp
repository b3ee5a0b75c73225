// Loading a model and choosing its KV cache policy at run time.
#include <nemo/base/error.hpp>
#include <nemo/cache/dense_cache.hpp>
#include <nemo/cache/kv_pairing.hpp>
#include <nemo/cache/packed_cache.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/engine/model_session.hpp>
#include <nemo/model/weights.hpp>
#include <nemo/text/chat_template.hpp>

#include <algorithm>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

namespace nemo {

/// All of a model but its KV cache policy.
struct Model::Shared {
  std::shared_ptr<const ModelWeights> weights;
  const Kernels* kernels = nullptr;
  int threads = 1;
  std::int64_t context = 0;
  std::string kv_means;  // LoadOptions::kv_means

  mutable std::once_flag tokenizer_once;
  mutable std::optional<text::Tokenizer> tokenizer;
  mutable std::once_flag template_once;
  mutable std::optional<text::ChatTemplate> chat_template;
};

namespace {

// Advertised lengths reach a million tokens; reserving that much by default helps nobody.
constexpr std::int64_t kDefaultContext = 131072;
// No machine this runs on has more cores; larger numbers are typing errors.
constexpr int kMaxThreads = 1024;

template <KvCache Cache>
class PolicyModel final : public Model {
 public:
  PolicyModel(std::shared_ptr<const Shared> shared, std::shared_ptr<const ModelWeights> weights,
              std::shared_ptr<const KvPolicy> policy)
      : Model(std::move(shared), std::move(policy)),
        network_(std::move(weights), kv().formats, kv().means) {}

  [[nodiscard]] std::unique_ptr<Session> new_session() const override {
    return std::make_unique<ModelSession<Cache>>(network_, kernels(), threads(), context());
  }

 private:
  NemotronH<Cache> network_;
};

/// The copies in kernel order that `options` ask for.
Repacked repacked(const Checkpoint& checkpoint, const Kernels& kernels, int threads,
                  const LoadOptions& options) {
  if (options.repack == Repack::off) return {};
  const auto tensors = kernel_order_tensors(checkpoint, kernels);
  if (options.repack == Repack::automatic && !worth_repacking(bytes_of(tensors))) return {};
  return repack(checkpoint, tensors, kernels, threads, options.progress);
}

}  // namespace

const ModelConfig& Model::config() const noexcept { return shared_->weights->config; }
const Checkpoint& Model::checkpoint() const noexcept { return *shared_->weights->checkpoint; }
const ModelWeights& Model::weights() const noexcept { return *shared_->weights; }
const Kernels& Model::kernels() const noexcept { return *shared_->kernels; }
const std::string& Model::kv_policy() const noexcept { return kv_->name; }
std::string Model::order() const {
  if (const PackInfo* pack = checkpoint().pack()) return order_name(pack->lanes) + " (pack)";
  if (weights().repacked.places.empty()) return order_name(0);
  return order_name(kernel_order(kernels())) + " (copy)";
}
int Model::threads() const noexcept { return shared_->threads; }
std::int64_t Model::context() const noexcept { return shared_->context; }

const text::Tokenizer& Model::tokenizer() const {
  std::call_once(shared_->tokenizer_once,
                 [&] { shared_->tokenizer.emplace(checkpoint().tokenizer()); });
  return *shared_->tokenizer;
}

const text::ChatTemplate& Model::chat_template() const {
  std::call_once(shared_->template_once, [&] {
    const text::Tokenizer& t = tokenizer();
    const auto text_of = [&](std::optional<std::int32_t> id) {
      return id ? std::string(t.token_text(*id)) : std::string();
    };
    shared_->chat_template.emplace(checkpoint().chat_template(), text_of(t.bos()),
                                   text_of(t.eos()));
  });
  return *shared_->chat_template;
}

std::shared_ptr<const Model> load(const std::string& path, const LoadOptions& options) {
  if (options.threads < 0 || options.threads > kMaxThreads) {
    throw Error(ErrorCode::usage, "threads: " + std::to_string(options.threads) +
                                      " is not a number of threads; use 1 to " +
                                      std::to_string(kMaxThreads));
  }
  if (options.context < 0) {
    throw Error(ErrorCode::usage,
                "context: " + std::to_string(options.context) + " is not a number of tokens");
  }
  auto shared = std::make_shared<Model::Shared>();
  shared->kernels = &select_kernels(options.kernels);
  shared->threads = options.threads > 0 ? options.threads : omp_get_num_procs();

  const std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(path);
  require_readable(*checkpoint, *shared->kernels);
  checkpoint->will_need();
  // A policy that does not fit should be known before gigabytes are read.
  KvPolicy policy = resolve_kv(options.kv, options.kv_means, *checkpoint);
  shared->kv_means = options.kv_means;
  shared->weights =
      load_weights(checkpoint, repacked(*checkpoint, *shared->kernels, shared->threads, options));
  const std::int64_t advertised = checkpoint->config().context_length;
  shared->context = options.context > 0 ? options.context
                    : advertised > 0    ? std::min(advertised, kDefaultContext)
                                        : kDefaultContext;
  return Model::make_model(std::move(shared), std::move(policy));
}

std::shared_ptr<const Model> Model::with_kv(const std::string& kv) const {
  return make_model(shared_, resolve_kv(kv, shared_->kv_means, checkpoint()));
}

std::shared_ptr<const Model> Model::make_model(std::shared_ptr<const Shared> shared,
                                               KvPolicy policy) {
  const std::shared_ptr<const ModelWeights> weights = shared->weights;
  const auto kv = std::make_shared<const KvPolicy>(std::move(policy));
  const auto make = [&](auto cache) -> std::shared_ptr<const Model> {
    using Cache = typename decltype(cache)::type;
    return std::make_shared<PolicyModel<Cache>>(std::move(shared), weights, kv);
  };
  if (kv->fp32) return make(std::type_identity<Fp32Cache>{});
  if (kv->dense()) return make(std::type_identity<Fp16Cache>{});
  return make(std::type_identity<PackedCache>{});
}

}  // namespace nemo
