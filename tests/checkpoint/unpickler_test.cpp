#include "checkpoint/unpickler.h"

#include <gtest/gtest.h>

#include "test_files.h"

namespace tg {
namespace {

using test::le;
using test::pickle_string;
using test::PickleTensor;

Result<std::vector<PickledTensor>> unpickle(const std::string& pickle) {
  return unpickle_tensors(test::as_bytes(pickle));
}

// The message of a pickle that must be refused.
std::string refused(const std::string& pickle, ErrorCode code) {
  const auto result = unpickle(pickle);
  if (result) return "it was read";
  EXPECT_EQ(result.error().code, code) << result.error().text();
  return result.error().text();
}

void expect_refused(const std::string& pickle, ErrorCode code, std::string_view part) {
  const std::string message = refused(pickle, code);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

PickleTensor small_tensor() {
  PickleTensor t;
  t.name = "w";
  t.key = "7";
  t.elements = 12;
  t.offset = 2;
  t.shape = {2, 3};
  t.strides = {3, 1};
  return t;
}

TEST(Unpickler, ReadsATensor) {
  const auto tensors = unpickle(test::pickle_dict({small_tensor()}));
  ASSERT_TRUE(tensors) << tensors.error().text();
  ASSERT_EQ(tensors->size(), 1U);
  const PickledTensor& t = tensors->front();
  EXPECT_EQ(t.name, "w");
  EXPECT_EQ(t.dtype, DType::kF32);
  EXPECT_EQ(t.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(t.strides, (std::vector<std::int64_t>{3, 1}));
  EXPECT_EQ(t.storage_key, "7");
  EXPECT_EQ(t.storage_bytes, 48);
  EXPECT_EQ(t.offset, 2);
}

TEST(Unpickler, ReadsTheStorageTypes) {
  for (const auto& [global, dtype, bytes] :
       {std::tuple{"torch\nBFloat16Storage\n", DType::kBf16, 24},
        std::tuple{"torch\nHalfStorage\n", DType::kF16, 24},
        std::tuple{"torch\nFloatStorage\n", DType::kF32, 48}}) {
    PickleTensor t = small_tensor();
    t.storage_global = global;
    const auto tensors = unpickle(test::pickle_dict({t}));
    ASSERT_TRUE(tensors) << tensors.error().text();
    EXPECT_EQ(tensors->front().dtype, dtype);
    EXPECT_EQ(tensors->front().storage_bytes, bytes);
  }
}

// What `python3 -c "pickle.dumps(..., protocol=4)"` makes: frames, memo by count, globals by stack.
TEST(Unpickler, ReadsProtocolFour) {
  const auto short_string = [](std::string_view text) {
    return "\x8c" + le(text.size(), 1) + std::string(text) + "\x94";
  };
  const std::string storage = "(" + short_string("storage") + short_string("torch") +
                              short_string("FloatStorage") + "\x93\x94" + short_string("0") +
                              short_string("cpu") + "K\x06t\x94Q";
  const std::string pickle =
      "\x80\x04\x95" + le(100, 8) + "}\x94" + short_string("w") + short_string("torch._utils") +
      short_string("_rebuild_tensor_v2") + "\x93\x94(" + storage + std::string("K\0", 2) +
      "K\x02K\x03\x86\x94K\x03K\x01\x86\x94\x89" + short_string("collections") +
      short_string("OrderedDict") + "\x93\x94)R\x94t\x94R\x94s.";
  const auto tensors = unpickle(pickle);
  ASSERT_TRUE(tensors) << tensors.error().text();
  EXPECT_EQ(tensors->front().shape, (std::vector<std::int64_t>{2, 3}));
}

// torch.save(module.state_dict()): an OrderedDict of parameters with attributes set by BUILD.
TEST(Unpickler, ReadsAnOrderedDictOfParameters) {
  const std::string parameter = "ctorch._utils\n_rebuild_parameter\n(" +
                                test::pickle_tensor(small_tensor()) + "\x88" +
                                "ccollections\nOrderedDict\n)RtR";
  const std::string metadata = "}" + pickle_string("_metadata") + "}" + pickle_string("") + "}" +
                               pickle_string("version") + "K\x01" + "sss";
  const auto tensors = unpickle("\x80\x02" + std::string("ccollections\nOrderedDict\n)R(") +
                                pickle_string("w") + parameter + "u" + metadata + "b.");
  ASSERT_TRUE(tensors) << tensors.error().text();
  ASSERT_EQ(tensors->size(), 1U);
  EXPECT_EQ(tensors->front().name, "w");
}

TEST(Unpickler, ReadsAnUntypedStorageWithItsDType) {
  const std::string pickle =
      "\x80\x02}" + pickle_string("w") + "ctorch._utils\n_rebuild_tensor_v3\n((" +
      pickle_string("storage") + "ctorch.storage\nUntypedStorage\n" + pickle_string("0") +
      pickle_string("cpu") + "K\x0ctQ" + std::string("K\0", 2) + test::pickle_tuple({2, 3}) +
      test::pickle_tuple({3, 1}) + "\x89" + "ccollections\nOrderedDict\n)Rctorch\nbfloat16\ntRs.";
  const auto tensors = unpickle(pickle);
  ASSERT_TRUE(tensors) << tensors.error().text();
  EXPECT_EQ(tensors->front().dtype, DType::kBf16);
  EXPECT_EQ(tensors->front().storage_bytes, 12);
}

TEST(Unpickler, RefusesForeignGlobalsByNameAndPlace) {
  expect_refused(
      "\x80\x02"
      "cos\nsystem\n(" +
          pickle_string("echo hello") + "tR.",
      ErrorCode::kUnsupported, "byte 2: global \"os.system\"");
  expect_refused(
      "\x80\x02"
      "cbuiltins\neval\n.",
      ErrorCode::kUnsupported, "\"builtins.eval\"");
  expect_refused(
      "\x80\x02"
      "ctorch\nload\n.",
      ErrorCode::kUnsupported, "\"torch.load\"");
  // An allowed name in another module, and the reverse.
  expect_refused(
      "\x80\x02"
      "cos\nOrderedDict\n.",
      ErrorCode::kUnsupported, "\"os.OrderedDict\"");
  expect_refused("\x80\x04\x8c\x02os\x8c\x06system\x93.", ErrorCode::kUnsupported,
                 "byte 14: global \"os.system\"");
  expect_refused(
      "\x80\x02"
      "ctorch\nLongStorage\n.",
      ErrorCode::kUnsupported, "LongStorage");
}

TEST(Unpickler, RefusesForeignOpcodesByNameAndPlace) {
  expect_refused(
      "\x80\x02"
      "(ios\nsystem\n.",
      ErrorCode::kUnsupported, "byte 3: opcode 0x69 (INST)");
  expect_refused(
      "\x80\x02"
      "(o.",
      ErrorCode::kUnsupported, "(OBJ)");
  expect_refused("\x80\x02)\x81.", ErrorCode::kUnsupported, "0x81 (NEWOBJ)");
  expect_refused("\x80\x02\x82\x01.", ErrorCode::kUnsupported, "EXT1");
  expect_refused(
      "\x80\x02"
      "N2.",
      ErrorCode::kUnsupported, "DUP");
  expect_refused("\x80\x02\xff.", ErrorCode::kUnsupported, "0xff (not known)");
  expect_refused("\x80\x01.", ErrorCode::kUnsupported, "protocol 1");
  expect_refused("\x80\x06.", ErrorCode::kUnsupported, "protocol 6");
}

TEST(Unpickler, RefusesCallsOfWhatIsNoFunction) {
  expect_refused("\x80\x02})R.", ErrorCode::kBadInput, "a dict is called");
  expect_refused(
      "\x80\x02"
      "ctorch\nFloatStorage\n)R.",
      ErrorCode::kBadInput, "torch.FloatStorage called with 0 arguments");
  expect_refused(
      "\x80\x02"
      "ctorch._utils\n_rebuild_tensor_v2\n)R.",
      ErrorCode::kBadInput, "called with 0 arguments");
  expect_refused(
      "\x80\x02"
      "ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.",
      ErrorCode::kBadInput, "without a storage");
  expect_refused(
      "\x80\x02"
      "ccollections\nOrderedDict\n(NtR.",
      ErrorCode::kBadInput, "from arguments");
  expect_refused(
      "\x80\x02"
      "NNb.",
      ErrorCode::kUnsupported, "BUILD");
  expect_refused(
      "\x80\x02"
      "NQ.",
      ErrorCode::kBadInput, "persistent id");
}

TEST(Unpickler, RefusesHugeCounts) {
  // 4 GiB and 2^64 - 1 bytes of string, in a pickle of a few.
  expect_refused("\x80\x02X" + le(0xffffffff, 4) + "a.", ErrorCode::kBadInput, "4294967295 bytes");
  expect_refused("\x80\x04\x8d" + le(~0ULL, 8) + "a.", ErrorCode::kBadInput,
                 "18446744073709551615");
  expect_refused("\x80\x02\x8a\xff" + std::string(255, 'a') + ".", ErrorCode::kBadInput,
                 "more than 64 bits");
  PickleTensor t = small_tensor();
  t.shape = {2147483647, 2147483647, 2147483647};
  t.strides = {1, 1, 1};
  expect_refused(test::pickle_dict({t}), ErrorCode::kBadInput, "2^63");
  t = small_tensor();
  t.shape = {-2, 3};
  expect_refused(test::pickle_dict({t}), ErrorCode::kBadInput, "natural number");
  t = small_tensor();
  t.offset = -1;
  expect_refused(test::pickle_dict({t}), ErrorCode::kBadInput, "offset");
  t = small_tensor();
  t.elements = -1;
  expect_refused(test::pickle_dict({t}), ErrorCode::kBadInput, "-1 elements");
  t = small_tensor();
  t.strides = {1};
  expect_refused(test::pickle_dict({t}), ErrorCode::kBadInput, "2 sizes and 1 strides");
  t = small_tensor();
  t.key = std::string(1000, 'k');
  expect_refused(test::pickle_dict({t}), ErrorCode::kBadInput, "persistent id");
  expect_refused("\x80\x02" + std::string(600000, 'N') + ".", ErrorCode::kBadInput,
                 "more than 262144 values");
}

// A million levels would overflow the stack of a reader that recurses; here they only cost memory.
TEST(Unpickler, DeepNestingIsRefusedWithoutRecursion) {
  std::string tuples = "\x80\x02)";
  for (int i = 0; i < 200000; ++i) tuples += "\x85";
  expect_refused(tuples + ".", ErrorCode::kBadInput, "holds a tuple");
  const std::string marks = "\x80\x02" + std::string(1000000, '(') + ".";
  expect_refused(marks, ErrorCode::kBadInput, "stack is empty");
  // A dict that holds itself.
  expect_refused("\x80\x02}q\x01" + pickle_string("w") + "h\x01s.", ErrorCode::kBadInput,
                 "\"w\" is a dict");
}

TEST(Unpickler, RefusesBrokenStacks) {
  expect_refused("", ErrorCode::kBadInput, "1 bytes are wanted");
  expect_refused("\x80\x02", ErrorCode::kBadInput, "byte 2");
  expect_refused("\x80\x02.", ErrorCode::kBadInput, "stack is empty");
  expect_refused("\x80\x02t.", ErrorCode::kBadInput, "no mark");
  expect_refused("\x80\x02N\x86.", ErrorCode::kBadInput, "too short");
  expect_refused("\x80\x02N(R.", ErrorCode::kBadInput, "stack is empty");  // below the mark
  expect_refused("\x80\x02}(Nu.", ErrorCode::kBadInput, "key without a value");
  expect_refused("\x80\x02](NNu.", ErrorCode::kBadInput, "a list is extended as a dict");
  expect_refused("\x80\x02h\x05.", ErrorCode::kBadInput, "memo 5 was never set");
  expect_refused(
      "\x80\x02"
      "cos",
      ErrorCode::kBadInput, "does not end");
  expect_refused("\x80\x02NN\x93.", ErrorCode::kBadInput, "not a string");
}

TEST(Unpickler, RefusesWhatIsNoStateDict) {
  expect_refused("\x80\x02N.", ErrorCode::kBadInput, "not a dict of tensors");
  expect_refused("\x80\x02}NNs.", ErrorCode::kBadInput, "a key of the dict");
  expect_refused("\x80\x02}" + pickle_string("model") + "}s.", ErrorCode::kBadInput,
                 "\"model\" is a dict, not a tensor");
  expect_refused(test::pickle_dict({small_tensor(), small_tensor()}), ErrorCode::kBadInput,
                 "\"w\" appears twice");
  const auto nothing = unpickle("\x80\x02}.");
  ASSERT_TRUE(nothing);
  EXPECT_TRUE(nothing->empty());
}

// Every prefix of a good pickle is a bad one, and none reads outside.
TEST(Unpickler, RefusesEveryCutOffPickle) {
  const std::string whole = test::pickle_dict({small_tensor()});
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(unpickle(whole.substr(0, n))) << n;
  }
}

}  // namespace
}  // namespace tg
