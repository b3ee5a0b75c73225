// Packs hold the model unchanged in the order of some kernels, and damage never goes unnoticed.
#include "catch.hpp"
#include "support/model_file.hpp"

#include <nemo/base/error.hpp>
#include <nemo/base/hash.hpp>
#include <nemo/checkpoint/convert.hpp>
#include <nemo/checkpoint/kernel_order.hpp>
#include <nemo/checkpoint/pack.hpp>
#include <nemo/checkpoint/synth.hpp>
#include <nemo/engine/model.hpp>
#include <nemo/io/gguf_writer.hpp>
#include <nemo/model/weights.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

using namespace nemo;
namespace fs = std::filesystem;

namespace {

const fs::path kModels = fs::path(NEMO_SOURCE_DIR) / "tests/data/gguf";
const fs::path kModel = kModels / "moe192.Q4_K_M.gguf";

/// The tables of this machine that have a kernel order; without one there is nothing to pack for.
std::vector<const Kernels*> ordered_kernels() {
  std::vector<const Kernels*> tables;
  for (const Kernels* table : available_kernels()) {
    if (kernel_order(*table) != 0) tables.push_back(table);
  }
  return tables;
}

PackReport pack(const fs::path& from, const fs::path& to, const Kernels& kernels) {
  return write_pack(from, to, kernels, {.threads = 2, .replace = false, .progress = {}});
}

std::string message_of(const std::function<void()>& job, ErrorCode code) {
  try {
    job();
  } catch (const Error& error) {
    const std::string message = error.what();
    INFO(message);
    CHECK(error.code() == code);
    CHECK(message.find('\n') == std::string::npos);
    return message;
  }
  return "no error";
}
std::string refusal(const fs::path& file, ErrorCode code = ErrorCode::bad_file) {
  return message_of([&] { (void)open_checkpoint(file); }, code);
}

/// The bits of the logits of a prompt in chunks, of single tokens after it, and of drafts.
std::vector<float> logits(const fs::path& path, const Kernels& kernels, Repack repack,
                          int threads) {
  LoadOptions options;
  options.context = 64;
  options.kernels = kernels.name;
  options.repack = repack;
  options.threads = threads;
  const auto model = load(path.string(), options);
  CHECK(model->weights().repacked.places.empty() == (repack == Repack::off));
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < 30; ++i) {
    ids.push_back(static_cast<std::int32_t>((i * 7919 + 37) % model->config().vocab));
  }
  const auto session = model->new_session();
  std::vector<float> all;
  const auto keep = [&all](std::span<const float> row) {
    all.insert(all.end(), row.begin(), row.end());
  };
  session->feed(std::span(ids).first(20), {.chunk_tokens = 16, .progress = {}, .profile = nullptr});
  keep(session->logits());
  session->feed(std::span(ids).subspan(20, 1));
  keep(session->logits());
  keep(session->verify(std::span(ids).subspan(21, 5)));
  session->keep(5);
  session->feed(std::span(ids).subspan(26));
  keep(session->logits());
  return all;
}

/// `from` written again with right checksums; `edit` may write a key itself and return true.
void rewrite(const fs::path& from, const fs::path& to,
             const std::function<bool(GgufWriter&, std::string_view)>& edit,
             std::string_view without = "", GgufMagic magic = GgufMagic::nemo) {
  const Gguf gguf = Gguf::open(from);
  GgufWriter writer(to, 4096, magic);
  for (const std::string_view key : gguf.keys()) {
    if (key != "general.alignment" && !edit(writer, key)) writer.add_value(key, *gguf.find(key));
  }
  std::vector<const GgufTensor*> kept;
  for (const GgufTensor& t : gguf.tensors()) {
    if (t.name != without) kept.push_back(&t);
  }
  for (const GgufTensor* t : kept) {
    writer.add_tensor(t->name, t->type,
                      std::span(t->dims).first(std::size_t(std::max(t->rank, 1))));
  }
  writer.begin();
  for (std::size_t i = 0; i < kept.size(); ++i) {
    std::vector<std::byte> bytes(kept[i]->data, kept[i]->data + kept[i]->bytes);
    if (kept[i]->name == "nemo.pack.checksums") {
      const std::string header = writer.header();
      const std::uint64_t hash = hash_bytes(std::as_bytes(std::span(header)));
      std::memcpy(bytes.data(), &hash, sizeof hash);
    }
    writer.write(i, 0, bytes);
  }
  writer.finish();
}

