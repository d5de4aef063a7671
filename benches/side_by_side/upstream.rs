//! The upstream of the benchmarks: `may_minihttp` answering every request with one small completion.
//!
//! Listens on the port that is its only argument, on the loopback address, until it is killed.

use may_minihttp::{HttpServer, HttpService, Request, Response};
use std::io;
use std::process::ExitCode;

const COMPLETION: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"nvidia/bench","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}"#;

#[derive(Clone)]
struct Completion;

impl HttpService for Completion {
    fn call(&mut self, request: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        // A body that is not taken would be read as the next request; dropping its reader takes it.
        drop(request.body());
        response.header("Content-Type: application/json");
        response.body(COMPLETION);
        Ok(())
    }
}

fn main() -> ExitCode {
    let Some(port) = std::env::args().nth(1) else {
        eprintln!("usage: bench_upstream PORT");
        return ExitCode::from(2);
    };
    match HttpServer(Completion).start(format!("127.0.0.1:{port}")) {
        Ok(server) => {
            server.wait();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_upstream: cannot listen on port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}
