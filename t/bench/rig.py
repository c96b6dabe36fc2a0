# Copyright (C) the ngx_http_llm_budget_module authors
#
# What scripts/bench measures with: nginx in several variants, the provider
# before which they stand, a private Redis, the clients, and the counters of
# the system.

import http.client
import json
import os
import re
import resource
import socket
import subprocess
import time


PRICES = "conf-examples/prices.json"
MODEL = "gpt-4o-mini"

# what the provider's answers report; prices of the model, nano-USD per token

INPUT_TOKENS = 20
OUTPUT_TOKENS = 50
CALL_NUSD = INPUT_TOKENS * 150 + OUTPUT_TOKENS * 600

ONE_LIMIT = ["user-day usd=9000000 per=day"]

# each an account of its own; the edges of their periods are rare

TEN_LIMITS = ONE_LIMIT + [
    "user-month usd=9000000 per=month",
    "user-hour usd=9000000 per=hour",
    "user-tokens tokens=1000000000000 per=day",
    "user-rate requests=1000000000 per=hour",
    "user-slots concurrency=1000000 per=day",
    "model-day key=$llm_budget_model usd=9000000 per=day",
    "team-month key=team-1 usd=9000000 per=month",
    "team-output key=team-1 output_tokens=1000000000000 per=day",
    "org-year key=org-1 usd=9000000 per=year",
]

# variant -> module loaded, limits (None: llm_budget off), store, lines

VARIANTS = {
    "plain": (False, None, None, ""),
    "unbuffered": (False, None, None, "proxy_buffering off;"),
    "on": (True, [], "zone", ""),
    "one": (True, ONE_LIMIT, "zone", ""),
    "ten": (True, TEN_LIMITS, "zone", ""),
    "redis-one": (True, ONE_LIMIT, "redis", ""),
    "redis-ten": (True, TEN_LIMITS, "redis", ""),
}


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(check, seconds=10):
    end = time.monotonic() + seconds

    while True:
        value = check()

        if value or time.monotonic() > end:
            return value

        time.sleep(0.01)


def read(path):
    with open(path, errors="replace") as f:
        return f.read()


def cpu_ns(pid):
    """CPU time of a process of one thread: to the nanosecond where the kernel
    has it, else in ticks."""

    try:
        return int(read("/proc/%d/schedstat" % pid).split()[0])

    except (OSError, IndexError, ValueError):
        fields = read("/proc/%d/stat" % pid).rsplit(")", 1)[1].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks * 1000000000 // os.sysconf("SC_CLK_TCK")


def memory(pid):
    """KiB of a process: resident, private, of shared memory, proportional."""

    status = read("/proc/%d/status" % pid)
    values = {}

    for name, field in (("rss", "VmRSS"), ("anon", "RssAnon"),
                        ("shmem", "RssShmem")):
        m = re.search(r"^%s:\s+(\d+) kB$" % field, status, re.M)
        values[name] = int(m.group(1)) if m else 0

    try:
        m = re.search(r"^Pss:\s+(\d+) kB$",
                      read("/proc/%d/smaps_rollup" % pid), re.M)

    except OSError:
        m = None

    values["pss"] = int(m.group(1)) if m else 0

    return values


def children(pid):
    found = []

    for name in os.listdir("/proc"):

        if name.isdigit():
            try:
                stat = read("/proc/%s/stat" % name)

            except OSError:
                continue

            if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(name))

    return found


