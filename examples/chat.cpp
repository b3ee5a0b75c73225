// The smallest chat: loads a model, asks once, prints the answer as it comes.
#include <nemo/nemo.hpp>

#include <iostream>

int main(int argc, char** argv) try {
  const auto model = nemo::load(argc > 1 ? argv[1] : "models/nemo-tiny.gguf");
  nemo::Chat chat(model);
  chat.say(argc > 2 ? argv[2] : "Solve: 17 * 23", [](std::string_view piece) {
    std::cout << piece << std::flush;
    return true;
  });
  std::cout << '\n';
} catch (const nemo::Error& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
