# The commands of the project; `make help` lists them. Everything real is in CMake and tools/.
BUILD := build/release
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
DEMO_PROMPTS := demo/demo.json

.DEFAULT_GOAL := all
.PHONY: all help packages program model demo test test-page clients lm-eval bench lint sanitize install clean

all: program

help:
	@echo 'make           build the program and leave it as ./llama-tg'
	@echo 'make demo      everything from nothing to text: packages, build, small model, answers'
	@echo 'make model     fetch the small model; its path is the last line'
	@echo 'make test      build and run all tests'
	@echo 'make test-page the page of the server in headless Chromium (installs it, and playwright-core from npm)'
	@echo 'make clients   the server beside the official OpenAI client, LangChain and schemathesis (own virtual environment)'
	@echo 'make lm-eval   lm-evaluation-harness on the server and on transformers: the same scores (own virtual environment)'
	@echo 'make bench     speed beside llama.cpp and OpenVINO on the same files (own virtual environments)'
	@echo 'make lint      formatting, clang-tidy, house rules'
	@echo 'make sanitize  reader tests under ASan and UBSan, fuzz targets for $(FUZZ_SECONDS) s each'
	@echo 'make install   build and copy the program to $$(PREFIX)/bin'
	@echo 'SKIP_PACKAGES=1 leaves the system packages alone'

# packages-GROUPS: see tools/install_packages.sh
packages: packages-build
packages-%:
	@[ -n "$(SKIP_PACKAGES)" ] || tools/install_packages.sh $(subst +, ,$*)

program: packages-build
	@mkdir -p build
	@cmake --preset release -DTG_TESTS=OFF >$(BUILD).log 2>&1 || { cat $(BUILD).log >&2; exit 1; }
	@cmake --build $(BUILD) --target llama-tg -j $(JOBS) --
	@ln -sf $(BUILD)/src/llama-tg llama-tg

model: packages-build
	@tools/fetch_model.sh

demo: program
	@tools/fetch_model.sh >/dev/null
	./llama-tg text-demo --model models/SmolLM2-135M-Instruct.Q4_1.gguf --input-prompts \
	  $(DEMO_PROMPTS) --batch-size 4 --max-generated-tokens 96 --stop-at-eos 1

test: packages-build+test
	@tools/fetch_model.sh >/dev/null
	@tools/fetch_model.sh tokenizer >/dev/null
	@mkdir -p build
	@cmake --preset release -DTG_TESTS=ON >$(BUILD).log 2>&1 || { cat $(BUILD).log >&2; exit 1; }
	cmake --build $(BUILD) -j $(JOBS)
	@ln -sf $(BUILD)/src/llama-tg llama-tg
	ctest --test-dir $(BUILD) -j $(JOBS) --output-on-failure

test-page: program
	@tools/fetch_model.sh >/dev/null
	tests/page/run.sh

clients: program
	@tools/fetch_model.sh >/dev/null
	tests/clients/run.sh

lm-eval: program
	@tools/fetch_model.sh >/dev/null
	tests/clients/lm_eval/run.sh

bench: program
	bench/peers/run.sh $(BENCH_OPTIONS)

lint: packages-build+test+lint
	tools/lint.sh

FUZZ_SECONDS ?= 20
SANITIZE_TESTS ?= tensor checkpoint text
sanitize: packages-build+test+lint
	tools/sanitize.sh $(FUZZ_SECONDS) "$(SANITIZE_TESTS)"

install: program
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf build llama-tg
