#!/bin/sh
# Boots a bare Debian with systemd and does there what docs/OPERATIONS.md tells a new user: install, reload, upgrade,
# roll back, uninstall; a client that never stops asking must not see one refused connection.
#
# Needs root, debootstrap and systemd-nspawn. The bare system is made once and kept in target/.
set -eu

fail() {
    echo "boot_test: $*" >&2
    exit 1
}

if [ $# -ne 1 ] || [ ! -x "$1" ]; then fail 'usage: boot_test.sh BINARY'; fi
[ "$(id -u)" = 0 ] || fail 'must run as root'
for tool in debootstrap systemd-nspawn; do
    command -v "$tool" >/dev/null || fail "$tool is missing (Debian: debootstrap, systemd-container)"
done
binary=$(realpath -- "$1")
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repo=$(dirname -- "$(dirname -- "$here")")
bare=$repo/target/boot-test
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

if [ ! -e "$bare/complete" ]; then
    # shellcheck disable=SC2016 # apt's own variable
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
    [ -n "$mirror" ] || fail 'apt knows no Debian mirror: run apt-get update first'
    rm -rf -- "$bare"
    mkdir -p "$bare"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,procps,passwd,curl bookworm "$bare/system" "$mirror" >"$work/log" 2>&1 ||
        fail "debootstrap: $(tail -n 3 "$work/log")"
    cat >"$bare/system/etc/systemd/system/trial.service" <<'END'
[Service]
Type=exec
ExecStart=/bin/sh /in/boot_trial.sh
END
    mkdir -p "$bare/system/etc/systemd/system/multi-user.target.wants"
    ln -s ../trial.service "$bare/system/etc/systemd/system/multi-user.target.wants/trial.service"
    touch "$bare/complete"
fi

mkdir -p "$work/in/checkout" "$work/out"
cp -r "$repo/deploy" "$repo/docs" "$repo/conf" "$work/in/checkout/"
cp "$here/boot_trial.sh" "$work/in/"
cp "$binary" "$work/in/first"
# Another file that is the same program: what follows an ELF file is not loaded.
cp "$binary" "$work/in/second"
echo >>"$work/in/second"

timeout 300 systemd-nspawn --quiet --register=no --keep-unit --private-network --volatile=overlay --boot \
    --machine="boot-test-$$" --directory="$bare/system" --bind-ro="$work/in:/in" --bind="$work/out:/out" \
    >"$work/console" 2>&1 </dev/null || fail "the system did not boot and end: $(tail -n 5 "$work/console")"
[ -f "$work/out/result" ] || fail "the trial did not run: $(tail -n 5 "$work/console")"
cat "$work/out/result"
if ! grep -q '^boot: [0-9]* passed, 0 failed$' "$work/out/result"; then
    tail -n 60 "$work/out/log"
    exit 1
fi
