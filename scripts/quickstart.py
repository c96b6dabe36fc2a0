#!/usr/bin/env python3

# Copyright (C) the ngx_http_llm_budget_module authors
#
# The story that scripts/quickstart tells: calls through nginx, what each cost
# and what it left, and whether provider, ledger and usage log agree.

import argparse
import http.client
import json
import os
import sys
import time


ALICE = "sk-demo-alice"
BOB = "sk-demo-bob"

# calls of alice before a refusal, at most: a budget smaller than those

CALLS_MAX = 20

PROMPT = ("You are the clerk of a small harbor town. "
          "Write the log of a quiet day, ship by ship.")


class Failed(Exception):
    pass


def money(nusd):
    return "%d.%09d" % divmod(nusd, 1000000000)


class Call:
    """An answer: status, headers, body, and its line of the usage log."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body
        self.line = None

    def json(self):
        try:
            return json.loads(self.body)

        except ValueError:
            raise Failed("an answer is not JSON: %s" % self.body[:200])


class Story:
    def __init__(self, args):
        self.args = args
        self.made = 0
        self.verdicts = set()

    # calls

    def ask(self, port, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", port,
                                                timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()

            return Call(answer.status, answer.headers,
                        answer.read().decode("utf-8", "replace"))

        except (OSError, http.client.HTTPException) as error:
            raise Failed("%s %s: %s" % (method, path, error))

        finally:
            connection.close()

    def get(self, port, path):
        call = self.ask(port, "GET", path)

        if call.status != 200:
            raise Failed("GET %s: status %d" % (path, call.status))

        return call.json()

    def post(self, key, path, body, out=None):
        headers = {"Content-Type": "application/json"}

        if path.startswith("/v1/messages"):
            headers["x-api-key"] = key
            headers["anthropic-version"] = "2023-06-01"

        else:
            headers["Authorization"] = "Bearer " + key

        if out is not None and not self.args.real:
            headers["X-Stand-In"] = "out=%d" % out

        call = self.ask(self.args.port, "POST", path, json.dumps(body),
                        headers)
        self.made += 1
        call.line = self.usage_line()

        return call

    def usage_lines(self):
        try:
            with open(os.path.join(self.args.folder, "usage.log"),
                      encoding="utf-8") as file:
                return [json.loads(line) for line in file
                        if line.endswith("\n")]

        except FileNotFoundError:
            return []

    def usage_line(self):
        """The line of the call just made; it is written when all is over."""

        for i in range(500):
            lines = self.usage_lines()

            if len(lines) >= self.made:
                return lines[-1]

            time.sleep(0.01)

        raise Failed("no line in the usage log")

    def ledger(self):
        return self.get(self.args.port, "/llm/api/ledger")

    def left(self, who):
        left = 0

        for account in self.ledger()["accounts"]:
            if account["budget"] == "daily" and account["key"] == who:
                left = account["limit"] - account["spent"] - account["held"]

        return left

    # what is told

    def head(self):
        print("  %-5s %-16s %-22s %-7s %11s %11s"
              % ("who", "call", "model sent", "verdict", "cost USD",
                 "left today"))

    def tell(self, who, name, call):
        line = call.line
        sent = line.get("model") if line["verdict"] != "deny" else "-"
        left = self.left(who)

        self.verdicts.add(line["verdict"])

        print("  %-5s %-16s %-22s %-7s %11s %11s"
              % (who, name, sent or "-", line["verdict"],
                 money(line["cost_nusd"]), money(max(left, 0))), flush=True)

    def spend(self):
        """Alice calls until she is refused."""

        print("\nalice may spend 0.002 USD a day. She asks for gpt-4o; from "
              "60 % on she is served\nby a cheaper model, then her answers are "
              "cut to what is left, then refused:\n")
        self.head()

        for i in range(CALLS_MAX):
            ceiling = 2000 if "degrade" in self.verdicts else 40
            call = self.post(ALICE, "/v1/chat/completions", {
                "model": "gpt-4o", "max_tokens": ceiling,
                "messages": [{"role": "user", "content": PROMPT}]},
                out=ceiling)

            self.tell("alice", "chat", call)

            if call.status == 200:
                self.tell_cut(call, ceiling)
                continue

            error = call.json().get("error", {})

            print("\n  %d %s: %s" % (call.status, error.get("code"),
                                    error.get("message")))

            if call.line["verdict"] != "deny":
                raise Failed("the provider answered with status %d"
                             % call.status)

            return

    def tell_cut(self, call, ceiling):
        answer = call.json()
        tokens = answer.get("usage", {}).get("completion_tokens", 0)
        choice = (answer.get("choices") or [{}])[0]

        if choice.get("finish_reason") == "length" and tokens < ceiling:
            print("        (asked for %d tokens, cut to the %d there was "
                  "money for)" % (ceiling, tokens))

    def others(self):
        print("\nbob has 5 USD a day. Every endpoint is metered, plain and "
              "streamed:\n")
        self.head()

        chat = [{"role": "user", "content": "Say hello."}]

        for name, path, body in (
                ("chat, streamed", "/v1/chat/completions",
                 {"model": "gpt-4o", "max_tokens": 40, "stream": True,
                  "messages": chat}),
                ("responses", "/v1/responses",
                 {"model": "gpt-4.1-mini", "max_output_tokens": 40,
                  "input": "Say hello."}),
                ("embeddings", "/v1/embeddings",
                 {"model": "text-embedding-3-small",
                  "input": "Say hello."}),
                ("messages", "/v1/messages",
                 {"model": "claude-sonnet-4-5", "max_tokens": 40,
                  "messages": chat}),
                ("messages, stream", "/v1/messages",
                 {"model": "claude-haiku-4-5", "max_tokens": 40,
                  "stream": True, "messages": chat})):

            call = self.post(BOB, path, body)
            self.tell("bob", name, call)

            if call.status != 200:
                raise Failed("%s: status %d: %s" % (path, call.status,
                                                    call.body[:300]))

    # what must be true

    def check(self):
        for i in range(500):
            ledger = self.ledger()

            if ledger["stat"]["pending"] == 0:
                break

            time.sleep(0.01)

        lines = self.usage_lines()
        logged = sum(line["cost_nusd"] for line in lines)
        spent = sum(account["spent"] for account in ledger["accounts"]
                    if account["budget"] == "all")
        each = sum(account["spent"] for account in ledger["accounts"]
                   if account["budget"] == "daily")
        sums = [logged, spent, each]

        print("\n  sum of the usage log    %s USD" % money(logged))
        print("  ledger, all together    %s USD" % money(spent))
        print("  ledger, by person       %s USD" % money(each))

        if not self.args.real:
            stats = self.get(self.args.standin, "/_stats")
            sums.append(stats["billed_nusd"])
            print("  billed by the provider  %s USD"
                  % money(stats["billed_nusd"]))

        if ledger["stat"]["pending"]:
            raise Failed("%d calls are still held"
                         % ledger["stat"]["pending"])

        if len(set(sums)) != 1:
            raise Failed("the sums differ")

        print("  the sums agree")

        if not self.args.real:
            self.check_keys()

        for verdict in ("degrade", "deny"):
            if verdict not in self.verdicts and not self.args.real:
                raise Failed("no call of alice got the verdict %s" % verdict)

    def check_keys(self):
        """The provider gets our credential and no key of a client."""

        seen = json.dumps(self.get(self.args.standin, "/_requests"))

        for key in (ALICE, BOB):
            if key in seen:
                raise Failed("the key %s reached the provider" % key)

        print("  the provider saw no key of alice or bob, only ours")

    def invite(self):
        base = "http://127.0.0.1:%d" % self.args.port
        curl = "curl %s%s -H 'Content-Type: application/json' \\\n" \
               "    %s \\\n    -d '%s'"
        openai = "-H 'Authorization: Bearer %s'" % BOB
        anthropic = "-H 'x-api-key: %s' -H 'anthropic-version: 2023-06-01'" \
                    % BOB

        chat = ('"messages": [{"role": "user", "content": "Say hello."}]}')

        print("\nNow you. Any client, with a base URL and a key:\n")
        print("export OPENAI_BASE_URL=%s/v1 OPENAI_API_KEY=%s" % (base, BOB))
        print("export ANTHROPIC_BASE_URL=%s ANTHROPIC_API_KEY=%s"
              % (base, BOB))
        print("\nOr by hand; with -i you see the x-llm-budget headers, with "
              "%s instead,\nwho has spent her day's budget, what a refusal "
              "looks like:\n" % ALICE)
        print(curl % (base, "/v1/chat/completions", openai,
                      '{"model": "gpt-4o", ' + chat))
        print(curl % (base, "/v1/responses", openai,
                      '{"model": "gpt-4.1-mini", "input": "Say hello."}'))
        print(curl % (base, "/v1/embeddings", openai,
                      '{"model": "text-embedding-3-small", '
                      '"input": "Say hello."}'))
        print(curl % (base, "/v1/messages", anthropic,
                      '{"model": "claude-sonnet-4-5", "max_tokens": 100, '
                      + chat))
        print("\nWhat was spent, in nano-USD (1e-9 USD), and a line for each "
              "call:\n")
        print("curl %s/llm/api/ledger" % base)
        print("tail -f %s/usage.log" % self.args.folder)
        print("\nThe configuration is %s/nginx.conf." % self.args.folder)
        print("Ctrl-C stops all of it.", flush=True)


def who_answers(args):
    if not args.real:
        return "a stand-in provider, which costs nothing"

    if os.environ.get("ANTHROPIC_API_KEY"):
        return "api.openai.com and api.anthropic.com"

    return "api.openai.com (and a stand-in for Anthropic: no " \
           "ANTHROPIC_API_KEY)"


def main():
    parser = argparse.ArgumentParser(
        description="Run by scripts/quickstart.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--standin", type=int, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args()

    story = Story(args)

    try:
        print("\nnginx is on 127.0.0.1:%d, before %s."
              % (args.port, who_answers(args)))
        story.spend()
        story.others()
        story.check()

        if not args.once:
            story.invite()

    except Failed as error:
        sys.exit("quickstart: %s (see %s)" % (error, args.folder))

    except (KeyError, ValueError, OSError) as error:
        sys.exit("quickstart: %s: %s (see %s)"
                 % (type(error).__name__, error, args.folder))


if __name__ == "__main__":
    main()