class Rig:
    """Everything that runs; close() ends it all."""

    def __init__(self, folder, root, programs, nginx, module):
        self.folder = folder
        self.root = root
        self.programs = programs
        self.nginx_path = nginx
        self.module = module
        self.live = []
        self.nginxes = {}
        self.redis = None
        self.redis_why = None

        # the proxy has a core of its own; the rest shares what is left

        cores = sorted(os.sched_getaffinity(0))
        self.core = {}

        for i, name in enumerate(("proxy", "load", "serve", "redis")):
            self.core[name] = cores[min(i, len(cores) - 1)]

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.files = min(hard, 65536) if hard > 0 else 65536
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, hard))

    def spawn(self, core, args, **options):
        process = subprocess.Popen(
            args, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            **options)
        self.live.append(process)

        return process

    def end(self, process):
        if process.poll() is None:
            process.terminate()

            try:
                process.wait(10)

            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        if process in self.live:
            self.live.remove(process)

    def close(self):
        for process in list(self.live):
            self.end(process)

    # the provider

    def start_serve(self, answers):
        files = []

        for name, (kind, pieces) in answers.items():
            path = os.path.join(self.folder, name + ".answer")

            with open(path, "wb") as f:
                f.write(("%s %d %s\n" % (kind, len(pieces), " ".join(
                    str(len(p)) for p in pieces))).encode())
                f.write(b"".join(pieces))

            files.append("%s=%s" % (name, path))

        self.serve = self.spawn(self.core["serve"],
                                [self.programs + "/serve", "0"] + files,
                                stdout=subprocess.PIPE)

        line = self.serve.stdout.readline().decode()
        m = re.match(r"listening on (\d+)$", line)

        if not m:
            raise Failed("t/bench/serve did not start")

        self.serve_port = int(m.group(1))

    # nginx

    def conf(self, variant, folder, port):
        loaded, limits, store, lines = VARIANTS[variant]
        files = self.files - 64
        http = ""
        location = lines
        api = ""

        if loaded:
            http = "llm_budget_zone bench 128m;\n" \
                   "    llm_budget_prices %s/%s;\n" % (self.root, PRICES)
            location += "llm_budget on;\n"
            location += "".join("            llm_budget_limit %s;\n" % limit
                                for limit in limits)
            api = "location /llm/api/ { llm_budget_api; }\n"

        if store == "redis":
            http += "    llm_budget_redis unix:%s prefix=%s" \
                    " timeout=5s;\n" % (self.redis_path, variant)
            http += "    llm_budget_journal %s/journal;\n" % folder

        temp = "".join("    %s_temp_path %s/tmp/%s;\n" % (n, folder, n)
                       for n in ("client_body", "proxy", "fastcgi", "uwsgi",
                                 "scgi"))

        return """
# written by scripts/bench

%s
%s
worker_processes 1;
worker_rlimit_nofile %d;
daemon off;
pid %s/nginx.pid;
error_log %s/error.log warn;

events {
    worker_connections %d;
}

http {
%s
    %s
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;

    upstream provider {
        server 127.0.0.1:%d;
        keepalive 1024;
        keepalive_timeout 1h;
        keepalive_requests 1000000000;
    }

    server {
        listen 127.0.0.1:%d backlog=4096;

        client_max_body_size     64m;
        client_body_buffer_size  512k;

        proxy_http_version           1.1;
        proxy_set_header Connection  "";
        proxy_buffer_size            32k;
        proxy_buffers                8 32k;
        proxy_read_timeout           10m;

        location / {
            %s
            proxy_pass http://provider;
        }

        %s
    }
}
""" % ("load_module %s;" % self.module if loaded and self.module else "",
            "user root;" if os.geteuid() == 0 else "", files, folder, folder,
            # above one in 16 free: else nginx closes idle clients
            files + files // 8, temp, http, self.serve_port, port, location,
            api)

    def prepare(self, variant):
        folder = os.path.join(self.folder, variant)
        port = free_port()

        os.makedirs(folder + "/tmp", exist_ok=True)
        os.makedirs(folder + "/journal", exist_ok=True)

        with open(folder + "/nginx.conf", "w") as f:
            f.write(self.conf(variant, folder, port))

        with open(folder + "/error.log", "w"):
            pass

        return folder, port

    def command(self, folder):
        return [self.nginx_path, "-p", folder, "-c", folder + "/nginx.conf",
                "-e", folder + "/error.log"]

    def unavailable(self, variant):
        """Why a variant cannot run, or None."""

        if VARIANTS[variant][2] != "redis":
            return None

        if self.redis is None:
            return self.redis_why

        folder, port = self.prepare(variant)
        said = subprocess.run(self.command(folder) + ["-t"],
                              stderr=subprocess.PIPE)

        if said.returncode == 0:
            return None

        text = said.stderr.decode(errors="replace")
        m = re.search(r"\[emerg\](?: \d+#\d+:)? (.*)", text)

        return "nginx -t: %s" % (m.group(1) if m else text.strip())

    def start_nginx(self, variant):
        nginx = self.nginxes.get(variant)

        if nginx is None:
            nginx = Nginx(self, variant)
            self.nginxes[variant] = nginx

        return nginx

    def stop_nginx(self, variant):
        nginx = self.nginxes.pop(variant, None)

        if nginx is not None:
            self.end(nginx.process)
            nginx.check_log()

    # Redis

    def start_redis(self, path):
        self.redis_path = self.folder + "/redis.sock"

        if len(self.redis_path) > 100:
            self.redis_path = "/tmp/llmb-bench-%d.sock" % os.getpid()

        if path is None:
            self.redis_why = "there is no redis-server"
            return

        with open(self.folder + "/redis.log", "wb") as log:
            self.redis = self.spawn(
                self.core["redis"],
                [path, "--port", "0", "--unixsocket", self.redis_path,
                 "--save", "", "--appendonly", "no", "--dir", self.folder,
                 "--maxmemory-policy", "noeviction"],
                stdout=log, stderr=log)

        if not wait_until(lambda: os.path.exists(self.redis_path)):
            raise Failed("redis-server did not start")

        self.resp = Resp(self.redis_path)

    # clients

    def load(self, nginx, path, body, conns, seconds=None, count=None,
             end=None):
        """One run: what the clients saw, and what it cost whom."""

        args = [self.programs + "/load", "-p", str(nginx.port), "-u", path,
                "-b", body, "-c", str(conns)]

        if count is not None:
            args += ["-n", str(count)]

        else:
            args += ["-s", str(int(seconds * 1000))]

        if VARIANTS[nginx.variant][0]:
            args += ["-x", "x-llm-budget-verdict: allow"]

        if end is not None:
            args += ["-e", end]

        others = {"serve": self.serve.pid}

        if VARIANTS[nginx.variant][2] == "redis":
            others["redis"] = self.redis.pid

        before = {k: cpu_ns(p) for k, p in others.items()}
        worker = cpu_ns(nginx.worker)
        process = self.spawn(self.core["load"], args, stdout=subprocess.PIPE)
        said = process.communicate(timeout=300)[0].decode()
        worker = cpu_ns(nginx.worker) - worker
        result = self.result(process, said, nginx)

        result["worker_ns"] = worker

        for name, pid in others.items():
            result[name + "_ns"] = cpu_ns(pid) - before[name]

        return result

    def result(self, process, said, nginx):
        self.live.remove(process)

        if process.returncode != 0:
            raise Failed("%s: the clients failed" % nginx.variant)

        result = json.loads(said.splitlines()[-1])
        nginx.calls += result["requests"]

        if result["errors"]:
            raise Failed("%s: %d calls failed: %s" % (
                nginx.variant, result["errors"], result["error"]))

        if result["requests"] == 0:
            raise Failed("%s: no calls were made" % nginx.variant)

        return result


