//! Listing the leases that a subject holds: one's own, or as Redis has them.

use std::rc::Rc;

use actix::fut::wrap_future;
use actix::prelude::*;

use super::{ShardActor, in_time};
use crate::counters::redis::{RedisCounters, RedisError};
use crate::domain::lease::{Lease, LeaseKind, LeasePlace};
use crate::domain::subject::Subject;
use crate::limiter::LimiterError;
use crate::limiter::messages::ListHeld;

impl Handler<ListHeld> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: ListHeld, ctx: &mut Self::Context) {
        let ListHeld { subject, after, limit, reply, permit } = message;
        let known = self.shard.held_leases(&subject, after, limit, self.clock.now());
        let Some(redis) = self.redis.lane(self.shard.lane_of(&subject)).filter(|_| known.is_ok()) else {
            reply.send(known).ok();
            return;
        };
        let deadline = self.redis.deadline;
        let list = async move {
            let listed = in_time(deadline, held(redis, &subject, after, limit)).await;
            drop(permit);
            reply.send(listed.map_err(|_| LimiterError::CountersUnavailable)).ok();
        };
        ctx.spawn(wrap_future(list));
    }
}

/// Of both kinds together.
async fn held(
    redis: Rc<RedisCounters>,
    subject: &Subject,
    after: Option<LeasePlace>,
    limit: usize,
) -> Result<Vec<Lease>, RedisError> {
    let mut leases = Vec::new();
    for kind in LeaseKind::ALL {
        leases.extend(redis.held(subject, kind, after, limit).await?);
    }
    leases.sort_unstable_by_key(Lease::place);
    leases.truncate(limit);
    Ok(leases)
}