void write_key(GgufWriter& writer, std::string_view key, const std::vector<std::string>& texts) {
  writer.add_strings(key, texts);
}
void write_key(GgufWriter& writer, std::string_view key, const char* text) {
  writer.add_string(key, text);
}
void write_key(GgufWriter& writer, std::string_view key, std::uint32_t number) {
  writer.add_u32(key, number);
}
/// An edit that gives `key` another value.
template <class Value>
auto with(std::string_view key, Value value) {
  return [key, value](GgufWriter& writer, std::string_view name) {
    if (name != key) return false;
    write_key(writer, key, value);
    return true;
  };
}
bool unchanged(GgufWriter&, std::string_view) { return false; }

/// A file with the middle byte of a range changed.
void damage(const fs::path& from, const fs::path& to, std::size_t at) {
  std::vector<std::byte> bytes = test::read_bytes(from);
  bytes.at(at) ^= std::byte{0x10};
  test::write_bytes(to, bytes);
}

/// `from` in two parts, as llama.cpp splits files; returns the first.
fs::path split(const fs::path& from, const test::TemporaryFolder& folder) {
  const Gguf gguf = Gguf::open(from);
  const std::size_t half = gguf.tensors().size() / 2;
  for (std::uint16_t part = 0; part < 2; ++part) {
    GgufWriter writer(folder / ("m-0000" + std::to_string(part + 1) + "-of-00002.gguf"));
    if (part == 0) writer.add_keys(gguf, "split.");
    writer.add_u16("split.no", part);
    writer.add_u16("split.count", 2);
    const auto tensors = part == 0 ? gguf.tensors().first(half) : gguf.tensors().subspan(half);
    for (const GgufTensor& t : tensors) {
      writer.add_tensor(t.name, t.type, std::span(t.dims).first(std::size_t(std::max(t.rank, 1))));
    }
    writer.begin();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      writer.write(i, 0, {tensors[i].data, std::size_t(tensors[i].bytes)});
    }
    writer.finish();
  }
  return folder / "m-00001-of-00002.gguf";
}

}  // namespace

TEST_CASE("kernel order changes no bit of a logit, packed or copied while loading, on any thread") {
  const test::TemporaryFolder folder("pack-logits");
  std::vector<fs::path> models = {fs::path(NEMO_SOURCE_DIR) / "models/nemo-tiny.gguf"};
  for (const auto& entry : fs::directory_iterator(kModels)) {
    if (entry.path().extension() == ".gguf") models.push_back(entry.path());
  }
  for (const Kernels* kernels : ordered_kernels()) {
    std::size_t in_kernel_order = 0;
    for (const fs::path& model : models) {
      INFO(kernels->name << " " << model);
      const fs::path file = folder / (std::string(kernels->name) + model.filename().string());
      in_kernel_order += pack(model, file, *kernels).info.matrices;
      const auto plain = logits(model, *kernels, Repack::off, 1);
      CHECK(std::all_of(plain.begin(), plain.end(), [](float x) { return std::isfinite(x); }));
      CHECK(plain == logits(file, *kernels, Repack::off, 1));
      CHECK(plain == logits(file, *kernels, Repack::off, 2));
      if (kernel_order_tensors(*open_checkpoint(model), *kernels).empty()) continue;
      CHECK(plain == logits(model, *kernels, Repack::on, 2));
      CHECK(plain == logits(model, *kernels, Repack::automatic, 1));
    }
    CHECK(in_kernel_order > 50);
  }
}

