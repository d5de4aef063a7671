//! Values that are text of a certain form: URLs, paths and secrets.

use std::path::PathBuf;

use super::kind::{Kind, Misfit, as_text, shown};
use super::placeholder;
use super::raw::Raw;
use super::secret::Secret;
use super::spelling::shown_text;
use super::url::BaseUrl;

/// The base URL of an upstream.
pub(super) struct Url;

/// What a base URL is copied with by mistake; every request would go to such a path below it.
const ENDPOINTS: [&str; 6] =
    ["/chat/completions", "/completions", "/embeddings", "/messages", "/responses", "/models"];

impl Kind for Url {
    type Value = BaseUrl;

    fn read(&self, given: &Raw) -> Result<BaseUrl, Misfit> {
        let remedy = "give a URL such as https://integrate.api.nvidia.com/v1";
        let Some(text) = as_text(given) else {
            return Err(Misfit::new(format!("is {}, which is not a URL", shown(given)), remedy));
        };
        let url = BaseUrl::parse(text)
            .map_err(|problem| Misfit::new(format!("is {}, which {problem}", shown_url(text)), remedy))?;
        match ENDPOINTS.iter().find(|endpoint| url.path().ends_with(*endpoint)) {
            Some(endpoint) => Err(Misfit::new(
                format!("is {}, which ends in the endpoint {endpoint}", shown_url(text)),
                "give what comes before it; a request brings its own path",
            )),
            None => Ok(url),
        }
    }

    fn show(&self, value: &BaseUrl) -> Raw {
        Raw::Text(value.to_string())
    }
}

/// A URL as a notice repeats it: without what may be a password or a key.
fn shown_url(text: &str) -> String {
    if text.trim().is_empty() {
        return "empty".into();
    }
    let public = text.split(['?', '#']).next().unwrap_or_default();
    match public.rsplit_once('@') {
        Some((_, host)) => shown_text(&format!("…@{host}")),
        None => shown_text(public),
    }
}

/// The path of a file.
pub(super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(&self, given: &Raw) -> Result<PathBuf, Misfit> {
        match as_text(given) {
            Some(text) if !text.is_empty() && !text.contains('\0') => Ok(PathBuf::from(text)),
            _ => Err(Misfit::wrong_type(given, "a path")),
        }
    }

    fn show(&self, value: &PathBuf) -> Raw {
        Raw::Text(value.to_string_lossy().into_owned())
    }
}

/// A secret that a header can carry and that is not an example's placeholder. Notices never repeat it.
pub(super) struct Token;

/// The longest secret in bytes; it has to fit into a header.
const MAX_SECRET: usize = 4096;

impl Kind for Token {
    type Value = Secret;

    fn read(&self, given: &Raw) -> Result<Secret, Misfit> {
        let remedy = "give the secret as it was issued";
        let text = as_text(given).ok_or_else(|| Misfit::new("is not text", "put the secret in quotes"))?;
        if placeholder::is_placeholder(text) {
            return Err(Misfit::new(
                "still holds an example's placeholder",
                "replace it with the real secret, or remove it",
            ));
        }
        if text.is_empty() {
            return Err(Misfit::new("is empty", remedy));
        }
        if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
            return Err(Misfit::new("has a quote at its start or end", "remove the quotes"));
        }
        if text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) {
            return Err(Misfit::new(
                "begins with `Bearer `",
                "give the key alone; the sidecar adds the word",
            ));
        }
        if text.len() > MAX_SECRET {
            return Err(Misfit::new(format!("is longer than {MAX_SECRET} bytes"), remedy));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Misfit::new("holds a blank or a character that no header can carry", remedy));
        }
        Ok(Secret::new(text))
    }

    fn show(&self, value: &Secret) -> Raw {
        Raw::Secret { shown: value.to_string(), exposed: value.clone() }
    }
}
