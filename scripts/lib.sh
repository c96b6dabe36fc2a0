# Copyright (C) the ngx_http_llm_budget_module authors
#
# What the scripts share; sourced by bash, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${LLMB_BUILD:-$ROOT/build}
SCRIPT=${0##*/}

export LC_ALL=C

case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac


# One clear line, then the end.

die() {
    echo "$SCRIPT: $*" >&2
    exit 1
}


say() {
    echo "$SCRIPT: $*"
}


have() {
    command -v "$1" >/dev/null 2>&1
}


# nginx's configure and make split words at white space.

check_root() {
    case $ROOT$BUILD in
    *[[:space:]]*)
        die "the path \"$ROOT\" has white space in it: nginx cannot build there"
        ;;
    esac
}


as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"

    else
        sudo "$@"
    fi
}


# need_root <what for>: asks for sudo's password now, not into a log

need_root() {
    [ "$(id -u)" -ne 0 ] || return 0

    have sudo || die "$1 needs root, and there is no sudo"
    sudo -v || die "$1 needs root, and sudo refused"
}


# One run of a script at a time in one build folder; freed when it ends.

build_lock() {
    mkdir -p "$BUILD" || die "cannot create $BUILD"
    have flock || return 0
    exec 9>"$BUILD/.$1.lock" || die "cannot write to $BUILD"
    flock 9
}


# The line of a log that says best what went wrong.

log_line() {
    local line

    line=$(grep -m1 -E '\[emerg\]|(^|[^a-z])(error|Error|ERROR|E|fatal error): ' "$1" \
           || grep -m1 -E 'undefined reference|No rule|\*\*\*' "$1" \
           || grep -v '^[[:space:]]*$' "$1" | tail -n 1)

    echo "${line#"$ROOT"/}"
}


# log_run <log> <what> <command...>: quiet unless it fails

log_run() {
    local log=$1 what=$2

    shift 2

    if ! "$@" >"$log" 2>&1; then
        die "$what failed: $(log_line "$log") (all of it in $log)"
    fi
}


# Names those of its arguments that are not installed.

packages_missing() {
    local p

    for p in "$@"; do
        case $(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null) in
        installed) ;;
        *)         echo "$p" ;;
        esac
    done
}


apt_updated=

apt_update() {
    [ -z "$apt_updated" ] || return 0
    apt_updated=1

    log_run "$BUILD/apt-update.log" "apt-get update" \
        as_root apt-get -q -o DPkg::Lock::Timeout=300 \
                -o Acquire::Retries=3 update
}


# Installs what is missing of its arguments; touches nothing otherwise.

apt_install() {
    local missing

    have apt-get || die "no apt-get here: install by hand: $*"

    missing=$(packages_missing "$@" | xargs)
    [ -n "$missing" ] || return 0

    mkdir -p "$BUILD" || die "cannot create $BUILD"
    need_root "installing $missing"
    apt_update
    say "installing $missing"

    # word splitting is wanted
    if ! as_root env DEBIAN_FRONTEND=noninteractive \
                 apt-get -q -y -o DPkg::Lock::Timeout=300 \
                 -o Acquire::Retries=3 --no-install-recommends \
                 install $missing >"$BUILD/apt-install.log" 2>&1
    then
        die "apt-get install failed:" \
            "$(grep -m1 '^[WE]: Failed to fetch' "$BUILD/apt-update.log" \
               || log_line "$BUILD/apt-install.log")" \
            "(all of it in $BUILD/apt-install.log)"
    fi
}
