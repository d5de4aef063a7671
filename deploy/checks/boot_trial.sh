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

# serve UNIT PORT...: an HTTP server in a unit of that name, as another program on the host.
serve() {
    unit=/etc/systemd/system/$1
    shift
    cat >"$unit" <<END
[Service]
ExecStart=/usr/bin/node -e "for (const port of [$(echo "$*" | tr ' ' ,)]) require('http').createServer((_, answer) => answer.end('another')).listen(port, '127.0.0.1')"
[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload
    systemctl enable --now "${unit##*/}"
    for port in "$@"; do until_true get "http://127.0.0.1:$port/"; done
}

serve stranger.service 9191
if $install --binary /in/first >/run/refusal 2>&1; then exit 1; fi
grep '^install.sh: port 9191 is taken by .*stranger.service' /run/refusal
[ ! -e /usr/local/bin/nvidia-sidecar ]
systemctl disable --now stranger.service
passed 'a port that is taken is named with its process, and nothing is changed'

serve nvidia-sidecar.service 9190 9191
cp /etc/systemd/system/nvidia-sidecar.service /run/foreign
$install --binary /in/first >/run/said
grep '^next: put the API key' /run/said
cmp /run/foreign /etc/systemd/system/nvidia-sidecar.service.replaced
[ "$(systemctl is-active nvidia-sidecar.socket)" = inactive ]
[ "$(get http://127.0.0.1:9190/)" = another ]
passed 'without a key it is installed and not started, and what ran under its name before runs on'

sed -i 's/^SIDECAR_API_KEY=.*/SIDECAR_API_KEY=nvapi-of-the-trial/' "$variables"
$install --binary /in/first | grep '^healthy$'
get http://127.0.0.1:9190/health
get 'http://[::1]:9190/health'
get http://127.0.0.1:9191/metrics >/dev/null
get 'http://[::1]:9191/metrics' >/dev/null
systemctl is-enabled nvidia-sidecar.socket nvidia-sidecar-metrics.socket nvidia-sidecar.service
passed 'with a key it takes over from what ran under its name, and both sockets answer'

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

cat >/etc/nvidia-sidecar/alert-bridge.env <<'END'
ALERT_COMMAND_CRITICAL=["/usr/bin/node", "-e", "require('fs').writeFileSync(process.env.HOME + '/heard', process.argv[1])", "{text}"]
ALERT_LANGUAGE=zh
TZ=Asia/Shanghai
END
$install --binary /in/first --alert-bridge
until_true get http://127.0.0.1:9094/health
get --data '{"version": "4", "alerts": [{"status": "firing", "startsAt": "2026-02-06T13:08:45Z",
    "labels": {"alertname": "Trial", "severity": "critical", "agent_name": "scout"}}]}' http://127.0.0.1:9094/webhook
until_true grep '^\[严重\] 触发：Trial · scout$' /var/lib/nvidia-sidecar-alert-bridge/heard
grep '^开始时间：2026-02-06 21:08:45 +08:00$' /var/lib/nvidia-sidecar-alert-bridge/heard
passed 'the alert bridge runs a program in Node, in the language and the time that are set'

systemctl stop nvidia-sidecar.socket nvidia-sidecar-metrics.socket
[ "$(systemctl is-active nvidia-sidecar.service)" = inactive ]
passed 'stopping the sockets stops the service'

$install --uninstall
[ -f "$variables" ]
$install --uninstall --purge
gone() {
    for path in "$@" /etc/nvidia-sidecar /var/lib/nvidia-sidecar /var/lib/private/nvidia-sidecar-alert-bridge; do
        [ ! -e "$path" ]
    done
    if id nvidia-sidecar; then exit 1; fi
}
gone /usr/local/bin/nvidia-sidecar /usr/local/share/doc/nvidia-sidecar /etc/systemd/system/nvidia-sidecar.service
cmp /run/foreign /etc/systemd/system/nvidia-sidecar.service.replaced
passed 'uninstall keeps the configuration, purge leaves nothing but the unit that it did not write'

units='nvidia-sidecar.socket nvidia-sidecar-metrics.socket nvidia-sidecar.service'
dpkg --install /in/nvidia-sidecar.deb >/run/said
grep "put the API key into $variables, then: systemctl enable --now $units" /run/said
[ "$(systemctl is-active nvidia-sidecar.socket)" = inactive ]
sed -i 's/^SIDECAR_API_KEY=.*/SIDECAR_API_KEY=nvapi-of-the-trial/' "$variables"
# shellcheck disable=SC2086 # a list of unit names
systemctl enable --now $units
get http://127.0.0.1:9190/health
[ "$(stat --format='%U %G %a' /etc/nvidia-sidecar/nvidia-sidecar.yaml "$variables" | tr '\n' ,)" = 'root nvidia-sidecar 640,root root 600,' ]
before=$(systemctl show --property=MainPID --value nvidia-sidecar)
dpkg --install /in/nvidia-sidecar.deb
get http://127.0.0.1:9190/health
[ "$(systemctl show --property=MainPID --value nvidia-sidecar)" != "$before" ]
grep nvapi-of-the-trial "$variables"
passed 'the package installs, starts once it has a key, and upgrades what runs'

dpkg --remove nvidia-sidecar
[ "$(systemctl is-active nvidia-sidecar.socket)" = inactive ]
[ -f "$variables" ]
dpkg --purge nvidia-sidecar
gone /usr/bin/nvidia-sidecar /usr/share/doc/nvidia-sidecar
passed 'the package removed keeps its configuration, purged leaves nothing'
