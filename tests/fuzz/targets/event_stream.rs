//! Where an event stream may be interrupted does not depend on how its bytes are cut into pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::downstream::keepalive::FrameScanner;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let (mut whole, mut cut) = (FrameScanner::new(true), FrameScanner::new(true));
    whole.feed(bytes);
    bytes.chunks(usize::from(size).max(1)).for_each(|piece| cut.feed(piece));
    assert_eq!(whole.place(), cut.place());
});
