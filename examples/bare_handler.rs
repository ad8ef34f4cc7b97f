//! What Actix-web itself costs: reads the body of a check as quotad does, and answers the same bytes with the same headers,
//! deciding nothing. `bench/run` compares quotad with it.
//!
//!     cargo run --release --example bare_handler -- 127.0.0.1:8081

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use serde::Deserialize;

const ANSWER: &str = concat!(
    r#"{"allowed":true,"subject":"user:u1234","tier":"enterprise","cost":1,"limits":["#,
    r#"{"name":"hour","limit":1000000000,"used":4321,"remaining":999995679,"reset_at":"2026-11-23T17:00:00Z"},"#,
    r#"{"name":"day","limit":1000000000,"used":4321,"remaining":999995679,"reset_at":"2026-11-24T00:00:00Z"}],"#,
    r#""denied_by":null,"retry_after":null,"lease_id":null,"source":"memory"}"#
);

/// The fields of a check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "they are read as quotad reads them, and not used")]
struct Check {
    user_id: Option<String>,
    ip: Option<String>,
    tier: Option<String>,
    endpoint: Option<String>,
    method: Option<String>,
    items: Option<u64>,
    #[serde(default)]
    dry_run: bool,
}

async fn check(body: Bytes) -> HttpResponse {
    if serde_json::from_slice::<Check>(&body).is_err() {
        return HttpResponse::BadRequest().finish();
    }
    HttpResponse::Ok()
        .insert_header(("X-RateLimit-Limit", "1000000000"))
        .insert_header(("X-RateLimit-Remaining", "999995679"))
        .insert_header(("X-RateLimit-Reset", "1795766400"))
        .insert_header(("RateLimit-Policy", r#""hour";q=1000000000;w=3600, "day";q=1000000000;w=86400"#))
        .insert_header(("RateLimit", r#""hour";r=999995679;t=1260, "day";r=999995679;t=27660"#))
        .content_type("application/json")
        .body(ANSWER)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let app = || App::new().service(web::resource("/api/v2/check").route(web::post().to(check)));
    HttpServer::new(app).workers(1).bind(address)?.run().await
}
