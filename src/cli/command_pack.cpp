// nemo pack: a model as a file in kernel order, which maps at once and which processes share.
#include "src/cli/commands.hpp"
#include "src/cli/interrupt_guard.hpp"
#include "src/cli/options.hpp"
#include "src/cli/progress_bar.hpp"

#include <nemo/base/error.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/checkpoint/memory_plan.hpp>
#include <nemo/checkpoint/pack.hpp>
#include <nemo/io/printable.hpp>

#include <cstdio>
#include <memory>
#include <omp.h>

namespace nemo::cli {
namespace {

struct PackFlags {
  std::string model;
  std::string out;
  std::string verify;
  std::string kernels;
  int threads = 0;
  bool force = false;
};

void print(const std::string& path, const PackReport& report, const char* end) {
  for (const std::string& note : report.notes) {
    std::fprintf(stderr, "nemo: left out: %s\n", one_line(note).c_str());
  }
  std::printf("%s: %zu tensors, %zu of them in kernel order %s, %s%s\n", one_line(path).c_str(),
              report.tensors, report.info.matrices, order_name(report.info.lanes).c_str(),
              human_bytes(static_cast<std::int64_t>(report.file_bytes)).c_str(), end);
}

void run(const PackFlags& flags) {
  const bool verify = !flags.verify.empty();
  if (verify != flags.out.empty()) {
    throw Error(ErrorCode::usage, "nemo pack needs -o FILE.nemo, or --verify FILE.nemo");
  }
  const InterruptGuard guard;
  PackReport report;
  {
    ProgressBar bar(verify ? "verifying " + flags.verify : "writing " + flags.out, "bytes");
    PackOptions options;
    options.threads = flags.threads > 0 ? flags.threads : omp_get_max_threads();
    options.replace = flags.force;
    options.progress = [&bar](std::uint64_t done, std::uint64_t total) {
      bar.update(done, total);
      return !InterruptGuard::asked();
    };
    report = verify ? verify_pack(flags.verify, options)
                    : write_pack(flags.model, flags.out, select_kernels(flags.kernels), options);
  }
  print(verify ? flags.verify : flags.out, report, verify ? ": every checksum is right" : "");
}

}  // namespace

void add_pack_command(CLI::App& app) {
  auto flags = std::make_shared<PackFlags>();
  CLI::App* command = app.add_subcommand(
      "pack", "Write a model in the order that this CPU's kernels read, or verify such a file");
  add_model_flag(*command, flags->model);
  command->add_option("-o,--out", flags->out, "The file to write, FILE.nemo");
  command->add_option("--verify", flags->verify, "Compare all checksums of a pack")
      ->type_name("FILE");
  command->add_option("--kernels", flags->kernels, "Kernel table; default: the best of this CPU");
  command->add_option("-t,--threads", flags->threads, "Threads; default: one per core")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--force", flags->force, "Replace an existing file");
  command->callback([flags] { run(*flags); });
}

}  // namespace nemo::cli
