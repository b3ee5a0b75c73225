// Below the chat: tokens in, logits out, and going back to a saved moment to try other endings.
#include <nemo/nemo.hpp>

#include <algorithm>
#include <array>
#include <iostream>

int main(int argc, char** argv) try {
  const auto model = nemo::load(argc > 1 ? argv[1] : "models/nemo-tiny.gguf");
  const auto& tokenizer = model->tokenizer();
  const auto session = model->new_session();

  session->feed(tokenizer.encode("The quick brown", {.add_bos = true}));
  const auto here = session->save();
  for (const char* ending : {" fox", " stone", " 17"}) {
    session->restore(*here);
    session->feed(tokenizer.encode(ending));
    const auto logits = session->logits();  // [vocab], for the token after the ending
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    const std::array<std::int32_t, 1> next = {static_cast<std::int32_t>(best)};
    std::cout << "The quick brown" << ending << " ->" << tokenizer.decode(next) << '\n';
  }
} catch (const nemo::Error& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
