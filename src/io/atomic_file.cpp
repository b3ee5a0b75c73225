// Temporary file, positioned writes, fsync, rename.
#include <nemo/base/error.hpp>
#include <nemo/io/atomic_file.hpp>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace nemo {

AtomicFile::AtomicFile(const std::filesystem::path& target) {
  std::error_code error;
  target_ = std::filesystem::weakly_canonical(target, error);  // a link keeps pointing to its file
  if (error || target_.empty()) target_ = target;
  const auto status = std::filesystem::status(target_, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw Error(ErrorCode::io, "cannot write '" + target.string() + "': it is not a regular file");
  }
  temporary_ = target_;
  temporary_ += ".partial-" + std::to_string(::getpid());
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) {
    const int reason = errno;
    throw Error(ErrorCode::io, "cannot write '" + target.string() + "': " + std::strerror(reason));
  }
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action, int error) const {
  throw Error(ErrorCode::io, std::string("cannot ") + action + " '" + target_.string() +
                                 "': " + std::strerror(error));
}

void AtomicFile::append(std::span<const std::byte> bytes) {
  write_at(appended_, bytes);
  appended_ += bytes.size();
}

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ::ssize_t written =
        ::pwrite(file_, bytes.data(), bytes.size(), static_cast<::off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write", errno);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void AtomicFile::resize(std::uint64_t size) {
  if (::ftruncate(file_, static_cast<::off_t>(size)) != 0) fail("write", errno);
}

void AtomicFile::commit() {
  if (::fsync(file_) != 0) fail("write", errno);
  // Some file systems report a failed write only here; the temporary then goes as in a failure.
  if (::close(std::exchange(file_, -1)) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    fail("write", reason);
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    fail("rename the finished file to", reason);
  }
}

std::uint64_t AtomicFile::free_bytes(const std::filesystem::path& target) {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(target, error).parent_path();
  const auto space = std::filesystem::space(folder, error);
  if (error) {
    throw Error(ErrorCode::io, "cannot write '" + target.string() + "': " + error.message());
  }
  return space.available;
}

}  // namespace nemo
