// What the CPU offers beside what each kernel table needs.
#include "src/cli/cpu_report.hpp"

#include <nemo/base/machine.hpp>
#include <nemo/kernels.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <omp.h>
#include <string>

namespace nemo::cli {
namespace {

std::string reason(const KernelChoice& choice, const Kernels& chosen) {
  if (!choice.missing.empty()) return "not usable: this CPU lacks " + std::string(choice.missing);
  if (choice.table == &chosen) return "used: the fastest that this CPU runs";
  return "usable with --kernels " + std::string(choice.table->name);
}

}  // namespace

void print_cpu_report(bool json) {
  const Kernels& chosen = select_kernels();
  if (json) {
    auto tables = nlohmann::ordered_json::array();
    for (const KernelChoice& choice : kernel_choices()) {
      tables.push_back({{"name", choice.table->name},
                        {"usable", choice.missing.empty()},
                        {"used", choice.table == &chosen},
                        {"reason", reason(choice, chosen)}});
    }
    const nlohmann::ordered_json report = {
        {"cpu", cpu_name()},          {"threads", omp_get_max_threads()},
        {"features", cpu_features()}, {"fetches_streams", fetches_streams()},
        {"kernels", chosen.name},     {"tables", tables}};
    std::printf("%s\n", report.dump(2).c_str());
    return;
  }
  std::string features;
  for (const std::string_view name : cpu_features()) features += " " + std::string(name);
  std::printf("%-12s %s\n", "cpu", cpu_name().c_str());
  std::printf("%-12s %d\n", "threads", omp_get_max_threads());
  std::printf("%-12s%s\n", "features", features.empty() ? " none known" : features.c_str());
  std::printf("%-12s %s\n\n", "weights",
              fetches_streams() ? "fetched ahead of use: Intel's hardware stops at pages"
                                : "single streams left to hardware, others fetched ahead of use");
  for (const KernelChoice& choice : kernel_choices()) {
    std::printf("%-12s %s\n", std::string(choice.table->name).c_str(),
                reason(choice, chosen).c_str());
  }
}

}  // namespace nemo::cli
