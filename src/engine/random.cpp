// Seeds from the operating system.
#include <nemo/engine/random.hpp>

#include <random>

namespace nemo {

std::uint64_t random_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

}  // namespace nemo
