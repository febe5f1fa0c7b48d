#!/usr/bin/env python3
"""Makes a Hugging Face directory of a GGUF file of SmolLM2, with nothing of llama-tg: weights as transformers
dequantises them, then rounded to bf16 as llama-tg holds them (docs/decisions/, number 4), and the tokenizer out
of the file's vocabulary and merges.

    make_model.py MODEL.gguf DIRECTORY [--dtype float32]
"""
import argparse
import pathlib

import gguf
import tokenizers
import torch
import transformers

CONTROL = 3  # the kind of token that GGUF gives <|im_start|> and its like


def make_tokenizer(path):
    fields = gguf.GGUFReader(path).fields
    texts = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    made = tokenizers.Tokenizer(tokenizers.models.BPE({text: i for i, text in enumerate(texts)}, merges))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([text for text, kind in zip(texts, kinds) if kind == CONTROL])
    eos = texts[fields["tokenizer.ggml.eos_token_id"].contents()]
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=eos, pad_token=eos)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("directory")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    options = parser.parse_args()
    path = options.model
    make_tokenizer(path).save_pretrained(options.directory)
    read = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # A model that was read from GGUF counts as quantised and cannot be saved; its copy can.
    config = transformers.LlamaConfig(**{
        key: value for key, value in read.config.to_dict().items() if key not in ("quantization_config", "dtype")})
    model = transformers.LlamaForCausalLM(config).to(torch.float32)
    model.load_state_dict(read.state_dict())
    model.to(getattr(torch, options.dtype)).save_pretrained(options.directory)


if __name__ == "__main__":
    main()