class Nginx:
    def __init__(self, rig, variant):
        self.variant = variant
        self.calls = 0
        self.folder, self.port = rig.prepare(variant)

        with open(self.folder + "/nginx.out", "wb") as out:
            self.process = rig.spawn(rig.core["proxy"],
                                     rig.command(self.folder),
                                     stdout=out, stderr=out)

        if not wait_until(self.answers) \
           or not wait_until(lambda: children(self.process.pid)):
            raise Failed("nginx did not start: %s"
                         % read(self.folder + "/error.log").strip())

        self.worker = children(self.process.pid)[0]
        self.limits = VARIANTS[variant][1]
        self.before = self.ledger() if self.limits is not None else None

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True

        except OSError:
            return False

    def ledger(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        c.request("GET", "/llm/api/ledger")
        answer = c.getresponse()
        body = answer.read()
        c.close()

        if answer.status != 200:
            raise Failed("%s: the ledger's status is %d"
                         % (self.variant, answer.status))

        ledger = json.loads(body)
        spent = {}

        for account in ledger["accounts"]:
            key = account["budget"], account["unit"]
            spent[key] = spent.get(key, 0) + account["spent"]

        return {"pending": ledger["stat"]["pending"], "spent": spent}

    def check(self):
        """Every call of this nginx was charged, once, on every limit."""

        if self.limits is None:
            return

        each = {"usd": CALL_NUSD, "tokens": INPUT_TOKENS + OUTPUT_TOKENS,
                "output_tokens": OUTPUT_TOKENS, "requests": 1}

        def settled():
            ledger = self.ledger()
            return ledger if ledger["pending"] == 0 else None

        ledger = wait_until(settled)

        if ledger is None:
            raise Failed("%s: holds are left" % self.variant)

        for limit in self.limits:
            name = limit.split()[0]
            unit = re.search(r"(\w+)=\d", limit).group(1)
            price = each.get(unit)

            if price is None:
                continue

            key = name, unit
            spent = ledger["spent"].get(key, 0) \
                - self.before["spent"].get(key, 0)

            if spent != self.calls * price:
                raise Failed("%s: limit %s has spent %d, but %d calls cost %d"
                             % (self.variant, name, spent, self.calls,
                                self.calls * price))

    def check_log(self):
        for line in read(self.folder + "/error.log").splitlines():

            if re.search(r"\[(alert|emerg|crit|error)\]", line):
                raise Failed("%s: %s" % (self.variant, line))


class Resp:
    """A connection to Redis, for what happens once."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def send(self, *args):
        out = [b"*%d\r\n" % len(args)]

        for arg in args:
            data = arg if isinstance(arg, bytes) else str(arg).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(data), data))

        self.sock.sendall(b"".join(out))

    def close(self):
        self.file.close()
        self.sock.close()

    def line(self):
        return self.file.readline()[:-2]

    def ask(self, *args):
        self.send(*args)
        return self.reply()

    def reply(self):
        line = self.line()
        kind, rest = line[:1], line[1:]

        if kind == b"-":
            raise Failed("redis: " + rest.decode(errors="replace"))

        if kind == b"$":
            n = int(rest)
            return None if n < 0 else self.file.read(n + 2)[:-2]

        if kind == b"*":
            return [self.reply() for i in range(int(rest))]

        return int(rest) if kind == b":" else rest

    def script_stats(self):
        """Calls and microseconds of all scripts so far."""

        text = self.ask("INFO", "commandstats").decode()
        calls = usec = 0

        for m in re.finditer(r"^cmdstat_eval(?:sha)?:calls=(\d+),usec=(\d+)",
                             text, re.M):
            calls += int(m.group(1))
            usec += int(m.group(2))

        return calls, usec
