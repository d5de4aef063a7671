#!/bin/sh
# Tries install.sh below a directory of its own: install, again, upgrade, roll back, uninstall, and what it refuses.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repo=$(dirname -- "$(dirname -- "$here")")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
tests=0

fail() {
    echo "install_test: $*" >&2
    exit 1
}

passed() {
    tests=$((tests + 1))
    echo "ok: $*"
}

# A stand-in program: install.sh only asks whether it runs and whether it accepts the configuration.
program() { # file version
    cat >"$1" <<END
#!/bin/sh
# $2
case "\$*" in *--check*) [ "\${SIDECAR_RATE_RPM:-40}" != no ] || { echo 'SIDECAR_RATE_RPM: no is not a number' >&2; exit 2; } ;; esac
END
    chmod +x "$1"
}

# A checkout of its own, so that a missing part can be tried.
checkout=$work/checkout
mkdir -p "$checkout/deploy" "$checkout/conf" "$checkout/docs/zh-CN"
cp "$repo/deploy/install.sh" "$repo"/deploy/*.service "$repo"/deploy/*.socket "$repo"/deploy/*.conf "$repo"/deploy/*.env.example "$checkout/deploy/"
cp "$repo/docs/OPERATIONS.md" "$checkout/docs/"
cp "$repo/docs/zh-CN/OPERATIONS.md" "$checkout/docs/zh-CN/"
if [ -f "$repo/conf/nvidia-sidecar.yaml" ]; then
    cp "$repo/conf/nvidia-sidecar.yaml" "$checkout/conf/"
else
    fail "conf/nvidia-sidecar.yaml is missing"
fi
program "$work/v1" 1
program "$work/v2" 2
root=$work/root
mkdir "$root"

run() { "$checkout/deploy/install.sh" --root "$root" "$@"; }
tree() { (cd "$root" && find . -type f -exec sh -c 'for f; do printf "%s %s " "$f" "$(stat -c %a "$f")"; cksum <"$f"; done' sh {} + | sort); }

refuses() { # words-of-the-one-line options...
    words=$1
    shift
    before=$(tree)
    if run "$@" >"$work/out" 2>"$work/err"; then fail "accepted: $*"; fi
    grep -q -- "$words" "$work/err" || fail "$*: said $(cat "$work/err")"
    [ "$(tree)" = "$before" ] || fail "$*: changed something"
    passed "refuses in a line that says '$words', and changes nothing"
}

refuses 'is missing: build it' --binary "$work/none"
printf '\177ELF' >"$work/broken" && chmod +x "$work/broken"
refuses 'does not run on this machine' --binary "$work/broken"
refuses 'unknown option' --instal
refuses 'needs a value' --prefix
refuses 'not an absolute path' --prefix usr
refuses 'has a character' --prefix '/opt/a#b'
refuses 'goes with --uninstall' --purge
refuses 'no upgrade to roll back' --rollback
mv "$checkout/conf" "$checkout/conf.away"
refuses 'run from a complete checkout' --binary "$work/v1"
mv "$checkout/conf.away" "$checkout/conf"

run --binary "$work/v1" --dry-run >"$work/out"
grep -q '^would install /usr/local/bin/nvidia-sidecar$' "$work/out" || fail "dry run: $(cat "$work/out")"
[ -z "$(tree)" ] || fail 'a dry run changed something'
passed 'a dry run says what it would do and does nothing'

run --binary "$work/v1" --alert-bridge >"$work/out"
for file in usr/local/bin/nvidia-sidecar etc/nvidia-sidecar/nvidia-sidecar.yaml etc/nvidia-sidecar/nvidia-sidecar.env \
    etc/systemd/system/nvidia-sidecar.service etc/systemd/system/nvidia-sidecar.socket \
    etc/systemd/system/nvidia-sidecar-metrics.socket etc/systemd/system/nvidia-sidecar-alert-bridge.service \
    usr/local/share/doc/nvidia-sidecar/OPERATIONS.md usr/local/share/doc/nvidia-sidecar/zh-CN/OPERATIONS.md; do
    [ -f "$root/$file" ] || fail "$file was not installed"
done
[ "$(stat -c %a "$root/etc/nvidia-sidecar/nvidia-sidecar.env")" = 600 ] || fail 'the environment file is readable to others'
[ "$(stat -c %a "$root/etc/nvidia-sidecar/nvidia-sidecar.yaml")" = 640 ] || fail 'the configuration is readable to others'
grep -q '^next: put the API key' "$work/out" || fail 'does not say that the key is missing'
passed 'installs all parts, secrets unreadable to others, and says what is next'

before=$(tree)
run --binary "$work/v1" --alert-bridge >"$work/out"
[ "$(tree)" = "$before" ] || fail 'the second run changed something'
grep -q '^nothing to do$' "$work/out" || fail "second run: $(cat "$work/out")"
passed 'the second run has nothing to do'

sed -i 's/^SIDECAR_API_KEY=.*/SIDECAR_API_KEY="nvapi-test"/' "$root/etc/nvidia-sidecar/nvidia-sidecar.env"
echo 'SIDECAR_RATE_RPM=no' >>"$root/etc/nvidia-sidecar/nvidia-sidecar.env"
refuses 'refuses the configuration' --binary "$work/v2"
sed -i '$d' "$root/etc/nvidia-sidecar/nvidia-sidecar.env"
run --binary "$work/v2" >/dev/null
cmp -s "$work/v2" "$root/usr/local/bin/nvidia-sidecar" || fail 'the upgrade did not install the program'
cmp -s "$work/v1" "$root/usr/local/bin/nvidia-sidecar.previous" || fail 'the upgrade did not keep the old program'
grep -q nvapi-test "$root/etc/nvidia-sidecar/nvidia-sidecar.env" || fail 'the upgrade overwrote the environment file'
passed 'an upgrade keeps the configuration and the previous program'

