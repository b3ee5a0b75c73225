// Everything a program needs to run a model: nemo::load, nemo::Chat and what lies beneath them.
//   nemo::load(path)             -> a model, shared and immutable        engine/model.hpp
//   nemo::Chat chat(model)       -> say() and get answers                engine/chat.hpp
//   model->new_session()         -> feed tokens, read logits             engine/session.hpp
//   nemo::generate(session, ...) -> text from a prompt of tokens         engine/generator.hpp
//   nemo::NemotronH<Cache>       -> the network itself over any cache    model/nemotron_h.hpp
#pragma once

#include <nemo/base/error.hpp>
#include <nemo/cache/dense_cache.hpp>
#include <nemo/engine/chat.hpp>
#include <nemo/engine/generator.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/engine/model_session.hpp>
#include <nemo/engine/perplexity.hpp>
#include <nemo/engine/prefix_session.hpp>
#include <nemo/engine/session.hpp>
#include <nemo/model/nemotron_h.hpp>
#include <nemo/version.hpp>
