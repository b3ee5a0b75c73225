// nemo info --cpu: which kernels this machine runs, and why not the others.
#pragma once

namespace nemo::cli {

/// Prints to standard output, as JSON or as a table.
void print_cpu_report(bool json);

}  // namespace nemo::cli
