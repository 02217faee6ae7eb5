# SPDX-License-Identifier: GPL-2.0-only
#
# Where the sandbox lives, and how its scripts speak: folders, messages, progress. Sourced.

# shellcheck disable=SC2034  # used by the scripts that source this file

# Exit statuses that are the sandbox's own, not the command's (listed in `scripts/vm --help`).
readonly STATUS_USAGE=2
readonly STATUS_PANIC=123
readonly STATUS_TIMEOUT=124
readonly STATUS_SANDBOX=125

SANDBOX_DIR=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
CHECKOUT=$(cd -- "$SANDBOX_DIR/.." && pwd -P)
CACHE=${FAULT_TRACER_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set: set it, or FAULT_TRACER_CACHE}/.cache}/fault-tracer}
ROOT=$CACHE/root
LOGS=$CACHE/log
readonly SANDBOX_DIR CHECKOUT CACHE ROOT LOGS

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "${PROGRAM:-sandbox}: error: $*"
    exit "$STATUS_SANDBOX"
}

die_usage() {
    say "${PROGRAM:-sandbox}: $*"
    exit "$STATUS_USAGE"
}

is_root() {
    ((EUID == 0))
}

# On a terminal a counter ticks on one line; elsewhere (a log, CI) a line now and then is enough.
show_elapsed() {
    local name=$1 start=$SECONDS elapsed
    # Not for longer than the script that waits: a process that has ended has no executable. And
    # holding nothing open that the script's caller may wait for.
    while sleep 1 >/dev/null 2>&1 && [[ -e /proc/$$/exe ]]; do
        elapsed=$((SECONDS - start))
        if [[ -t 2 ]]; then
            printf '\r  %s … %d s' "$name" "$elapsed" >&2
        elif ((elapsed % 30 == 0)); then
            say "  $name … $elapsed s"
        fi
    done
}

# step NAME COMMAND…: runs COMMAND with its output in $STEP_LOG, and shows name and elapsed time.
# It returns COMMAND's status, having shown the log's last lines if that is not 0.
step() {
    local name=$1 start=$SECONDS status=0 ticker
    shift
    [[ -t 2 ]] || say "  $name …"
    show_elapsed "$name" >/dev/null </dev/null &
    ticker=$!
    printf '\n=== %s: %s\n' "$name" "$*" >>"$STEP_LOG"
    "$@" >>"$STEP_LOG" 2>&1 </dev/null || status=$?
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    [[ -t 2 ]] && printf '\r\033[K' >&2
    if ((status)); then
        say "  $name: failed after $((SECONDS - start)) s (status $status). Last lines of $STEP_LOG:"
        tail -n 20 -- "$STEP_LOG" | sed 's/^/    | /' >&2
    else
        say "  $name: $((SECONDS - start)) s"
    fi
    return "$status"
}
