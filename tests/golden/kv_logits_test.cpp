// Logits over other programs' quantized KV caches, recorded with mlx-lm (affine) and
// turboquant-mlx, against ours: their rules when a row is rounded, our codec for how.
//
// Both programs hand attention what the cache decodes to, of the present token too. Our own
// policies read the incomplete tile of 16 tokens and the present chunk as computed, so the
// comparison runs on a float cache whose rows went through our codec.
#include "catch.hpp"
#include "support/logits.hpp"
#include "support/safetensors.hpp"
#include "support/turboquant_rule.hpp"

#include <nemo/cache/dense_cache.hpp>
#include <nemo/cache/kv_transform.hpp>
#include <nemo/engine/model_session.hpp>
#include <nemo/model/weights.hpp>
#include <nemo/tensor/lloyd_max.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using namespace nemo;
using namespace nemo::test;

/// One head's row through a codec.
void through_codec(const Kernels& kernels, const KvSide& side, float* row) {
  std::vector<std::byte> codes(static_cast<std::size_t>(side.tile_bytes()));
  std::vector<Half> scales(static_cast<std::size_t>(side.tile_scales()));
  std::vector<float> out(static_cast<std::size_t>(kKvTileTokens * side.dim));
  kernels.kv->encode(side, row, side.dim, 0, 1, codes.data(), scales.data());
  kernels.kv->decode(side, codes.data(), scales.data(), out.data(), side.dim);
  std::copy_n(out.begin(), side.dim, row);
}

/// mlx's rule for a group with its scale and bias in float, as the recorded runs had them; ours are
/// stored in half precision.
void round_affine(float* x, int group, int bits) {
  const auto [low, high] = std::minmax_element(x, x + group);
  const bool from_low = std::abs(*low) > std::abs(*high);
  const float top = static_cast<float>((1 << bits) - 1);
  const float step = std::max((*high - *low) / top, 1e-7f) * (from_low ? 1.0f : -1.0f);
  const float edge = from_low ? *low : *high;
  const float steps = std::nearbyint(edge / step);
  const float scale = steps != 0 ? edge / steps : step, bias = steps != 0 ? edge : 0;
  for (int i = 0; i < group; ++i) {
    x[i] = scale * std::clamp(std::nearbyint((x[i] - bias) / scale), 0.0f, top) + bias;
  }
}

/// mlx-lm: the whole cache is rounded after the prompt, and every later token at once.
template <int kBits, int kGroup, bool kFloatScales>
struct Affine {
  static constexpr bool kAfterPrompt = true;
  static constexpr std::int64_t kFirst = 0;
  static void round(const Kernels& kernels, std::int64_t dim, bool values, float* row) {
    if (kFloatScales) {
      for (std::int64_t c = 0; c < dim; c += kGroup) round_affine(row + c, kGroup, kBits);
      return;
    }
    through_codec(kernels,
                  {static_cast<std::int32_t>(dim), kBits, kGroup, KvCode::affine,
                   values ? KvScale::least_squares : KvScale::unbiased, values},
                  row);
  }
};

struct TurboQuantSigns {
  static inline std::vector<float> keys, values;
};

/// turboquant-mlx, 8 bit keys and 3 bit values: each token at once, but for the first kExact, which
/// stay in half precision; RMS scales, their signs, Lloyd-Max levels at 8 bits too; handed out in
/// half precision. By their codebooks or by ours.
template <int kExact, bool kTheirs>
struct TurboQuant {
  static constexpr bool kAfterPrompt = false;
  static constexpr std::int64_t kFirst = kExact;
  static void round(const Kernels& kernels, std::int64_t dim, bool values, float* row) {
    const auto t = KvHeadTransform::hadamard_with_signs(values ? TurboQuantSigns::values
                                                               : TurboQuantSigns::keys);
    kernels.kv->rotate(t.view(), false, row, dim, 1);
    if (kTheirs) {
      static const TurboQuantRule keys_rule(8), values_rule(3);
      for (std::int64_t c = 0; c < dim; c += 64) {
        (void)(values ? values_rule : keys_rule).round(row + c, 64);
      }
    } else if (values) {
      through_codec(kernels,
                    {static_cast<std::int32_t>(dim), 3, 64, KvCode::lloyd_max, KvScale::rms, true},
                    row);
    } else {
      double squares = 0;
      for (std::int64_t c = 0; c < dim; ++c) squares += double(row[c]) * double(row[c]);
      const auto sigma = static_cast<float>(std::sqrt(squares / double(dim)));
      const float scale = to_float(to_half(sigma));
      for (std::int64_t c = 0; c < dim; ++c) {
        const auto distance = [&](float level) { return std::abs(row[c] / sigma - level); };
        row[c] =
            scale * *std::min_element(kLloydMax<8>.begin(), kLloydMax<8>.end(),
                                      [&](float a, float b) { return distance(a) < distance(b); });
      }
    }
    kernels.kv->rotate(t.view(), true, row, dim, 1);
    for (std::int64_t c = 0; c < dim; ++c) row[c] = to_float(to_half(row[c]));
  }
};

