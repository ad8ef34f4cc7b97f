//! The description of this interface, and pages to read it by. Nothing is fetched from outside.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_ENCODING, LOCATION};
use utoipa_swagger_ui::Config;

use super::error::Problem;
use super::path::InPath;

/// Why a page can't be made.
#[derive(Debug, thiserror::Error)]
#[error("a page of the documentation: {0}")]
struct PageError(String);

/// `/openapi.json`
pub async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(include_str!("openapi.json"))
}

/// `/docs`, whose pages are below `/docs/`
pub async fn docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/docs/")).finish()
}

/// `/docs/` and what it loads.
pub async fn page(InPath(file): InPath) -> Result<HttpResponse, Problem> {
    let config = Config::from("/openapi.json").validator_url("none");
    match utoipa_swagger_ui::serve(&file, Arc::new(config)) {
        Ok(Some(file)) => {
            let mut answer = HttpResponse::Ok();
            if file.gzpipped {
                answer.insert_header((CONTENT_ENCODING, "gzip"));
            }
            Ok(answer.content_type(file.content_type).body(file.bytes.into_owned()))
        }
        Ok(None) => Err(Problem::absent("there is nothing at this path")),
        Err(error) => Err(Problem::unavailable("the page can't be made").caused_by(PageError(error.to_string()))),
    }
}
