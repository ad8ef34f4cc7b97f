//! The line to PostgreSQL breaks at the commit of a flush: what was admitted is what is persisted, exactly.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const NOTHING: u8 = 0;
/// The server executes the commit, and its answer is lost.
pub const ANSWER: u8 = 1;
/// The server never gets the commit.
const REQUEST: u8 = 2;

/// The server never gets the commit, and neither side hears of it.
pub const NEVER: u8 = 3;

/// A proxy that cuts a line at its next `COMMIT`, as it is told.
pub struct Proxy {
    /// The way through it.
    pub settings: DatabaseSettings,
    loses: Arc<AtomicU8>,
}

impl Proxy {
    /// Stands between the service and the server of `home`.
    pub async fn before(home: &Home) -> Self {
        let url = postgres_server::server_url();
        let name = url.split(['@', '/']).find(|part| part.contains(':') && part.len() > 9).unwrap().to_owned();
        let server = name.replace("localhost", "127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let loses = Arc::new(AtomicU8::new(NOTHING));
        let shared = Arc::clone(&loses);
        actix::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                actix::spawn(forward(client, server, Arc::clone(&shared)));
            }
        });
        let DatabaseLocation::Postgres { url } = &home.settings.location else { panic!("PostgreSQL") };
        let through = url.expose().replace(&name, &format!("127.0.0.1:{port}"));
        Self { settings: postgres_server::settings(&format!("{through}?sslmode=disable")), loses }
    }

    /// What happens at the next `COMMIT`.
    pub fn lose(&self, lost: u8) {
        self.loses.store(lost, Ordering::SeqCst);
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, loses: Arc<AtomicU8>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let commits = asked[..length].windows(6).any(|window| window == b"COMMIT");
                let lost = if commits { loses.swap(NOTHING, Ordering::SeqCst) } else { NOTHING };
                if lost == REQUEST {
                    return;
                }
                if lost == NEVER {
                    return std::future::pending().await;
                }
                server.write_all(&asked[..length]).await.unwrap();
                if lost == ANSWER {
                    // It has been executed once the answer is there.
                    let _ = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[actix::test]
async fn a_commit_whose_answer_is_lost_is_not_applied_twice() {
    const ROUNDS: i64 = 60;
    let home = Home::postgres();
    let direct = home.database().await;
    let proxy = Proxy::before(&home).await;
    let database = Database::connect(&proxy.settings).unwrap();

    let (mut found_again, mut sent_again) = (0, 0);
    for sequence in 1..=ROUNDS {
        let lost = [NOTHING, ANSWER, REQUEST][usize::try_from(sequence % 3).unwrap()];
        proxy.lose(lost);
        let whole = batch(sequence, vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 3))]);
        match (lost, database.flush(&whole, HOUR).await) {
            (NOTHING, outcome) => assert_eq!(outcome.unwrap(), applied()),
            (_, outcome) => {
                assert!(outcome.unwrap_err().is_unavailable());
                match database.flush(&whole, HOUR).await.unwrap() {
                    FlushOutcome::AlreadyApplied => found_again += 1,
                    FlushOutcome::Applied { .. } => sent_again += 1,
                }
            }
        }
    }
    assert_eq!((found_again, sent_again), (ROUNDS / 3, ROUNDS / 3));
    let total = ROUNDS.unsigned_abs();
    assert_eq!(all_of(&direct, &user("42")).await, Usage { requests: total, cost: 2 * total, denied: 3 * total });
}
