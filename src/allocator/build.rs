//! Links the settings of the C library's allocator into the program, where it is glibc.

use std::env;

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its target in the environment")]
fn main() {
    println!("cargo:rerun-if-changed=src/allocator");
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        // Whole, because nothing calls it: it runs before `main`.
        cc::Build::new()
            .file("src/allocator/malloc.c")
            .link_lib_modifier("+whole-archive")
            .compile("give_memory_back");
    }
}
