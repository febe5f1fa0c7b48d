// What: the sub-commands. Each adds its options to the program's command line and, when chosen,
//   runs and gives the exit status; an error is what main() prints as one line with status 2.
// Who owns: the App owns what the options point to, through the shared state that each command
// keeps
//   in its callback. Thread: the main thread.
#pragma once

#include <functional>

#include "base/result.h"

namespace CLI {
class App;  // not the header: it takes seconds to compile
}

namespace tg {

// What to do once the command line was read; empty until a command was chosen.
using ChosenCommand = std::function<Result<int>()>;

void add_text_demo_command(CLI::App& program, ChosenCommand& chosen);
void add_decode_demo_command(CLI::App& program, ChosenCommand& chosen);
void add_generate_command(CLI::App& program, ChosenCommand& chosen);
void add_chat_command(CLI::App& program, ChosenCommand& chosen);
void add_serve_command(CLI::App& program, ChosenCommand& chosen);
void add_tokenize_command(CLI::App& program, ChosenCommand& chosen);
void add_inspect_command(CLI::App& program, ChosenCommand& chosen);
void add_repack_command(CLI::App& program, ChosenCommand& chosen);
void add_make_random_command(CLI::App& program, ChosenCommand& chosen);
void add_bench_command(CLI::App& program, ChosenCommand& chosen);
void add_bench_serve_command(CLI::App& program, ChosenCommand& chosen);
void add_perplexity_command(CLI::App& program, ChosenCommand& chosen);
void add_roofline_command(CLI::App& program, ChosenCommand& chosen);

// The whole program: reads the command line, runs the command. Exit status 0; 2 with one line on
// stderr when something was refused; 1 for a mistake of ours.
int run_command_line(int argc, char** argv);

}  // namespace tg
