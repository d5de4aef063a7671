//! What goes across the proxy as it is, what stops, and what is replaced.

use crate::ask::{ask, chat, model, models};
use crate::sidecar::{Sidecar, base};
use crate::upstream::{Received, Upstream};
use crate::wire;
use nvidia_sidecar::config::{LimitUnmatched, Secret};

#[test]
fn path_and_query_are_joined_to_the_base_with_one_v1() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for target in ["/v1/models?a=b&c=%20", "/models", "/v1", "/v1beta/x", "/v1/a//b/%7e?q=/v1/"] {
        sidecar.ask(ask("GET", target));
    }
    sidecar.reload(|c| c.upstream.url = base(&upstream.url("/gate")));
    sidecar.ask(models());
    let lines: Vec<String> = upstream.received().iter().map(Received::line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/models?a=b&c=%20 HTTP/1.1",
            "GET /v1/models HTTP/1.1",
            "GET /v1 HTTP/1.1",
            "GET /v1/v1beta/x HTTP/1.1",
            "GET /v1/a//b/%7e?q=/v1/ HTTP/1.1",
            "GET /gate/v1/models HTTP/1.1",
        ]
    );
}

#[test]
fn any_method_passes() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for method in ["GET", "DELETE", "OPTIONS", "PUT", "PATCH", "PROPFIND", "BREW"] {
        assert_eq!(sidecar.ask(ask(method, "/v1/things/1")).status(), 200, "{method}");
        assert_eq!(upstream.received().last().unwrap().line(), format!("{method} /v1/things/1 HTTP/1.1"));
    }
}

#[test]
fn hop_by_hop_fields_and_the_sidecars_own_stop_on_the_way_up() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let request = chat("a")
        .field("Connection", "keep-alive, X-Hop")
        .field("X-Hop", "1")
        .field("Keep-Alive", "timeout=5")
        .field("Proxy-Authorization", "Basic x")
        .field("TE", "trailers")
        .field("Upgrade", "h2c")
        .field("X-Priority", "high")
        .field("X-Sidecar-Max-Wait", "5")
        .field("X-Agent-Id", "me")
        .field("User-Agent", "test/1")
        .field("Accept", "application/json")
        .field("X-Stainless-Lang", "python");
    sidecar.ask(request);
    let received = &upstream.received()[0];
    for stopped in [
        "X-Hop",
        "Keep-Alive",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
        "X-Priority",
        "X-Sidecar-Max-Wait",
        "X-Agent-Id",
        "Connection",
        "Accept-Encoding",
    ] {
        assert_eq!(received.field(stopped), None, "{stopped}");
    }
    assert_eq!(received.field("Host"), Some(upstream.authority()));
    assert_eq!(received.field("User-Agent").as_deref(), Some("test/1"));
    assert_eq!(received.field("Accept").as_deref(), Some("application/json"));
    assert_eq!(received.field("X-Stainless-Lang").as_deref(), Some("python"));
}

#[test]
fn nothing_but_a_via_is_added_to_a_request() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    sidecar.ask(models());
    let head = upstream.received()[0].head.clone();
    let names: Vec<_> = wire::fields(&head).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["host", "via"]);
    assert_eq!(upstream.received()[0].field("host"), Some(upstream.authority()));
}

#[test]
fn an_upstream_that_is_the_sidecar_itself_is_a_508_and_one_that_is_another_sidecar_is_not() {
    let upstream = Upstream::start();
    let behind = Sidecar::before(&upstream);
    let sidecar =
        Sidecar::with(&upstream, |c| c.upstream.url = base(&format!("http://{}", behind.address())));
    assert_eq!(sidecar.ask(models()).status(), 200);
    let seen = upstream.received().len();
    let own = format!("http://{}", sidecar.address());
    sidecar.reload(|c| c.upstream.url = base(&own));
    for request in [models(), chat("a")] {
        let answer = sidecar.ask(request);
        answer.assert_error(508, "InvalidRequest");
        assert!(
            answer.text().contains("loop_detected") && answer.text().contains("upstream_url"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(upstream.received().len(), seen);
}

#[test]
fn hop_by_hop_fields_and_forged_ones_stop_on_the_way_down() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let fields = [
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("X-Sidecar-Attempts", "99"),
        ("Server", "nim"),
        ("NVCF-Status", "fulfilled"),
    ];
    upstream.answer_with(&wire::json(200, &fields, "{}"));
    let answer = sidecar.ask(chat("a"));
    for stopped in ["X-Hop", "Keep-Alive", "Proxy-Authenticate"] {
        assert_eq!(answer.head.field(stopped), None, "{stopped}");
    }
    assert_eq!(answer.head.number("X-Sidecar-Attempts"), 1);
    assert_eq!(answer.head.field("Server").as_deref(), Some("nim"));
    assert_eq!(answer.head.field("NVCF-Status").as_deref(), Some("fulfilled"));
}

#[test]
fn repeated_fields_pass_both_ways_as_often_as_they_came() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(&wire::json(
        200,
        &[("Set-Cookie", "a=1"), ("X-Other", "x"), ("Set-Cookie", "b=2")],
        "{}",
    ));
    let answer = sidecar.ask(models().field("X-Tag", "one").field("Accept", "*/*").field("X-Tag", "two"));
    assert_eq!(answer.head.all("set-cookie"), [b"a=1", b"b=2"]);
    assert_eq!(upstream.received()[0].fields("x-tag"), ["one", "two"]);
}

#[test]
fn latin_1_values_pass_both_ways_byte_for_byte() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(b"HTTP/1.1 200 OK\r\nX-City: K\xf6ln\r\nContent-Length: 0\r\n\r\n");
    let mut client = sidecar.connect();
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: s\r\nX-Name: M\xfcller\r\n\r\n");
    assert_eq!(client.answer().head.all("x-city"), [b"K\xf6ln"]);
    let sent = wire::fields(&upstream.received()[0].head);
    assert!(sent.contains(&("x-name".to_owned(), b"M\xfcller".to_vec())), "{sent:?}");
}

