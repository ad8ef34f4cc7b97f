//! The parameter in a path, as the text that was encoded there.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::web;
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;

use super::error::Problem;

/// The one parameter of a path. Bytes that are no UTF-8 are refused; replaced, they would make two users one.
#[derive(Debug)]
pub struct InPath(pub String);

impl FromRequest for InPath {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // The router has replaced such bytes by now: the path as it came is asked.
        if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
            return ready(Err(Problem::bad_request("the path is not UTF-8")));
        }
        let parameter = web::Path::<String>::from_request(request, payload).into_inner();
        ready(parameter.map(|path| Self(path.into_inner())).map_err(|_| Problem::bad_request("the path can't be read")))
    }
}
