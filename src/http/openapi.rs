//! The description of this interface, and pages to read it by. Nothing is fetched from outside.

use actix_web::HttpResponse;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// `/openapi.json`
pub async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(include_str!("openapi.json"))
}

/// `/docs`
pub fn pages() -> SwaggerUi {
    SwaggerUi::new("/docs/{_:.*}").config(Config::from("/openapi.json").validator_url("none"))
}
