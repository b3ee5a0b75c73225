// The smallest program that uses the library: names its version and the kernels it picked.
#include <nemo/kernels.hpp>
#include <nemo/version.hpp>

#include <iostream>

int main() {
  std::cout << "libnemo " << NEMO_VERSION << ", kernels " << nemo::select_kernels().name << "\n";
}
