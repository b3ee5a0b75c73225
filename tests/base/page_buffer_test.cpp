// Large buffers from the system.
#include "catch.hpp"

#include <nemo/base/page_buffer.hpp>

#include <cstdint>
#include <new>
#include <utility>

using namespace nemo;

TEST_CASE("a page buffer is zeroed to its last byte, starts on a page and moves with its bytes") {
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, (std::size_t{2} << 20) + 1}) {
    PageBuffer buffer(size);
    REQUIRE(buffer.size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096 == 0);
    CHECK(buffer.data()[0] == std::byte{0});
    CHECK(buffer.data()[size - 1] == std::byte{0});
    buffer.data()[size - 1] = std::byte{7};
    PageBuffer moved(std::move(buffer));
    CHECK(moved.data()[size - 1] == std::byte{7});
    CHECK(buffer.size() == 0);
    PageBuffer assigned;
    assigned = std::move(moved);
    CHECK(assigned.data()[size - 1] == std::byte{7});
  }
  CHECK(PageBuffer().size() == 0);
  CHECK(PageBuffer(0).data() == nullptr);
}

TEST_CASE("a page buffer that no machine can hold is refused") {
  CHECK_THROWS_AS(PageBuffer(SIZE_MAX), std::bad_alloc);
  CHECK_THROWS_AS(PageBuffer(std::size_t{1} << 60), std::bad_alloc);
}
