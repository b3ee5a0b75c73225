// Maps files with mmap; every failure names the path and the system's reason.
#include <nemo/base/error.hpp>
#include <nemo/io/mapped_file.hpp>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace nemo {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorCode::io, "cannot read '" + path.string() + "': " + reason);
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO must fail below and not wait for a writer.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) fail(path, std::strerror(errno));
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) fail(path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) fail(path, "it is a directory");
  if (!S_ISREG(status.st_mode)) fail(path, "it is not a regular file");
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // mmap refuses an empty range; an empty span says the same
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
  if (address == MAP_FAILED) {
    size_ = 0;
    fail(path, std::string("mmap: ") + std::strerror(errno));
  }
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::advise(std::size_t offset, std::size_t length, int advice) const noexcept {
  if (offset >= size_) return;
  if (length > size_ - offset) length = size_ - offset;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t start = offset / page * page;  // madvise wants a page boundary
  ::madvise(const_cast<std::byte*>(data_) + start, length + (offset - start), advice);
}

void MappedFile::will_need(std::size_t offset, std::size_t length) const noexcept {
  advise(offset, length, MADV_WILLNEED);
}
void MappedFile::sequential(std::size_t offset, std::size_t length) const noexcept {
  advise(offset, length, MADV_SEQUENTIAL);
}
void MappedFile::dont_need(std::span<const std::byte> part) const noexcept {
  const std::less<const std::byte*> before;  // they may point into different objects
  if (before(part.data(), data_) || !before(part.data(), data_ + size_)) return;
  advise(static_cast<std::size_t>(part.data() - data_), part.size(), MADV_DONTNEED);
}

}  // namespace nemo
