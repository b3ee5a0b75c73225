// Golden model folders: the shared set beside a developer's checkout, else the copies in
// tests/data.
#pragma once

#include "support/safetensors.hpp"

#include <nemo/checkpoint/checkpoint.hpp>
#include <nemo/model/weights.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nemo::test {

struct GoldenFolder {
  std::string name;
  std::filesystem::path folder;
  std::shared_ptr<const ModelWeights> weights;
  std::map<std::string, TestTensor> data;

  [[nodiscard]] std::vector<float> floats(const std::string& tensor) const {
    return data.at(tensor).as<float>();
  }
  [[nodiscard]] std::vector<std::int32_t> ids(const std::string& tensor) const {
    return data.at(tensor).as<std::int32_t>();
  }
  [[nodiscard]] bool has(const std::string& tensor) const { return data.count(tensor) != 0; }
  [[nodiscard]] std::size_t vocab() const {
    return static_cast<std::size_t>(weights->config.vocab);
  }
};

inline const std::vector<GoldenFolder>& golden_folders() {
  namespace fs = std::filesystem;
  static const std::vector<GoldenFolder> all = [] {
    const fs::path shared = fs::path(NEMO_SOURCE_DIR) / "../shared/golden/mlx";
    std::vector<fs::path> folders;
    const auto collect = [&folders](const fs::path& from) {
      for (const auto& entry : fs::directory_iterator(from)) {
        if (fs::exists(entry.path() / "golden.safetensors")) folders.push_back(entry.path());
      }
    };
    if (fs::exists(shared)) {
      collect(shared / "models");
      collect(shared / "turboquant");
    } else {
      collect(fs::path(NEMO_SOURCE_DIR) / "tests/data/folders");
    }
    std::sort(folders.begin(), folders.end());
    std::vector<GoldenFolder> found;
    for (const fs::path& folder : folders) {
      found.push_back({folder.filename().string(), folder, load_weights(open_checkpoint(folder)),
                       read_safetensors((folder / "golden.safetensors").string())});
    }
    return found;
  }();
  return all;
}

}  // namespace nemo::test