TEST_CASE(
    "folders in kernel order keep every bit of a logit, copied or packed, planes and pieces "
    "alike") {
  const test::TemporaryFolder folder("repack-folders");
  std::vector<fs::path> models;
  for (const auto& entry :
       fs::directory_iterator(fs::path(NEMO_SOURCE_DIR) / "tests/data/folders")) {
    models.push_back(entry.path());
  }
  for (const char* recipe :
       {"mlx-q2g64", "mlx-q3g32", "mlx-q4g64", "mlx-q5g64", "mlx-q6g64", "mlx-q8g64", "mlx-mxfp4",
        "mlx-mxfp8", "hf-fp8", "hf-nvfp4", "tq3-g64", "tqTe-g64"}) {
    models.push_back(folder / recipe);
    write_synthetic_directory(models.back(), synth_config("tiny", 4), find_directory_recipe(recipe),
                              {}, true);
  }
  for (const Kernels* kernels : ordered_kernels()) {
    int copied = 0;
    for (const fs::path& model : models) {
      INFO(kernels->name << " " << model);
      const auto checkpoint = open_checkpoint(model);
      const auto tensors = kernel_order_tensors(*checkpoint, *kernels);
      const fs::path file = folder / (model.filename().string() + ".nemo");
      fs::remove(file);
      const PackReport report = pack(model, file, *kernels);
      CHECK(report.info.matrices == tensors.size());
      CHECK(verify_pack(file, {}).tensors == report.tensors);
      CHECK(open_checkpoint(file)->ignored().empty());
      const auto written = test::read_bytes(file);
      fs::remove(file);
      pack(model, file, *kernels);
      CHECK(test::read_bytes(file) == written);
      // All experts of this one lie in tensors of their own.
      if (model.filename() == "hf-nvfp4") {
        CHECK(std::ranges::any_of(tensors, [](const auto* t) { return !t->side.parts.empty(); }));
      }
      const auto plain = logits(model, *kernels, Repack::off, 1);
      CHECK(std::all_of(plain.begin(), plain.end(), [](float x) { return std::isfinite(x); }));
      CHECK(plain == logits(file, *kernels, Repack::off, 2));
      if (tensors.empty()) continue;
      ++copied;
      CHECK(plain == logits(model, *kernels, Repack::on, 2));
    }
    CHECK(copied >= 11);
  }
}

TEST_CASE("a pack keeps every key and tensor of its source and says where it comes from") {
  const test::TemporaryFolder folder("pack-content");
  for (const Kernels* kernels : ordered_kernels()) {
    const fs::path file = folder / (std::string(kernels->name) + ".nemo");
    const PackReport report = pack(kModel, file, *kernels);
    const Gguf before = Gguf::open(kModel);
    const Gguf after = Gguf::open(file);
    CHECK(after.magic() == GgufMagic::nemo);
    CHECK(after.file_bytes() == report.file_bytes);
    CHECK(after.tensors().size() == before.tensors().size() + 1);
    CHECK(report.tensors == before.tensors().size());
    for (const std::string_view key : before.keys()) {
      if (key == "general.alignment") continue;
      INFO(key);
      REQUIRE(after.has(key));
      CHECK(std::ranges::equal(after.find(key)->bytes, before.find(key)->bytes));
    }
    const auto source = open_checkpoint(kModel);
    std::set<std::string> ordered;
    for (const TensorRef* t : kernel_order_tensors(*source, *kernels)) ordered.insert(t->stored);
    CHECK(report.info.matrices == ordered.size());
    CHECK(!ordered.empty());
    for (const GgufTensor& tensor : before.tensors()) {
      INFO(tensor.name);
      const GgufTensor* packed = after.find_tensor(tensor.name);
      REQUIRE(packed != nullptr);
      REQUIRE(packed->bytes == tensor.bytes);
      const bool same = std::equal(tensor.data, tensor.data + tensor.bytes, packed->data);
      CHECK(same == !ordered.contains(std::string(tensor.name)));
    }
    const auto checkpoint = open_checkpoint(file);
    REQUIRE(checkpoint->pack() != nullptr);
    CHECK(checkpoint->pack()->source == "moe192.Q4_K_M.gguf");
    CHECK(checkpoint->pack()->lanes == kernel_order(*kernels));
    CHECK(checkpoint->pack()->matrices == ordered.size());
    CHECK_THAT(checkpoint->container(), Contains(order_name(kernel_order(*kernels))));
    CHECK(checkpoint->ignored().empty());
    CHECK(checkpoint->chat_template() == source->chat_template());
    CHECK(checkpoint->tokenizer().tokens == source->tokenizer().tokens);
    CHECK(verify_pack(file, {}).tensors == report.tensors);
    CHECK(kernel_order_tensors(*checkpoint, *kernels).empty());
  }
}

