//! What is read from a connection does not depend on how its bytes are cut into pieces, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::http::{Bounds, Request, RequestReader, Step};

const BOUNDS: Bounds = Bounds { max_body_bytes: 4096 };

type Seen = (Vec<(String, String, Vec<u8>)>, Option<u16>);

fn seen(request: &Request) -> (String, String, Vec<u8>) {
    (request.head.method().to_owned(), request.head.target().to_owned(), request.body.clone())
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let (mut reader, mut requests) = (RequestReader::default(), Vec::new());
    for piece in pieces {
        reader.feed(piece);
        loop {
            let step = reader.step_to_head(&BOUNDS).and_then(|_| reader.step(&BOUNDS));
            match step {
                Ok(Step::Complete(request)) => requests.push(seen(&request)),
                Ok(Step::NeedMore { .. }) => break,
                Err(refusal) => return (requests, Some(refusal.status)),
            }
        }
    }
    (requests, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = read(std::iter::once(bytes));
    let cut = read(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, cut);
});
