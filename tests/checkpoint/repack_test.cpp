// A repack as the library does it: plan, work, files, comparison, and what may go wrong on the way.
#include "checkpoint/repack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "checkpoint/huggingface_source.h"
#include "checkpoint/open_original.h"
#include "checkpoint/output_file.h"
#include "checkpoint/pth_file.h"
#include "checkpoint/safetensors_file.h"
#include "checkpoint/tensor_bytes.h"
#include "test_files.h"

namespace tg {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kTiny = TG_BINARY_DIR "/tiny/";

// A source with its plan, ready to be written to `out`.
struct Prepared {
  std::unique_ptr<TensorSource> source;
  RepackPlan plan;
  Companions companions;
  std::string out;
  bool force = false;

  RepackJob job() const { return {*source, plan, companions, out, force}; }
};

Prepared prepare(const std::string& in, const std::string& out, std::int64_t chunk,
                 RepackForm form = RepackForm::kRepacked) {
  Prepared p;
  p.source = test::open_or_fail(in);
  auto plan = plan_repack(p.source->config(), p.source->tensors(), form, chunk);
  EXPECT_TRUE(plan) << plan.error().text();
  p.plan = *std::move(plan);
  auto companions = plan_companions(in, p.source->config(), p.plan);
  EXPECT_TRUE(companions) << companions.error().text();
  p.companions = *std::move(companions);
  p.out = out;
  return p;
}

// Everything as the command does it; the number of files written, or the error's text.
Result<std::size_t> carry_out(const Prepared& p, const RepackHooks& hooks = {}) {
  const RepackJob job = p.job();
  TG_ASSIGN(const RepackWork work, find_work(job, hooks));
  TG_RETURN_IF_ERROR(check_space(job, work));
  TG_RETURN_IF_ERROR(write_work(job, work, hooks));
  return work.files.size();
}

std::string error_text(const Result<std::size_t>& result) {
  return result ? std::string("no error") : result.error().text();
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Name -> bytes of each tensor in a .pth or safetensors file.
std::map<std::string, std::string> tensors_in(const std::string& path) {
  const auto file = MappedFile::open(path);
  EXPECT_TRUE(file) << file.error().text();
  std::map<std::string, std::string> out;
  const auto take = [&](const std::string& name, std::size_t offset, std::size_t bytes) {
    out.emplace(name,
                std::string(reinterpret_cast<const char*>(file->bytes().data()) + offset, bytes));
  };
  if (path.ends_with(".pth")) {
    const auto tensors = parse_pth(file->bytes(), /*verify=*/true);
    EXPECT_TRUE(tensors) << tensors.error().text();
    for (const StoredTensor& t : *tensors) take(t.name, t.offset, t.bytes);
  } else {
    const auto entries = parse_safetensors(file->bytes());
    EXPECT_TRUE(entries) << entries.error().text();
    for (const SafetensorsEntry& e : *entries) take(e.name, e.offset, e.bytes);
  }
  return out;
}

// --- the plan

ModelConfig llama70b() {
  ModelConfig c;
  c.dim = 8192;
  c.layers = 80;
  c.heads = 64;
  c.kv_heads = 8;
  c.head_dim = 128;
  c.ffn_dim = 28672;
  c.vocab = 128256;
  return c;
}

TEST(RepackPlan, GroupsOf80Layers) {
  const ModelConfig config = llama70b();
  const auto tensors = expected_tensors(config);
  const auto names = [&](std::int64_t chunk) {
    std::vector<std::string> out;
    const auto plan = plan_repack(config, tensors, RepackForm::kRepacked, chunk);
    EXPECT_TRUE(plan);
    for (const PlannedFile& file : plan->files) out.push_back(file.name);
    return out;
  };
  const auto ten = names(10);
  ASSERT_EQ(ten.size(), 8U);
  EXPECT_EQ(ten.front(), "layers_0-9.pth");
  EXPECT_EQ(ten.back(), "layers_70-79.pth");
  const auto three = names(3);
  ASSERT_EQ(three.size(), 27U);
  EXPECT_EQ(three[25], "layers_75-77.pth");
  EXPECT_EQ(three[26], "layers_78-79.pth");
  EXPECT_EQ(names(1000), std::vector<std::string>{"layers_0-79.pth"});
  EXPECT_EQ(names(INT64_MAX), std::vector<std::string>{"layers_0-79.pth"});
  for (const std::int64_t chunk : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN}) {
    const auto none = plan_repack(config, tensors, RepackForm::kRepacked, chunk);
    ASSERT_FALSE(none);
    EXPECT_THAT(none.error().text(), HasSubstr(std::to_string(chunk)));
  }
}

TEST(RepackPlan, NoLayersTensorsAreInTheFirstFileAndBytesAddUp) {
  const ModelConfig config = llama70b();
  const auto plan = plan_repack(config, expected_tensors(config), RepackForm::kRepacked, 10);
  ASSERT_TRUE(plan);
  std::size_t tensors = 0;
  for (const PlannedFile& file : plan->files) {
    for (const PlannedTensor& t : file.tensors) {
      if (!t.name.starts_with("layers.")) {
        EXPECT_EQ(file.name, "layers_0-9.pth") << t.name;
      }
      EXPECT_EQ(t.offset % 64, 0U);
    }
    tensors += file.tensors.size();
    EXPECT_GT(file.bytes, file.tensor_bytes());
    EXPECT_LT(file.bytes, file.tensor_bytes() + 100'000);
  }
  EXPECT_EQ(tensors, 80 * 9 + 3U);
  EXPECT_EQ(plan->tensor_bytes(), static_cast<std::uint64_t>(config.parameters()) * 2);
}

// --- values

TEST(TensorBytes, EveryPatternOf16BitsComesBack) {
  for (const DType dtype : {DType::kF16, DType::kBf16}) {
    std::vector<std::byte> patterns(2 * 65536);
    for (std::size_t i = 0; i < 65536; ++i) {
      patterns[2 * i] = static_cast<std::byte>(i & 0xff);
      patterns[2 * i + 1] = static_cast<std::byte>(i >> 8);
    }
    std::vector<float> values(65536);
    widen(dtype, /*big_endian=*/false, patterns.data(), values);
    std::vector<std::byte> again;
    store_values(dtype, /*is_exact=*/true, values, again);
    EXPECT_TRUE(again == patterns) << name(dtype);
  }
}

// --- files

TEST(Repack, EightShardsBecomeTheGoldenFilesTensorForTensor) {
  const test::TempDirectory directory;
  const std::string out = directory.path() + "/a/b";  // made, with what is above it
  const Prepared p = prepare(kTiny + "meta_mp8", out, 2);
  const auto written = carry_out(p);
  ASSERT_TRUE(written) << written.error().text();
  EXPECT_EQ(*written, 2U);
  EXPECT_EQ(names_in(out), (std::vector<std::string>{"layers_0-1.pth", "layers_2-3.pth",
                                                     "params.json", "tokenizer.model"}));
  for (const char* file : {"/layers_0-1.pth", "/layers_2-3.pth"}) {
    EXPECT_EQ(tensors_in(out + file), tensors_in(kTiny + "repacked" + file));
  }
  for (const char* file : {"/params.json", "/tokenizer.model"}) {
    EXPECT_EQ(test::read_file(out + file), test::read_file(kTiny + "meta_mp8" + file));
  }
  test::expect_same_tensors(*test::open_or_fail(kTiny + "hf"),
                            *test::open_or_fail(out, {.verify = true}));
  const auto counts = verify_repacked(p.job(), {});
  ASSERT_TRUE(counts) << counts.error().text();
  EXPECT_EQ(counts->tensors, 39);
  EXPECT_EQ(counts->values, 2394368);
}

// A file of all layers is what Meta's form with one shard is, but for its name.
TEST(Repack, AllLayersInOneFileAreACheckpointOfOneShard) {
  const test::TempDirectory directory;
  ASSERT_TRUE(carry_out(prepare(kTiny + "meta_mp8", directory.path(), 4)));
  fs::rename(directory.path() + "/layers_0-3.pth", directory.path() + "/consolidated.00.pth");
  const auto one = test::open_or_fail(directory.path(), {.verify = true});
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(one->config().format, "meta");
  EXPECT_EQ(one->tensors().size(), 39U);
  test::expect_same_tensors(*test::open_or_fail(kTiny + "repacked"), *one);
}

TEST(Repack, ASafetensorsDirectoryHasTheGoldensTensors) {
  const test::TempDirectory directory;
  const Prepared p = prepare(kTiny + "meta_mp8", directory.path(), 3, RepackForm::kSafetensors);
  const auto written = carry_out(p);
  ASSERT_TRUE(written) << written.error().text();
  std::map<std::string, std::string> have;
  std::map<std::string, std::string> want;
  for (const auto& [folder, all] : {std::pair{directory.path(), &have}, {kTiny + "hf", &want}}) {
    for (const std::string& name : names_in(folder)) {
      if (name.ends_with(".safetensors")) all->merge(tensors_in(folder + "/" + name));
    }
  }
  EXPECT_EQ(have, want);
  EXPECT_EQ(
      names_in(directory.path()),
      (std::vector<std::string>{
          "config.json", "generation_config.json", "model-00001-of-00002.safetensors",
          "model-00002-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.model"}));
  test::expect_same_tensors(*p.source, *test::open_or_fail(directory.path()));
  const auto index =
      nlohmann::json::parse(test::read_file(directory.path() + "/model.safetensors.index.json"));
  EXPECT_EQ(index.at("metadata").at("total_size"), 4788736);
  EXPECT_EQ(index.at("weight_map").size(), 39U);
  EXPECT_TRUE(verify_repacked(p.job(), {}));
}

TEST(Repack, FromHuggingFaceAndBackIsTheSame) {
  const test::TempDirectory directory;
  const std::string middle = directory.path() + "/repacked";
  const Prepared there = prepare(kTiny + "hf", middle, 1);
  ASSERT_TRUE(carry_out(there));
  EXPECT_EQ(nlohmann::json::parse(test::read_file(middle + "/params.json")),
            nlohmann::json::parse(test::read_file(kTiny + "meta_mp8/params.json")));
  EXPECT_THAT(there.companions.missing, testing::ElementsAre(HasSubstr("no tokenizer.model")));
  const std::string end = directory.path() + "/hf";
  const Prepared back = prepare(middle, end, 100, RepackForm::kSafetensors);
  ASSERT_TRUE(carry_out(back));
  test::expect_same_tensors(*test::open_or_fail(kTiny + "hf"), *test::open_or_fail(end));
}

TEST(Repack, ATiedHeadIsWrittenOut) {
  const test::TempDirectory directory;
  std::string config(test::kSmallConfig);
  config.insert(1, R"("tie_word_embeddings": true, "max_position_embeddings": 512, )");
  auto model = test::small_model();
  std::vector<test::TestTensor> stored;
  for (test::TestTensor& t : model) {
    if (t.name == "output.weight") continue;
    t.name = huggingface_name(t.name);
    stored.push_back(t);
  }
  directory.write("in/config.json", config);
  directory.write("in/model.safetensors", test::safetensors_bytes(stored));
  const std::string out = directory.path() + "/out";
  const Prepared p = prepare(directory.path() + "/in", out, 10);
  ASSERT_TRUE(carry_out(p));
  const auto source = test::open_or_fail(out);
  ASSERT_NE(source, nullptr);
  EXPECT_FALSE(source->config().tied_embeddings);
  EXPECT_EQ(source->config().max_context, 512);
  EXPECT_EQ(test::read_all(*source, *source->find("output.weight")),
            test::read_all(*source, *source->find("tok_embeddings.weight")));
  EXPECT_EQ(source->find("output.weight")->dtype, DType::kF32);
  const auto counts = verify_repacked(p.job(), {});
  ASSERT_TRUE(counts) << counts.error().text();
  EXPECT_EQ(counts->tensors, 21);

  const std::string hf = directory.path() + "/hf";
  ASSERT_TRUE(carry_out(prepare(directory.path() + "/in", hf, 1, RepackForm::kSafetensors)));
  EXPECT_EQ(test::read_file(hf + "/config.json"), config);
  test::expect_same_tensors(*p.source, *test::open_or_fail(hf));
}

// --- what is there already

TEST(Repack, FilesOfTorchAreKeptByteForByte) {
  const test::TempDirectory directory;
  fs::copy(kTiny + "repacked", directory.path(), fs::copy_options::recursive);
  fs::remove(directory.path() + "/layers_2-3.pth");
  const auto before = fs::last_write_time(directory.path() + "/layers_0-1.pth");
  const auto written = carry_out(prepare(kTiny + "meta_mp8", directory.path(), 2));
  ASSERT_TRUE(written) << written.error().text();
  EXPECT_EQ(*written, 1U);
  EXPECT_EQ(fs::last_write_time(directory.path() + "/layers_0-1.pth"), before);
  EXPECT_EQ(test::read_file(directory.path() + "/layers_0-1.pth"),
            test::read_file(kTiny + "repacked/layers_0-1.pth"));
  EXPECT_EQ(*carry_out(prepare(kTiny + "meta_mp8", directory.path(), 2)), 0U);
}

TEST(Repack, ADifferentFileIsRefusedByNameUnlessForced) {
  const test::TempDirectory directory;
  const std::string first = directory.path() + "/layers_0-1.pth";
  Prepared p = prepare(kTiny + "meta_mp8", directory.path(), 2);
  ASSERT_TRUE(carry_out(p));
  const std::string good = test::read_file(first);

  std::string bad = good;  // half a file under the final name: another program's doing
  bad.resize(good.size() / 2);
  directory.write("layers_0-1.pth", bad);
  EXPECT_THAT(error_text(carry_out(p)), HasSubstr(first));

  bad = good;
  bad[p.plan.files[0].tensors[0].offset] ^= 1;
  directory.write("layers_0-1.pth", bad);
  EXPECT_THAT(error_text(carry_out(p)), HasSubstr("damaged: its CRC-32"));

  // Another checkpoint's, whole in itself: one value of its params' shapes differs.
  const std::string other = directory.path() + "/other";
  fs::copy(kTiny + "hf", other);
  const std::string weights = other + "/model-00001-of-00003.safetensors";
  std::string bytes = test::read_file(weights);
  const auto entries = parse_safetensors(test::as_bytes(bytes));
  ASSERT_TRUE(entries);
  for (const SafetensorsEntry& e : *entries) {
    if (e.name == "model.layers.0.mlp.up_proj.weight") bytes[e.offset + 2 * (256 * 7 + 5)] ^= 1;
  }
  directory.write("other/model-00001-of-00003.safetensors", bytes);
  ASSERT_TRUE(carry_out(prepare(other, directory.path() + "/out", 2)));
  fs::copy(directory.path() + "/out/layers_0-1.pth", first, fs::copy_options::overwrite_existing);
  EXPECT_THAT(error_text(carry_out(p)),
              testing::AllOf(HasSubstr(first), HasSubstr("layers.0.feed_forward.w3.weight"),
                             HasSubstr("row 7, column 5"), HasSubstr("--force")));
  EXPECT_THAT(
      verify_repacked(p.job(), {}).error().text(),
      testing::AllOf(HasSubstr("layers.0.feed_forward.w3.weight"), HasSubstr("row 7, column 5")));
  p.force = true;
  EXPECT_EQ(*carry_out(p), 1U);
  EXPECT_EQ(test::read_file(first), good);

  p.force = false;
  directory.write("params.json", "{}");
  EXPECT_THAT(error_text(carry_out(p)),
              testing::AllOf(HasSubstr(directory.path() + "/params.json"), HasSubstr("2 bytes")));
}

TEST(Repack, FilesOfAnotherChunkingAreNamed) {
  const test::TempDirectory directory;
  ASSERT_TRUE(carry_out(prepare(kTiny + "meta_mp8", directory.path(), 2)));
  for (const bool force : {false, true}) {
    Prepared p = prepare(kTiny + "meta_mp8", directory.path(), 3);
    p.force = force;
    EXPECT_THAT(error_text(carry_out(p)),
                testing::AllOf(HasSubstr("layers_0-1.pth, layers_2-3.pth"),
                               HasSubstr("layers_0-2.pth to layers_3-3.pth")));
  }
  EXPECT_THAT(error_text(carry_out(
                  prepare(kTiny + "meta_mp8", directory.path(), 2, RepackForm::kSafetensors))),
              HasSubstr("layers_0-1.pth"));
}

TEST(Repack, OriginalsAreReadBesideFinishedAndHalfFinishedOutput) {
  const test::TempDirectory directory;
  fs::copy(kTiny + "meta_mp8", directory.path(), fs::copy_options::recursive);
  ASSERT_TRUE(carry_out(prepare(directory.path(), directory.path(), 2)));
  EXPECT_EQ(test::open_or_fail(directory.path())->config().format, "repacked");
  fs::remove(directory.path() + "/layers_0-1.pth");
  EXPECT_FALSE(open_checkpoint(directory.path()));
  const auto original = open_original(directory.path());
  ASSERT_TRUE(original) << original.error().text();
  EXPECT_EQ((*original)->config().format, "meta");
  EXPECT_FALSE(open_original(kTiny + "repacked"));
}

// --- what goes wrong on the way

TEST(Repack, StoppedHalfWayLeavesWholeFilesAndGoesOn) {
  const test::TempDirectory directory;
  const Prepared p = prepare(kTiny + "meta_mp8", directory.path(), 1);
  std::int64_t done = 0;
  const auto second_file = static_cast<std::int64_t>(p.plan.files[0].tensor_bytes()) + 1;
  RepackHooks hooks;
  hooks.progress = [&](std::int64_t now, std::int64_t) { done = now; };
  hooks.stopped = [&] { return done >= second_file; };
  EXPECT_THAT(error_text(carry_out(p, hooks)), HasSubstr("stopped after"));
  EXPECT_EQ(names_in(directory.path()),
            (std::vector<std::string>{"layers_0-0.pth", "params.json", "tokenizer.model"}));
  directory.write(".layers_1-1.pth.part", "what a killed process left");
  const auto written = carry_out(p);
  ASSERT_TRUE(written) << written.error().text();
  EXPECT_EQ(*written, 3U);
  EXPECT_EQ(names_in(directory.path()).size(), 6U);
  EXPECT_TRUE(verify_repacked(p.job(), {}));
}

TEST(OutputFile, OneWriterAtATimeAndNothingLeftBehind) {
  const test::TempDirectory directory;
  const std::string path = directory.path() + "/file";
  {
    auto first = OutputFile::create(path);
    ASSERT_TRUE(first) << first.error().text();
    ASSERT_TRUE(first->append("half"));
    const auto second = OutputFile::create(path);
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().text(), HasSubstr("another process"));
  }
  EXPECT_TRUE(names_in(directory.path()).empty());
  auto file = OutputFile::create(path);
  ASSERT_TRUE(file->append("xxhole"));
  ASSERT_TRUE(file->overwrite(0, "a w"));
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{"file"});
  EXPECT_EQ(test::read_file(path), "a wole");
  EXPECT_THAT(OutputFile::create(directory.path() + "/no/file").error().text(),
              HasSubstr("No such file"));
}

