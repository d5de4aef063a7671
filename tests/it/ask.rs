//! Requests as a test wants to say them.

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    line: String,
    fields: Vec<String>,
    body: Option<Vec<u8>>,
}

/// A request with this method and target and without content.
pub(crate) fn ask(method: &str, target: &str) -> Ask {
    Ask { line: format!("{method} {target} HTTP/1.1"), fields: vec!["Host: sidecar".into()], body: None }
}

/// A limited request: a chat completion of a model behind one of NVIDIA's gateways. `text` tells it from others.
pub(crate) fn chat(text: &str) -> Ask {
    model("nvidia/test-model", text)
}

/// A chat completion of this model.
pub(crate) fn model(model: &str, text: &str) -> Ask {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    ask("POST", "/v1/chat/completions").field("Content-Type", "application/json").body(body)
}

/// A request that is not limited.
pub(crate) fn models() -> Ask {
    ask("GET", "/v1/models")
}

/// One of the operator's pages.
pub(crate) fn page(path: &str) -> Ask {
    ask("GET", path)
}

impl Ask {
    /// Adds a field.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Ask {
        self.fields.push(format!("{name}: {value}"));
        self
    }

    /// Names another host than the usual one.
    pub(crate) fn host(mut self, name: &str) -> Ask {
        self.fields[0] = format!("Host: {name}");
        self
    }

    /// Sets the priority.
    pub(crate) fn priority(self, name: &str) -> Ask {
        self.field("X-Priority", name)
    }

    /// Sets the content, sent with its length.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Ask {
        self.body = Some(body.into());
        self
    }

    /// Speaks HTTP/1.0.
    pub(crate) fn http_10(mut self) -> Ask {
        self.line = self.line.replace("HTTP/1.1", "HTTP/1.0");
        self
    }
}

impl From<Ask> for Vec<u8> {
    fn from(ask: Ask) -> Vec<u8> {
        let Ask { line, mut fields, body } = ask;
        if let Some(body) = &body {
            fields.push(format!("Content-Length: {}", body.len()));
        }
        let mut bytes = format!("{line}\r\n{}\r\n\r\n", fields.join("\r\n")).into_bytes();
        bytes.extend(body.unwrap_or_default());
        bytes
    }
}
