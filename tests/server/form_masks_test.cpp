// Forms that are asked for again are not made again; what is large is not kept.
#include "server/form_masks.h"

#include <gmock/gmock.h>

namespace tg {
namespace {

AnswerForm expression(const std::string& source) {
  return {AnswerForm::Kind::kRegex, source, {}, "guided_regex"};
}

std::shared_ptr<const Grammar> must_make(FormMasks& forms, const AnswerForm& form) {
  const auto made = forms.grammar(form);
  EXPECT_TRUE(made) << made.error().text();
  return made ? *made : nullptr;
}

TEST(FormMasks, TheSameFormIsMadeOnce) {
  FormMasks forms(nullptr, {});
  const auto first = must_make(forms, expression("a+"));
  EXPECT_EQ(must_make(forms, expression("a+")), first);
  EXPECT_NE(must_make(forms, expression("b+")), first);
  // The same text as something else.
  EXPECT_NE(must_make(forms, {AnswerForm::Kind::kChoice, "", {"a+"}, "guided_choice"}), first);
  const AnswerForm two{AnswerForm::Kind::kChoice, "", {"a", "b"}, "guided_choice"};
  EXPECT_NE(must_make(forms, {AnswerForm::Kind::kChoice, "", {"a 1 b"}, "guided_choice"}),
            must_make(forms, two));
  EXPECT_EQ(must_make(forms, two), must_make(forms, two));
  EXPECT_EQ(must_make(forms, {AnswerForm::Kind::kAny, "", {}, ""}), nullptr);
}

TEST(FormMasks, TheLatestAreKept) {
  FormMasks forms(nullptr, {});
  const auto first = must_make(forms, expression("first"));
  for (std::size_t i = 0; i < FormMasks::kMostKept; ++i) {
    const auto other = must_make(forms, expression(fmt::format("other {}", i)));
    EXPECT_EQ(must_make(forms, expression("first")), first);  // used, so not the oldest
    EXPECT_EQ(must_make(forms, expression(fmt::format("other {}", i))), other);
  }
  for (std::size_t i = 0; i < FormMasks::kMostKept; ++i) {
    must_make(forms, expression(fmt::format("more {}", i)));
  }
  EXPECT_NE(must_make(forms, expression("first")), first);
}

TEST(FormMasks, LargeOnesAndMistakesAreNotKept) {
  FormMasks forms(nullptr, {});
  const AnswerForm long_text{AnswerForm::Kind::kChoice,
                             "",
                             {std::string(FormMasks::kMostSourceBytes, 'b')},
                             "guided_choice"};
  EXPECT_NE(must_make(forms, long_text), must_make(forms, long_text));
  const AnswerForm large = expression("(abcdefghijklmnopqrst){0,3000}");
  EXPECT_NE(must_make(forms, large), must_make(forms, large));
  for (int i = 0; i < 2; ++i) {
    const auto wrong = forms.grammar(expression("("));
    ASSERT_FALSE(wrong);
    EXPECT_THAT(wrong.error().text(), testing::HasSubstr("guided_regex"));
  }
}

}  // namespace
}  // namespace tg
