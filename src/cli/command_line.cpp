#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "cli/commands.h"
#include "cli/print.h"
#include "cli/ranks.h"

namespace tg {
namespace {

constexpr int kRefused = 2;

// Warnings go to stderr, one line each, so that stdout is only the answer.
void set_up_log() {
  auto log = spdlog::stderr_logger_mt("llama-tg");
  log->set_pattern("llama-tg: %l: %v");
  spdlog::set_default_logger(log);
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

int refuse(const std::string& message) {
  const LaunchedAs launched = launched_as([](const char* n) { return std::getenv(n); });
  if (launched.rank > 0) {
    // What all ranks refuse, rank 0 says; it has ended the job by then.
    std::this_thread::sleep_for(std::chrono::seconds(3));
    print_error("llama-tg: error: rank {}: {}\n", launched.rank, one_line(message));
  } else {
    print_error("llama-tg: error: {}\n", one_line(message));
  }
  return kRefused;
}

// Reads the command line and runs what it says.
int run_words(int argc, char** argv) {
  CLI::App program(
      "Llama3 TG: Llama models on any x86-64 machine, batch-invariant, with paged attention and "
      "continuous batching.\nAn error is one line on stderr and exit status 2.");
  program.name("llama-tg");
  program.set_version_flag("--version", "llama-tg " TG_VERSION);
  ChosenCommand chosen;
  add_text_demo_command(program, chosen);
  add_decode_demo_command(program, chosen);
  add_generate_command(program, chosen);
  add_chat_command(program, chosen);
  add_serve_command(program, chosen);
  add_tokenize_command(program, chosen);
  add_inspect_command(program, chosen);
  add_repack_command(program, chosen);
  add_make_random_command(program, chosen);
  add_perplexity_command(program, chosen);
  add_roofline_command(program, chosen);
  add_bench_command(program, chosen);
  add_bench_serve_command(program, chosen);
  program.allow_extras();  // of the program itself: what is no command is named below
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    return program.exit(e);
  } catch (const CLI::ParseError& e) {
    return refuse(e.what());
  }
  if (!chosen) {
    const std::vector<std::string> words = program.remaining();
    return refuse(words.empty()
                      ? "no command given; llama-tg --help lists them"
                      : fmt::format("'{}' is no command; llama-tg --help lists them", words[0]));
  }
  try {
    const Result<int> status = chosen();
    if (!status) return refuse(status.error().text());
    return *status;
  } catch (const std::exception& e) {  // memory, for one: nothing of ours throws
    // Said here: a rank that goes away ends the job, and this process with it.
    print_error("llama-tg: error: {}\n", one_line(e.what()));
    return 1;
  }
}

// An answer that did not arrive is no success: a full disk, a closed stdout.
int check_output(int status) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout) return status;
  return refuse(fmt::format("stdout cannot be written: {}", std::strerror(errno)));
}

// A closed one would be the number of the next file or socket, and what is printed would go there.
void hold_standard_streams() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
    // Writing to it fails as it would have. The lowest free number is this one.
    if (::open("/dev/null", O_RDONLY) < 0) return;
  }
}

}  // namespace

int run_command_line(int argc, char** argv) {
  hold_standard_streams();
  // A file beyond `ulimit -f` is an error of the write, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    set_up_log();
    return check_output(run_words(argc, argv));
  } catch (const std::exception& e) {
    print_error("llama-tg: error: {}\n", one_line(e.what()));
    return 1;
  }
}

}  // namespace tg
