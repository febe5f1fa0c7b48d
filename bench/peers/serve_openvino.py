"""OpenVINO GenAI as a process that compare.py asks for measurements.

It reads the GGUF file itself (LLMPipeline). That takes Q8_0, of our formats, and needs a vocabulary in the
file. Decode is the time after the first token over the steps; a prompt is the time to the first token.
"""
import argparse
import time

import numpy as np
import openvino as ov
import openvino_genai as genai

import serve


class OpenVino:
    def __init__(self, model, threads, vocab):
        self.pipeline = genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads)
        self.vocab = vocab
        self.prompts = 0

    def generate(self, seeds, length, count):
        ids = np.array([serve.random_ids(seed, length, self.vocab) for seed in seeds], dtype=np.int64)
        config = genai.GenerationConfig()
        config.max_new_tokens = count
        config.ignore_eos = True
        config.do_sample = False
        config.set_eos_token_id(self.vocab - 1)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        result = self.pipeline.generate(inputs, config)
        assert all(len(tokens) == count for tokens in result.tokens)
        metrics = result.perf_metrics
        first = metrics.get_ttft().mean / 1e3
        return first, metrics.get_generate_duration().mean / 1e3 - first

    def decode(self, users, context, steps):
        # The same prompts each time: what it remembers of them shortens what is not timed.
        _, rest = self.generate(range(users), context, serve.WARM_UP + steps + 1)
        return [rest / (serve.WARM_UP + steps)] * steps

    def prefill(self, tokens):
        self.prompts += 1
        first, _ = self.generate([1000 + self.prompts], tokens, 1)
        return first


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--vocab", type=int, required=True)
    args = parser.parse_args()
    answers = serve.silence_stdout()
    begin = time.perf_counter()
    engine = OpenVino(args.model, args.threads, args.vocab)
    engine.generate([999], 16, 4)  # the first use of its buffers
    serve.serve(answers, {"engine": "openvino", "version": genai.__version__,
                          "load_s": time.perf_counter() - begin}, engine.decode, engine.prefill)


main()
