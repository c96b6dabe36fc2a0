#!/usr/bin/env python3

# Copyright (C) the ngx_http_llm_budget_module authors
#
# The measurements of scripts/bench; see there.

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

import redis_bench
import texts
from rig import VARIANTS, Failed, Rig, memory


# goals: on the embedded store, for streams, and on Redis

THROUGHPUT_MIN = 0.85
CPU_MAX = 1.15
P99_MAX = 1.10
STREAMS_MIN = 0.90
REDIS_PER_CORE_MIN = 0.75
SCANNER_MIN = 1000000000
IDLE_KIB_MAX = 8

# share of its core below which the worker had to wait for the others

BUSY_MIN = 0.9

# how a stream ends

DONE = "data: [DONE]\n\n"

EMBEDDED = ["on", "one", "ten"]
REDIS = ["redis-one", "redis-ten"]


class Traffic:
    """Calls of one kind, against several variants in turn."""

    def __init__(self, name, what, answer, body, variants, conns=None,
                 stream=False, slow=1.0):
        self.name = name
        self.what = what
        self.answer = answer
        self.body = body
        self.variants = variants
        self.conns = conns
        self.stream = stream
        self.slow = slow

    def run(self, bench):
        rig = bench.rig
        conns = self.conns or bench.args.connections
        path = "/%s/v1/chat/completions" % self.answer
        body = bench.body(self.body, self.stream)
        end = DONE if self.stream else None
        rounds = {}

        variants = bench.available(self.name, self.variants)

        for variant in variants:
            rounds[variant] = []
            rig.load(rig.start_nginx(variant), path, body, conns,
                     count=conns * 2, end=end)

        for i in range(bench.args.rounds):

            # in turn, and the other way round every second time

            for variant in variants[::-1] if i % 2 else variants:
                rounds[variant].append(rig.load(
                    rig.nginxes[variant], path, body, conns,
                    seconds=bench.args.seconds * self.slow, end=end))

        for variant in variants:
            rig.nginxes[variant].check()

        return self.report(bench, variants, rounds, conns)

    def report(self, bench, variants, rounds, conns):
        rows = []

        for variant in variants:
            values = [self.values(r) for r in rounds[variant]]
            plain = [self.values(r) for r in rounds["plain"]]
            row = {"variant": variant}

            for key in values[0]:
                row[key] = statistics.median(v[key] for v in values)

                # pairs of a round are near in time

                if all(p.get(key) for p in plain):
                    row[key + "_ratio"] = statistics.median(
                        v[key] / p[key] for v, p in zip(values, plain))

            row["spread"] = (max(v["cpu_us"] for v in values)
                             / min(v["cpu_us"] for v in values) - 1)
            rows.append(row)

        print("\n%s: %s; connections %d, rounds %d of %.1f s"
              % (self.name, self.what, conns, bench.args.rounds,
                 bench.args.seconds * self.slow))
        print("  %-12s %9s %7s  %8s %7s %5s  %8s %8s %7s  %8s  %4s %6s"
              % ("", "streams/s" if self.stream else "req/s", "x plain",
                 "CPU us", "x plain", "+-", "p50 us", "p99 us", "x plain",
                 "first us", "busy", "Redis"))

        for row in rows:
            print("  %-12s %9.0f %7.2f  %8.1f %7.2f %4.0f%%  %8.0f %8.0f"
                  " %7.2f  %8.0f  %3.0f%% %6s"
                  % (row["variant"], row["rate"], row["rate_ratio"],
                     row["cpu_us"], row["cpu_us_ratio"], row["spread"] * 100,
                     row["p50_us"], row["p99_us"], row["p99_us_ratio"],
                     row["first_us"], row["busy"] * 100,
                     "%.1f" % row["redis_us"] if "redis_us" in row else ""))

        for row in rows:
            self.goals(bench, row, rows[0])

        return rows

    def values(self, r):
        n = r["requests"]
        values = {
            "rate": n * 1e9 / r["wall_ns"],
            "cpu_us": r["worker_ns"] / n / 1e3,
            "p50_us": r["p50_ns"] / 1e3,
            "p99_us": r["p99_ns"] / 1e3,
            "first_us": r["first_p50_ns"] / 1e3,
            "busy": r["worker_ns"] / r["wall_ns"],
        }

        if "redis_ns" in r:
            values["redis_us"] = r["redis_ns"] / n / 1e3

        return values

    def goals(self, bench, row, plain):
        variant = row["variant"]
        where = "%s %s" % (self.name, variant)

        if variant in EMBEDDED:

            # the worker was not what the others waited for: by its CPU time

            if row["busy"] < BUSY_MIN or plain["busy"] < BUSY_MIN:
                what = "throughput per core, x plain"
                rate = 1 / row["cpu_us_ratio"]

            else:
                what = "throughput, x plain"
                rate = row["rate_ratio"]

            bench.goal(where, what, rate,
                       at_least=STREAMS_MIN if self.stream
                       else THROUGHPUT_MIN)
            bench.goal(where, "CPU per call, x plain", row["cpu_us_ratio"],
                       at_most=CPU_MAX)
            bench.goal(where, "p99, x plain", row["p99_us_ratio"],
                       at_most=P99_MAX)

        elif variant in REDIS:
            bench.goal(where, "throughput per core, x plain",
                       1 / row["cpu_us_ratio"], at_least=REDIS_PER_CORE_MIN)