TEST_CASE("only matrices that products read take kernel order, and only in whole groups") {
  test::ModelFile file;  // 300 words, no multiple of 8
  for (const LayoutTensor& tensor : file.tensors) {
    if (tensor.is_matrix() || tensor.role == TensorRole::router) {
      file.types[tensor.name] = DType::q4_0;
    }
  }
  const test::OpenModel model(file);
  for (const Kernels* kernels : ordered_kernels()) {
    std::set<std::string> names;
    for (const TensorRef* t : kernel_order_tensors(*model.checkpoint, *kernels)) {
      names.insert(t->stored);
      CHECK(t->rows() % kernel_order(*kernels) == 0);
    }
    CHECK(names.contains("blk.1.ffn_up_exps.weight"));
    CHECK(names.contains("blk.2.attn_q.weight"));
    CHECK(!names.contains("blk.1.ffn_gate_inp.weight"));
    CHECK(!names.contains("token_embd.weight"));
    CHECK(!names.contains("output.weight"));        // 300 rows
    CHECK(!names.contains("blk.0.ssm_in.weight"));  // 164 rows
  }
  CHECK(kernel_order_tensors(*model.checkpoint, select_kernels("reference")).empty());
}

TEST_CASE("a split model and a folder of floats become one pack each") {
  const test::TemporaryFolder folder("pack-sources");
  for (const Kernels* kernels : ordered_kernels()) {
    const fs::path whole = folder / (std::string(kernels->name) + "-split.nemo");
    pack(split(kModel, folder), whole, *kernels);
    CHECK(Gguf::open(whole).parts() == 1);
    CHECK(!Gguf::open(whole).has("split.count"));
    CHECK(logits(whole, *kernels, Repack::off, 1) == logits(kModel, *kernels, Repack::off, 1));

    const fs::path floats = folder / (std::string(kernels->name) + "-hf");
    write_synthetic_directory(floats, synth_config("tiny", 0), find_directory_recipe("hf-bf16"), {},
                              true);
    const fs::path file = folder / (std::string(kernels->name) + "-hf.nemo");
    const PackReport report = pack(floats / "", file, *kernels);
    CHECK(report.info.source == floats.filename().string());
    CHECK(verify_pack(file, {}).tensors == report.tensors);
    CHECK(logits(file, *kernels, Repack::off, 1) == logits(floats, *kernels, Repack::off, 1));
  }
}

TEST_CASE("what cannot be packed is refused before anything is written") {
  const test::TemporaryFolder folder("pack-refused");
  const fs::path out = folder / "m.nemo";
  CHECK_THAT(message_of([&] { pack(kModel, out, select_kernels("reference")); }, ErrorCode::usage),
             Contains("reference") && Contains("--kernels"));
  CHECK(!fs::exists(out));
  for (const Kernels* kernels : ordered_kernels()) {
    fs::copy_file(kModel, folder / "own.nemo", fs::copy_options::overwrite_existing);
    const auto over = [&](const fs::path& model, const fs::path& to, bool replace) {
      return [&folder, model, to, replace, kernels] {
        (void)write_pack(folder / model, folder / to, *kernels, {1, replace, {}});
      };
    };
    CHECK_THAT(message_of(over("own.nemo", "own.nemo", false), ErrorCode::io), Contains("--force"));
    CHECK_THAT(message_of(over("own.nemo", "own.nemo", true), ErrorCode::usage),
               Contains("part of the model"));
    split(kModel, folder);
    CHECK_THAT(
        message_of(over("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", true), ErrorCode::usage),
        Contains("part of the model"));
    CHECK(!fs::exists(out));

    pack(kModel, out, *kernels);
    CHECK_THAT(message_of(over("m.nemo", "again.nemo", false), ErrorCode::unsupported),
               Contains("this is a pack") && Contains("moe192.Q4_K_M.gguf"));
    const auto checkpoint = open_checkpoint(out);
    CHECK_THROWS_WITH(convert_to_gguf(*checkpoint, folder / "c.gguf", {}), Contains("is a pack"));
    CHECK_THROWS_WITH(convert_to_directory(*checkpoint, folder / "c", DirectoryKind::hf, {}),
                      Contains("is a pack"));
    CHECK(!fs::exists(folder / "again.nemo"));
    CHECK(!fs::exists(folder / "c.gguf"));
    CHECK(!fs::exists(folder / "c"));
    fs::remove(out);
  }
}

