// A checkpoint cut to its first layers: what is left is what was there.
#include "checkpoint/first_layers.h"

#include "test_files.h"

namespace tg {
namespace {

TEST(FirstLayers, KeepsWhatIsInNoLayerAndTheFirstLayers) {
  for (const char* form : {"meta_mp8", "hf"}) {
    const std::string path = std::string(TG_BINARY_DIR) + "/tiny/" + form;
    const auto whole = test::open_or_fail(path);
    auto opened = test::open_or_fail(path);
    ASSERT_TRUE(whole != nullptr && opened != nullptr);
    const auto cut = first_layers(std::move(opened), 2);
    ASSERT_TRUE(cut) << cut.error().text();
    EXPECT_EQ((*cut)->config().layers, 2);
    EXPECT_EQ(whole->config().layers, 4);
    EXPECT_EQ((*cut)->tensors().size(), whole->tensors().size() - 2 * 9);
    for (const TensorInfo& t : (*cut)->tensors()) {
      ASSERT_NE(whole->find(t.name), nullptr) << t.name;
      EXPECT_EQ(test::read_all(**cut, t, t.rows()),
                test::read_all(*whole, *whole->find(t.name), t.rows()))
          << t.name;
    }
    const TensorInfo* gone = whole->find("layers.2.attention.wq.weight");
    ASSERT_NE(gone, nullptr);
    std::vector<float> out(static_cast<std::size_t>(gone->columns()));
    EXPECT_EQ((*cut)->read_rows(*gone, 0, 1, out).error().code, ErrorCode::kNotFound);
  }
}

TEST(FirstLayers, RefusesWhatIsNotThere) {
  for (const std::int64_t layers : {-1, 0, 5}) {
    const auto cut =
        first_layers(test::open_or_fail(std::string(TG_BINARY_DIR) + "/tiny/meta_mp8"), layers);
    ASSERT_FALSE(cut) << layers;
    EXPECT_NE(cut.error().text().find("1..4"), std::string::npos);
  }
}

}  // namespace
}  // namespace tg
