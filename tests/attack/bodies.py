"""Bodies that are no JSON, JSON that is odd, and names of models spelled in every way."""

import json

from tests.attack.attempt import Craft, Sent


def spelled(craft: Craft, text: str) -> str:
    """A JSON string that means the same, with some characters escaped."""
    return '"' + "".join(f"\\u{ord(one):04x}" if craft.chance(0.3) else one for one in text) + '"'


def names_of_models(craft: Craft) -> Sent:
    """Several `model` keys in every order and spelling; the key in the path decides, or none does."""
    one = craft.pick((
        '"{model}"', '"other"', "1", "null", "true", "[]", '["{model}"]', '{"model":"{model}"}', "1e400", '""',
        '"{model}\\u0000"',
        '"\\ud800"', '"{model} "', '" {model}"', '"{MODEL}"', '"{model}/../x"', "-0", "NaN", '"\\/{model}"',
        '"{model}\\n"', '"x' + "y" * 3000 + '"',
    ))  # fmt: skip
    parts = [f'"max_tokens":1,"prompt":"hi","user":"{craft.marker}"']
    for _ in range(craft.random.randint(1, 4)):
        name = spelled(craft, craft.pick(("model", "model", "model", "Model", "MODEL", "model ", "model\x00"))).replace(
            "\x00", "\\u0000"
        )
        model = craft.pick(craft.aim.models)
        value = craft.pick((one, json.dumps(model), spelled(craft, model), '"other"'))
        parts.append(f"{name}:{value.replace('{model}', model).replace('{MODEL}', model.upper())}")
    craft.random.shuffle(parts)
    space = craft.pick(("", " ", "\t", "\r\n", "\u00a0", "/**/", "\x0c"))
    return Sent.of(craft.request(body=("{" + ("," + space).join(parts) + "}").encode()))


def broken_json(craft: Craft) -> Sent:
    """Cut, nested, mistyped, mis-encoded."""
    good = craft.body()
    place = craft.random.randint(0, len(good))
    depth = craft.pick((5, 18, 19, 20, 21, 100, 1000, 50_000))
    nested = craft.pick((b"[", b'{"a":')) * depth
    body = craft.pick((
        good[:place], good[:place] + craft.noise() + good[place:], good[:place] + good, good[place:], good + good,
        good + b"}",
        nested, b'{"x":' + nested + b',"model":"%s"}' % craft.aim.models[0].encode(), b"[" + good + b"]",
        json.dumps(good.decode()).encode(),
        b'{"model":"%s","x":%s}' % (craft.aim.models[0].encode(), b"[" * depth + b"]" * depth),
        b"\xef\xbb\xbf" + good, good.decode().encode("utf-16"),
        good.decode().encode("utf-32"), good.replace(b'"', b"'"), good.replace(b":", b"="), b"", b"null", b"0", b'""',
        b"[]", b"{}", b"\x00" * 50,
        b"model=%s&prompt=x" % craft.aim.models[0].encode(), good.replace(b"hi", b"\xff\xfe"), good.replace(b"hi",
        b"\\ud800"),
        good.replace(b"hi", b"\x00"), good.replace(b"hi", b"\n"), good.replace(b"hi", b"\\x"), good.replace(b"1",
        b"1" * 5000), b"[" * 200_000,
        good.replace(b"{", b"{,", 1), b'{"__proto__":{"model":"x"},' + good[1:],
        b"--x\r\nContent-Disposition: form-data\r\n\r\n" + good,
        b"\x1f\x8b\x08\x00" + craft.noise(), b"<?xml version='1.0'?><model>x</model>", b" " * 60_000 + good,
        good + b" " * 60_000,
    ))  # fmt: skip
    return Sent.of(craft.request(body=body))


# Fields that a model's server reads, with values of other kinds. All of this is JSON and routable.
FIELDS = (
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n", "seed", "stop", "stream",
    "stream_options", "logit_bias",
    "logprobs", "top_logprobs", "prompt_logprobs", "echo", "best_of", "presence_penalty", "messages", "prompt",
    "input", "suffix", "user",
    "tools", "tool_choice", "response_format", "structured_outputs", "guided_json", "guided_regex", "stop_token_ids",
    "bad_words",
    "allowed_token_ids", "min_tokens", "min_p", "truncate_prompt_tokens", "priority", "request_id", "chat_template",
    "chat_template_kwargs",
    "add_generation_prompt", "continue_final_message", "documents", "mm_processor_kwargs", "kv_transfer_params",
    "vllm_xargs", "cache_salt",
    "prompt_embeds", "dimensions", "encoding_format", "skip_special_tokens", "ignore_eos", "logits_processors",
    "return_token_ids",
    "previous_response_id", "instructions", "reasoning", "store", "background", "text", "include", "metadata",
    "modalities",
)  # fmt: skip
VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 1e308, -1e308, 0.1, "", "x", "\0",
    "x" * 3000, "\ud800", [], [[]], {}, {"a": 1},
    [None], [1], [-1], [2**40], ["x"], [""], [{}], [{"role": "user"}], [{"role": "user", "content": None}],
    [{"role": "user", "content": 1}],
    [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [{"type": "image_url",
    "image_url": {"url": "data:image/png;base64,x"}}]}],
    [{"role": "x" * 100, "content": "x"}], [{"role": "tool", "content": "x"}], [{"role": "assistant",
    "tool_calls": [{}]}],
    {"type": "json_object"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "x",
    "schema": {"type": 1}}},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}, {"regex": "("},
    {"regex": "(a+)+$"}, {"json": "{"}, {"grammar": "::"},
    {"choice": []}, {"-1": 1}, {"x": "y"}, {"999999999": 100}, {"include_usage": 1}, "{{ 1 // 0 }}",
    "{% for i in range(10**9) %}", "(", "auto", "required",
    [{"type": "function", "function": {"name": "x", "parameters": {"type": "object"}}}], [{"type": "function"}], [0,
    1, 2**31], [[1], ["x"]], "base64", "float",
)  # fmt: skip


def odd_values(craft: Craft) -> Sent:
    """JSON in order, with values that a model's server may not expect."""
    more = {craft.pick(FIELDS): craft.pick(VALUES) for _ in range(craft.random.randint(1, 3))}
    body = craft.body(**more)
    raw = craft.pick((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0.0", b"0" * 50 + b"1", b"1" * 5000))
    if craft.chance(0.1):
        body = body[:-1] + b',"%s":%s}' % (craft.pick(FIELDS).encode(), raw)
    return Sent.of(craft.request(body=body))


MAKERS = ((6, names_of_models), (5, broken_json), (4, odd_values))
