# Copyright (C) the ngx_http_llm_budget_module authors
#
# What scripts/bench sends and answers: chat requests of a size, the answers
# of a provider, and streams of them.  The same bytes at each run.

import json
import random

from rig import INPUT_TOKENS, MODEL, OUTPUT_TOKENS


WORDS = """the of and to in is that it for was on are as with his they at be
this from have or by one had not but what all were when we there can an your
which their said if do will each about how up out them then she many some so
these would other into has more her two like him see time could no make than
first been its who now people my made over did down only way find use may
water long little very after words called just where most know model answer
budget request function returns value example therefore because between
""".split()


def prose(size, seed=7):
    """Chat text: words, lines, some quotes, code and other scripts."""

    rnd = random.Random(seed)
    out = []
    n = 0

    while n < size:
        words = [rnd.choice(WORDS) for i in range(rnd.randint(6, 16))]
        kind = rnd.random()

        if kind < 0.05:
            text = '"%s"' % " ".join(words)

        elif kind < 0.10:
            text = "    if (%s) {\n        return %d;\n    }\n" % (
                " == ".join(words[:2]), rnd.randint(0, 9999))

        elif kind < 0.12:
            text = "caf\u00e9 \u2014 \u4f60\u597d \U0001f600 " \
                   + " ".join(words)

        else:
            text = " ".join(words).capitalize() + "."

        text += "\n\n" if rnd.random() < 0.15 else " "
        out.append(text)
        n += len(text)

    return "".join(out)[:size]


def request(size, stream=False):
    """A chat request of about so many bytes: turns of 2 KB at most."""

    body = {"model": MODEL, "max_tokens": 256, "temperature": 0.7}

    if stream:
        body["stream"] = True

    body["messages"] = [{"role": "system",
                         "content": "You are a helpful assistant."}]

    text = prose(max(size - 250, 16))
    step = 2000

    for i in range(0, len(text), step):
        body["messages"].append({
            "role": ("user", "assistant")[i // step % 2],
            "content": text[i:i + step]})

    return json.dumps(body, ensure_ascii=False).encode()


def usage():
    return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0}}


def answer():
    body = json.dumps({
        "id": "chatcmpl-bench", "object": "chat.completion",
        "created": 1790000000, "model": MODEL,
        "choices": [{"index": 0, "message": {
            "role": "assistant", "content": prose(240), "refusal": None},
            "logprobs": None, "finish_reason": "stop"}],
        "usage": usage(), "service_tier": "default",
        "system_fingerprint": "fp_bench"}).encode()

    head = ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            "Content-Length: %d\r\n\r\n" % len(body)).encode()

    return [head + body]


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**members):
    body = {"id": "chatcmpl-bench", "object": "chat.completion.chunk",
            "created": 1790000000, "model": MODEL,
            "service_tier": "default", "system_fingerprint": "fp_bench"}
    body.update(members)

    return b"data: %s\n\n" % json.dumps(body).encode()


def events(n):
    """The events of a stream with n deltas."""

    words = prose(8 * n).split(" ")
    out = []

    for i in range(n):
        delta = {"content": words[i % len(words)] + " "}

        if i == 0:
            delta["role"] = "assistant"

        out.append(event(choices=[{
            "index": 0, "delta": delta, "logprobs": None,
            "finish_reason": None}], usage=None))

    out.append(event(choices=[{"index": 0, "delta": {}, "logprobs": None,
                               "finish_reason": "stop"}], usage=None))
    out.append(event(choices=[], usage=usage()))
    out.append(b"data: [DONE]\n\n")

    return out


def stream(n):
    """The answer, in pieces: head, each event, the end."""

    pieces = [chunk(data) for data in events(n)]

    pieces[0] = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                 b"Cache-Control: no-cache\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n" + pieces[0])
    pieces[-1] += b"0\r\n\r\n"

    return pieces