drop_in=$root/etc/systemd/system/nvidia-sidecar-alert-bridge.service.d/command.conf
[ ! -e "$drop_in" ] || fail 'the bridge is equipped for a command that it does not have'
echo 'ALERT_COMMAND_WARNING=["/usr/bin/true"]' >>"$root/etc/nvidia-sidecar/alert-bridge.env"
run --binary "$work/v2" --alert-bridge >/dev/null
cmp -s "$checkout/deploy/alert-bridge-command.conf" "$drop_in" || fail 'the bridge is not equipped for its command'
sed -i '$d' "$root/etc/nvidia-sidecar/alert-bridge.env"
run --binary "$work/v2" --alert-bridge >/dev/null
[ ! -e "$drop_in" ] || fail 'the bridge stays equipped for a command that it no longer has'
passed "the bridge's unit follows whether there is a command"

run --rollback >/dev/null
cmp -s "$work/v1" "$root/usr/local/bin/nvidia-sidecar" || fail 'the old program is not back'
cmp -s "$work/v2" "$root/usr/local/bin/nvidia-sidecar.previous" || fail 'the new program is lost'
passed 'a rollback swaps the two programs'

run --uninstall >/dev/null
[ "$(tree | cut -d' ' -f1 | tr '\n' ' ')" = './etc/nvidia-sidecar/alert-bridge.env ./etc/nvidia-sidecar/nvidia-sidecar.env ./etc/nvidia-sidecar/nvidia-sidecar.yaml ' ] ||
    fail "uninstall left $(tree)"
passed 'uninstall keeps the configuration'
run --uninstall | grep -q '^nothing to do$' || fail 'the second uninstall did something'
run --uninstall --purge >/dev/null
[ -z "$(tree)" ] || fail "purge left $(tree)"
passed 'purge leaves nothing'

unit=$root/etc/systemd/system/nvidia-sidecar.service
mkdir -p "${unit%/*}"
printf '[Service]\nExecStart=/usr/bin/python3 /opt/sidecar.py\n' >"$unit"
cp "$unit" "$work/foreign"
run --binary "$work/v1" >"$work/out"
grep -q '^keep the present nvidia-sidecar.service as /etc/systemd/system/nvidia-sidecar.service.replaced$' "$work/out" ||
    fail "does not say that it keeps a unit: $(cat "$work/out")"
cmp -s "$work/foreign" "$unit.replaced" || fail 'no copy of a unit that it did not write'
cmp -s "$checkout/deploy/nvidia-sidecar.service" "$unit" || fail 'the unit was not installed'
sed -i 's/^MemoryMax=.*/MemoryMax=1G/' "$unit"
cp "$unit" "$work/edited"
run --binary "$work/v1" >/dev/null
cmp -s "$work/edited" "$unit.replaced.replaced" || fail 'no copy of a unit that was edited'
cmp -s "$work/foreign" "$unit.replaced" || fail 'the first copy was overwritten'
echo '# next version' >>"$checkout/deploy/nvidia-sidecar.service"
run --binary "$work/v1" >/dev/null
[ ! -e "$unit.replaced.replaced.replaced" ] || fail 'keeps a copy of a unit of its own'
run --uninstall >"$work/out"
grep -q '^keep /etc/systemd/system/nvidia-sidecar.service.replaced' "$work/out" || fail 'does not say that it leaves the copy'
cmp -s "$work/foreign" "$unit.replaced" || fail 'uninstall removed the copy'
rm "$unit".replaced*
passed 'keeps a copy of each unit that it did not write, and of no other'

run --binary "$work/v1" --prefix /opt/sidecar >/dev/null
grep -q '^ExecStart=/opt/sidecar/bin/nvidia-sidecar ' "$root/etc/systemd/system/nvidia-sidecar.service" || fail 'the unit starts another program'
[ -x "$root/opt/sidecar/bin/nvidia-sidecar" ] || fail 'the prefix was not used'
passed 'units follow the prefix'

echo "install: $tests passed, 0 failed"