TEST_CASE("planes of a pack that its header describes wrongly are refused") {
  const test::TemporaryFolder folder("pack-planes");
  const fs::path good = folder / "good.nemo", bad = folder / "bad.nemo";
  write_synthetic_directory(folder / "tq", synth_config("tiny", 4),
                            find_directory_recipe("tq3-g64"), {}, true);
  const auto tables = ordered_kernels();
  if (tables.empty()) return;
  pack(folder / "tq", good, *tables.front());
  const Gguf gguf = Gguf::open(good);
  using Json = nlohmann::ordered_json;
  const Json described = Json::parse(*gguf.find_string("nemo.pack.planes"));
  const std::string name = described.begin().key();
  const auto with_planes = [&](const std::function<void(Json&)>& edit, const char* without = "") {
    Json json = described;
    edit(json);
    rewrite(good, bad, with("nemo.pack.planes", json.dump().c_str()), without);
    return refusal(bad);
  };
  rewrite(good, bad, unchanged);
  CHECK(open_checkpoint(bad)->pack() != nullptr);
  for (const char* wrong :
       {R"({"type": "AFFINE7"})", R"({"type": "Q4_0"})", R"({"type": 3})", R"({"scales": "F64"})",
        R"({"group": 0})", R"({"group": "64"})", R"({"group": -64})", R"({"biases": 1})",
        R"({"levels": 5})", R"({"levels": ""})", R"({"scales": "none", "biases": true})"}) {
    INFO(wrong);
    CHECK_THAT(with_planes([&](Json& json) { json[name].update(Json::parse(wrong)); }),
               Contains(name) && Contains("make the pack again"));
  }
  for (const char* wrong :
       {R"({"type": "TURBO2"})", R"({"group": 32})", R"({"scales": "F32"})", R"({"biases": true})",
        R"({"levels": "no.levels"})", R"({"signs": "no.signs"})"}) {
    INFO(wrong);
    CHECK_THAT(with_planes([&](Json& json) { json[name].update(Json::parse(wrong)); }),
               Contains("is missing") || Contains("must"));
  }
  CHECK_THAT(with_planes([](Json& json) { json = "planes"; }), Contains("no JSON object"));
  CHECK_THAT(with_planes([&](Json& json) { json[name] = 1; }), Contains(name));
  CHECK_THAT(with_planes([&](Json& json) { json.erase(name); }), Contains(name));
  const std::string scales = name.substr(0, name.rfind('.')) + ".scales";
  CHECK_THAT(with_planes([](Json&) {}, scales.c_str()), Contains(scales) && Contains("is missing"));
}

TEST_CASE("a cancelled pack leaves nothing behind") {
  const test::TemporaryFolder folder("pack-cancelled");
  for (const Kernels* kernels : ordered_kernels()) {
    std::uint64_t calls = 0;
    const PackOptions options{1, false, [&calls](std::uint64_t done, std::uint64_t total) {
                                CHECK(done <= total);
                                return ++calls < 3;
                              }};
    CHECK_THAT(message_of([&] { (void)write_pack(kModel, folder / "m.nemo", *kernels, options); },
                          ErrorCode::cancelled),
               Contains("cancelled"));
    CHECK(calls == 3);
    CHECK(fs::is_empty(folder / ""));
  }
}

TEST_CASE("a pack for other kernels is refused with the command that makes it again") {
  const test::TemporaryFolder folder("pack-order");
  for (const Kernels* kernels : ordered_kernels()) {
    const fs::path file = folder / "m.nemo";
    pack(kModel, file, *kernels);
    const auto load_with = [](const fs::path& path, std::string_view name) {
      return message_of(
          [&] {
            LoadOptions options;
            options.kernels = name;
            (void)load(path.string(), options);
          },
          ErrorCode::unsupported);
    };
    CHECK_THAT(load_with(file, "reference"), Contains("kernels reference read file order only") &&
                                                 Contains("moe192.Q4_K_M.gguf"));
    const std::int64_t lanes = kernel_order(*kernels);
    const std::int64_t other = lanes == 8 ? 16 : 8;
    const std::string name = order_name(other);
    rewrite(file, folder / "other.nemo", with("nemo.pack.order", name.c_str()));
    CHECK_THAT(load_with(folder / "other.nemo", kernels->name),
               Contains("order " + name) && Contains("read " + order_name(lanes)) &&
                   Contains("nemo pack -m moe192.Q4_K_M.gguf -o "));
    fs::remove(file);
  }
}

