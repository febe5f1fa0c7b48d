#include "cli/commands.h"

int main(int argc, char** argv) { return tg::run_command_line(argc, argv); }
