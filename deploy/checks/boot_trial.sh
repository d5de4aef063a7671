#!/bin/sh
# The trial that boot_test.sh runs inside the bare system. /in holds a checkout and two builds, /out takes the result.
set -eu
exec >/out/log 2>&1
set -x

tests=0
passed() {
    tests=$((tests + 1))
    echo "ok: $*" >>/out/result
}
finish() {
    status=$?
    if [ "$status" = 0 ]; then
        echo "boot: $tests passed, 0 failed" >>/out/result
    else
        echo "boot: failed after: $(tail -n 1 /out/result)" >>/out/result
        journalctl --unit nvidia-sidecar --unit nvidia-sidecar.socket --no-pager --lines 40 || true
    fi
    systemctl poweroff
}
trap finish EXIT
: >/out/result

install=/in/checkout/deploy/install.sh
variables=/etc/nvidia-sidecar/nvidia-sidecar.env
get() { curl --silent --show-error --fail --max-time 60 "$@"; }
until_true() {
    for _ in $(seq 100); do
        if "$@"; then return; fi
        sleep 0.2
    done
    return 1
}

[ "$($install --binary /in/first --dry-run | grep -c '^would ')" -gt 5 ]
[ ! -e /usr/local/bin/nvidia-sidecar ]
passed 'a dry run changes nothing'

$install --binary /in/first | grep '^next: put the API key'
[ "$(systemctl is-active nvidia-sidecar.socket)" = inactive ]
passed 'without a key it is installed and not started'

sed -i 's/^SIDECAR_API_KEY=.*/SIDECAR_API_KEY=nvapi-of-the-trial/' "$variables"
$install --binary /in/first | grep '^healthy$'
get http://127.0.0.1:9190/health
get http://127.0.0.1:9191/metrics >/dev/null
passed 'with a key it starts, and both sockets answer'

process=$(systemctl show --property=MainPID --value nvidia-sidecar)
[ "$(stat --format=%U "/proc/$process")" = nvidia-sidecar ]
[ "$(sed -n 's/^CapEff:[[:space:]]*//p' "/proc/$process/status")" = 0000000000000000 ]
[ "$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' "/proc/$process/status")" = 1 ]
[ "$(sed -n 's/^Seccomp:[[:space:]]*//p' "/proc/$process/status")" = 2 ]
[ "$(stat --format='%U %a' /var/lib/nvidia-sidecar)" = 'nvidia-sidecar 700' ]
passed 'as its own user, without capabilities, behind a system call filter'

$install --binary /in/first | grep '^nothing to do$'
[ "$(systemctl show --property=MainPID --value nvidia-sidecar)" = "$process" ]
passed 'a second run does nothing and restarts nothing'

systemctl reload nvidia-sidecar
cp -p /etc/nvidia-sidecar/nvidia-sidecar.yaml /var/tmp/
echo 'no_such_key: 1' >>/etc/nvidia-sidecar/nvidia-sidecar.yaml
if systemctl reload nvidia-sidecar; then exit 1; fi
cp -p /var/tmp/nvidia-sidecar.yaml /etc/nvidia-sidecar/
until_true [ "$(systemctl is-active nvidia-sidecar)" = active ]
[ "$(systemctl show --property=MainPID --value nvidia-sidecar)" = "$process" ]
passed 'a good file reloads, a broken one fails the reload, and the process stays'

# A client that asks without a pause while the program is replaced twice.
(
    while [ ! -e /run/enough ]; do
        if get http://127.0.0.1:9190/health >/dev/null; then echo answered; else echo refused; fi
    done >/out/answers 2>/dev/null
) &
client=$!
until_true [ -s /out/answers ]
$install --binary /in/second | grep '^healthy$'
cmp /in/second /usr/local/bin/nvidia-sidecar
$install --rollback | grep '^healthy$'
cmp /in/first /usr/local/bin/nvidia-sidecar
touch /run/enough
wait "$client"
[ "$(grep -c answered /out/answers)" -gt 10 ]
if grep refused /out/answers; then exit 1; fi
passed 'an upgrade and a rollback refuse no connection'

mkdir -p /run/systemd/system/nvidia-sidecar.service.d
printf '[Service]\nWatchdogSec=2\n' >/run/systemd/system/nvidia-sidecar.service.d/trial.conf
systemctl daemon-reload
systemctl restart nvidia-sidecar
kill -STOP "$(systemctl show --property=MainPID --value nvidia-sidecar)"
restarted() { [ "$(systemctl show --property=NRestarts --value nvidia-sidecar)" -ge 1 ]; }
until_true restarted
get http://127.0.0.1:9190/health
passed 'the watchdog replaces a process that hangs'

echo 'SIDECAR_QUEUE_MAX_BYTES=none' >>"$variables"
before=$(cksum /usr/local/bin/nvidia-sidecar)
if $install --binary /in/second; then exit 1; fi
[ "$(cksum /usr/local/bin/nvidia-sidecar)" = "$before" ]
if systemctl restart nvidia-sidecar; then exit 1; fi
[ "$(systemctl show --property=ExecMainStatus --value nvidia-sidecar)" = 2 ]
[ "$(systemctl is-failed nvidia-sidecar)" = failed ]
sed -i '$d' "$variables"
systemctl reset-failed nvidia-sidecar
systemctl restart nvidia-sidecar
passed 'a wrong variable stops the upgrade, and the unit fails with 2 and is not tried again'

systemctl stop nvidia-sidecar.socket nvidia-sidecar-metrics.socket
[ "$(systemctl is-active nvidia-sidecar.service)" = inactive ]
passed 'stopping the sockets stops the service'

$install --uninstall
[ -f "$variables" ]
$install --uninstall --purge
for path in /usr/local/bin/nvidia-sidecar /etc/nvidia-sidecar /var/lib/nvidia-sidecar /etc/systemd/system/nvidia-sidecar.service; do
    [ ! -e "$path" ]
done
if id nvidia-sidecar; then exit 1; fi
passed 'uninstall keeps the configuration, purge leaves nothing'
