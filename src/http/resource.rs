//! A path and its methods; any other method is answered by 405 with those that there are.

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Resource, Responder, Route, web};

use super::error;

/// The routes of one path.
pub fn resource<const N: usize>(path: &str, routes: [(Method, Route); N]) -> Resource {
    let allowed: Vec<&str> = routes.iter().map(|(method, _)| method.as_str()).collect();
    let allowed = allowed.join(", ");
    let refuse = move || std::future::ready(error::method_not_allowed(&allowed));
    let resource = web::resource(path).default_service(web::to(refuse));
    routes.into_iter().fold(resource, |resource, (_, route)| resource.route(route))
}

/// One route for all methods of a path.
pub fn any<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    web::resource(path).route(web::route().to(handler))
}

pub fn get<F, Args>(handler: F) -> (Method, Route)
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    by(Method::GET, handler)
}

pub fn post<F, Args>(handler: F) -> (Method, Route)
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    by(Method::POST, handler)
}

pub fn put<F, Args>(handler: F) -> (Method, Route)
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    by(Method::PUT, handler)
}

pub fn delete<F, Args>(handler: F) -> (Method, Route)
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    by(Method::DELETE, handler)
}

fn by<F, Args>(method: Method, handler: F) -> (Method, Route)
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    (method.clone(), web::method(method).to(handler))
}
