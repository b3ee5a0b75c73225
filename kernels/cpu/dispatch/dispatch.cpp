// Chooses the kernel table once: the fastest whose instructions this CPU and operating system have.
#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#ifdef NEMO_HAVE_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <nemo/base/error.hpp>

#include <kernels/cpu/tables.hpp>

namespace nemo {
namespace {

#if defined(NEMO_HAVE_AVX2) || defined(NEMO_HAVE_AVX512VNNI)

// A macro because __builtin_cpu_supports takes string literals only. It asks CPUID and, for the
// vector registers that the operating system must save, XGETBV.
#define NEMO_NEED(feature) \
  if (!__builtin_cpu_supports(feature)) return feature

/// clang 14 does not know "f16c" as a name; the registers are covered by the check for AVX2.
bool has_f16c() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

std::string_view missing_for_avx2() noexcept {
  NEMO_NEED("avx2");
  NEMO_NEED("fma");
  NEMO_NEED("bmi2");
  return has_f16c() ? "" : "f16c";
}

[[maybe_unused]] std::string_view missing_for_avx512vnni() noexcept {
  if (const std::string_view missing = missing_for_avx2(); !missing.empty()) return missing;
  NEMO_NEED("avx512f");
  NEMO_NEED("avx512bw");
  NEMO_NEED("avx512dq");
  NEMO_NEED("avx512vl");
  NEMO_NEED("avx512cd");
  NEMO_NEED("avx512vnni");
  return "";
}

#undef NEMO_NEED
#endif

#if defined(NEMO_HAVE_AVXVNNI) || defined(NEMO_HAVE_AVX512BF16) || defined(NEMO_HAVE_AMX) || \
    defined(NEMO_HAVE_NEON)
/// The first of the features that the CPU does not report, or nothing.
std::string_view missing_of(std::initializer_list<std::string_view> features) noexcept {
  const auto found = cpu_features();
  for (const std::string_view feature : features) {
    if (std::find(found.begin(), found.end(), feature) == found.end()) return feature;
  }
  return "";
}
#endif

#ifdef NEMO_HAVE_AVXVNNI
std::string_view missing_for_avxvnni() noexcept {
  if (const std::string_view missing = missing_for_avx2(); !missing.empty()) return missing;
  return missing_of({"avxvnni"});
}
#endif

#ifdef NEMO_HAVE_AVX512BF16
std::string_view missing_for_avx512bf16() noexcept {
  if (const std::string_view missing = missing_for_avx512vnni(); !missing.empty()) return missing;
  return missing_of({"avx512bf16", "avx512vbmi"});
}
#endif

#ifdef NEMO_HAVE_AMX
/// Linux gives tile registers, 8 KiB a thread, to the processes that ask; once is enough.
bool may_use_tiles() noexcept {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::string_view missing_for_amx() noexcept {
  if (const std::string_view missing = missing_for_avx512vnni(); !missing.empty()) return missing;
  if (const std::string_view missing = missing_of({"amx-tile", "amx-int8"}); !missing.empty()) {
    return missing;
  }
  return may_use_tiles() ? "" : "amx-tile enabled by the operating system";
}

#endif

#if defined(NEMO_HAVE_AVXVNNI) || defined(NEMO_HAVE_AVX512BF16) || defined(NEMO_HAVE_AMX) || \
    defined(NEMO_HAVE_NEON_I8MM)
/// A table made from another and products of its own.
struct DerivedTable {
  FormatTable formats;
  Kernels kernels;

  DerivedTable(std::string_view name, const Kernels& base) : kernels(base) {
    std::copy_n(base.formats, kDTypeCount, formats.formats);
    kernels.name = name;
    kernels.formats = formats.formats;
  }
  DerivedTable(std::string_view name, const Kernels& base, const ProductKernels& products)
      : DerivedTable(name, base) {
    take_products(products.formats);
    kernels.peak_dot4 = kernels.peak_dot8 = products.peak_dot;
  }
  DerivedTable(std::string_view name, const Kernels& base, const WinogradProducts& products)
      : DerivedTable(name, base) {
    take_products(products.formats);
    kernels.quantize_q8_winograd = products.quantize;
    kernels.kv = products.kv;
  }
  DerivedTable(std::string_view name, const Kernels& base, const FloatProducts& products)
      : DerivedTable(name, base) {
    const auto take = [](auto& to, auto own) {
      if (own != nullptr) to = own;
    };
    take(kernels.scores_half, products.scores_half);
    take(kernels.mix_half, products.mix_half);
    take(kernels.gemm_nt, products.gemm_nt);
    take(kernels.gemm_nn, products.gemm_nn);
    take(kernels.gemm_tn, products.gemm_tn);
    take(kernels.peak_bf16, products.peak);
    take(formats.formats[static_cast<int>(DType::bf16)].matmul, products.bf16_matmul);
    take(formats.formats[static_cast<int>(DType::e4m3)].matmul, products.e4m3_matmul);
  }
  DerivedTable(const DerivedTable&) = delete;  // kernels points into it
  DerivedTable& operator=(const DerivedTable&) = delete;

 private:
  void take_products(const FormatTable& products) {
    for (int i = 0; i < kDTypeCount; ++i) {
      const FormatKernels& own = products.formats[i];
      FormatKernels& format = formats.formats[i];
      if (own.matmul != nullptr) {
        format.act = own.act;
        format.matmul = own.matmul;
      }
      if (own.matmul_q8 != nullptr) {
        format.act_q8 = own.act_q8;
        format.matmul_q8 = own.matmul_q8;
      }
    }
  }
};
#endif

#if defined(NEMO_HAVE_AVX512BF16) || defined(NEMO_HAVE_AMX)
Kernels with_prefill(std::string_view name, const Kernels& base, const Kernels& prefill) {
  Kernels kernels = base;
  kernels.name = name;
  kernels.prefill = &prefill;
  kernels.peak_bf16 = prefill.peak_bf16;
  kernels.kv = prefill.kv;
  return kernels;
}
#endif

#ifdef NEMO_HAVE_AMX
/// What vectors of bf16 numbers multiply where the tile unit does not; none on CPUs without them.
FloatProducts pairs_beside_tiles([[maybe_unused]] bool prefill) {
#ifdef NEMO_HAVE_AVX512BF16
  if (missing_for_avx512bf16().empty()) {
    return prefill ? kAvx512Bf16PrefillProducts : kAvx512Bf16FloatProducts;
  }
#endif
  return {};
}
#endif

std::vector<KernelChoice> choices() {
  std::vector<KernelChoice> all{{&kReferenceKernels, ""}};
#ifdef NEMO_HAVE_AVX2
  all.push_back({&kAvx2Kernels, missing_for_avx2()});
#endif
#ifdef NEMO_HAVE_AVXVNNI
  static const DerivedTable avxvnni("avxvnni", kAvx2Kernels, kAvxVnniProducts);
  all.push_back({&avxvnni.kernels, missing_for_avxvnni()});
#endif
#ifdef NEMO_HAVE_AVX512VNNI
  all.push_back({&kAvx512VnniKernels, missing_for_avx512vnni()});
#endif
#ifdef NEMO_HAVE_AVX512BF16
  static const DerivedTable parts("avx512bf16", kAvx512VnniKernels, kAvx512Bf16FloatProducts);
  static const DerivedTable rounded("avx512bf16", kAvx512VnniKernels, kAvx512Bf16PrefillProducts);
  static const Kernels avx512bf16 = with_prefill("avx512bf16", parts.kernels, rounded.kernels);
  all.push_back({&avx512bf16, missing_for_avx512bf16()});
#ifdef NEMO_HAVE_ZEN4
  static const DerivedTable zen4_prefill("zen4", rounded.kernels, kZen4Products);
  static const Kernels zen4 = with_prefill("zen4", parts.kernels, zen4_prefill.kernels);
  // It runs on all of them, but where units that multiply do the additions, too, it is slower.
  all.insert(adds_beside_products() ? all.end() : all.end() - 1, {&zen4, missing_for_avx512bf16()});
#endif
#endif
#ifdef NEMO_HAVE_AMX
  static const DerivedTable amx_int8("amx", kAvx512VnniKernels, kAmxProducts);
  static const DerivedTable amx_pairs("amx", amx_int8.kernels, pairs_beside_tiles(false));
  static const DerivedTable amx_parts("amx", amx_pairs.kernels, kAmxFloatProducts);
  static const DerivedTable amx_prefill("amx", amx_int8.kernels, pairs_beside_tiles(true));
  static const DerivedTable amx_rounded("amx", amx_prefill.kernels, kAmxPrefillProducts);
  static const Kernels amx_bf16 = with_prefill("amx", amx_parts.kernels, amx_rounded.kernels);
  all.push_back(
      {missing_of({"amx-bf16"}).empty() ? &amx_bf16 : &amx_int8.kernels, missing_for_amx()});
#endif
#ifdef NEMO_HAVE_NEON
  all.push_back({&kNeonKernels, missing_of({"asimd", "asimddp"})});
#endif
#ifdef NEMO_HAVE_NEON_I8MM
  static const DerivedTable neon_i8mm("neon_i8mm", kNeonKernels, kNeonI8mmProducts);
  all.push_back({&neon_i8mm.kernels, missing_of({"asimd", "asimddp", "i8mm"})});
#endif
  return all;
}

std::vector<const Kernels*> runnable() {
  std::vector<const Kernels*> tables;
  for (const KernelChoice& choice : choices()) {
    if (choice.missing.empty()) tables.push_back(choice.table);
  }
  return tables;
}

}  // namespace

std::span<const Kernels* const> available_kernels() noexcept {
  static const std::vector<const Kernels*> tables = runnable();
  return tables;
}

std::span<const KernelChoice> kernel_choices() noexcept {
  static const std::vector<KernelChoice> all = choices();
  return all;
}

const Kernels& select_kernels(std::string_view force) {
  if (force.empty()) return *available_kernels().back();
  std::string names;
  for (const Kernels* table : available_kernels()) {
    if (table->name == force) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  for (const KernelChoice& choice : kernel_choices()) {
    if (choice.table->name != force) continue;
    throw Error(ErrorCode::usage, "kernels '" + std::string(force) + "' need the CPU feature '" +
                                      std::string(choice.missing) +
                                      "', which this machine lacks; available: " + names);
  }
  throw Error(ErrorCode::usage,
              "unknown kernels '" + std::string(force) + "'; available: " + names);
}

}  // namespace nemo
