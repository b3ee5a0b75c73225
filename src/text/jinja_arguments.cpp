// Reading the arguments of filters, tests, methods and functions.
#include "src/text/jinja_arguments.hpp"

#include <algorithm>

namespace nemo::text::jinja {

Parameters::Parameters(std::string_view function, const Arguments& arguments,
                       std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function), names_(names), values_(names.size(), nullptr) {
  const std::string where = std::string(function) + "(): ";
  if (arguments.positional.size() > names_.size()) {
    throw Failure(where + "takes at most " + std::to_string(names_.size()) + " argument(s), got " +
                  std::to_string(arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) throw Failure(where + "unexpected argument '" + name + "'");
    const auto index = static_cast<std::size_t>(found - names_.begin());
    if (values_[index] != nullptr) throw Failure(where + "argument '" + name + "' given twice");
    values_[index] = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) {
      throw Failure(where + "argument '" + std::string(names_[i]) + "' is missing");
    }
  }
}

const Value& Parameters::get(std::size_t index) const {
  static const Value kNone;
  return values_[index] != nullptr ? *values_[index] : kNone;
}

Value Parameters::get(std::size_t index, Value fallback) const {
  return values_[index] != nullptr ? *values_[index] : std::move(fallback);
}

bool Parameters::flag(std::size_t index, bool fallback) const {
  return values_[index] != nullptr ? values_[index]->truthy() : fallback;
}

Int Parameters::integer(std::size_t index, Int fallback) const {
  if (values_[index] == nullptr) return fallback;
  return require_int(*values_[index],
                     std::string(function_) + "(): '" + std::string(names_[index]) + "'");
}

TextPtr Parameters::text(std::size_t index) const {
  return require_text(get(index),
                      std::string(function_) + "(): '" + std::string(names_[index]) + "'");
}

}  // namespace nemo::text::jinja
