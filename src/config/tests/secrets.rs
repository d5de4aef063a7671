//! Secrets are named when they are wrong, and shown nowhere.

use super::super::*;
use super::{config, fault_of_variable, faults};

#[test]
fn a_proxys_password_is_in_no_notice_and_not_in_what_check_shows() {
    let secret = "Zq8secret7f";
    for text in [
        format!("http://user:{secret}@proxy.lan:port"),
        format!("http://user:{secret}"),
        format!("socks5://user:{secret}@proxy.lan"),
        format!("http://{secret} x@proxy.lan"),
        format!("[{secret}]"),
    ] {
        let found = faults(&format!("outbound_proxy: {text}")).join("\n");
        assert!(!found.contains(secret), "{found}");
    }
    let config = config(&format!("outbound_proxy: http://user:{secret}@proxy.lan:3128"));
    let shown = format!("{config:?}{}{:?}", render_effective(&config), effective_json(&config));
    assert!(!shown.contains(secret) && shown.contains("http://…@proxy.lan:3128"), "{shown}");
    let held = reload(&Config::default(), &config);
    assert!(!format!("{held:?}").contains(secret));
}

#[test]
fn a_placeholder_is_refused_as_such() {
    for file in
        ["upstream_api_key: nvapi-REPLACE_ME", "admin_token: <your token>", "client_tokens: {a: CHANGE_ME}"]
    {
        let found = faults(file);
        assert!(found.len() == 1 && found[0].contains("placeholder"), "{found:?}");
    }
    assert!(fault_of_variable("SIDECAR_API_KEY", "${NVIDIA_API_KEY}").contains("placeholder"));
}

#[test]
fn no_notice_repeats_a_secret() {
    let secret = "Zq8secret7f";
    let files = [
        format!("upstream_api_key: [{secret}]"),
        format!("upstream_api_key: 'two words {secret}'"),
        format!("upstream_url: https://user:{secret}@host/v1"),
        format!("upstream_url: https://host/v1?key={secret}"),
        format!("passthrough_url: user:{secret}@host"),
        format!("client_tokens: {{a: {secret}, b: {secret}}}"),
        format!("client_tokens: {{a: {secret}, a: other}}"),
        format!("client_tokens: {secret}"),
        format!("nvapi-{secret}: 1"),
        format!("api_key: {secret}"),
        format!("listen_host: nvapi-{secret}"),
        format!("nvapi-{secret}"),
        format!("upstream_api_key=nvapi-{secret}\nrate_rpm: 1"),
        format!("upstream_api_key: *{secret}"),
        format!("agents: [{{name: a, token: {secret}}}]"),
        format!("client_tokens: {{nvapi-{secret}: [*nowhere]}}"),
    ];
    for file in &files {
        let found = faults(file).join("\n");
        assert!(!found.contains(secret), "{file} gives {found}");
    }
    for (name, value) in [("SIDECAR_CLIENT_TOKENS", secret), ("SIDECAR_API_KEY", "Zq8secret7f\u{1}")] {
        assert!(!fault_of_variable(name, value).contains(secret), "{name}");
    }
    let file = format!("upstream_api_key: {secret}\nadmin_token: {secret}\nclient_tokens: {{a: {secret}}}");
    let config = config(&file);
    let shown = format!("{config:?}{}", render_effective(&config));
    assert!(!shown.contains(secret) && shown.contains("Zq8s…"), "{shown}");
    let environment: Environment = [("SIDECAR_API_KEY", secret)].into_iter().collect();
    assert!(!format!("{environment:?}").contains(secret));
}

#[test]
fn quotes_and_bearer_in_a_value_are_named() {
    for (name, value) in [
        ("SIDECAR_API_KEY", "\"nvapi-0123456789\""),
        ("SIDECAR_API_KEY", "'nvapi-0123456789'"),
        ("SIDECAR_RATE_RPM", "\"40\""),
        ("SIDECAR_STATE_FILE", "'/var/lib/x'"),
        ("SIDECAR_UPSTREAM", "\"https://host/v1\""),
    ] {
        let found = fault_of_variable(name, value);
        assert!(found.contains("has quotes around its value") && !found.contains("nvapi"), "{found}");
    }
    for value in ["a=\"secret-0123\"", "a=secret-0123'"] {
        let found = fault_of_variable("SIDECAR_CLIENT_TOKENS", value);
        assert!(found.contains("of `a` has a quote") && !found.contains("0123"), "{found}");
    }
    for file in ["upstream_api_key: Bearer nvapi-0123456789", "client_tokens: {a: bearer secret}"] {
        let found = faults(file);
        assert!(found.len() == 1 && found[0].contains("begins with `Bearer `"), "{found:?}");
    }
}
