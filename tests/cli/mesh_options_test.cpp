// --mesh, --topology, --ccl-dtype, --num-links and the original's environment variables: what wins,
// what is meant, and the words of every refusal.
#include "cli/mesh_options.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace tg {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment(Variables variables) {
  return [variables = std::move(variables)](const char* name) {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  };
}

Result<MeshSettings> settings(const MeshOptions& options, Variables variables = {}) {
  return mesh_settings(options, environment(std::move(variables)));
}

// The uses of a table that take the line.
std::string lines(const std::array<HopAlgorithm, kUses>& table) {
  std::string uses;
  for (const Use use : all_uses()) {
    if (table[static_cast<std::size_t>(use)] != HopAlgorithm::kLine) continue;
    uses += (uses.empty() ? "" : " ") + std::string(name(use));
  }
  return uses;
}
constexpr const char* kAll = "QKV WO FF1 FF3 FF2 LAYERNORM SDPA SAMPLING";

void expect_plain_refusal(const Result<MeshSettings>& result,
                          const std::vector<std::string>& parts) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kBadArgument);
  for (const std::string& part : parts) {
    EXPECT_NE(result.error().text().find(part), std::string::npos)
        << "'" << part << "' is not in " << result.error().text();
  }
}

TEST(MeshOption, Shapes) {
  EXPECT_EQ(settings({})->shape, (MeshShape{1, 1}));
  EXPECT_EQ(settings({.mesh = "8x4"})->shape, kGalaxy);
  EXPECT_EQ(settings({.mesh = "TG"})->shape, kGalaxy);
  EXPECT_EQ(settings({.mesh = "2x16"})->shape, (MeshShape{2, 16}));
  EXPECT_EQ(settings({.mesh = "64x64"})->shape, (MeshShape{64, 64}));
  for (const char* bad :
       {"8", "x", "8x", "x4", "0x4", "8x0", "-8x4", "+8x4", "8X4", "8x4x1", " 8x4", "8x4 ", "8*4",
        "tg", "65x64", "4097x1", "99999999999999999999x1", "0x10"}) {
    SCOPED_TRACE(bad);
    expect_plain_refusal(settings({.mesh = bad}),
                         {"--mesh", std::string("'") + bad + "'", "ROWSxCOLS"});
  }
}

TEST(MeshOption, TheEnvironmentNamesBoards) {
  for (const char* variable : {"MESH_DEVICE", "FAKE_DEVICE"}) {
    SCOPED_TRACE(variable);
    EXPECT_EQ(settings({}, {{variable, "TG"}})->shape, kGalaxy);
    EXPECT_EQ(settings({}, {{variable, "4x2"}})->shape, (MeshShape{4, 2}));
    EXPECT_EQ(settings({}, {{variable, ""}})->shape, MeshShape{});
    for (const char* board : {"N150", "N300", "T3K", "P150", "P300", "CPU"}) {
      EXPECT_EQ(settings({}, {{variable, board}})->shape, MeshShape{});
    }
    expect_plain_refusal(settings({}, {{variable, "T4K"}}), {variable, "'T4K'", "ROWSxCOLS"});
  }
}

TEST(MeshOption, TheOptionComesFirstThenMeshDevice) {
  EXPECT_EQ(settings({.mesh = "2x2"}, {{"MESH_DEVICE", "TG"}})->shape, (MeshShape{2, 2}));
  EXPECT_EQ(settings({.mesh = "1x1"}, {{"FAKE_DEVICE", "TG"}})->shape, MeshShape{});
  // Nobody looks at what does not count.
  EXPECT_EQ(settings({.mesh = "2x2"}, {{"MESH_DEVICE", "rubbish"}})->shape, (MeshShape{2, 2}));
  EXPECT_EQ(settings({}, {{"MESH_DEVICE", "4x1"}, {"FAKE_DEVICE", "TG"}})->shape,
            (MeshShape{4, 1}));
  EXPECT_EQ(settings({}, {{"MESH_DEVICE", "N150"}, {"FAKE_DEVICE", "TG"}})->shape, MeshShape{});
  EXPECT_EQ(settings({}, {{"MESH_DEVICE", ""}, {"FAKE_DEVICE", "TG"}})->shape, kGalaxy);
}

