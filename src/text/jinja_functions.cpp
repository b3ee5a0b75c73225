// The functions every template can call.
#include "src/text/jinja_arguments.hpp"
#include "src/text/jinja_interpreter.hpp"
#include "src/text/jinja_objects.hpp"

#include <array>
#include <ctime>

namespace nemo::text::jinja {
namespace {

Value range(Interpreter&, const Arguments& arguments) {
  const Parameters parameters("range", arguments, {"start", "stop", "step"}, 1);
  const bool only_stop = !parameters.has(1);
  const Int start = only_stop ? Int{0} : parameters.integer(0, 0);
  const Int stop = parameters.integer(only_stop ? 0 : 1, 0);
  return ObjectPtr(std::make_shared<Range>(start, stop, parameters.integer(2, 1)));
}

// What dict(...) and namespace(...) are made of: a mapping or pairs, then keyword arguments.
std::shared_ptr<Dict> dict_of(Interpreter& in, std::string_view function,
                              const Arguments& arguments) {
  if (arguments.positional.size() > 1) {
    throw Failure(std::string(function) + "() takes at most one positional argument");
  }
  auto dict = std::make_shared<Dict>(&in.budget());
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    if (const DictPtr other = source.dict()) {
      for (const auto& [key, value] : other->entries()) dict->set(key, value);
    } else {
      for (const Value& item : items_of(in, source)) {
        const std::vector<Value> pair = items_of(in, item);
        if (pair.size() != 2) throw Failure(std::string(function) + "(): needs pairs");
        dict->set(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) dict->set(in.text(name), value);
  return dict;
}

Value make_dict(Interpreter& in, const Arguments& arguments) {
  return DictPtr(dict_of(in, "dict", arguments));
}

Value make_namespace(Interpreter& in, const Arguments& arguments) {
  auto object = std::make_shared<Namespace>(in.budget());
  in.adopt(object);
  const std::shared_ptr<Dict> attributes = dict_of(in, "namespace", arguments);
  for (const auto& [key, value] : attributes->entries()) {
    object->set(require_text(key, "namespace(): a name")->view(), value);
  }
  return ObjectPtr(std::move(object));
}

Value make_cycler(Interpreter&, const Arguments& arguments) {
  return ObjectPtr(std::make_shared<Cycler>(arguments.positional));
}

Value make_joiner(Interpreter& in, const Arguments& arguments) {
  const Parameters parameters("joiner", arguments, {"sep"});
  return ObjectPtr(std::make_shared<Joiner>(parameters.get(0, in.text(", "))));
}

Value raise_exception(Interpreter& in, const Arguments& arguments) {
  const Parameters parameters("raise_exception", arguments, {"message"}, 1);
  constexpr std::size_t kMaxMessage = 2000;
  throw Failure(std::string(to_text(in, parameters.get(0))->view().substr(0, kMaxMessage)));
}

Value strftime_now(Interpreter& in, const Arguments& arguments) {
  const Parameters parameters("strftime_now", arguments, {"format"}, 1);
  const TextPtr format = parameters.text(0);
  constexpr std::size_t kMaxFormat = 200;
  if (format->size() > kMaxFormat || format->view().find('\0') != std::string_view::npos) {
    throw Failure("strftime_now(): the format is too long or holds a zero byte");
  }
  const std::time_t now = in.options().now.value_or(std::time(nullptr));
  std::tm local{};
  if (localtime_r(&now, &local) == nullptr)
    throw Failure("strftime_now(): the time is out of range");
  std::array<char, 20 * kMaxFormat> buffer{};  // the longest conversion (%c) gives 24 bytes for 2
  const std::size_t written =
      std::strftime(buffer.data(), buffer.size(), std::string(format->view()).c_str(), &local);
  return in.text({buffer.data(), written}, format->worst_origin());
}

}  // namespace

void set_global_functions(Interpreter& in) {
  const auto set = [&in](const char* name, Function::Body body) {
    in.set_global(name, ObjectPtr(std::make_shared<Function>(name, body)));
  };
  set("range", range);
  set("dict", make_dict);
  set("namespace", make_namespace);
  set("cycler", make_cycler);
  set("joiner", make_joiner);
  set("raise_exception", raise_exception);
  set("strftime_now", strftime_now);
}

}  // namespace nemo::text::jinja
