#!/usr/bin/env bash
# Runs the built program as the container and the unit will: with their libraries, as a user who has no home, on sockets
# that are handed in.
set -euo pipefail

fail() {
    echo "program_test: $*" >&2
    [ ! -s "$work/log" ] || tail -n 20 "$work/log" >&2
    exit 1
}

work=$(mktemp -d)
pid=''
cleanup() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
binary=$(realpath -- "${1:?usage: program_test.sh BINARY}")
tests=0
passed() {
    tests=$((tests + 1))
    echo "ok: $*"
}

# --- what distroless/cc-debian12 has ---

# The dynamic loader, glibc's parts and libgcc: nothing else is in the image.
readelf --dynamic "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' >"$work/needed"
while IFS= read -r library; do
    case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux*) ;;
        *) fail "needs $library, which the container's base does not have" ;;
    esac
done <"$work/needed"
newest=$(readelf --version-info "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
[ "$(printf '%s\nGLIBC_2.36\n' "$newest" | sort -V | tail -n 1)" = GLIBC_2.36 ] || fail "needs $newest, and Debian 12 has GLIBC_2.36"
passed "needs $(tr '\n' ' ' <"$work/needed")and $newest at most"

# --- as the container's user ---

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
get() { python3 -c 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "$1"; }
# A copy where the user can reach it, in a directory that only root may write.
install -d -m 755 "$work/root"
chmod 755 "$work"
install -m 755 "$binary" "$work/root/nvidia-sidecar"
install -d -m 700 -o 65532 -g 65532 "$work/state"
port=$(free_port)
metrics_port=$(free_port)
as_user=(setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --bounding-set=-all)
environment=(
    env -i SIDECAR_API_KEY=nvapi-of-the-test "SIDECAR_PORT=$port" "SIDECAR_METRICS_PORT=$metrics_port"
    SIDECAR_UPSTREAM=http://127.0.0.1:9/v1 "SIDECAR_STATE_FILE=$work/state/state"
)
healthy() { "${as_user[@]}" "${environment[@]}" "$work/root/nvidia-sidecar" healthcheck >/dev/null 2>&1; }
wait_until_healthy() {
    for _ in $(seq 100); do
        if healthy; then return; fi
        sleep 0.1
    done
    fail 'not healthy within 10 s'
}
stop() {
    kill -TERM "$pid"
    status=0
    wait "$pid" || status=$?
    pid=''
    [ "$status" = 0 ] || fail "ended with status $status on SIGTERM"
}

if healthy; then fail 'the health check passes with nothing to answer it'; fi
(cd "$work/root" && exec "${as_user[@]}" "${environment[@]}" "$work/root/nvidia-sidecar") >"$work/log" 2>&1 &
pid=$!
wait_until_healthy
get "http://127.0.0.1:$metrics_port/metrics" >"$work/metrics"
grep -q '^sidecar_build_info' "$work/metrics" || fail 'no metrics'
promtool check metrics <"$work/metrics" || fail 'promtool has something against the metrics'
stop
[ -s "$work/state/state" ] || fail 'wrote no state file'
if healthy; then fail 'the health check passes with nothing to answer it'; fi
passed 'runs as 65532 without home, environment, capabilities or a writable directory but the state, and ends with 0'

# --- as the unit runs it ---

"${as_user[@]}" "${environment[@]}" systemd-socket-activate --fdname=http:metrics \
    --listen="127.0.0.1:$port" --listen="127.0.0.1:$metrics_port" \
    --setenv=SIDECAR_API_KEY --setenv=SIDECAR_UPSTREAM --setenv=SIDECAR_PORT --setenv=SIDECAR_METRICS_PORT \
    "$work/root/nvidia-sidecar" >"$work/log" 2>&1 &
pid=$!
wait_until_healthy
get "http://127.0.0.1:$metrics_port/metrics" | grep -q '^sidecar_build_info' || fail 'no metrics on the socket named metrics'
stop
passed 'takes the sockets named http and metrics from systemd'

# --- what the examples say ---

repo=$(dirname -- "$(dirname -- "$(dirname -- "$(realpath -- "$0")")")")
refused() { # file variable
    value=$(sed -n "s/^$2=//p" "$1")
    status=0
    env -i SIDECAR_API_KEY=nvapi-of-the-test "$2=$value" "$binary" --check >/dev/null 2>"$work/err" || status=$?
    [ "$status" = 2 ] || fail "$1: --check accepts the placeholder of $2 (status $status)"
    [ "$(wc -l <"$work/err")" = 1 ] || fail "$1: not one line about $2: $(cat "$work/err")"
    passed "--check refuses the placeholder of $2 in ${1#"$repo"/} in one line"
}
refused "$repo/deploy/nvidia-sidecar.env.example" SIDECAR_API_KEY
refused "$repo/deploy/monitoring/.env.example" SIDECAR_API_KEY
refused "$repo/deploy/monitoring/.env.example" SIDECAR_ADMIN_TOKEN
python3 - "$repo/deploy/kubernetes/configmap.yaml" >"$work/config.yaml" <<'END'
import sys
lines = open(sys.argv[1]).read().split("nvidia-sidecar.yaml: |\n", 1)[1].splitlines()
print("\n".join(line[4:] for line in lines))
END
env -i SIDECAR_API_KEY=nvapi-of-the-test "$binary" --check --config "$work/config.yaml" >/dev/null || fail 'the ConfigMap is refused'
passed 'the ConfigMap is a valid configuration'

echo "program: $tests passed, 0 failed"