TEST(TopologyOption, RingUnlessSaidOtherwise) {
  for (const char* text : {"", "ring"}) {
    const auto plan = settings({.topology = text})->collectives;
    EXPECT_EQ(lines(plan.reduce_scatter), "");
    EXPECT_EQ(lines(plan.all_gather), "");
  }
  const auto line = settings({.topology = "line"})->collectives;
  EXPECT_EQ(lines(line.reduce_scatter), kAll);
  EXPECT_EQ(lines(line.all_gather), kAll);
}

TEST(TopologyOption, ListsChangeOneAfterTheOther) {
  const auto some = settings({.topology = "QKV=line,FF2.rs=line,SAMPLING.ag=line"})->collectives;
  EXPECT_EQ(lines(some.reduce_scatter), "QKV FF2");
  EXPECT_EQ(lines(some.all_gather), "QKV SAMPLING");
  const auto all_but = settings({.topology = "line,QKV=ring,FF2.rs=ring,WO.ag=ring"})->collectives;
  EXPECT_EQ(lines(all_but.reduce_scatter), "WO FF1 FF3 LAYERNORM SDPA SAMPLING");
  EXPECT_EQ(lines(all_but.all_gather), "FF1 FF3 FF2 LAYERNORM SDPA SAMPLING");
  // The last word counts.
  const auto last = settings({.topology = "QKV=line,ring,WO=line,WO.ag=ring"})->collectives;
  EXPECT_EQ(lines(last.reduce_scatter), "WO");
  EXPECT_EQ(lines(last.all_gather), "");
}

TEST(TopologyOption, Mistakes) {
  expect_plain_refusal(settings({.topology = "star"}), {"--topology", "'star'", "ring nor line"});
  expect_plain_refusal(settings({.topology = "QKV=star"}), {"--topology", "'star'"});
  expect_plain_refusal(settings({.topology = "qkv=line"}),
                       {"--topology", "'qkv'", "QKV, WO", "SAMPLING"});
  expect_plain_refusal(settings({.topology = "QKV.xx=line"}), {"--topology", "'QKV.xx'"});
  expect_plain_refusal(settings({.topology = "QKV.rs"}), {"--topology", "'QKV.rs'"});
  expect_plain_refusal(settings({.topology = ".rs=line"}), {"--topology", "''"});
  expect_plain_refusal(settings({.topology = "=line"}), {"--topology", "''"});
  expect_plain_refusal(settings({.topology = "QKV="}), {"--topology", "''"});
  expect_plain_refusal(settings({.topology = "line,"}), {"--topology", "''"});
  expect_plain_refusal(settings({.topology = "line,,ring"}), {"--topology", "''"});
  expect_plain_refusal(settings({.topology = "line QKV=ring"}), {"--topology", "'line QKV'"});
}

// As the original's "Debugging" says: line for all reduce-scatters and the all-gather of QKV, ring
// for the other all-gathers.
TEST(TopologyVariables, TheOriginalsExample) {
  const auto plan =
      settings({}, {{"LINE_RS", "1"}, {"LINE_AG", "0"}, {"USE_LINE_AG", R"({"QKV"})"}})
          ->collectives;
  EXPECT_EQ(lines(plan.reduce_scatter), kAll);
  EXPECT_EQ(lines(plan.all_gather), "QKV");
}

