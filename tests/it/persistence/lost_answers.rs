//! The line to PostgreSQL breaks at the commit of a flush: what was admitted is what is persisted, exactly.

use super::*;
use crate::support::tcp_proxy::{Fate, TcpProxy};

/// Stands between a service and the server of `home`; the settings to go through it.
pub async fn proxy_before(home: &Home) -> (TcpProxy, DatabaseSettings) {
    let proxy = TcpProxy::before(postgres_server::port()).await;
    let DatabaseLocation::Postgres { url } = &home.settings.location else { panic!("PostgreSQL") };
    let through = postgres_server::url_through(url.expose(), &proxy);
    (proxy, postgres_server::settings(&through))
}

#[actix::test]
async fn a_commit_whose_answer_is_lost_is_not_applied_twice() {
    const ROUNDS: i64 = 60;
    let home = Home::postgres();
    let direct = home.database().await;
    let (proxy, settings) = proxy_before(&home).await;
    let database = Database::connect(&settings).unwrap();

    let (mut found_again, mut sent_again) = (0, 0);
    for sequence in 1..=ROUNDS {
        let fate = [None, Some(Fate::LosesReply), Some(Fate::IsLost)][usize::try_from(sequence % 3).unwrap()];
        if let Some(fate) = fate {
            proxy.at_next("COMMIT", fate);
        }
        let whole = batch(sequence, vec![(key(user("42"), HOUR, "pro"), usage(1, 2, 3))]);
        match (fate, database.flush(&whole, HOUR).await) {
            (None, outcome) => assert_eq!(outcome.unwrap(), applied()),
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
