#!/bin/sh
# Builds target/debian/nvidia-sidecar_VERSION_ARCH.deb from a release build: deploy/deb/build.sh [BINARY]
#
# What is not a file of the checkout is made here before cargo-deb packs it: all that lies below target/deb/usr/, which is also the
# place for a manual page and completions. The rest is listed in Cargo.toml, [package.metadata.deb].
# cargo-deb: cargo install cargo-deb --locked
set -eu
cd "$(dirname -- "$0")/../.."

binary=${1:-target/release/nvidia-sidecar}
if [ ! -x "$binary" ]; then
    echo "build.sh: $binary is missing: cargo build --release --locked" >&2
    exit 1
fi
tree=target/deb
rm -rf "$tree"
mkdir -p "$tree/bin" "$tree/usr/lib/systemd/system"
cp "$binary" "$tree/bin/nvidia-sidecar"
for unit in deploy/*.service deploy/*.socket; do
    # A package has /usr to itself; /usr/local is the administrator's.
    sed 's#/usr/local/#/usr/#g' "$unit" >"$tree/usr/lib/systemd/system/${unit##*/}"
done
cargo deb --no-build --no-strip