template <class Rounding>
class RoundedCache : public Fp32Cache {
 public:
  static constexpr std::string_view kName = "rounded";
  explicit RoundedCache(const KvShape& shape) : Fp32Cache(shape), shape_(shape) {
    exact_.resize(shape.layers.size());
  }
  void append(const Kernels& kernels, std::int64_t layer, std::int64_t first, const float* keys,
              const float* values, std::int64_t stride, std::int64_t tokens) {
    const KvShape::Layer& l = shape_.layers[static_cast<std::size_t>(layer)];
    const std::int64_t width = l.kv_heads * l.head_dim;
    Exact& e = exact_[static_cast<std::size_t>(layer)];
    for (std::int64_t t = 0; t < tokens; ++t) {
      e.keys.insert(e.keys.end(), keys + t * stride, keys + t * stride + width);
      e.values.insert(e.values.end(), values + t * stride, values + t * stride + width);
    }
    std::vector<float> k = e.keys, v = e.values;
    const std::int64_t count = first + tokens;
    for (std::int64_t t = 0; t < count; ++t) {
      if (Rounding::kAfterPrompt && first == 0) break;
      if (t < Rounding::kFirst) {
        for (std::int64_t i = t * width; i < (t + 1) * width; ++i) {
          k[std::size_t(i)] = to_float(to_half(k[std::size_t(i)]));
          v[std::size_t(i)] = to_float(to_half(v[std::size_t(i)]));
        }
        continue;
      }
      for (std::int64_t at = t * width; at < (t + 1) * width; at += l.head_dim) {
        Rounding::round(kernels, l.head_dim, false, k.data() + at);
        Rounding::round(kernels, l.head_dim, true, v.data() + at);
      }
    }
    Fp32Cache::append(kernels, layer, 0, k.data(), v.data(), width, count);
  }
  [[nodiscard]] RoundedCache fork() const { return RoundedCache(shape_); }  // nobody asks for it

 private:
  struct Exact {
    std::vector<float> keys, values;
  };
  KvShape shape_;
  std::vector<Exact> exact_;
};

struct Golden {
  std::shared_ptr<const ModelWeights> weights;
  std::map<std::string, TestTensor> data;
};

/// The shared set when it is there, else the one folder that tests/data has of it.
std::vector<std::pair<std::string, Golden>> goldens(const std::string& set, const std::string& own,
                                                    const std::string& tensor) {
  const fs::path source = NEMO_SOURCE_DIR;
  const fs::path shared = source / "../shared/golden/mlx" / set;
  std::vector<std::pair<std::string, Golden>> found;
  const auto add = [&](const fs::path& folder) {
    auto data = read_safetensors((folder / "golden.safetensors").string());
    const std::string name = folder.filename().string();
    if (name == own) {
      data.merge(read_safetensors((source / "tests/data/kv" / (name + ".safetensors")).string()));
    }
    if (data.count(tensor) != 0) {
      found.push_back({name, {load_weights(open_checkpoint(folder)), std::move(data)}});
    }
  };
  if (!fs::exists(shared)) {
    add(source / "tests/data/folders" / own);
    return found;
  }
  for (const auto& entry : fs::directory_iterator(shared)) {
    if (fs::exists(entry.path() / "golden.safetensors")) add(entry.path());
  }
  return found;
}

struct Run {
  std::vector<float> prompt, decode;  // logits
};

/// The prompt at once, then the recorded greedy tokens one by one.
template <KvCache Cache>
Run run(const Golden& g) {
  const Kernels& reference = select_kernels("reference");
  const auto ids = g.data.at("input_ids").as<std::int32_t>();
  const auto greedy = g.data.at("greedy_ids").as<std::int32_t>();
  ModelSession<Cache> session(NemotronH<Cache>(g.weights), reference, 2,
                              static_cast<std::int64_t>(ids.size() + greedy.size()));
  Run result;
  std::vector<std::int64_t> positions;
  for (std::size_t i = 0; i < ids.size(); ++i) positions.push_back(static_cast<std::int64_t>(i));
  result.prompt.resize(ids.size() * static_cast<std::size_t>(g.weights->config.vocab));
  session.feed(ids, positions, result.prompt.data(), {512, {}});
  for (const std::int32_t token : greedy) {
    session.feed(std::span(&token, 1));
    const auto row = session.logits();
    result.decode.insert(result.decode.end(), row.begin(), row.end());
  }
  return result;
}

}  // namespace

