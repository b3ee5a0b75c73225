// Temporary folder, rename; a folder that is replaced is moved aside first and removed last.
#include <nemo/base/error.hpp>
#include <nemo/io/atomic_folder.hpp>

#include <system_error>
#include <unistd.h>

namespace nemo {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& target, const std::string& reason) {
  throw Error(ErrorCode::io, "cannot write '" + target.string() + "': " + reason);
}

std::filesystem::path neighbour(const std::filesystem::path& target, const char* kind) {
  std::filesystem::path path = target;
  path += std::string(kind) + std::to_string(::getpid());
  return path;
}

}  // namespace

AtomicFolder::AtomicFolder(const std::filesystem::path& target, bool replace) {
  std::error_code error;
  target_ = std::filesystem::weakly_canonical(target, error);
  if (error || target_.empty()) target_ = target;
  // "out/" names the folder "out".
  if (!target_.has_filename()) target_ = target_.parent_path();
  if (std::filesystem::exists(target_, error)) {
    if (!std::filesystem::is_directory(target_, error)) refuse(target, "it is not a folder");
    const bool empty = std::filesystem::is_empty(target_, error);
    if (!empty && !replace) refuse(target, "it exists; use --force to replace it");
    if (!empty && !std::filesystem::exists(target_ / "config.json", error)) {
      refuse(target, "it holds other things than a model; choose a new folder");
    }
  }
  const std::filesystem::path temporary = neighbour(target_, ".partial-");
  std::filesystem::remove_all(temporary, error);  // of a process of this number that was killed
  if (!std::filesystem::create_directory(temporary, error)) refuse(target, error.message());
  temporary_ = temporary;
}

AtomicFolder::~AtomicFolder() {
  if (temporary_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  std::error_code error;
  std::filesystem::path aside;
  if (std::filesystem::exists(target_, error)) {
    aside = neighbour(target_, ".old-");
    std::filesystem::rename(target_, aside, error);
    if (error) refuse(target_, error.message());
  }
  std::filesystem::rename(temporary_, target_, error);
  if (error) {
    std::error_code ignored;
    if (!aside.empty()) std::filesystem::rename(aside, target_, ignored);
    refuse(target_, error.message());
  }
  temporary_.clear();
  if (!aside.empty()) std::filesystem::remove_all(aside, error);
}

}  // namespace nemo
