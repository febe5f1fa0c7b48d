// Tokens, scores and log-probabilities of a model whose vocabulary lies in shards: those of the
// whole rows of logits, the same in one process and in several, whoever else is served, and with
// little traffic.
#include <bit>
#include <cmath>
#include <random>

#include "model/shard_sampler.h"
#include "rank_runners.h"
#include "test_model.h"

namespace tg {
namespace {

// What one user asks of each step.
struct SampledWish {
  RowAsk::Kind kind = RowAsk::Kind::kSample;
  SamplingParams params = {};
  std::vector<std::uint32_t> mask = {};
  std::int32_t top_n = 0;  // kScore
};

SamplingParams params_of(double temperature, std::int64_t top_k, double top_p) {
  SamplingParams p;
  p.temperature = temperature;
  p.top_k = top_k;
  p.top_p = top_p;
  p.seed = 42;
  return p;
}

// Each way that an answer may come to be.
std::vector<SampledWish> all_wishes() {
  std::vector<SampledWish> wishes(10);
  wishes[0].params = params_of(0.7, 32, 0.9);
  wishes[1].params = params_of(0.7, 32, 0.9);  // penalties, bias and mask
  wishes[1].params.repetition_penalty = 1.3;
  wishes[1].params.presence_penalty = 0.5;
  wishes[1].params.frequency_penalty = 0.25;
  wishes[1].params.logit_bias = {{3, 2.0F}, {700, kForbidden}, {1023, -1.0F}};
  wishes[1].params.top_logprobs = 5;
  wishes[1].mask.assign(32, 0x5f5f5f5fU);
  wishes[2].params.top_logprobs = 3;           // greedy
  wishes[3].params = params_of(1.0, 0, 0.95);  // any id may be drawn
  wishes[3].params.repetition_penalty = 1.5;
  wishes[3].params.logit_bias = {{200, 1.0F}, {650, 2.0F}};
  wishes[3].params.top_logprobs = 4;
  wishes[4].params = params_of(1.0, 1000, 1.0);  // more candidates than a shard is worth
  wishes[4].params.top_logprobs = 2;
  wishes[5].kind = RowAsk::Kind::kScore;
  wishes[5].top_n = 4;
  wishes[6].params = params_of(2.0, 2, 1.0);  // more ids tied with the second than it may list
  wishes[6].params.logit_bias = {{4, 3e38F}, {5, 3e38F}, {6, 3e38F}, {900, 3e38F}};
  wishes[6].params.top_logprobs = 1;
  wishes[7].params = params_of(2.0, 20, 1.0);  // only ids of the shard in the middle
  wishes[7].mask.assign(32, 0);
  wishes[7].mask[17] = 0xf0f0f0f0U;
  wishes[8].kind = RowAsk::Kind::kLogits;
  wishes[9].params = params_of(0.9, 5, 1.0);
  wishes[9].params.min_p = 0.1;
  return wishes;
}

// Some users in steps together: a prompt of their own, then the tokens that they chose.
class Users {
 public:
  Users(LlamaRunner& runner, std::vector<SampledWish> wishes, std::vector<std::size_t> names)
      : runner_(runner), wishes_(std::move(wishes)), names_(std::move(names)) {
    for (const std::size_t name : names_) {
      std::mt19937 random(static_cast<std::uint32_t>(name));
      std::vector<TokenId> prompt(3 + 5 * name);
      for (TokenId& id : prompt) id = static_cast<TokenId>(random() % 700);
      prompts_.push_back(std::move(prompt));
      pages_.push_back({static_cast<PageId>(name)});
    }
    outputs_.resize(names_.size());
  }

  // The answers to this step's wishes, or to kLogits for all of them.
  std::vector<RowAnswer> ask(bool logits_only) {
    std::vector<RowAsk> asks(names_.size());
    std::vector<StepSequence> sequences(names_.size());
    for (std::size_t u = 0; u < names_.size(); ++u) {
      const std::vector<TokenId>& output = outputs_[u];
      StepSequence& s = sequences[u];
      s.tokens = output.empty() ? std::span<const TokenId>(prompts_[u])
                                : std::span<const TokenId>(output).last(1);
      s.first_position =
          output.empty() ? 0 : static_cast<std::int64_t>(prompts_[u].size() + output.size()) - 1;
      s.pages = pages_[u];
      s.kv_domain = static_cast<std::int32_t>(names_[u]) % runner_.kv_domains();
      asks[u] = ask_of(u);
      asks[u].row = static_cast<std::int64_t>(s.tokens.size()) - 1;
      if (logits_only) asks[u].kind = RowAsk::Kind::kLogits;
      s.asks = std::span(asks).subspan(u, 1);
    }
    auto result = runner_.step({sequences});
    EXPECT_TRUE(result) << result.error().text();
    if (!result) return std::vector<RowAnswer>(names_.size());
    return {result->answers.begin(), result->answers.end()};
  }
  RowAsk ask_of(std::size_t u) const {
    const SampledWish& wish = wishes_[names_[u]];
    RowAsk ask;
    ask.kind = wish.kind;
    ask.params = &wish.params;
    ask.context = {prompts_[u], outputs_[u], wish.mask, outputs_[u].size()};
    ask.next = static_cast<TokenId>(97 * outputs_[u].size() + 5);
    ask.top_n = wish.top_n;
    return ask;
  }
  void go_on(const std::vector<RowAnswer>& answers) {
    for (std::size_t u = 0; u < answers.size(); ++u) outputs_[u].push_back(answers[u].token.token);
  }

