//! One attempt: signed, sent to the operator's address, and answered in time or not at all. No redirection is followed.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, redirect};

use super::WebhookError;
use super::signature::Signer;
use crate::config::{Secret, WebhookSettings};
use crate::domain::delivery::{Attempt, Claim};
use crate::domain::time::{Period, Timestamp};

/// From the first byte that is sent to the last that is read.
const DEADLINE: Duration = Duration::from_secs(15);

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// So much of an answer is read.
const ANSWER_MAX_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Sender {
    address: Secret,
    client: Client,
    signer: Signer,
}

impl Sender {
    pub(super) fn new(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        Self::with_deadline(settings, DEADLINE)
    }

    fn with_deadline(settings: &WebhookSettings, deadline: Duration) -> Result<Self, WebhookError> {
        let client = Client::builder()
            .timeout(deadline)
            .connect_timeout(CONNECT_DEADLINE)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("quotad/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(WebhookError::Client)?;
        Ok(Self { address: settings.url.clone(), client, signer: Signer::new(&settings.key)? })
    }

    pub(super) async fn send(&self, claim: &Claim, now: Timestamp) -> Attempt {
        let seconds = now.floor_seconds();
        let request = self
            .client
            .post(self.address.expose())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", claim.id.as_str())
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", self.signer.sign(&claim.id, seconds, &claim.body))
            .body(claim.body.clone());
        match request.send().await {
            Ok(response) => {
                let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
                let body = beginning(response).await;
                Attempt { status: Some(status), body, error: None, retry_after }
            }
            Err(error) => Attempt { error: Some(reason(&error)), ..Attempt::default() },
        }
    }
}

/// In words that name no place: the address may hold a password.
fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke, or the answer was no HTTP"
    }
}

/// RFC 9110 allows seconds, or a date; the latter is passed over.
fn retry_after(headers: &HeaderMap) -> Option<Period> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Period::from_seconds(seconds))
}

/// How an answer begins. The status is the answer: where the rest does not come, it is done without.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() >= ANSWER_MAX_BYTES {
            break;
        }
    }
    bytes.truncate(ANSWER_MAX_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::config::Settings;
    use crate::domain::event::EventId;

    fn settings(address: &str) -> WebhookSettings {
        let vars = [("QUOTAD_WEBHOOK_URL", address), ("QUOTAD_WEBHOOK_SECRET", "a secret of enough characters")];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Settings::from_vars(vars).unwrap().webhooks.unwrap()
    }

    async fn sent(answer: &'static [u8]) -> Attempt {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://ann:hunter2@{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut piece = [0; 4096];
            while !piece.ends_with(b"{}") && stream.read(&mut piece).unwrap() == piece.len() {}
            stream.write_all(answer).unwrap();
            // Whoever says nothing keeps the line.
            std::thread::sleep(Duration::from_millis(if answer.is_empty() { 600 } else { 0 }));
        });
        let claim =
            Claim { id: EventId::of(1), body: "{}".to_owned(), attempts: 1, give_up_at: Timestamp::from_seconds(3600) };
        let sender = Sender::with_deadline(&settings(&address), Duration::from_millis(300)).unwrap();
        assert!(!format!("{sender:?}").contains("hunter2") && !format!("{sender:?}").contains("enough"));
        sender.send(&claim, Timestamp::from_seconds(10)).await
    }

    #[actix::test]
    async fn an_answer_is_its_status_and_how_it_begins() {
        let taken = sent(b"HTTP/1.1 204 OK\r\n\r\n").await;
        assert_eq!(taken, Attempt { status: Some(204), ..Attempt::default() });
        let busy = sent(b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nlater").await;
        let expected = Attempt {
            status: Some(503),
            body: "later".to_owned(),
            retry_after: Some(Period::from_seconds(7)),
            error: None,
        };
        assert_eq!(busy, expected);
        let cut = sent(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf").await;
        assert_eq!((cut.status, cut.body.as_str()), (Some(200), "half"));
    }

    #[actix::test]
    async fn no_more_of_an_answer_is_read_than_its_beginning() {
        static LONG: [u8; 100_000] = [b'x'; 100_000];
        let answer: Vec<u8> = [&b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"[..], &LONG].concat();
        let sent = sent(answer.leak()).await;
        assert_eq!((sent.status, sent.body.len()), (Some(200), ANSWER_MAX_BYTES));
    }

    #[actix::test]
    async fn a_redirection_is_not_followed() {
        let moved = sent(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!((moved.status, moved.error), (Some(307), None));
    }

    #[actix::test]
    async fn what_goes_wrong_is_said_in_words_without_the_address() {
        assert_eq!(sent(b"").await.error, Some("no answer in time"));
        assert_eq!(sent(b"SSH-2.0\r\n").await.error, Some("the connection broke, or the answer was no HTTP"));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sender = Sender::new(&settings(&format!("http://{free}/"))).unwrap();
        let claim = Claim { id: EventId::of(1), body: String::new(), attempts: 1, give_up_at: Timestamp::EPOCH };
        assert_eq!(sender.send(&claim, Timestamp::EPOCH).await.error, Some("no connection"));
    }
}
