#!/bin/sh
# Boots a bare Debian with systemd and does there what docs/OPERATIONS.md says: take over from another sidecar, install,
# reload, upgrade, roll back, run the alert bridge with a program, uninstall, and all of it again from the package. A client
# that never stops asking must not see one refused connection.
#
# Needs root, debootstrap and systemd-nspawn. The bare system is made once and kept in target/.
set -eu

fail() {
    echo "boot_test: $*" >&2
    exit 1
}

if [ $# -ne 2 ] || [ ! -x "$1" ] || [ ! -f "$2" ]; then fail 'usage: boot_test.sh BINARY PACKAGE'; fi
[ "$(id -u)" = 0 ] || fail 'must run as root'
for tool in debootstrap systemd-nspawn; do
    command -v "$tool" >/dev/null || fail "$tool is missing (Debian: debootstrap, systemd-container)"
done
binary=$(realpath -- "$1")
package=$(realpath -- "$2")
# Node stands for the programs that an operator runs: another sidecar before this one, an alert's receiver.
packages=systemd,systemd-sysv,procps,passwd,curl,nodejs
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repo=$(dirname -- "$(dirname -- "$here")")
bare=$repo/target/boot-test
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

if [ "$(cat "$bare/complete" 2>/dev/null)" != "$packages" ]; then
    # shellcheck disable=SC2016 # apt's own variable
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
    [ -n "$mirror" ] || fail 'apt knows no Debian mirror: run apt-get update first'
    rm -rf -- "$bare"
    mkdir -p "$bare"
    debootstrap --variant=minbase --include="$packages" bookworm "$bare/system" "$mirror" >"$work/log" 2>&1 ||
        fail "debootstrap: $(tail -n 3 "$work/log")"
    cat >"$bare/system/etc/systemd/system/trial.service" <<'END'
[Service]
Type=exec
ExecStart=/bin/sh /in/boot_trial.sh
END
    mkdir -p "$bare/system/etc/systemd/system/multi-user.target.wants"
    ln -s ../trial.service "$bare/system/etc/systemd/system/multi-user.target.wants/trial.service"
    echo "$packages" >"$bare/complete"
fi

mkdir -p "$work/in/checkout" "$work/out"
cp -r "$repo/deploy" "$repo/docs" "$repo/conf" "$work/in/checkout/"
cp "$here/boot_trial.sh" "$work/in/"
cp "$package" "$work/in/nvidia-sidecar.deb"
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