#[test]
fn compressed_bodies_pass_untouched() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let zipped = b"\x1f\x8b\x08\x00not really, and nobody looks\x00\xff";
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", zipped.len());
    upstream.answer_with(&[head.as_bytes(), zipped].concat());
    let answer = sidecar.ask(chat("a").field("Accept-Encoding", "gzip, br"));
    assert_eq!(
        (answer.head.field("content-encoding").as_deref(), &answer.body[..]),
        (Some("gzip"), &zipped[..])
    );
    assert_eq!(upstream.received()[0].field("accept-encoding").as_deref(), Some("gzip, br"));
    sidecar.ask(ask("POST", "/v1/files").field("Content-Encoding", "gzip").body(&zipped[..]));
    assert_eq!(upstream.received()[1].body, zipped);
}

#[test]
fn the_configured_key_replaces_the_clients_authorization() {
    let upstream = Upstream::start();
    let sidecar =
        Sidecar::with(&upstream, |c| c.upstream.api_key = Some(Secret::new("nvapi-key".to_owned())));
    sidecar.ask(chat("a").field("Authorization", "Bearer mine").field("authorization", "Bearer twice"));
    sidecar.ask(chat("b"));
    for received in upstream.received() {
        assert_eq!(received.fields("authorization"), ["Bearer nvapi-key"]);
    }
}

#[test]
fn without_a_key_the_clients_authorization_is_passed_on() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    sidecar.ask(chat("a").field("Authorization", "Bearer mine"));
    assert_eq!(upstream.received()[0].fields("authorization"), ["Bearer mine"]);
}

#[test]
fn the_nvidia_key_never_goes_to_another_upstream() {
    let (nvidia, other) = (Upstream::start(), Upstream::start());
    let sidecar = Sidecar::with(&nvidia, |c| {
        c.upstream.api_key = Some(Secret::new("nvapi-key".to_owned()));
        c.passthrough.url = Some(base(&other.url("")));
    });
    sidecar.ask(chat("nvidia's"));
    sidecar.ask(model("openai/gpt", "other's").field("Authorization", "Bearer mine"));
    sidecar.ask(models());
    assert_eq!(nvidia.received().len(), 1);
    let received = other.received();
    assert_eq!(received[0].fields("authorization"), ["Bearer mine"]);
    assert_eq!(received[1].fields("authorization"), Vec::<String>::new());
    assert_eq!(received[1].line(), "GET /v1/models HTTP/1.1");
    sidecar.reload(|c| c.passthrough.api_key = Some(Secret::new("sk-other".to_owned())));
    sidecar.ask(model("openai/gpt", "other's").field("Authorization", "Bearer mine"));
    assert_eq!(other.received()[2].fields("authorization"), ["Bearer sk-other"]);
}

/// Whether the sidecar counted the request as limited: only those tell how they waited.
fn is_limited(sidecar: &Sidecar, ask: crate::ask::Ask) -> bool {
    sidecar.ask(ask).head.field("x-sidecar-queue-ms").is_some()
}

#[test]
fn the_models_gateway_decides_whether_a_request_is_limited() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for name in ["nvidia/a", "NVIDIA/a", " Nvidia-Gateway /a/b", "nvidiavx/a", "nvidiavx18088980513/x"] {
        assert!(is_limited(&sidecar, model(name, "x")), "{name}");
    }
    for name in ["openai/gpt-4o", "nvidia", "meta/nvidia/x", "nvidia2/x", ""] {
        assert!(!is_limited(&sidecar, model(name, "x")), "{name}");
    }
    assert!(!is_limited(&sidecar, models()));
    assert!(
        is_limited(&sidecar, ask("POST", "/v1/chat/completions").body("{\"model\": \"nvidia/x\"")),
        "a server may read what this is not"
    );
    assert!(!is_limited(&sidecar, ask("POST", "/v1/chat/completions").body("{\"model\": 5}")));
}

