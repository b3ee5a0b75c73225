// A model inside an application that has its own loop: the answer is generated on a worker thread,
// pieces of it cross over through a queue, and the application may stop it at any time. Two
// characters share one model; each has its own conversation.
#include <nemo/nemo.hpp>

#include <atomic>
#include <chrono>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace {

// A conversation that runs beside the application's loop.
class Character {
 public:
  Character(const std::shared_ptr<const nemo::Model>& model, std::string persona) : chat_(model) {
    chat_.system(std::move(persona));
    chat_.thinking(false);
    chat_.generate_options().max_tokens = 64;
    chat_.generate_options().cancel = &stop_;
  }
  ~Character() {
    stop_ = true;
    if (worker_.joinable()) worker_.join();
  }
  Character(const Character&) = delete;
  Character& operator=(const Character&) = delete;

  void ask(std::string question) {
    if (worker_.joinable()) worker_.join();
    busy_ = true;
    worker_ = std::thread([this, question = std::move(question)] {
      try {
        chat_.say(question, [this](std::string_view piece) {
          put(piece);
          return true;
        });
      } catch (const nemo::Error& e) {
        put(std::string("[") + e.what() + "]");
      }
      busy_ = false;
    });
  }

  // What was said since the last call; never waits for the model.
  std::string take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(said_, {});
  }
  [[nodiscard]] bool busy() const { return busy_; }

 private:
  void put(std::string_view piece) {
    const std::lock_guard lock(mutex_);
    said_ += piece;
  }

  nemo::Chat chat_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> busy_{false};
  std::mutex mutex_;
  std::string said_;
  std::thread worker_;
};

}  // namespace

int main(int argc, char** argv) try {
  nemo::LoadOptions options;
  options.threads = 1;  // the other cores stay with the application
  options.context = 1024;
  const auto model = nemo::load(argc > 1 ? argv[1] : "models/nemo-tiny.gguf", options);
  Character smith(model, "You are a helpful assistant.");
  Character scribe(model, "You are a helpful assistant.");
  smith.ask("What is libnemo?");
  scribe.ask("Sort: 5 3 9 1");
  for (int frame = 0; smith.busy() || scribe.busy(); ++frame) {  // the application's own loop
    std::this_thread::sleep_for(std::chrono::milliseconds(16));
    if (const auto words = smith.take(); !words.empty()) {
      std::cout << "frame " << frame << ", smith:  " << words << '\n';
    }
    if (const auto words = scribe.take(); !words.empty()) {
      std::cout << "frame " << frame << ", scribe: " << words << '\n';
    }
  }
  std::cout << "smith:  " << smith.take() << "\nscribe: " << scribe.take() << '\n';
} catch (const nemo::Error& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
