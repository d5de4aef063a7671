//! `Retry-After` in any form: a time that can be added to the present, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::clock::Moment;
use nvidia_sidecar::http::retry_after::{read, seconds};
use std::time::{Duration, SystemTime};

fuzz_target!(|input: (u32, &[u8])| {
    let (unix, value) = input;
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(unix.into());
    if let Some(wait) = read(value, wall) {
        assert!(Moment::from_secs_f64(1.0) + wait >= Moment::from_secs_f64(1.0));
        assert!(seconds(wait) >= 1);
    }
});
