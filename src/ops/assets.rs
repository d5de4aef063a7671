//! The dashboard's files. The page asks this server and no other:
//!
//! - `GET /api/dashboard/stream`: server-sent events; `event: snapshot` with a [`crate::ops::dashboard::DashboardSnapshot`]
//!   as `data`, in one line, once a second;
//! - `GET /api/dashboard/history`: the last hour, see [`crate::ops::history`]; each snapshot then brings the newest point;
//! - `GET /api/admin/config`: a JSON object with `rate_rpm`, `queue_max_size` and `queue_full_policy` at its top (others
//!   are not looked at);
//! - `POST /api/admin/config`: an object with those of them that changed; answered by the object as it is then, or by
//!   `{"error": {"message"}}` with the reason of the refusal;
//! - `DELETE /api/queue/ID` and `POST /api/admin/reset`, when an operator asks for it.

/// The policy under which the page runs: its own files, its own server, nothing inline, no frame around it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// The path at which it is served.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: &'static str,
}

/// All files of the dashboard, the page first.
pub const ASSETS: [Asset; 8] = [
    Asset {
        path: "/api/dashboard",
        content_type: "text/html; charset=utf-8",
        body: include_str!("dashboard/page.html"),
    },
    Asset { path: "/api/dashboard/style.css", content_type: CSS, body: include_str!("dashboard/style.css") },
    Asset { path: "/api/dashboard/app.js", content_type: JS, body: include_str!("dashboard/app.js") },
    Asset { path: "/api/dashboard/charts.js", content_type: JS, body: include_str!("dashboard/charts.js") },
    Asset {
        path: "/api/dashboard/settings.js",
        content_type: JS,
        body: include_str!("dashboard/settings.js"),
    },
    Asset { path: "/api/dashboard/stream.js", content_type: JS, body: include_str!("dashboard/stream.js") },
    Asset { path: "/favicon.ico", content_type: "image/svg+xml", body: FAVICON },
    Asset { path: "/api/dashboard/texts.js", content_type: JS, body: include_str!("dashboard/texts.js") },
];

/// What browsers ask every server for. They take the type from the answer, not from the name.
const FAVICON: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect width='16' height='16' rx='4' fill='#4d8f1f'/><path d='M4 5h8M4 8h6M4 11h3' stroke='#fff' stroke-width='1.6' stroke-linecap='round'/></svg>";

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// The file at a path.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_host_and_runs_nothing_inline() {
        for asset in ASSETS {
            let foreign = asset
                .body
                .replace("http://www.w3.org/2000/svg", "")
                .replace("http%3A//www.w3.org/2000/svg", "");
            for scheme in ["http:", "https:", "//cdn", "@import"] {
                assert!(!foreign.contains(scheme), "{} holds {scheme}", asset.path);
            }
        }
        let page = asset("/api/dashboard").unwrap().body;
        for inline in ["<style", " style=", " onclick=", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    #[test]
    fn scripts_write_text_and_never_markup() {
        for asset in ASSETS.iter().filter(|asset| asset.content_type == JS) {
            for hazard in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.body.contains(hazard), "{} holds {hazard}", asset.path);
            }
        }
    }

    #[test]
    fn every_file_that_the_page_and_its_scripts_load_is_served() {
        for asset in ASSETS {
            let loads =
                asset.body.split(['"', '\'']).filter(|word| word.ends_with(".js") || word.ends_with(".css"));
            for file in loads {
                let name = file.rsplit('/').next().unwrap();
                assert!(
                    super::asset(&format!("/api/dashboard/{name}")).is_some(),
                    "{file} of {}",
                    asset.path
                );
            }
        }
    }
}
