//! Whatever a power cut left in the state file: no panic, and nothing counts that is too old or too much.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::dispatch::state_lines::{Found, Instants, read};
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let memory = Duration::from_secs(70);
    let boot = Some(("0b3d7e1c".to_owned(), Duration::from_secs(5000)));
    let now = Instants { wall: Duration::from_secs(1_764_081_234), boot };
    if let Found::Sent(sent) | Found::Damaged(sent) = read(bytes, &now, memory) {
        assert!(sent.iter().all(|(age, _)| *age < memory));
    }
});
