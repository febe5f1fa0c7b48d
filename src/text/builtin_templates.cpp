// The chat templates that come with this program (find_builtin_template of chat_template.h).
#include "text/chat_template.h"

namespace tg {
namespace {

// tests/golden/llama31_equiv.jinja is the same text: its output was compared with that of the
// template published with Llama 3.1, and a test compares the two copies.
constexpr std::string_view kLlama3 =
    R"JINJA({#- Independent rewrite: renders the same text as the chat template of Llama 3.1 / 3.3 Instruct. -#}
{%- set kv_note = 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' -%}
{%- set fn_list = custom_tools if custom_tools is defined else (tools if tools is defined else none) -%}
{%- set in_user = tools_in_user_message if tools_in_user_message is defined else true -%}
{%- set today = date_string if date_string is defined else "26 Jul 2024" -%}
{%- set sys_text = "" -%}
{%- set turns = messages -%}
{%- if turns[0]['role'] == 'system' -%}
    {%- set sys_text = turns[0]['content'] | trim -%}
    {%- set turns = turns[1:] -%}
{%- endif -%}
{{- bos_token + "<|start_header_id|>system<|end_header_id|>\n\n" -}}
{%- if builtin_tools is defined or fn_list is not none -%}
    {{- "Environment: ipython\n" -}}
{%- endif -%}
{%- if builtin_tools is defined -%}
    {{- "Tools: " ~ (builtin_tools | reject('equalto', 'code_interpreter') | join(", ")) ~ "\n\n" -}}
{%- endif -%}
{{- "Cutting Knowledge Date: December 2023\nToday Date: " + today + "\n\n" -}}
{%- if fn_list is not none and not in_user -%}
    {{- "You have access to the following functions. To call a function, please respond with JSON for a function call." -}}
    {{- kv_note + "Do not use variables.\n\n" -}}
    {%- for f in fn_list -%}
        {{- (f | tojson(indent=4)) ~ "\n\n" -}}
    {%- endfor -%}
{%- endif -%}
{{- sys_text + "<|eot_id|>" -}}
{%- if in_user and fn_list is not none -%}
    {%- if turns | length == 0 -%}
        {{- raise_exception("Cannot put tools in the first user message when there's no first user message!") -}}
    {%- endif -%}
    {{- "<|start_header_id|>user<|end_header_id|>\n\n" -}}
    {{- "Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers the given prompt.\n\n" -}}
    {{- kv_note + "Do not use variables.\n\n" -}}
    {%- for f in fn_list -%}
        {{- (f | tojson(indent=4)) ~ "\n\n" -}}
    {%- endfor -%}
    {{- (turns[0]['content'] | trim) + "<|eot_id|>" -}}
    {%- set turns = turns[1:] -%}
{%- endif -%}
{%- for m in turns -%}
    {%- if 'tool_calls' in m -%}
        {%- if m.tool_calls | length != 1 -%}
            {{- raise_exception("This model only supports single tool-calls at once!") -}}
        {%- endif -%}
        {%- set fn = m.tool_calls[0].function -%}
        {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" -}}
        {%- if builtin_tools is defined and fn.name in builtin_tools -%}
            {{- "<|python_tag|>" + fn.name + ".call(" -}}
            {%- for k, v in fn.arguments | items -%}
                {{- k + '="' + v + '"' + ("" if loop.last else ", ") -}}
            {%- endfor -%}
            {{- ")" -}}
        {%- else -%}
            {{- '{"name": "' + fn.name + '", "parameters": ' ~ (fn.arguments | tojson) ~ "}" -}}
        {%- endif -%}
        {{- "<|eom_id|>" if builtin_tools is defined else "<|eot_id|>" -}}
    {%- elif m.role in ['tool', 'ipython'] -%}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" -}}
        {%- if m.content is mapping or m.content is iterable -%}
            {{- m.content | tojson -}}
        {%- else -%}
            {{- m.content -}}
        {%- endif -%}
        {{- "<|eot_id|>" -}}
    {%- else -%}
        {{- "<|start_header_id|>" + m['role'] + "<|end_header_id|>\n\n" + (m['content'] | trim) + "<|eot_id|>" -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" -}}
{%- endif -%}
)JINJA";

// As llama-models' ChatFormat writes a dialog. Tool calls may have Meta's form (tool_name,
// arguments) or that of the OpenAI API; a turn ends with <|eom_id|> where stop_reason says
// "end_of_message".
constexpr std::string_view kLlama3Meta = R"JINJA(
{%- macro call_text(call) -%}
    {%- set fn = call.function if call.function is defined else call -%}
    {%- set name = fn.tool_name if fn.tool_name is defined else fn.name -%}
    {%- if name == "code_interpreter" -%}
        {{- fn.arguments.code -}}
    {%- elif name in ["brave_search", "wolfram_alpha", "photogen"] -%}
        {{- name ~ '.call(query="' ~ fn.arguments.query ~ '")' -}}
    {%- else -%}
        {{- {"type": "function", "name": name, "parameters": fn.arguments}
            | tojson(ensure_ascii=true) -}}
    {%- endif -%}
{%- endmacro -%}
{%- set cut = "\ufdd1" -%}
{{- bos_token -}}
{%- for m in messages -%}
    {%- set calls = m.tool_calls if m.role == "assistant" and m.tool_calls else [] -%}
    {{- "<|start_header_id|>" ~ ("ipython" if m.role == "tool" else m.role) -}}
    {{- "<|end_header_id|>\n\n" ~ cut -}}
    {%- for call in calls[:1] -%}
        {%- set fn = call.function if call.function is defined else call -%}
        {%- if "code_interpreter" in [fn.tool_name, fn.name] -%}{{- "<|python_tag|>" -}}{%- endif -%}
    {%- endfor -%}
    {{- m.content -}}
    {%- if m.role == "user" and m.context is defined -%}
        {{- cut ~ "\n\n" ~ cut ~ m.context -}}
    {%- endif -%}
    {%- for call in calls -%}
        {{- call_text(call) -}}
    {%- endfor -%}
    {{- "<|eom_id|>" if m.role == "assistant" and m.stop_reason == "end_of_message"
        else "<|eot_id|>" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" -}}
{%- endif -%}
)JINJA";

constexpr std::string_view kChatMl = R"JINJA(
{%- for m in messages -%}
    {{- "<|im_start|>" ~ m.role ~ "\n" ~ m.content ~ "<|im_end|>\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|im_start|>assistant\n" -}}
{%- endif -%}
)JINJA";

}  // namespace

std::optional<std::string_view> find_builtin_template(std::string_view name) {
  if (name == "llama3") return kLlama3;
  if (name == "llama3-meta") return kLlama3Meta;
  if (name == "chatml") return kChatMl;
  return std::nullopt;
}

}  // namespace tg