 private:
  LlamaRunner& runner_;
  std::vector<SampledWish> wishes_;
  std::vector<std::size_t> names_;  // a user's wish, prompt and page
  std::vector<std::vector<TokenId>> prompts_, outputs_;
  std::vector<std::vector<PageId>> pages_;
};

constexpr int kSteps = 6;

// [step * users + user]
std::vector<RowAnswer> answers_of(LlamaRunner& runner, const std::vector<std::size_t>& names) {
  Users users(runner, all_wishes(), names);
  std::vector<RowAnswer> all;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<RowAnswer> answers = users.ask(false);
    users.go_on(answers);
    for (RowAnswer& answer : answers) all.push_back(std::move(answer));
  }
  return all;
}

bool near(float a, float b) { return a == b || std::abs(a - b) <= 2e-6F; }

void expect_near(const SampledToken& got, const SampledToken& expected) {
  EXPECT_EQ(got.token, expected.token);
  EXPECT_TRUE(near(got.logprob, expected.logprob)) << got.logprob << " " << expected.logprob;
  ASSERT_EQ(got.top.size(), expected.top.size());
  for (std::size_t i = 0; i < got.top.size(); ++i) {
    EXPECT_EQ(got.top[i].token, expected.top[i].token);
    EXPECT_TRUE(near(got.top[i].logprob, expected.top[i].logprob));
  }
}

void expect_same_bits(const RowAnswer& got, const RowAnswer& expected) {
  const auto same = [](float a, float b) {
    return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
  };
  EXPECT_EQ(got.token.token, expected.token.token);
  EXPECT_TRUE(same(got.token.logprob, expected.token.logprob));
  ASSERT_EQ(got.token.top.size(), expected.token.top.size());
  for (std::size_t i = 0; i < got.token.top.size(); ++i) {
    EXPECT_EQ(got.token.top[i].token, expected.token.top[i].token);
    EXPECT_TRUE(same(got.token.top[i].logprob, expected.token.top[i].logprob));
  }
  ASSERT_EQ(got.logits.size(), expected.logits.size());
  for (std::size_t i = 0; i < got.logits.size(); ++i) {
    ASSERT_TRUE(same(got.logits[i], expected.logits[i]));
  }
}

const std::vector<std::size_t> kEverybody = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

// The mesh, and how many ids the model has: the last shards of 900 and of 800 are padded or empty.
class MeshSampling : public testing::TestWithParam<std::pair<MeshShape, std::int64_t>> {
 protected:
  void on_runner(int ranks, const std::function<void(LlamaRunner&)>& f) const {
    test::on_rank_runners(GetParam().first, ranks, {}, ComputeDType::kF32, f, GetParam().second);
  }
};

TEST_P(MeshSampling, ChoosesAsFromWholeRows) {
  on_runner(1, [](LlamaRunner& runner) {
    Users users(runner, all_wishes(), kEverybody);
    SamplerScratch scratch;
    for (int step = 0; step < kSteps; ++step) {
      std::vector<RowAnswer> rows = users.ask(true);
      const std::vector<RowAnswer> answers = users.ask(false);
      for (std::size_t u = 0; u < answers.size(); ++u) {
        SCOPED_TRACE(fmt::format("user {} step {}", u, step));
        const RowAsk ask = users.ask_of(u);
        std::vector<float>& row = rows[u].logits;
        ASSERT_EQ(static_cast<std::int64_t>(row.size()), runner.vocab());
        if (ask.kind == RowAsk::Kind::kLogits) {
          EXPECT_EQ(answers[u].logits, row);
        } else if (ask.kind == RowAsk::Kind::kScore) {
          expect_near(answers[u].token, score(row, ask.next, ask.top_n, scratch));
        } else {
          expect_near(answers[u].token, sample(row, *ask.params, ask.context, scratch));
        }
      }
      users.go_on(answers);
    }
  });
}

TEST_P(MeshSampling, RanksAreOneProcessBitForBit) {
  std::vector<RowAnswer> alone;
  on_runner(1, [&](LlamaRunner& runner) { alone = answers_of(runner, kEverybody); });
  for (const int ranks : {2, 4, 8, 32}) {
    if (ranks > GetParam().first.devices()) break;
    std::vector<RowAnswer> spread;
    on_runner(ranks, [&](LlamaRunner& runner) { spread = answers_of(runner, kEverybody); });
    ASSERT_EQ(spread.size(), alone.size());
    for (std::size_t i = 0; i < alone.size(); ++i) {
      SCOPED_TRACE(fmt::format("{} ranks, answer {}", ranks, i));
      expect_same_bits(spread[i], alone[i]);
    }
  }
}

// Alone, or among ten in either order.
TEST_P(MeshSampling, OtherUsersDoNotShow) {
  on_runner(1, [](LlamaRunner& runner) {
    const auto together = answers_of(runner, kEverybody);
    std::vector<std::size_t> reversed(kEverybody.rbegin(), kEverybody.rend());
    const auto backwards = answers_of(runner, reversed);
    for (std::size_t u = 0; u < kEverybody.size(); ++u) {
      const auto alone = answers_of(runner, {u});
      for (std::size_t step = 0; step < kSteps; ++step) {
        SCOPED_TRACE(fmt::format("user {} step {}", u, step));
        expect_same_bits(alone[step], together[step * kEverybody.size() + u]);
        expect_same_bits(alone[step], backwards[(step + 1) * kEverybody.size() - 1 - u]);
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Meshes, MeshSampling,
                         testing::Values(std::pair<MeshShape, std::int64_t>{{2, 2}, 1024},
                                         std::pair<MeshShape, std::int64_t>{{2, 1}, 1000},
                                         std::pair<MeshShape, std::int64_t>{{1, 2}, 1024},
                                         std::pair<MeshShape, std::int64_t>{kGalaxy, 1024},
                                         std::pair<MeshShape, std::int64_t>{kGalaxy, 910},
                                         std::pair<MeshShape, std::int64_t>{kGalaxy, 801}),
                         [](const auto& name_of) {
                           return fmt::format("m{}_ids{}", text(name_of.param.first),
                                              name_of.param.second);
                         });

// One device and several give the same tokens where no rounding is near a border.
TEST(MeshSamplingTokens, AreThoseOfOneDevice) {
  const auto tokens = [](const MeshShape& mesh) {
    std::vector<TokenId> ids;
    test::on_rank_runners(mesh, 1, {}, ComputeDType::kF32, [&](LlamaRunner& runner) {
      for (const RowAnswer& a : answers_of(runner, {0, 1, 2, 9})) ids.push_back(a.token.token);
    });
    return ids;
  };
  const std::vector<TokenId> one = tokens({1, 1});
  EXPECT_EQ(tokens({2, 2}), one);
  EXPECT_EQ(tokens(kGalaxy), one);
}

// Of a decode step of 4 users on one process, in bytes over all links; the difference to a step
// that wants whole rows is only the gather of the vocabulary.
TEST(MeshSamplingTraffic, IsTheCandidatesOnly) {
  for (const MeshShape& mesh : {MeshShape{2, 2}, kGalaxy}) {
    test::on_rank_runners(mesh, 1, {}, ComputeDType::kF32, [&](LlamaRunner& runner) {
      const auto step_traffic = [&](const SamplingParams& params, bool logits_only) {
        Users users(runner, std::vector<SampledWish>(4, SampledWish{.params = params}),
                    {0, 1, 2, 3});
        users.go_on(users.ask(false));
        // The mesh counts on; two steps' difference is one step.
        const Traffic before = runner.mesh().traffic();
        users.ask(logits_only);
        const Traffic after = runner.mesh().traffic();
        return std::pair(after.bytes - before.bytes, after.collectives - before.collectives);
      };
      const SamplingParams greedy;
      const SamplingParams top_k = params_of(0.7, 32, 0.9);
      const auto whole = step_traffic(greedy, true);
      // Every value goes to all other rows of its column.
      const std::int64_t links = mesh.cols * (mesh.rows - 1) * 4 * 4;  // times 4 bytes, 4 users
      const std::int64_t gather = links * 1024;
      for (const auto& [params, candidates] : {std::pair(greedy, 1), std::pair(top_k, 32)}) {
        const auto shards = step_traffic(params, false);
        const std::int64_t slots =
            links * mesh.rows * ShardQuery{.candidates = candidates}.floats();
        EXPECT_EQ(whole.first - shards.first, gather - slots) << text(mesh) << " " << candidates;
        EXPECT_EQ(whole.second, shards.second);  // one gather each
        // Of 1024 ids; the slots are as large for 128256.
        EXPECT_LT(slots * (candidates == 1 ? 15 : 1), gather);
      }
    });
  }
}

}  // namespace
}  // namespace tg
