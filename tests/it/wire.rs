//! HTTP as bytes, for both ends of the tests: written and taken apart without the code that is under test.

/// A whole answer with a JSON content and further fields.
pub(crate) fn json(status: u16, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The head of a chunked event stream.
pub(crate) const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// The chunk that ends a chunked content.
pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// One chunk.
pub(crate) fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Where the head at the beginning of `bytes` ends, its blank line included.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// The fields of a head, in order, with names as they came.
pub(crate) fn fields(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    let mut rest = head;
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if let Some(colon) =
            line.iter().position(|b| *b == b':').filter(|_| rest.len() + end + 2 < head.len())
        {
            let name = String::from_utf8(line[..colon].to_vec()).expect("a field's name");
            fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }
    fields
}

/// The first value of a field.
pub(crate) fn field_of(head: &[u8], name: &str) -> Option<String> {
    let mut fields = fields(head).into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    fields.next().map(|(_, value)| String::from_utf8_lossy(&value).into_owned())
}
