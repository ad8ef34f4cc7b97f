//! `/dashboard` and `/me`: pages for people, and the files that they load. All of them are in the binary; nothing is fetched
//! from outside, and the pages may not, whatever is written into them.

use std::sync::LazyLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderName, IF_NONE_MATCH, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::error::Problem;
use super::path::InPath;

/// Scripts and styles are files of this service; the pages speak to it alone, and stand in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

struct File {
    name: &'static str,
    text: &'static str,
    /// Of the text, so that a browser asks for it once for each version.
    etag: LazyLock<String>,
}

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [$(File {
            name: $name,
            text: include_str!(concat!("dashboard/", $name)),
            etag: LazyLock::new(|| etag(include_str!(concat!("dashboard/", $name)))),
        }),+]
    };
}

static DASHBOARD: [File; 1] = files!["index.html"];
static OWN: [File; 1] = files!["me.html"];
static FILES: [File; 32] = files![
    "api.js",
    "bars.js",
    "chart.js",
    "costs_form.js",
    "csv.js",
    "dom.js",
    "format.js",
    "forms.js",
    "history.js",
    "icon.svg",
    "live.js",
    "main.js",
    "me.js",
    "override_form.js",
    "sign_in.js",
    "stream.js",
    "style.css",
    "table.js",
    "tier_form.js",
    "user_actions.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
    "views/audit.js",
    "views/health.js",
    "views/keys.js",
    "views/live.js",
    "views/overrides.js",
    "views/policy.js",
    "views/usage.js",
    "views/user.js",
    "views/users.js",
    "views/webhooks.js",
];

/// `/dashboard`
pub async fn dashboard(request: HttpRequest) -> Result<HttpResponse, Problem> {
    shown(&request, DASHBOARD.first())
}

/// `/me`
pub async fn own(request: HttpRequest) -> Result<HttpResponse, Problem> {
    shown(&request, OWN.first())
}

/// What the pages load, below `/dashboard/`.
pub async fn file(request: HttpRequest, InPath(name): InPath) -> Result<HttpResponse, Problem> {
    if name.is_empty() {
        return Ok(HttpResponse::PermanentRedirect().insert_header((LOCATION, "../dashboard")).finish());
    }
    shown(&request, FILES.iter().find(|file| file.name == name))
}

fn shown(request: &HttpRequest, file: Option<&File>) -> Result<HttpResponse, Problem> {
    let file = file.ok_or_else(|| Problem::absent("there is nothing at this path"))?;
    let known = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == *file.etag);
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .insert_header((ETAG, file.etag.as_str()))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((OPENER, "same-origin"));
    if known { Ok(answer.finish()) } else { Ok(answer.content_type(kind(file.name)).body(file.text)) }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

fn etag(text: &str) -> String {
    let hash = hex::encode(Sha256::digest(text.as_bytes()));
    format!("\"{}\"", hash.get(..32).unwrap_or(&hash))
}
