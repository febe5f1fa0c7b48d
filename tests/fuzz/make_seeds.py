#!/usr/bin/env python3
"""Writes a small seed corpus for each fuzz target: OUT/fuzz_NAME/*.

Standard library only.  Usage: make_seeds.py OUT_DIR
The seeds are the field cases and golden files where they are small, and small files of the same
form where they are not (a fuzzer learns little from megabytes of weights).
"""
import json
import struct
import sys
import zipfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "tools"))
import make_ckpt_cases as cases  # noqa: E402

GOLDEN = TESTS / "golden"
SMALL = {
    "norm.weight": ("F32", (3,), cases.f32([1, 2, 3])),
    "output.weight": ("BF16", (2, 3), cases.bf16([1, 2, 3, 4, 5, 6])),
    "tok_embeddings.weight": ("F16", (1, 2), cases.f16([1, 2])),
}


def zip_seeds():
    for style in ("torch", "torch64", "plain"):
        yield cases.pth_bytes(SMALL, style=style)
    yield cases.pth_bytes(SMALL, byteorder="big")
    yield cases.pth_bytes(SMALL, byteorder=None, root="my model (1)")
    whole = cases.pth_bytes(SMALL)
    yield whole[: len(whole) // 2]
    yield b"version https://git-lfs.example/spec/v1\n"
    yield b"<!DOCTYPE html><html></html>"


def unpickler_seeds():
    yield cases.state_dict_pickle(SMALL)
    path = GOLDEN / "tiny" / "meta_mp8" / "consolidated.00.pth"
    with zipfile.ZipFile(path) as archive:
        yield archive.read("consolidated.00/data.pkl")
    # Protocol 4 spellings: frame, short strings, memo by count, globals from the stack.
    short = lambda s: b"\x8c" + bytes([len(s)]) + s + b"\x94"
    yield (b"\x80\x04\x95" + struct.pack("<Q", 100) + b"}\x94" + short(b"w") + short(b"torch._utils")
           + short(b"_rebuild_tensor_v2") + b"\x93\x94((" + short(b"storage") + short(b"torch")
           + short(b"FloatStorage") + b"\x93\x94" + short(b"0") + short(b"cpu")
           + b"K\x06t\x94QK\x00K\x02K\x03\x86\x94K\x03K\x01\x86\x94\x89" + short(b"collections")
           + short(b"OrderedDict") + b"\x93\x94)R\x94t\x94R\x94s.")
    yield b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR."


def safetensors_seeds(folder):
    for path in sorted((folder / "c37_safetensors").glob("*.safetensors")):
        yield path.read_bytes()
    yield cases.st_bytes(SMALL)


def config_seeds():
    for path in sorted((GOLDEN / "tiny").glob("*/*.json")):
        if path.name in ("params.json", "config.json", "generation_config.json"):
            yield path.read_bytes()
    for rope in ({"type": "linear", "factor": 2.0}, {"rope_type": "yarn", "factor": 4.0}):
        yield json.dumps(cases.config(320, rope_scaling=rope)).encode()
    yield json.dumps(cases.config(320, rope_parameters={"rope_theta": 1e4, "rope_type": "default"})).encode()


def gguf_string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_seeds():
    """A header with one value of most kinds and two tensors; a split, and a cut-off file."""
    u32 = lambda key, n: gguf_string(key) + struct.pack("<II", 4, n)
    f32 = lambda key, x: gguf_string(key) + struct.pack("<If", 6, x)
    text = lambda key, s: gguf_string(key) + struct.pack("<I", 8) + gguf_string(s)
    texts = lambda key, many: (gguf_string(key) + struct.pack("<IIQ", 9, 8, len(many))
                               + b"".join(gguf_string(s) for s in many))
    values = [text("general.architecture", "llama"), u32("general.alignment", 32),
              u32("llama.block_count", 1), u32("llama.embedding_length", 32),
              u32("llama.feed_forward_length", 32), u32("llama.attention.head_count", 2),
              u32("llama.attention.head_count_kv", 1), u32("llama.context_length", 64),
              f32("llama.attention.layer_norm_rms_epsilon", 1e-5), f32("llama.rope.freq_base", 1e4),
              text("tokenizer.ggml.model", "gpt2"), texts("tokenizer.ggml.tokens", ["a", "b", "ab"]),
              texts("tokenizer.ggml.merges", ["a b"]),
              gguf_string("tokenizer.ggml.token_type") + struct.pack("<IIQiii", 9, 5, 3, 1, 1, 3),
              gguf_string("tokenizer.ggml.add_bos_token") + struct.pack("<I?", 7, True)]
    tensors = (gguf_string("token_embd.weight") + struct.pack("<IQQIQ", 2, 32, 3, 8, 0)
               + gguf_string("output_norm.weight") + struct.pack("<IQIQ", 1, 32, 0, 128))
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, len(values)) + b"".join(values) + tensors
    whole = head + bytes(-len(head) % 32) + bytes(128 + 128)
    yield whole
    yield whole[:200]
    yield b"GGUF" + struct.pack("<IQQ", 3, 0, 0)


def jinja_seeds():
    for source, text in json.loads((GOLDEN / "jinja.json").read_text())["cases"]:
        if text is not None and len(source) > 60:
            yield source.encode()


def tokenizer_json_seeds():
    whole = json.loads((GOLDEN / "tiny" / "hf" / "tokenizer.json").read_text())
    model = dict(whole["model"])
    vocab = sorted(model["vocab"].items(), key=lambda item: item[1])
    model["vocab"] = dict(vocab[:300])
    kept = set(model["vocab"])
    parts = lambda merge: merge.split(" ") if isinstance(merge, str) else merge
    model["merges"] = [m for m in model["merges"]
                       if all(p in kept for p in parts(m)) and "".join(parts(m)) in kept]
    small = dict(whole, model=model, added_tokens=whole["added_tokens"][:3])
    yield json.dumps(small, ensure_ascii=False).encode()
    yield json.dumps(dict(small, added_tokens=[], model=dict(model, vocab={"a": 0}, merges=[]))).encode()


def main():
    out = Path(sys.argv[1])
    sys.argv = [sys.argv[0], str(out / "cases")]
    cases.main()
    for name, seeds in {
            "fuzz_zip": zip_seeds(), "fuzz_unpickler": unpickler_seeds(), "fuzz_config": config_seeds(),
            "fuzz_safetensors": safetensors_seeds(out / "cases"), "fuzz_gguf": gguf_seeds(),
            "fuzz_tokenizer_json": tokenizer_json_seeds(), "fuzz_jinja": jinja_seeds()}.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds):
            (folder / ("seed-%02d" % i)).write_bytes(seed)


if __name__ == "__main__":
    main()
