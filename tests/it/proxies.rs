//! Proxies with the configurations of `examples/`, before a real application. nginx, Caddy and HAProxy are the real ones. Traefik and
//! Envoy, which Debian does not have, are replayed: what they ask by their documentation is put to a real service.

mod application;
mod client;
mod envoy;
mod process;
mod promises;
mod replay;
mod traefik;

use application::Application;
use process::{Kind, Proxy, WithoutQuotad};

use crate::support::quotad::Start;

/// The same promises behind each proxy; with it stand its statuses where quotad is stopped, and where it hangs.
macro_rules! behind {
    ($($name:ident: $kind:expr, $stopped:literal, $hanging:literal;)+) => {
        $(mod $name {
            use super::*;

            #[tokio::test]
            async fn a_user_is_held_to_the_quota() {
                crate::support::in_one_hour(|| promises::a_user_is_held_to_the_quota($kind)).await;
            }

            #[tokio::test]
            async fn a_stranger_pays_by_its_own_address() {
                crate::support::in_one_hour(|| promises::a_stranger_pays_by_its_own_address($kind)).await;
            }

            #[tokio::test]
            async fn without_quotad_nobody_passes() {
                promises::without_quotad_nobody_passes($kind, $stopped, $hanging).await;
            }

            #[tokio::test]
            async fn without_quotad_everybody_passes_where_one_line_says_so() {
                promises::without_quotad_everybody_passes($kind).await;
            }
        })+
    };
}

behind! {
    nginx: Kind::Nginx, 500, 500;
    caddy: Kind::Caddy, 502, 504;
    haproxy: Kind::Haproxy, 503, 503;
}

/// Nor would a WebSocket pass whose client names another host: it gets an empty 200, and nobody is asked.
#[tokio::test]
async fn caddy_answers_by_itself_for_a_host_that_is_no_site() {
    let (quotad, application) = (Start::new().start().await, Application::start().await);
    let proxy = Proxy::start(Kind::Caddy, WithoutQuotad::Refuses, quotad.address(), application.port()).await;
    let request = reqwest::Client::new().get(format!("http://127.0.0.1:{}/ws", proxy.port()));
    let answer = request.header("host", "example.com").send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.content_length()), (200, Some(0)));
    assert_eq!(application.asked(), 0);
}

#[test]
fn the_examples_say_what_happens_without_quotad() {
    for (example, says) in [
        (include_str!("../../examples/nginx/quotad.conf"), "refused by 500"),
        (include_str!("../../examples/caddy/Caddyfile"), "refused by 502, by 504 where it is too slow"),
        (include_str!("../../examples/haproxy/haproxy.cfg"), "refused by 503"),
        (include_str!("../../examples/traefik/dynamic.yml"), "refused by 500"),
        (include_str!("../../examples/envoy/envoy.yaml"), "refused by 503"),
    ] {
        assert!(example.contains(&format!("Without quotad requests are {says}")), "{says}: {example}");
    }
}
