//! Listening to what other instances tell through Redis, over one connection of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::Value;
use redis::aio::PubSubSink;

use super::connect;
use super::notice::{self, Notice};
use super::sentinel::Sentinels;
use crate::config::{HostPort, RedisPlace, RedisSettings};

/// Between two tries to listen.
const PAUSE: Duration = Duration::from_millis(250);

/// A server may go without a word: it is asked for a sign of life so often, and given up without one for as long.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Where other instances are listened to.
#[derive(Debug)]
pub struct Subscription {
    settings: RedisSettings,
    sentinels: Option<Arc<Sentinels>>,
    turn: usize,
}

impl Subscription {
    /// `sentinels` where the settings name some.
    pub fn new(settings: &RedisSettings, sentinels: Option<Arc<Sentinels>>) -> Self {
        Self { settings: settings.clone(), sentinels, turn: 0 }
    }

    /// Hands on what is told, for as long as it is polled. While there is no connection nothing is heard.
    pub async fn run(mut self, hear: impl Fn(Notice)) {
        loop {
            // What is lost is told by time, and Redis being away is told of elsewhere.
            self.listen(&hear).await.ok();
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn listen(&mut self, hear: &impl Fn(Notice)) -> Result<(), String> {
        let at = self.next_server().await?;
        tokio::select! {
            heard = self.listen_to(&at, hear) => heard,
            () = self.while_it_is_meant(&at) => Ok(()),
        }
    }

    async fn listen_to(&self, at: &HostPort, hear: &impl Fn(Notice)) -> Result<(), String> {
        let (mut asking, mut messages) = connect::to_listen(&self.settings, at).await?.split();
        let channel = notice::channel(&self.settings.key_prefix);
        asking.subscribe(channel).await.map_err(|error| error.to_string())?;
        let hearing = async {
            while let Some(message) = messages.next().await {
                if let Some(notice) = message.get_payload::<String>().ok().and_then(|text| Notice::parse(&text)) {
                    hear(notice);
                }
            }
        };
        tokio::select! {
            () = hearing => {}
            () = while_it_lives(&mut asking) => {}
        }
        Ok(())
    }

    /// Until another is the master. A server that froze takes connections and says nothing.
    async fn while_it_is_meant(&self, at: &HostPort) {
        while self.sentinels.as_ref().is_none_or(|sentinels| sentinels.is_still_master(at)) {
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// Any node of a cluster passes on what is told to another.
    async fn next_server(&mut self) -> Result<HostPort, String> {
        self.turn = self.turn.wrapping_add(1);
        match (&self.settings.place, &self.sentinels) {
            (RedisPlace::Node(at), _) => Ok(at.clone()),
            (RedisPlace::Sentinel { .. }, Some(sentinels)) => sentinels.find().await,
            (RedisPlace::Sentinel { .. }, None) => Err("no sentinels".to_owned()),
            (RedisPlace::Cluster(seeds), _) => {
                let turn = self.turn.checked_rem(seeds.len()).unwrap_or(0);
                seeds.get(turn).cloned().ok_or_else(|| "no node".to_owned())
            }
        }
    }
}

async fn while_it_lives(asking: &mut PubSubSink) {
    while matches!(tokio::time::timeout(HEARTBEAT, asking.ping::<Value>()).await, Ok(Ok(_))) {
        tokio::time::sleep(HEARTBEAT).await;
    }
}
