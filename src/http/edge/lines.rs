//! What the log says of single requests: those that could not be answered, and at debug those whose credential was refused.

use std::cell::Cell;

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;

use super::span::method_name;
use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::http::error::Problem;
use crate::observability::chain::Chain;

/// A database that is away fails every request that needs it: more lines than this would tell nothing more.
const LINES_A_SECOND: u32 = 10;

/// The lines of one worker.
#[derive(Debug, Default)]
pub struct Lines {
    second: Cell<i64>,
    told_in_it: Cell<u32>,
    left_out: Cell<u64>,
}

impl Lines {
    /// Tells of an answer that an operator may have to know of. It is the one place that knows both the cause and the id.
    pub fn tell<B>(&self, answer: &ServiceResponse<B>, request_id: &HeaderValue, clock: &Clock) {
        let status = answer.status();
        if !status.is_server_error() && status != StatusCode::UNAUTHORIZED {
            return;
        }
        // An answer without an error, as of `/health/ready`, says what was asked.
        let Some(error) = answer.response().error() else { return };
        let problem = error.as_error::<Problem>();
        let cause = problem.and_then(Problem::cause).map(|cause| Chain(cause).to_string());
        let request_id = request_id.to_str().unwrap_or_default();
        let (method, route) = (method_name(answer.request().method()), answer.request().match_pattern());
        let (route, status) = (route.as_deref().unwrap_or_default(), status.as_u16());
        if status == StatusCode::UNAUTHORIZED {
            tracing::debug!(request_id, method, route, reason = cause, "a credential was refused");
            return;
        }
        let Some(left_out) = self.admit(clock.now()) else { return };
        let reason = problem.map(Problem::detail).unwrap_or_default();
        match cause {
            Some(error) => {
                tracing::error!(
                    request_id,
                    method,
                    route,
                    status,
                    reason,
                    error,
                    left_out,
                    "a request could not be answered"
                );
            }
            None => tracing::warn!(request_id, method, route, status, reason, left_out, "a request was turned away"),
        }
    }

    /// Whether there is room for a line in this second; if so, how many had none since the last.
    fn admit(&self, now: Timestamp) -> Option<u64> {
        let second = now.floor_seconds();
        if self.second.replace(second) != second {
            self.told_in_it.set(0);
        }
        let told = self.told_in_it.get();
        if told >= LINES_A_SECOND {
            self.left_out.set(self.left_out.get().saturating_add(1));
            return None;
        }
        self.told_in_it.set(told.saturating_add(1));
        Some(self.left_out.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_say_how_many_were_left_out() {
        let lines = Lines::default();
        let at = |second: i64| Timestamp::from_seconds(second);
        let told = (0..15).filter(|_| lines.admit(at(7)).is_some()).count();
        assert_eq!(told, 10);
        assert_eq!((lines.admit(at(8)), lines.admit(at(8))), (Some(5), Some(0)));
    }
}