TEST_CASE("our affine codec decodes to mlx's values, up to its half precision scale and bias") {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (int seed = 0; seed < 50; ++seed) {
      std::vector<float> row(64);
      for (std::size_t i = 0; i < 64; ++i) {
        row[i] = 3.0f * std::sin(float(i * i + 7) * float(seed + 1)) + float(seed % 5);
      }
      std::vector<float> rule = row, own = row;
      round_affine(rule.data(), 64, bits);
      through_codec(select_kernels("reference"),
                    {64, bits, 64, KvCode::affine, KvScale::unbiased, false}, own.data());
      const auto [low, high] = std::minmax_element(row.begin(), row.end());
      // The bias is one edge, scale * code at most the whole range; each rounded by 2^-11.
      const float bound =
          0x1p-11f * (*high - *low + std::max(std::abs(*low), std::abs(*high))) + 1e-5f;
      CHECK(max_difference(own, rule) <= double(bound));
    }
  }
}

TEST_CASE("decoding over mlx-lm's affine caches gives the recorded logits") {
  const auto all = goldens("models", "grouped-hf-bf16", "kvq_b8g64.decode_logits");
  REQUIRE_FALSE(all.empty());
  for (const auto& [name, g] : all) {
    const auto exact = run<Fp32Cache>(g).decode;
    const auto check = [&, &g = g, &name = name](const std::string& cache, const Run& rule,
                                                 const Run& own) {
      INFO(name << " " << cache);
      const auto recorded = g.data.at(cache + ".decode_logits").as<float>();
      // Sums in another order; that may turn a tie between two 8 bit codes.
      CHECK(max_difference(rule.decode, recorded) <= 1e-3);
      // Half precision scales move values by a third of an 8 bit step at most, and now and then a
      // 4 bit code of a later layer.
      CHECK(max_difference(own.decode, recorded) <= 0.4 * max_difference(exact, recorded));
    };
    check("kvq_b8g64", run<RoundedCache<Affine<8, 64, true>>>(g),
          run<RoundedCache<Affine<8, 64, false>>>(g));
    check("kvq_b4g64", run<RoundedCache<Affine<4, 64, true>>>(g),
          run<RoundedCache<Affine<4, 64, false>>>(g));
    check("kvq_b4g32", run<RoundedCache<Affine<4, 32, true>>>(g),
          run<RoundedCache<Affine<4, 32, false>>>(g));
  }
}

TEST_CASE("prompts and decoding over turboquant-mlx's caches give the recorded logits") {
  const auto all = goldens("turboquant", "super-tq3a-tq2e-g32", "kv_k8v3_m0.prefill_logits");
  REQUIRE_FALSE(all.empty());
  const auto signs =
      read_safetensors(NEMO_SOURCE_DIR "/tests/data/kv/super-tq3a-tq2e-g32.safetensors");
  TurboQuantSigns::keys = signs.at("d64.k_signs").as<float>();
  TurboQuantSigns::values = signs.at("d64.v_signs").as<float>();
  for (const auto& [name, g] : all) {
    const auto exact = run<Fp32Cache>(g);
    const auto check = [&, &g = g, &name = name](const std::string& cache, const Run& rule,
                                                 const Run& own) {
      INFO(name << " " << cache);
      const auto prompt = g.data.at(cache + ".prefill_logits").as<float>();
      const auto decode = g.data.at(cache + ".decode_logits_teacher_forced").as<float>();
      // Sums in another order may turn a code or a rounding to half precision.
      CHECK(max_difference(rule.prompt, prompt) <= 1e-3);
      CHECK(max_difference(rule.decode, decode) <= 1e-3);
      // Their codebooks are not quite the optimum, 8 bits far from it: some codes are neighbours.
      CHECK(max_difference(own.prompt, prompt) <= 0.2 * max_difference(exact.prompt, prompt));
      CHECK(max_difference(own.decode, decode) <= 0.2 * max_difference(exact.decode, decode));
    };
    check("kv_k8v3_m0", run<RoundedCache<TurboQuant<0, true>>>(g),
          run<RoundedCache<TurboQuant<0, false>>>(g));
    check("kv_k8v3_m32", run<RoundedCache<TurboQuant<32, true>>>(g),
          run<RoundedCache<TurboQuant<32, false>>>(g));
  }
}
