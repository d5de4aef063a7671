#!/bin/sh
# Proves that the files which .dockerignore lets through are all that the build in deploy/Dockerfile needs.
set -eu
cd "$(dirname -- "$0")/../.."

fail() {
    echo "context_test: $*" >&2
    exit 1
}

context=$(mktemp -d)
trap 'rm -rf -- "$context"' EXIT

[ -f Cargo.lock ] || fail 'Cargo.lock is missing: the image is built with --locked'
head -n 20 .dockerignore | grep -qx '\*' || fail '.dockerignore is not an allow list: it must begin by excluding *'
sed -n 's/^!//p' .dockerignore | while IFS= read -r path; do
    [ ! -e "$path" ] || git ls-files -z -- "$path"
done | xargs -0 cp --parents -t "$context"

grep -q '^RUN cargo build --release --locked --bin nvidia-sidecar$' deploy/Dockerfile || fail 'deploy/Dockerfile builds in another way'
# `check` finds every missing file, and with the checkout's target directory it compiles this one crate only.
CARGO_TARGET_DIR=$PWD/target cargo check --quiet --locked --bin nvidia-sidecar --manifest-path "$context/Cargo.toml"
echo "context: $(find "$context" -type f | wc -l) files, and the build needs no other"