#[test]
fn limit_unmatched_takes_inference_requests_into_the_quota() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.routing.limit_unmatched = LimitUnmatched::Always);
    assert!(is_limited(&sidecar, model("meta/llama", "x")));
    assert!(is_limited(&sidecar, ask("POST", "/v1/embeddings").body("no JSON")));
    assert!(!is_limited(&sidecar, models()), "listing models runs none");
    for mode in [LimitUnmatched::Never, LimitUnmatched::Auto] {
        sidecar.reload(|c| c.routing.limit_unmatched = mode);
        assert!(!is_limited(&sidecar, model("meta/llama", "x")), "{mode:?} for a host that is not NVIDIA's");
    }
}

#[test]
fn the_gateways_prefix_is_taken_off_when_that_is_wanted_and_nothing_else_changes() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let body = r#"{ "a" : [1, 2.50],  "model":"nvidia/deepseek-ai/deepseek-v4-pro", "model2": "nvidia/x" }"#;
    sidecar.ask(ask("POST", "/v1/chat/completions").body(body));
    sidecar.reload(|c| c.routing.strip_prefix = true);
    sidecar.ask(ask("POST", "/v1/chat/completions").body(body));
    let stripped = body.replace("nvidia/deepseek-ai", "deepseek-ai");
    assert_eq!(upstream.bodies(), [body.to_owned(), stripped.clone()]);
    assert_eq!(upstream.received()[1].field("content-length"), Some(stripped.len().to_string()));
}

#[test]
fn an_answer_to_head_tells_a_length_and_has_no_content() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    let mut client = sidecar.begin(ask("HEAD", "/v1/models"));
    let answer = client.answer_to_head();
    assert_eq!((answer.status(), answer.head.number("content-length")), (200, 1234));
    // The connection is in step: the next answer begins where it should.
    assert_eq!(client.send(Vec::from(models())).answer().status(), 200);
}

#[test]
fn answers_that_have_no_content_have_none() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let mut client = sidecar.connect();
    upstream.answer_with(b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n");
    let answer = client.send(Vec::from(ask("DELETE", "/v1/files/1"))).answer();
    assert_eq!((answer.status(), answer.head.field("transfer-encoding")), (204, None));
    assert_eq!(answer.head.field("content-length"), None);
    upstream.answer_with(b"HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nContent-Length: 99\r\n\r\n");
    let answer = client.send(Vec::from(models())).answer();
    assert_eq!((answer.status(), answer.head.field("etag").as_deref()), (304, Some("\"e\"")));
    upstream.answer_with(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.send(Vec::from(models())).answer().body, b"");
    assert_eq!(client.send(Vec::from(models())).answer().status(), 200);
}

#[test]
fn a_redirect_is_the_clients_to_follow() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    upstream.answer_with(&wire::json(302, &[("Location", "/elsewhere")], "{}"));
    let answer = sidecar.ask(models());
    assert_eq!((answer.status(), answer.head.field("location").as_deref()), (302, Some("/elsewhere")));
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn an_interim_answer_of_the_upstream_does_not_become_the_answer() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    upstream.answer_with(&[interim, wire::json(200, &[], "{}")].concat());
    assert_eq!(sidecar.ask(chat("a")).text(), "{}");
}

#[test]
fn a_large_head_of_an_answer_passes_and_a_huge_one_is_the_upstreams_error() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let big = "v".repeat(15_000);
    for times in [1, 2, 4] {
        upstream.answer_with(&wire::json(200, &[("X-Big", &big.repeat(times))], "{}"));
        assert_eq!(sidecar.ask(chat("a")).head.field("x-big"), Some(big.repeat(times)));
    }
    for times in [5, 10, 100] {
        upstream.answer_with(&wire::json(200, &[("X-Huge", &big.repeat(times))], "{}"));
        sidecar.ask(chat("a")).assert_error(502, "UpstreamError");
    }
}

#[test]
fn an_answer_carries_the_upstreams_request_id_else_the_clients_else_a_new_one() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let told = |ask: crate::ask::Ask| sidecar.ask(ask).head.field("x-request-id").unwrap();
    upstream.answer_with(&wire::json(200, &[("X-Request-Id", "theirs")], "{}"));
    assert_eq!(told(chat("a").field("X-Request-Id", "mine")), "theirs");
    assert_eq!(told(chat("a").field("X-Request-Id", "mine")), "mine");
    assert_eq!(told(models().field("X-Request-Id", "mine")), "mine");
    let (one, other) = (told(chat("a")), told(models()));
    assert!(!one.is_empty() && one != other);
}