// A file system of 4 MiB of its own, where the rights for one are there.
class SmallDisk {
 public:
  SmallDisk() { mounted_ = ::mount("none", directory_.path().c_str(), "tmpfs", 0, "size=4m") == 0; }
  ~SmallDisk() {
    if (mounted_) ::umount(directory_.path().c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }
  const std::string& path() const { return directory_.path(); }

 private:
  test::TempDirectory directory_;
  bool mounted_ = false;
};

TEST(Repack, AFullDiskIsSeenBeforeAndSurvivedHalfWay) {
  const SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "no rights to mount";
  const Prepared p = prepare(kTiny + "meta_mp8", disk.path(), 2);
  const auto refused = carry_out(p);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfCapacity);
  EXPECT_THAT(refused.error().text(),
              testing::AllOf(HasSubstr("the disk has 4194304 free"), HasSubstr("4 files need ")));
  EXPECT_TRUE(names_in(disk.path()).empty());

  // As if somebody else had filled it after the check.
  const auto work = find_work(p.job(), {});
  ASSERT_TRUE(work);
  const Status full = write_work(p.job(), *work, {});
  ASSERT_FALSE(full);
  EXPECT_THAT(full.error().text(),
              testing::AllOf(HasSubstr("layers_2-3.pth"), HasSubstr("No space left on device")));
  EXPECT_EQ(names_in(disk.path()),
            (std::vector<std::string>{"layers_0-1.pth", "params.json", "tokenizer.model"}));
  EXPECT_EQ(tensors_in(disk.path() + "/layers_0-1.pth"),
            tensors_in(kTiny + "repacked/layers_0-1.pth"));
}

}  // namespace
}  // namespace tg
