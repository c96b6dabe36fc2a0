# Copyright (C) the ngx_http_llm_budget_module authors
#
# What Redis itself can do with the commands of the module: a few calls are
# made through nginx while MONITOR looks on, and their open and post commands
# are sent again, each time with another hold id, without nginx.

import http.client
import json
import os
import re
import subprocess

from rig import CALL_NUSD, Failed, Resp, cpu_ns


# calls that are captured, each with a key of its own

CAPTURED = 32

REDIS_US_MAX = 30

ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "a": b"\a", "b": b"\b",
           "\\": b"\\", '"': b'"'}


def run(bench, variant):
    rig = bench.rig
    nginx = rig.start_nginx(variant)
    conns = bench.args.connections
    ms = int(bench.args.seconds * 1000)

    sequences, hexed = capture(bench, nginx)
    path = os.path.join(rig.folder, variant + ".commands")
    write_commands(path, sequences, hexed)

    ping = os.path.join(rig.folder, "ping.commands")
    write_commands(ping, [[(encode([b"PING"]), [])]], 1)

    busy = replay(bench, path, conns, ms, nginx)
    alone = replay(bench, path, 1, ms // 2, nginx)
    pinged = replay(bench, ping, 1, ms // 4, None)

    row = {
        "variant": variant,
        "pairs_per_second": busy["rate"],
        "script_us": busy["script_us"],
        "redis_cpu_us": busy["cpu_us"],
        "open_us": alone["steps"][0]["p50_ns"] / 1e3,
        "post_us": alone["steps"][1]["p50_ns"] / 1e3,
        "ping_us": pinged["steps"][0]["p50_ns"] / 1e3,
        "redis_benchmark_opens": redis_benchmark(bench, sequences, hexed),
    }

    print("\nredis-ceiling %s: open and post without nginx" % variant)
    print("  pairs/s on %d connections        %8.0f"
          % (conns, row["pairs_per_second"]))
    print("  script time of a pair, us        %8.1f" % row["script_us"])
    print("  Redis CPU of a pair, us          %8.1f" % row["redis_cpu_us"])
    print("  one at a time: open, post, us    %8.1f %8.1f"
          % (row["open_us"], row["post_us"]))
    print("  one at a time: PING, us          %8.1f" % row["ping_us"])

    if row["redis_benchmark_opens"] is not None:
        print("  redis-benchmark, opens/s         %8.0f"
              % row["redis_benchmark_opens"])

    bench.goal("redis-ceiling " + variant, "Redis CPU us, open and post",
               row["redis_cpu_us"], at_most=REDIS_US_MAX)

    latency(bench, variant, row)

    return row


def latency(bench, variant, row):
    """What Redis adds to a call, against one round trip of its open."""

    rows = {r["variant"]: r for r in bench.results.get("latency", [])}
    embedded = variant.replace("redis-", "")

    if variant not in rows or embedded not in rows:
        return

    row["added_us"] = rows[variant]["p50_us"] - rows[embedded]["p50_us"]

    print("  added to a call, p50, us         %8.1f" % row["added_us"])

    bench.goal("latency " + variant, "added us / round trip of open",
               row["added_us"] / row["open_us"], at_most=1)


def replay(bench, path, conns, ms, nginx):
    """Sequences of commands, and what they cost; with nginx, what they
    charged is compared."""

    rig = bench.rig
    before = nginx.ledger() if nginx is not None else None
    stats = rig.resp.script_stats()
    cpu = cpu_ns(rig.redis.pid)

    # one at a time from where nginx is, so that both pay for two cores

    process = rig.spawn(rig.core["proxy" if conns == 1 else "load"],
                        [rig.programs + "/resp", rig.redis_path, path,
                         str(conns), str(ms)], stdout=subprocess.PIPE)
    said = process.communicate(timeout=120)[0].decode()
    cpu = cpu_ns(rig.redis.pid) - cpu
    calls, usec = rig.resp.script_stats()

    rig.live.remove(process)

    if process.returncode != 0:
        raise Failed("the Redis clients failed")

    result = json.loads(said)
    n = result["sequences"]

    if result["errors"]:
        raise Failed("Redis refused a command: " + result["error"])

    result["rate"] = n * 1e9 / result["wall_ns"]
    result["cpu_us"] = cpu / n / 1e3
    result["script_us"] = (usec - stats[1]) / n

    if nginx is not None:
        after = nginx.ledger()
        key = "user-day", "usd"
        spent = after["spent"][key] - before["spent"][key]

        if spent != n * CALL_NUSD or after["pending"] != 0:
            raise Failed("%s: %d replayed calls were charged %d, not %d"
                         % (nginx.variant, n, spent, n * CALL_NUSD))

        nginx.before = after
        nginx.calls = 0

    return result


def capture(bench, nginx):
    """Open and post of some calls, as lists of arguments; places of the id
    are None."""

    found = []
    hexed = 0

    with open(bench.body(1000, False), "rb") as f:
        body = f.read()

    # connections are up, scripts are loaded

    for i in range(2):
        call(nginx, body, 0)

    nginx.calls += 2
    monitor = Resp(bench.rig.redis_path)
    monitor.ask("MONITOR")

    for i in range(CAPTURED):
        ident = call(nginx, body, i)
        nginx.calls += 1
        nginx.check()

        # something to read up to

        bench.rig.resp.ask("ECHO", ident)
        commands = []

        while True:
            args = parse(monitor.line().decode("latin-1"))

            if args[0].upper() == b"ECHO" and args[1] == ident.encode():
                break

            if args[0].upper() == b"EVALSHA":

                for kind, form in ((1, ident.encode()),
                                   (0, bytes.fromhex(ident))):

                    if form in args:
                        hexed = kind
                        commands.append([None if a == form else a
                                         for a in args])

        if len(commands) != 2:
            raise Failed("%s: a call made %d commands with its id, not 2"
                         % (nginx.variant, len(commands)))

        found.append(commands)

    monitor.close()

    return [[offsets(c, hexed) for c in commands] for commands in found], hexed


def call(nginx, body, n):
    c = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=30)
    c.request("POST", "/json/v1/chat/completions", body,
              {"Content-Type": "application/json",
               "Authorization": "Bearer sk-bench-%d" % n})
    answer = c.getresponse()
    answer.read()
    c.close()

    if answer.status != 200:
        raise Failed("%s: a call's status is %d"
                     % (nginx.variant, answer.status))

    return answer.headers["x-llm-budget-id"]


def parse(line):
    """The arguments in a line of MONITOR."""

    args = []

    for m in re.finditer(r'"((?:[^"\\]|\\.)*)"', line):
        args.append(re.sub(rb'\\(x[0-9a-f]{2}|.)', unescape,
                           m.group(1).encode("latin-1")))

    return args or [b""]


def unescape(m):
    text = m.group(1).decode("latin-1")

    if len(text) == 3:
        return bytes([int(text[1:], 16)])

    return ESCAPES.get(text, text.encode())


def encode(args):
    return b"*%d\r\n" % len(args) + b"".join(
        b"$%d\r\n%s\r\n" % (len(a), a) for a in args)


def offsets(args, hexed):
    """A command's bytes, and where the id is in them."""

    out = b"*%d\r\n" % len(args)
    places = []
    blank = bytes(32 if hexed else 16)

    for arg in args:
        out += b"$%d\r\n" % len(blank if arg is None else arg)

        if arg is None:
            places.append(len(out))

        out += (blank if arg is None else arg) + b"\r\n"

    return out, places


def write_commands(path, sequences, hexed):
    head = ["%d %d %d" % (len(sequences), len(sequences[0]), hexed)]

    for sequence in sequences:

        for data, places in sequence:
            head.append(" ".join(map(str, [len(data), len(places)] + places)))

    with open(path, "wb") as f:
        f.write("\n".join(head).encode() + b"\n")

        for sequence in sequences:

            for data, places in sequence:
                f.write(data)


def redis_benchmark(bench, sequences, hexed):
    """Opens a second by redis-benchmark, which can vary an id, but cannot
    post what it opened; in a database of its own."""

    program = bench.args.redis_benchmark

    if not program:
        return None

    data, places = sequences[0][0]
    width = 32 if hexed else 16
    ident = b"b" * (width - 12) + b"__rand_int__"

    for place in places:
        data = data[:place] + ident + data[place + width:]

    args = split(data)

    if any(b"\0" in a for a in args):
        return None

    said = subprocess.run(
        [program, "-s", bench.rig.redis_path, "-c",
         str(bench.args.connections), "-n",
         "2000" if bench.args.quick else "50000", "-r", "100000000000",
         "--dbnum", "1", "--csv"] + args,
        stdout=subprocess.PIPE, check=True).stdout

    flush = Resp(bench.rig.redis_path)
    flush.ask("SELECT", 1)
    flush.ask("FLUSHDB")
    flush.close()

    return rate(said.decode("latin-1"))


def split(data):
    args = []
    i = data.index(b"\r\n") + 2

    while i < len(data):
        end = data.index(b"\r\n", i)
        n = int(data[i + 1:end])
        args.append(data[end + 2:end + 2 + n])
        i = end + 2 + n + 2

    return args


def rate(text):
    last = text.strip().splitlines()[-1]
    m = re.search(r'"([\d.]+)"(?:,"[\d.]+")*$', last)

    if not m:
        raise Failed("redis-benchmark said: " + last[:200])

    return float(m.group(1))