TEST(TopologyVariables, EachAlone) {
  const auto rs = settings({}, {{"LINE_RS", "1"}})->collectives;
  EXPECT_EQ(lines(rs.reduce_scatter), kAll);
  EXPECT_EQ(lines(rs.all_gather), "");
  const auto ag = settings({}, {{"LINE_AG", "1"}})->collectives;
  EXPECT_EQ(lines(ag.reduce_scatter), "");
  EXPECT_EQ(lines(ag.all_gather), kAll);
  // The set adds to LINE_AG; it takes nothing away.
  EXPECT_EQ(
      lines(settings({}, {{"LINE_AG", "1"}, {"USE_LINE_AG", "{'QKV'}"}})->collectives.all_gather),
      kAll);
  for (const char* off : {"0", ""}) {
    const auto plan = settings({}, {{"LINE_RS", off}, {"LINE_AG", off}})->collectives;
    EXPECT_EQ(lines(plan.reduce_scatter) + lines(plan.all_gather), "");
  }
}

TEST(TopologyVariables, SetsAsPythonWritesThem) {
  const std::map<std::string, std::string> sets = {{R"({"QKV", "WO"})", "QKV WO"},
                                                   {"{'FF1','FF3',}", "FF1 FF3"},
                                                   {"[FF2]", "FF2"},
                                                   {"LAYERNORM", "LAYERNORM"},
                                                   {"{}", ""},
                                                   {"", ""}};
  for (const auto& [text, uses] : sets) {
    const auto result = settings({}, {{"USE_LINE_AG", text}});
    ASSERT_TRUE(result) << text;
    EXPECT_EQ(lines(result->collectives.all_gather), uses) << text;
    EXPECT_EQ(lines(result->collectives.reduce_scatter), "") << text;
  }
}

TEST(TopologyVariables, TheOptionComesFirst) {
  const auto plan =
      settings({.topology = "ring"}, {{"LINE_RS", "1"}, {"USE_LINE_AG", "rubbish"}})->collectives;
  EXPECT_EQ(lines(plan.reduce_scatter) + lines(plan.all_gather), "");
}

TEST(TopologyVariables, Mistakes) {
  expect_plain_refusal(settings({}, {{"LINE_RS", "yes"}}), {"LINE_RS='yes'", "0 or 1"});
  expect_plain_refusal(settings({}, {{"LINE_AG", "2"}}), {"LINE_AG='2'", "0 or 1"});
  expect_plain_refusal(settings({}, {{"USE_LINE_AG", R"({"QKV", "QVK"})"}}),
                       {"USE_LINE_AG", "'QVK'", "QKV, WO"});
}

TEST(CclDtypeOption, Names) {
  EXPECT_EQ(settings({})->collectives.payload, PayloadDType::kF32);
  EXPECT_EQ(settings({.ccl_dtype = "f32"})->collectives.payload, PayloadDType::kF32);
  EXPECT_EQ(settings({.ccl_dtype = "bf16"})->collectives.payload, PayloadDType::kBf16);
  EXPECT_EQ(settings({.ccl_dtype = "bfp8"})->collectives.payload, PayloadDType::kBfp8);
  for (const char* bad : {"", "f16", "BF16", "bfp4"}) {
    expect_plain_refusal(settings({.ccl_dtype = bad}),
                         {"--ccl-dtype", std::string("'") + bad + "'"});
  }
}

TEST(LinksOption, TheOptionThenTheVariableThenFour) {
  EXPECT_EQ(settings({})->collectives.links, 4);
  EXPECT_EQ(settings({}, {{"GALAXY_NUM_LINKS", "2"}})->collectives.links, 2);
  EXPECT_EQ(settings({}, {{"GALAXY_NUM_LINKS", ""}})->collectives.links, 4);
  EXPECT_EQ(settings({}, {{"GALAXY_NUM_LINKS", "64"}})->collectives.links, 64);
  EXPECT_EQ(settings({.links = 3}, {{"GALAXY_NUM_LINKS", "2"}})->collectives.links, 3);
  for (const char* bad : {"0", "00", "65", "99", "100", "-1", "+2", "2.0", "two", " 2"}) {
    expect_plain_refusal(settings({}, {{"GALAXY_NUM_LINKS", bad}}),
                         {std::string("GALAXY_NUM_LINKS='") + bad + "'", "1..64"});
  }
}

}  // namespace
}  // namespace tg
