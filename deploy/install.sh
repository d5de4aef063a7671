#!/bin/sh
# Installs, upgrades, rolls back and removes the sidecar as a systemd service.
#
# All that can be missing or in the way is looked for before the first change. Running it again changes only what differs.
set -eu

usage() {
    cat <<'END'
usage: install.sh [--dry-run] [--binary FILE] [--prefix DIR] [--root DIR] [--alert-bridge]
       install.sh --rollback | --uninstall [--purge]   (with --dry-run, --prefix and --root as above)

  --binary FILE   the program (default: target/release/nvidia-sidecar of this checkout)
  --prefix DIR    where program and documents go (default: /usr/local)
  --alert-bridge  install the alert bridge's unit as well
  --rollback      put the program that the last upgrade replaced back
  --uninstall     remove program and units; configuration, state, user and units kept as *.replaced stay
  --purge         with --uninstall: remove those too
  --dry-run       say what would be done and do nothing
  --root DIR      install below DIR, for packages and tests: no user, no owner, no systemctl
END
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

action=install binary='' prefix=/usr/local root='' dry_run='' purge='' bridge=''
while [ $# -gt 0 ]; do
    case $1 in
        --binary | --prefix | --root)
            if [ $# -lt 2 ] || [ -z "$2" ]; then fail "$1 needs a value"; fi
            case $1 in
                --binary) binary=$2 ;;
                --prefix) prefix=${2%/} ;;
                --root) root=${2%/} ;;
            esac
            shift
            ;;
        --dry-run) dry_run=1 ;;
        --purge) purge=1 ;;
        --alert-bridge) bridge=1 ;;
        --rollback) action=rollback ;;
        --uninstall) action=uninstall ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown option $1; see --help" ;;
    esac
    shift
done
[ -z "$purge" ] || [ "$action" = uninstall ] || fail "--purge goes with --uninstall only"
case $prefix in /*) ;; *) fail "--prefix $prefix is not an absolute path" ;; esac
# The prefix goes into the units through sed and is read by systemd there.
case $prefix in *[!A-Za-z0-9/._-]*) fail "--prefix $prefix has a character other than letters, digits and / . _ -" ;; esac
case $root in '' | /*) ;; *) fail "--root $root is not an absolute path" ;; esac

user=nvidia-sidecar
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
source_root=$(dirname -- "$here")
[ -n "$binary" ] || binary=$source_root/target/release/nvidia-sidecar

program=$root$prefix/bin/nvidia-sidecar
documents=$root$prefix/share/doc/nvidia-sidecar
configuration=$root/etc/nvidia-sidecar
state=$root/var/lib/nvidia-sidecar
units=$root/etc/systemd/system
sockets='nvidia-sidecar.socket nvidia-sidecar-metrics.socket'
bridge_unit=nvidia-sidecar-alert-bridge.service
bridge_state=$root/var/lib/nvidia-sidecar-alert-bridge
bridge_command=$units/$bridge_unit.d/command.conf
# One line a unit that was installed: its hash and its name. A unit that differs from it was written or edited by others.
written=$documents/units.sha256
changed=''

# Says what is done, and does it unless this is a rehearsal.
act() {
    what=$1
    shift
    changed=1
    if [ -n "$dry_run" ]; then
        echo "would $what"
    else
        echo "$what"
        "$@"
    fi
}

# systemctl, but not for a tree that is not this system.
control() {
    [ -n "$root" ] || act "systemctl $*" systemctl "$@"
}

# systemctl itself succeeds when one of several is.
all_are() { # is-active|is-enabled unit...
    question=$1
    shift
    for unit in "$@"; do
        systemctl --quiet "$question" "$unit" 2>/dev/null || return 1
    done
}

# A file appears whole or not at all, under a name that a running program may still hold open.
place() { # source target mode [group]
    staged=$2.new
    install -D -m "$3" -- "$1" "$staged"
    if [ -n "${4:-}" ] && [ -z "$root" ]; then chgrp -- "$4" "$staged"; fi
    mv -f -- "$staged" "$2"
}

put() { # source target mode: installs what differs
    if cmp -s -- "$1" "$2"; then return; fi
    act "install ${2#"$root"}" place "$@"
}

keep() { # source target mode [group]: installs only where there is nothing; what is there is the operator's
    if [ -e "$2" ]; then
        echo "keep ${2#"$root"}"
    else
        act "install ${2#"$root"}" place "$@"
    fi
}

# Whether a unit is as an installation left it. One from before the list was kept says it by its documentation.
is_ours() {
    if [ -f "$written" ]; then
        grep -Fqx -- "$(sha256sum <"$1" | cut -d' ' -f1) ${1##*/}" "$written"
    else
        grep -q '^Documentation=file:.*/share/doc/nvidia-sidecar/OPERATIONS.md$' "$1"
    fi
}

