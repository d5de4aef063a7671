#!/bin/sh
# Builds deploy/Dockerfile without any registry: the program that is already built, on the bare Debian of boot_test.sh.
#
# So the build arguments that docs/OPERATIONS.md names for networks behind mirrors are tried, and what the image holds. Needs root.
set -eu

fail() {
    echo "image_test: $*" >&2
    exit 1
}

if [ $# -ne 1 ] || [ ! -x "$1" ]; then fail 'usage: image_test.sh BINARY'; fi
binary=$(realpath -- "$1")
cd "$(dirname -- "$0")/../.."
bare=target/boot-test/system
[ -d "$bare" ] || fail 'the bare system is missing: run boot_test.sh first'
mkdir -p target
work=$(mktemp -d "$PWD/target/image-test.XXXXXX")
# vfs and chroot need no support of the kernel's that a container might lack.
image() { buildah --root "$work/images" --runroot "$work/run" --storage-driver vfs "$@"; }
trap 'image umount --all >/dev/null 2>&1 || true; rm -rf -- "$work"' EXIT

base=$(image from scratch)
image copy --quiet "$base" "$bare" / >/dev/null
image commit --quiet --rm "$base" localhost/debian-base >/dev/null

mkdir "$work/program"
cp "$binary" "$work/program/nvidia-sidecar"
image build --quiet --pull-never --isolation chroot --format docker --build-arg RUNTIME_BASE=localhost/debian-base \
    --build-context "program=$work/program" --file deploy/Dockerfile --tag localhost/nvidia-sidecar . >"$work/log" 2>&1 ||
    fail "the image cannot be built: $(tail -n 5 "$work/log")"

container=$(image from --pull-never localhost/nvidia-sidecar)
root=$(image mount "$container")
[ "$(stat -c '%u:%g' "$root/var/lib/nvidia-sidecar")" = 65532:65532 ] || fail 'the state directory is not the program'\''s'
chroot --userspec=65532:65532 "$root" /usr/local/bin/nvidia-sidecar --version || fail 'the program does not run in it'
image inspect --type image localhost/nvidia-sidecar >"$work/image.json"
python3 - "$work/image.json" <<'END'
import json, sys
config = json.load(open(sys.argv[1]))["Docker"]["config"]
program = "/usr/local/bin/nvidia-sidecar"
found = (config["User"], config["Entrypoint"], config["Healthcheck"]["Test"], sorted(config["ExposedPorts"]))
wanted = ("65532:65532", [program], ["CMD", program, "healthcheck"], ["9190/tcp", "9191/tcp"])
if found != wanted:
    sys.exit(f"image_test: the image is set to {found} instead of {wanted}")
END

# The mirror of crates, as the first stage writes it down.
# shellcheck disable=SC2016 # the Dockerfile's own name
step=$(sed -n 's/^RUN \(\[ -z "\$CRATES_INDEX" \].*\)/\1/p' deploy/Dockerfile)
[ -n "$step" ] || fail 'deploy/Dockerfile has no step for CRATES_INDEX'
CARGO_HOME=$work CRATES_INDEX="" sh -c "$step"
[ ! -e "$work/config.toml" ] || fail 'without a mirror something is configured'
CARGO_HOME=$work CRATES_INDEX=sparse+https://crates.example.org/index/ sh -c "$step"
python3 - "$work/config.toml" <<'END'
import sys, tomllib
source = tomllib.load(open(sys.argv[1], "rb"))["source"]
if source[source["crates-io"]["replace-with"]]["registry"] != "sparse+https://crates.example.org/index/":
    sys.exit(f"image_test: {source} does not lead to the mirror")
END
echo 'image: built from the bare Debian and a program, no registry asked; the mirror of crates is taken'
