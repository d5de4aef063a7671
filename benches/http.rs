//! The HTTP cores on a typical request of the official OpenAI SDK: framing, rewriting fields, writing the answer's head.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nvidia_sidecar::http::headers::{client_fields, upstream_fields};
use nvidia_sidecar::http::write::{Asked, Delivery, answer_head, chunk_into};
use nvidia_sidecar::http::{Bounds, Head, Request, RequestReader, Step};
use std::hint::black_box;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

/// What openai-python sends for a chat completion, its 17 fields among them.
const SDK_HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\n\
    Host: 127.0.0.1:9190\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Connection: keep-alive\r\n\
    Accept: application/json\r\n\
    Content-Type: application/json\r\n\
    User-Agent: OpenAI/Python 1.58.1\r\n\
    X-Stainless-Lang: python\r\n\
    X-Stainless-Package-Version: 1.58.1\r\n\
    X-Stainless-OS: Linux\r\n\
    X-Stainless-Arch: x64\r\n\
    X-Stainless-Runtime: CPython\r\n\
    X-Stainless-Runtime-Version: 3.11.7\r\n\
    Authorization: Bearer nvapi-0123456789012345678901234567890123456789\r\n\
    X-Stainless-Async: false\r\n\
    X-Stainless-Retry-Count: 0\r\n\
    X-Stainless-Read-Timeout: 600\r\n";

/// The fields of NIM's answers.
const ANSWER_FIELDS: [(&str, &str); 8] = [
    ("date", "Tue, 01 Jul 2025 12:00:00 GMT"),
    ("content-type", "application/json"),
    ("content-length", "1024"),
    ("connection", "keep-alive"),
    ("access-control-expose-headers", "nvcf-reqid"),
    ("nvcf-reqid", "0f6bd2b4-7e22-4f0a-9e4f-8f2ad8a6c5d1"),
    ("nvcf-status", "fulfilled"),
    ("vary", "Origin"),
];

const BOUNDS: Bounds = Bounds { max_body_bytes: 32 * 1024 * 1024 };

fn request_bytes(body_bytes: usize) -> Vec<u8> {
    let mut bytes = format!("{SDK_HEAD}Content-Length: {body_bytes}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + body_bytes, b'x');
    bytes
}

/// Reads the one request in `bytes`, fed in pieces of at most `piece`.
fn read(bytes: &[u8], piece: usize) -> Request {
    let mut reader = RequestReader::default();
    for piece in bytes.chunks(piece) {
        reader.feed(piece);
        if let Ok(Step::Complete(request)) = reader.step(&BOUNDS) {
            return request;
        }
    }
    unreachable!("the request is whole and valid")
}

fn sdk_head() -> Head {
    read(&request_bytes(0), usize::MAX).head
}

fn framing(c: &mut Criterion) {
    let mut group = c.benchmark_group("framing");
    for (name, body_bytes, piece) in [
        ("sdk request, 1 kB body, one read", 1024, usize::MAX),
        ("sdk request, 1 kB body, in pieces of 100 bytes", 1024, 100),
        ("sdk request, 512 KiB body, reads of 64 KiB", 512 * 1024, 64 * 1024),
    ] {
        let bytes = request_bytes(body_bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| read(black_box(&bytes), piece));
        });
    }
    group.finish();
}

fn fields(c: &mut Criterion) {
    let head = sdk_head();
    c.bench_function("fields to the upstream, sdk request", |b| {
        b.iter(|| {
            upstream_fields(black_box(&head), true)
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
        });
    });
    let map: HeaderMap = ANSWER_FIELDS
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    c.bench_function("fields to the client, nim answer", |b| {
        b.iter(|| {
            client_fields(black_box(&map)).map(|(name, value)| name.len() + value.len()).sum::<usize>()
        });
    });
    c.bench_function("head to the client, nim answer", |b| {
        let asked = Asked { is_head: false, is_http_10: false, keep_alive: true };
        let delivery = Delivery::decide(asked, 200, Some(1024));
        let mut out = Vec::with_capacity(1024);
        b.iter(|| {
            out.clear();
            answer_head(&mut out, 200, client_fields(black_box(&map)), delivery);
            out.len()
        });
    });
}

fn chunks(c: &mut Criterion) {
    let piece = [b'x'; 200];
    let mut out = Vec::with_capacity(1024);
    c.bench_function("chunk of an event stream, 200 bytes", |b| {
        b.iter(|| {
            out.clear();
            chunk_into(&mut out, black_box(&piece));
            out.len()
        });
    });
}

criterion_group!(benches, framing, fields, chunks);
criterion_main!(benches);