class Idle:
    """Streams that are open and silent: what each takes."""

    def __init__(self, n, variants):
        self.name = "idle-%d" % n
        self.n = n
        self.variants = variants

    def run(self, bench):
        rig = bench.rig
        n = min(self.n, (rig.files - 256) // 2)
        rows = []

        if bench.args.quick:
            n = min(n, 200)

        if n < self.n:
            print("\n%s: with %d streams%s" % (
                self.name, n, "" if bench.args.quick else
                ", since %d files may be open" % rig.files))

        for variant in bench.available(self.name, self.variants):
            rows.append(self.measure(bench, variant, n))

        print("\n%s: %d open streams, each after its first event; KiB of the"
              " worker for each" % (self.name, n))
        print("  %-12s %8s %8s %8s %8s  %12s"
              % ("", "RSS", "private", "shared", "PSS", "above plain"))

        for row in rows:
            row["above"] = row["rss"] - rows[0]["rss"]

            print("  %-12s %8.2f %8.2f %8.2f %8.2f  %12.2f"
                  % (row["variant"], row["rss"], row["anon"], row["shmem"],
                     row["pss"], row["above"]))

            if row["variant"] in EMBEDDED + REDIS and n >= 100:
                bench.goal("%s %s" % (self.name, row["variant"]),
                           "KiB per stream above plain", row["above"],
                           at_most=IDLE_KIB_MAX)

        return rows

    def measure(self, bench, variant, n):
        rig = bench.rig
        body = bench.body(1000, True)

        # its memory must not have been used before

        rig.stop_nginx(variant)
        nginx = rig.start_nginx(variant)

        rig.load(nginx, "/json/v1/chat/completions", bench.body(1000, False),
                 1, count=20)
        before = memory(nginx.worker)

        args = [rig.programs + "/load", "-p", str(nginx.port), "-u",
                "/hold/v1/chat/completions", "-b", body, "-c", str(n), "-w",
                "-e", DONE]

        if VARIANTS[variant][0]:
            args += ["-x", "x-llm-budget-verdict: allow"]

        process = rig.spawn(rig.core["load"], args, stdout=subprocess.PIPE)
        line = process.stdout.readline().decode()

        if line != "ready\n":
            process.wait()
            raise Failed("%s: the streams did not open: %s"
                         % (variant, line.strip()))

        after = memory(nginx.worker)

        rig.serve.send_signal(signal.SIGUSR1)
        said = process.communicate(timeout=60)[0].decode()
        rig.result(process, said, nginx)
        nginx.check()
        rig.stop_nginx(variant)

        row = {k: (after[k] - before[k]) / n for k in after}
        row["variant"] = variant
        row["streams"] = n

        return row


class Scan:
    """The core's readers against jansson."""

    name = "scan"

    def run(self, bench):
        rig = bench.rig
        stream = os.path.join(rig.folder, "stream.txt")

        with open(stream, "wb") as f:
            f.write(b"".join(texts.events(20000)))

        ms = 250 if bench.args.quick else 1000
        said = subprocess.run([rig.programs + "/scan_bench",
                               bench.body(4000000, False), stream, str(ms)],
                              stdout=subprocess.PIPE, check=True).stdout
        rows = [json.loads(line) for line in said.decode().splitlines()]
        rates = {r["reader"]: r["bytes_per_second"] for r in rows}

        print("\nscan: 4 MB of chat text, and 20000 events; best of 5")
        print("  %-20s %8s %10s" % ("", "MB/s", "x jansson"))

        for name, rate in rates.items():
            print("  %-20s %8.0f %10.1f"
                  % (name, rate / 1e6, rate / rates["jansson"]))

        bench.goal("scan scanner", "MB/s", rates["scanner"] / 1e6,
                   at_least=SCANNER_MIN / 1e6)

        return rows


class RedisCeiling:
    name = "redis-ceiling"

    def run(self, bench):
        rows = []

        for variant in bench.available(self.name, REDIS):
            rows.append(redis_bench.run(bench, variant))

        return rows


ALL = ["plain"] + EMBEDDED + REDIS
STREAMED = ["plain", "unbuffered"] + EMBEDDED + REDIS

CASES = [
    Traffic("json-1k", "body of 1 KB, answer of 0.7 KB", "json", 1000, ALL),
    Traffic("latency", "one call at a time, body of 1 KB", "json", 1000, ALL,
            conns=1, slow=0.5),
    Traffic("json-100k", "body of 100 KB", "json", 100000,
            ["plain", "on", "one", "redis-one"]),
    Traffic("json-10m", "body of 10 MB", "json", 10000000,
            ["plain", "on", "one"], conns=4, slow=1.5),
    Traffic("stream-50", "50 events, each sent on its own", "s50", 1000,
            STREAMED, stream=True),
    Traffic("stream-500", "500 events, each sent on its own", "s500", 1000,
            ["plain", "unbuffered", "on", "one", "redis-one"], stream=True),
    Traffic("paced-50", "50 events, one in 2 ms, 200 streams at a time", "p50",
            1000, ["plain", "unbuffered", "on", "one"], conns=200,
            stream=True),
    Traffic("burst-500", "500 events, sent at once", "b500", 1000,
            ["plain", "unbuffered", "on", "one"], stream=True),
    Idle(1, ["plain", "one", "redis-one"]),
    Idle(1000, ["plain", "on", "one", "ten", "redis-one"]),
    Idle(10000, ["plain", "one", "redis-one"]),
    Scan(),
    RedisCeiling(),
]


class Bench:
    def __init__(self, args):
        self.args = args
        self.goals = []
        self.results = {}
        self.missing = {}
        self.bodies = {}

        shutil.rmtree(args.folder, ignore_errors=True)
        os.makedirs(args.folder)

        self.rig = Rig(args.folder, args.root, args.programs, args.nginx,
                       args.module)

    def body(self, size, stream):
        key = size, stream

        if key not in self.bodies:
            path = os.path.join(self.args.folder, "body-%d-%d" % key)

            with open(path, "wb") as f:
                f.write(texts.request(size, stream))

            self.bodies[key] = path

        return self.bodies[key]

    def available(self, case, variants):
        """Those of the variants that were asked for and can run."""

        found = []

        for variant in variants:

            if variant != "plain" and self.args.variants \
               and variant not in self.args.variants:
                continue

            if variant not in self.missing:
                self.missing[variant] = self.rig.unavailable(variant)

            if self.missing[variant] is None:
                found.append(variant)

        return found

    def goal(self, where, what, value, at_least=None, at_most=None):
        met = value >= at_least if at_least is not None else value <= at_most
        self.goals.append({
            "where": where, "what": what, "value": value, "met": met,
            "goal": ">= %g" % at_least if at_least is not None
            else "<= %g" % at_most})

    def run(self):
        rig = self.rig

        try:
            rig.start_serve({"json": ("whole", texts.answer()),
                             "s50": ("each", texts.stream(50)),
                             "s500": ("each", texts.stream(500)),
                             "p50": ("paced", texts.stream(50)),
                             "b500": ("whole", texts.stream(500)),
                             "hold": ("hold", texts.stream(4))})
            rig.start_redis(self.args.redis)

            for case in CASES:

                if case.name in self.args.cases:
                    self.results[case.name] = case.run(self)
                    sys.stdout.flush()

            for variant in list(rig.nginxes):
                rig.nginxes[variant].check()
                rig.stop_nginx(variant)

        finally:
            rig.close()

    def report(self):
        why = {v: w for v, w in self.missing.items() if w is not None}

        for variant, reason in why.items():
            print("\nnot measured: %s: %s" % (variant, reason))

        print("\ngoals:")

        for goal in self.goals:
            print("  %-6s %-24s %-30s %8.2f, goal %s"
                  % ("met" if goal["met"] else "MISSED", goal["where"],
                     goal["what"], goal["value"], goal["goal"]))

        print("\nchecked: every call answered as it should, every call charged"
              " once on every limit,\n         nothing pending, no error in"
              " any log")

        if self.args.json:
            with open(self.args.json, "w") as f:
                json.dump({"results": self.results, "goals": self.goals,
                           "missing": why}, f, indent=4)
                f.write("\n")


def parse():
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="bench", add_help=False)

    for name in ("folder", "root", "programs", "nginx", "module", "redis",
                 "redis-benchmark", "json"):
        parser.add_argument("--" + name)

    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--cases")
    parser.add_argument("--variants")
    parser.add_argument("--quick", action="store_true")

    args = parser.parse_args()

    args.seconds = args.seconds or (0.15 if args.quick else 1.0)
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.connections = args.connections or (8 if args.quick else 32)
    args.cases = args.cases.split(",") if args.cases else names
    args.variants = args.variants.split(",") if args.variants else None

    for what, known in (("cases", names), ("variants", list(VARIANTS))):

        for name in getattr(args, what) or []:

            if name not in known:
                raise Failed("no %s \"%s\" among: %s"
                             % (what[:-1], name, " ".join(known)))

    for name in ("seconds", "rounds", "connections"):

        if getattr(args, name) <= 0:
            raise Failed("--%s must be above 0" % name)

    return args


def main():
    try:
        args = parse()
        bench = Bench(args)
        started = time.monotonic()
        signal.signal(signal.SIGTERM, lambda *a: sys.exit(1))
        bench.run()
        bench.report()
        print("\n%d seconds" % (time.monotonic() - started))

    except Failed as e:
        print("bench: %s" % e, file=sys.stderr)
        return 1

    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 1

    return 0


if __name__ == "__main__":
    sys.exit(main())
