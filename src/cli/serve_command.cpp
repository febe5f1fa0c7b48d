// llama-tg serve: the options of the OpenAI-compatible server (serve_run.h runs it).
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/serve_run.h"

namespace tg {

void add_serve_command(CLI::App& program, ChosenCommand& chosen) {
  auto o = std::make_shared<ServeOptions>();
  CLI::App* app = program.add_subcommand(
      "serve", "an OpenAI-compatible HTTP server; SIGTERM ends it in good order");
  add_checkpoint_options(*app, o->model);
  add_run_options(*app, o->model);
  o->sampling.params.temperature = 1.0;
  add_sampling_options(*app, o->sampling);
  add_speculative_options(*app, o->speculative);
  app->add_option("--host", o->host, "address to listen on")->capture_default_str();
  add_whole_number(*app, "--port", "0: a free one", 0, 65535, o->port);
  app->add_option("--api-key", o->api_keys,
                  "a key that requests must have, also several; default: $LLAMA_TG_API_KEY");
  app->add_option("--served-model-name", o->served_model_name,
                  "what requests call the model; default: the name of its folder or file");
  add_whole_number(*app, "--max-users,--max_users", "answers at once; others wait", 1, 256,
                   o->context.max_users);
  add_whole_number(*app, "--max-seq-len,--max_seq_len",
                   "most tokens of prompt and answer; default: the model's context", 1, kMostCount,
                   o->context.max_seq_len);
  add_whole_number(*app, "--max-waiting", "answers that wait; more get status 429", 1, 1 << 20,
                   o->max_waiting);
  add_whole_number(*app, "--prefill-chunk", "prompt tokens of one request in a step", 1, kMostCount,
                   o->prefill_chunk);
  add_whole_number(*app, "--busy-prefill-chunk",
                   "prompt tokens of all requests in a step beside answers that stream: what these "
                   "wait for between two tokens",
                   1, kMostCount, o->busy_prefill_chunk);
  add_fraction(
      *app, "--itl-goal-ms",
      "what answers that stream shall wait for at most between two tokens: fewer run at once "
      "and prompts take longer beside them; 0: no goal",
      0.0, 3.6e6, o->itl_goal_ms);
  add_whole_number(*app, "--max-batched-tokens", "tokens of a step; default: 512 or --max-users", 1,
                   1 << 20, o->context.max_batched_tokens);
  app->add_option("--page-params,--page_params", o->context.page_params,
                  R"(JSON: {"page_block_size": 16|32|64, "page_max_num_blocks": N}; default: what )"
                  "the users fill in common use, and half of the free memory at most");
  app->add_flag("--no-prefix-cache", o->no_prefix_cache,
                "compute every prompt from its beginning, also where its pages are there");
  CLI::Option* certificate = app->add_option("--tls-cert", o->tls_certificate, "PEM file: HTTPS");
  CLI::Option* key = app->add_option("--tls-key", o->tls_key, "PEM file, of --tls-cert");
  certificate->needs(key);
  key->needs(certificate);
  app->add_option("--cors-origin", o->cors_origins,
                  "an origin whose pages may ask, also several; * for all");
  add_whole_number(*app, "--max-body-mb", "largest request", 1, 1024, o->max_body_mb);
  add_fraction(*app, "--grace-s", "seconds that answers in progress have at the end", 0.0, 86400.0,
               o->grace_s);
  app->add_option("--access-log", o->access_log,
                  "one line of JSON per request to this file, - for stdout");
  app->callback([o, &chosen] { chosen = [o] { return run_serve(*o); }; });
}

}  // namespace tg