put_unit() { # source target: installs what differs, and keeps a copy of what an installation did not write
    if cmp -s -- "$1" "$2"; then return; fi
    if [ -e "$2" ] && ! is_ours "$2"; then
        kept=$2.replaced
        while [ -e "$kept" ]; do kept=$kept.replaced; done
        act "keep the present ${2##*/} as ${kept#"$root"}" cp -p -- "$2" "$kept"
    fi
    put "$1" "$2" 644
}

# What listens on a TCP port: its name, process and unit. Nothing where nothing does, or only the unit that may.
listener() { # port unit-that-may
    # shellcheck disable=SC2016 # awk's own names
    # Columns of /proc/net/tcp: 2 the local address, 4 the state (0A listens), 10 the socket's inode.
    filter='$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }'
    awk -v port="$(printf ':%04X' "$1")" "$filter" /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r inode; do
        descriptor=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" -print 2>/dev/null | head -n 1)
        # An ordinary user, in a rehearsal, does not see whose it is.
        [ -n "$descriptor" ] || continue
        process=${descriptor#/proc/}
        process=${process%%/*}
        unit=$(sed -n 's#^.*/\([^/]*\.service\)$#\1#p' "/proc/$process/cgroup" | head -n 1)
        [ "$unit" = "$2" ] || echo "$(cat "/proc/$process/comm") (process $process${unit:+, $unit})"
    done | head -n 1
}

# The ports that a socket unit is going to listen on, its drop-ins included: an empty ListenStream= clears the list.
ports_of() {
    { cat "$here/$1"; cat "$units/$1.d"/*.conf 2>/dev/null || true; } | awk -F= '
        $1 == "ListenStream" && $2 == "" { count = 0 }
        $1 == "ListenStream" && $2 != "" { sub(/.*:/, "", $2); ports[count++] = $2 }
        END { for (i = 0; i < count; i++) if (ports[i] ~ /^[0-9]+$/) print ports[i] }' | sort -u
}

# The sockets' ports must be free, or taken by the service of the same name that is replaced.
check_ports() {
    [ -z "$root" ] || return 0
    for socket in $sockets; do
        if systemctl --quiet is-active "$socket"; then continue; fi
        for port in $(ports_of "$socket"); do
            holder=$(listener "$port" nvidia-sidecar.service)
            [ -z "$holder" ] || fail "port $port is taken by $holder: stop it, or give $socket another one with 'systemctl edit'"
        done
    done
}

take_away() {
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then act "remove ${path#"$root"}" rm -rf -- "$path"; fi
    done
}

# The variables of an environment file, one NAME=VALUE a line, as systemd reads them.
variables() {
    sed -n -e 's/[[:space:]]*$//' -e 's/^\([A-Za-z_][A-Za-z0-9_]*=\)"\(.*\)"$/\1\2/' -e '/^[A-Za-z_][A-Za-z0-9_]*=/p' "$1"
}

placeholders_left() {
    [ ! -r "$1" ] || variables "$1" | grep -q REPLACE_ME
}

# The new program must accept the present configuration before it replaces the old one.
check_configuration() {
    for file in "$configuration/nvidia-sidecar.yaml" "$configuration/nvidia-sidecar.env"; do
        [ -r "$file" ] || return 0 # not installed yet, or a rehearsal by an ordinary user
    done
    if placeholders_left "$configuration/nvidia-sidecar.env"; then return; fi
    set --
    while IFS= read -r line; do [ -z "$line" ] || set -- "$@" "$line"; done <<END
$(variables "$configuration/nvidia-sidecar.env")
END
    env -i "$@" "$binary" --config "$configuration/nvidia-sidecar.yaml" --check >/dev/null ||
        fail "$binary refuses the configuration (reason above); nothing was changed"
}

wait_until_healthy() {
    [ -z "$root$dry_run" ] || return 0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        if "$program" healthcheck --config "$configuration/nvidia-sidecar.yaml" >/dev/null 2>&1; then
            echo 'healthy'
            return
        fi
        sleep 1
    done
    fail "not healthy after 10 s: see 'journalctl --unit nvidia-sidecar --lines 20'; to go back: $0 --rollback"
}

need_this_system() {
    [ -z "$root" ] || return 0
    [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || fail 'must run as root (or with --dry-run)'
    command -v systemctl >/dev/null || fail 'systemctl is missing: on a system without systemd use the container, deploy/Dockerfile'
}

install_all() {
    need_this_system
    [ -f "$binary" ] || fail "$binary is missing: build it with 'cargo build --release --locked' or name it with --binary"
    "$binary" --version >/dev/null 2>&1 || fail "$binary does not run on this machine: built for another architecture or libc?"
    for file in conf/nvidia-sidecar.yaml docs/OPERATIONS.md docs/zh-CN/OPERATIONS.md deploy/nvidia-sidecar.service deploy/nvidia-sidecar.env.example; do
        [ -f "$source_root/$file" ] || fail "$source_root/$file is missing: run from a complete checkout"
    done
    if [ -z "$root" ] && ! id "$user" >/dev/null 2>&1; then
        command -v useradd >/dev/null || fail 'useradd is missing: install the package passwd (Debian) or shadow-utils'
    fi
    check_configuration
    check_ports

    if [ -z "$root" ] && ! id "$user" >/dev/null 2>&1; then
        act "create the user $user" \
            useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    fi
    if [ -f "$program" ] && ! cmp -s -- "$binary" "$program"; then
        act "keep the present program as ${program#"$root"}.previous" cp -p -- "$program" "$program.previous"
    fi
    put "$binary" "$program" 755
    for file in "$source_root"/docs/*.md "$source_root"/docs/zh-CN/*.md; do
        put "$file" "$documents/${file#"$source_root/docs/"}" 644
    done

    if [ ! -d "$configuration" ]; then act "create ${configuration#"$root"}" install -d -m 755 -- "$configuration"; fi
    # Client tokens may stand in the file, so its group is the service's and the world cannot read it.
    keep "$source_root/conf/nvidia-sidecar.yaml" "$configuration/nvidia-sidecar.yaml" 640 "$user"
    # systemd reads this one as root.
    keep "$here/nvidia-sidecar.env.example" "$configuration/nvidia-sidecar.env" 600
    [ -z "$bridge" ] || keep "$here/alert-bridge.env.example" "$configuration/alert-bridge.env" 600

    rendered=$(mktemp -d)
    trap 'rm -rf -- "$rendered"' EXIT
    for unit in nvidia-sidecar.service $sockets ${bridge:+"$bridge_unit"}; do
        sed "s#/usr/local/#$prefix/#g" "$here/$unit" >"$rendered/$unit"
        put_unit "$rendered/$unit" "$units/$unit"
    done
    remember_units
    if [ -n "$bridge" ]; then equip_bridge; fi

    if [ -n "$changed" ]; then control daemon-reload; fi
    if placeholders_left "$configuration/nvidia-sidecar.env"; then
        echo "next: put the API key into ${configuration#"$root"}/nvidia-sidecar.env and run this again to start"
    elif [ -z "$root" ]; then
        # shellcheck disable=SC2086 # a list of unit names
        all_are is-enabled $sockets nvidia-sidecar.service || control enable $sockets nvidia-sidecar.service
        # shellcheck disable=SC2086
        if [ -n "$changed" ] || ! all_are is-active $sockets nvidia-sidecar.service; then
            # What ran under this name before has the ports itself.
            all_are is-active $sockets || control stop nvidia-sidecar.service
            control start $sockets
            control restart nvidia-sidecar.service
        fi
        wait_until_healthy
    fi
    if [ -n "$bridge" ]; then
        if placeholders_left "$configuration/alert-bridge.env"; then
            echo "next: put the webhooks into ${configuration#"$root"}/alert-bridge.env and run this again to start the alert bridge"
        elif [ -z "$root" ] && { [ -n "$changed" ] || ! systemctl --quiet is-active "$bridge_unit"; }; then
            control enable "$bridge_unit"
            control restart "$bridge_unit"
        fi
    fi
    [ -n "$changed" ] || echo 'nothing to do'
}

# Writes down the units that are installed now, for is_ours.
remember_units() {
    for unit in nvidia-sidecar.service $sockets "$bridge_unit"; do
        if [ -f "$units/$unit" ]; then echo "$(sha256sum <"$units/$unit" | cut -d' ' -f1) $unit"; fi
    done >"$rendered/units"
    [ -n "$dry_run" ] || cmp -s -- "$rendered/units" "$written" || place "$rendered/units" "$written" 644
}

# What a command needs and the bridge alone does not.
equip_bridge() {
    if [ -r "$configuration/alert-bridge.env" ] && variables "$configuration/alert-bridge.env" | grep -q '^ALERT_COMMAND_'; then
        put "$here/alert-bridge-command.conf" "$bridge_command" 644
    else
        take_away "$bridge_command"
    fi
}

swap_programs() {
    cp -p -- "$program" "$program.new"
    mv -f -- "$program.previous" "$program"
    mv -f -- "$program.new" "$program.previous"
}

roll_back() {
    need_this_system
    [ -f "$program.previous" ] || fail "${program#"$root"}.previous is missing: there was no upgrade to roll back"
    act "put ${program#"$root"}.previous back" swap_programs
    control restart nvidia-sidecar.service
    wait_until_healthy
}

uninstall_all() {
    need_this_system
    if [ -z "$root" ]; then
        for unit in $sockets nvidia-sidecar.service "$bridge_unit"; do
            [ ! -e "$units/$unit" ] || control disable --now "$unit"
        done
    fi
    for unit in $sockets nvidia-sidecar.service "$bridge_unit"; do
        take_away "$units/$unit"
        for kept in "$units/$unit".replaced*; do
            [ ! -e "$kept" ] || echo "keep ${kept#"$root"}: not written by this installation"
        done
    done
    take_away "$bridge_command" "$program" "$program.previous" "$documents"
    if [ -n "$changed" ]; then control daemon-reload; fi
    if [ -n "$purge" ]; then
        # A unit with DynamicUser has its state in private/, and a link to it beside.
        take_away "$configuration" "$state" "$bridge_state" "${bridge_state%/*}/private/${bridge_state##*/}"
        for unit in $sockets nvidia-sidecar.service "$bridge_unit"; do
            take_away "$units/$unit.d"
        done
        if [ -z "$root" ] && id "$user" >/dev/null 2>&1; then act "remove the user $user" userdel "$user"; fi
    else
        for path in "$configuration" "$state"; do
            [ ! -e "$path" ] || echo "keep ${path#"$root"} (--purge removes it)"
        done
    fi
    [ -n "$changed" ] || echo 'nothing to do'
}

case $action in
    install) install_all ;;
    rollback) roll_back ;;
    uninstall) uninstall_all ;;
esac