TEST_CASE("packs whose header contradicts itself are refused") {
  const test::TemporaryFolder folder("pack-bad");
  for (const Kernels* kernels : ordered_kernels()) {
    const fs::path file = folder / "m.nemo";
    const fs::path bad = folder / "bad.nemo";
    pack(kModel, file, *kernels);
    const auto edited = [&](const auto& edit, ErrorCode code = ErrorCode::bad_file) {
      rewrite(file, bad, edit);
      return refusal(bad, code);
    };
    rewrite(file, bad, unchanged);
    CHECK(refusal(bad) == "no error");
    CHECK_THAT(edited(with("nemo.pack.order", "rows9"), ErrorCode::unsupported),
               Contains("'rows9'") && Contains("nemo pack"));
    for (const std::uint32_t version : {2u, 4u}) {
      CHECK_THAT(edited(with("nemo.pack.version", version), ErrorCode::unsupported),
                 Contains("version " + std::to_string(version)) &&
                     Contains("nemo pack -m " + kModel.filename().string()));
    }
    CHECK_THAT(edited(with("nemo.pack.order", 8u)), Contains("nemo.pack.order"));
    CHECK_THAT(edited(with("nemo.pack.tensors", std::vector<std::string>{"gone.weight"})),
               Contains("names 'gone.weight'"));
    for (const char* name : {"blk.0.attn_norm.weight", "token_embd.weight", "nemo.pack.checksums",
                             "blk.1.ffn_gate_inp.weight"}) {
      INFO(name);
      CHECK_THAT(edited(with("nemo.pack.tensors", std::vector<std::string>{name})),
                 Contains(name) && Contains("cannot lie in kernel order"));
    }
    for (const char* key : {"nemo.pack.version", "nemo.pack.order", "nemo.pack.source"}) {
      const auto drop = [&](GgufWriter&, std::string_view name) { return name == key; };
      CHECK_THAT(edited(drop), Contains(key) && Contains("missing"));
    }
    rewrite(file, bad, unchanged, "nemo.pack.checksums");
    CHECK_THAT(refusal(bad), Contains("'nemo.pack.checksums' is missing"));
    rewrite(file, bad, unchanged, "blk.0.attn_norm.weight");
    CHECK_THAT(refusal(bad), Contains("blk.0.attn_norm.weight"));
    rewrite(file, bad, unchanged, "", GgufMagic::gguf);
    CHECK_THAT(refusal(bad), Contains("keys of a pack"));
    rewrite(kModel, bad, unchanged);
    CHECK_THAT(refusal(bad), Contains("nemo.pack.version") && Contains("missing"));
    fs::remove(file);
  }
}

TEST_CASE("every damaged byte is noticed: in the header at once, in a tensor by verifying") {
  const test::TemporaryFolder folder("pack-damage");
  for (const Kernels* kernels : ordered_kernels()) {
    const fs::path file = folder / "m.nemo";
    const fs::path bad = folder / "bad.nemo";
    pack(kModel, file, *kernels);
    const Gguf gguf = Gguf::open(file);
    const std::size_t header = gguf.header().size();
    for (std::size_t at = 0; at < header; at += header / 61 + 1) {
      INFO("byte " << at);
      damage(file, bad, at);
      CHECK_THROWS_AS(open_checkpoint(bad), Error);
    }
    // A word of the vocabulary: nothing but the checksum can know.
    const auto bytes = test::read_bytes(file);
    const std::string text(reinterpret_cast<const char*>(bytes.data()), header);
    damage(file, bad, text.find("<|im_end|>") + 4);
    CHECK_THAT(refusal(bad), Contains("header does not have its checksum"));

    for (const char* name : {"blk.0.ssm_in.weight", "blk.0.ssm_d", "output_norm.weight"}) {
      const GgufTensor& tensor = *gguf.find_tensor(name);
      const auto start = static_cast<std::size_t>(tensor.data - gguf.header().data());
      for (const std::size_t at : {std::size_t{0}, std::size_t(tensor.bytes) - 1}) {
        damage(file, bad, start + at);
        CHECK(refusal(bad) == "no error");
        CHECK_THAT(message_of([&] { (void)verify_pack(bad, {}); }, ErrorCode::bad_file),
                   Contains(name) && Contains("does not have its checksum") &&
                       Contains("moe192.Q4_K_M.gguf"));
      }
    }
    fs::copy_file(file, bad, fs::copy_options::overwrite_existing);
    for (const std::uintmax_t size : {fs::file_size(file) - 4096, std::uintmax_t{header},
                                      std::uintmax_t{100}, std::uintmax_t{4}}) {
      fs::resize_file(bad, size);
      CHECK_THROWS_AS(open_checkpoint(bad), Error);
    }
    CHECK_THAT(message_of([&] { (void)verify_pack(kModel, {}); }, ErrorCode::unsupported),
               Contains("not a pack"));
    fs::remove(file);
  }
}
