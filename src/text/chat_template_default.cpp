// The built-in chat template: our own wording of the Nemotron-3 Nano conversation format, for
// checkpoints that carry none. The tool instructions are protocol text that the models were trained
// with, to the letter.
#include <nemo/text/chat_template.hpp>

namespace nemo::text {

std::string_view ChatTemplate::default_source() noexcept {
  static constexpr std::string_view kSource = R"jinja(
{%- set think = enable_thinking | default(true) %}
{%- set shorten = truncate_history_thinking | default(true) %}
{%- macro value(v) -%}
  {%- if v is mapping or (v is sequence and v is not string) %}{{ v | tojson }}{% else %}{{ v | string }}{% endif %}
{%- endmacro %}
{%- macro others(object, known) -%}
  {%- if object is mapping %}
    {%- for key, v in object | items if key not in known %}{{ '\n<' ~ key ~ '>' ~ value(v) ~ '</' ~ key ~ '>' }}{% endfor %}
  {%- endif %}
{%- endmacro %}
{%- set has_system = messages | length > 0 and messages[0].role == 'system' %}
{%- set system = messages[0].content if has_system else '' %}
{%- set turns = messages[1:] if has_system else messages %}
{%- set seen = namespace(user=-1) %}
{%- for m in turns %}{% if m.role == 'user' %}{% set seen.user = loop.index0 %}{% endif %}{% endfor %}
{{- '<|im_start|>system\n' ~ system }}
{%- if tools is defined and tools is iterable and tools | length > 0 %}
  {{- ('\n\n' if system | length > 0 else '') ~ '# Tools\n\nYou have access to the following functions:\n\n<tools>' }}
  {%- for entry in tools %}
    {%- set f = entry.function if entry.function is defined else entry %}
    {{- '\n<function>\n<name>' ~ f.name ~ '</name>' }}
    {%- if f.description is defined %}{{ '\n<description>' ~ f.description | trim ~ '</description>' }}{% endif %}
    {{- '\n<parameters>' }}
    {%- set schema = f.parameters if f.parameters is defined else {} %}
    {%- if schema is mapping and schema.properties is mapping %}
      {%- for name, p in schema.properties | items %}
        {{- '\n<parameter>\n<name>' ~ name ~ '</name>' }}
        {%- if p.type is defined %}{{ '\n<type>' ~ p.type | string ~ '</type>' }}{% endif %}
        {%- if p.description is defined %}{{ '\n<description>' ~ p.description | trim ~ '</description>' }}{% endif %}
        {%- if p.enum is defined %}{{ '\n<enum>' ~ p.enum | tojson ~ '</enum>' }}{% endif %}
        {{- others(p, ['name', 'type', 'description', 'enum']) ~ '\n</parameter>' }}
      {%- endfor %}
    {%- endif %}
    {{- others(schema, ['type', 'properties', 'required']) }}
    {%- if schema.required is defined %}{{ '\n<required>' ~ schema.required | tojson ~ '</required>' }}{% endif %}
    {{- '\n</parameters>' ~ others(f, ['type', 'name', 'description', 'parameters']) ~ '\n</function>' }}
  {%- endfor %}
  {{- '\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within <tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after\n- If there is no function call available, answer the question like normal with your current knowledge and do not tell the user about function calls\n</IMPORTANT>' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- for m in turns %}
  {%- if m.role == 'assistant' %}
    {%- set old = shorten and loop.index0 < seen.user %}
    {%- set text = m.content | default('', true) %}
    {%- if m.reasoning_content is string and m.reasoning_content | trim %}
      {%- set text = '<think>\n' ~ m.reasoning_content ~ '\n</think>\n' ~ text %}
    {%- elif text is string and '<think>' not in text and '</think>' not in text %}
      {%- set text = '<think></think>' ~ text %}
    {%- endif %}
    {{- '<|im_start|>assistant\n' }}
    {%- if m.tool_calls is defined and m.tool_calls %}
      {%- if text is not string or not text | trim %}
        {{- '<think></think>' }}
      {%- elif not old %}
        {{- text | trim ~ '\n' }}
      {%- else %}
        {%- set text = text.split('</think>')[-1] if '</think>' in text else text.split('<think>')[0] %}
        {{- '<think></think>' ~ text | trim ~ '\n' }}
      {%- endif %}
      {%- for entry in m.tool_calls %}
        {%- set call = entry.function if entry.function is defined else entry %}
        {{- '<tool_call>\n<function=' ~ call.name ~ '>\n' }}
        {%- if call.arguments is defined %}
          {%- for key, v in call.arguments | items %}{{ '<parameter=' ~ key ~ '>\n' ~ value(v) ~ '\n</parameter>\n' }}{% endfor %}
        {%- endif %}
        {{- '</function>\n</tool_call>\n' }}
      {%- endfor %}
    {%- else %}
      {%- set text = text | string %}
      {%- if old and '<think>' in text and '</think>' in text %}
        {%- set text = '<think></think>' ~ text.split('</think>')[-1] %}
      {%- endif %}
      {{- text | trim }}
    {%- endif %}
    {{- '<|im_end|>\n' }}
  {%- elif m.role == 'tool' %}
    {%- if loop.first or loop.previtem.role != 'tool' %}{{ '<|im_start|>user\n' }}{% endif %}
    {{- '<tool_response>\n' ~ m.content ~ '\n</tool_response>\n' }}
    {%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
  {%- else %}
    {{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content | string ~ '<|im_end|>\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n' ~ ('<think>\n' if think else '<think></think>') }}
{%- endif %}
)jinja";
  return kSource;
}

}  // namespace nemo::text
