//! How many slots a subject holds at once, and whether one is free: leases that expire by the server's time.

use super::decision::Violation;
use super::lease::{ChangeLease, Lease, LeaseKind, LeasePlace};
use super::plan::Plan;
use super::state::SubjectState;
use super::time::Timestamp;

/// The slots of one kind as they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    pub held: u64,
    /// When one will be free by itself; `None` where one is, or where the limit is 0.
    pub free_at: Option<Timestamp>,
}

impl InUse {
    /// Why no slot can be had; `None` where one can.
    pub fn violation(&self, kind: LeaseKind, plan: &Plan) -> Option<Violation> {
        let full = self.held >= plan.slots(kind);
        full.then(|| Violation { limit: kind.denied_by(), room_at: self.free_at })
    }
}

/// How many slots are held, and when one will be free where all are.
pub fn in_use(state: &SubjectState, kind: LeaseKind, limit: u64, now: Timestamp) -> InUse {
    let live = state.leases().iter().filter(|lease| lease.kind == kind && now < lease.expires_at);
    let mut ends: Vec<Timestamp> = live.map(|lease| lease.expires_at).collect();
    let held = ends.len() as u64;
    // So many have to end that one less than the limit is left. With a limit of 0 none ever will be.
    let must_end = held.checked_sub(limit).filter(|_| limit > 0).and_then(|over| usize::try_from(over).ok());
    let free_at = must_end.filter(|&over| over < ends.len()).map(|over| *ends.select_nth_unstable(over).1);
    InUse { held, free_at }
}

/// The leases that are held behind a place, in their order, at most so many.
pub fn held(leases: &[Lease], after: Option<LeasePlace>, limit: usize, now: Timestamp) -> Vec<Lease> {
    let is_behind = |lease: &&Lease| after.is_none_or(|after| lease.place() > after);
    let mut held: Vec<Lease> =
        leases.iter().filter(|lease| now < lease.expires_at).filter(is_behind).copied().collect();
    held.sort_unstable_by_key(Lease::place);
    held.truncate(limit);
    held
}

/// Takes a slot, and forgets those of its kind that have expired. Whether there is one is not asked here.
pub fn take(state: &mut SubjectState, lease: Lease, now: Timestamp) {
    state.change_leases(|leases| {
        leases.retain(|known| is_kept(known, lease.kind, now) && known.secret != lease.secret);
        leases.push(lease);
    });
}

/// Whether it stays when leases of a kind are changed: each kind is a set of its own.
fn is_kept(lease: &Lease, kind: LeaseKind, now: Timestamp) -> bool {
    lease.kind != kind || now < lease.expires_at
}

/// Changes a lease, and forgets those of its kind that have expired. When it ends now: `now` where it was given back, `None` where it
/// was not held.
pub fn change(
    state: &mut SubjectState,
    kind: LeaseKind,
    secret: u128,
    change: ChangeLease,
    now: Timestamp,
) -> Option<Timestamp> {
    let ends = match change {
        ChangeLease::Hold(until) => until,
        ChangeLease::Renew(lasts) => now.saturating_add(lasts),
        ChangeLease::Release => now,
    };
    state.change_leases(|leases| {
        leases.retain(|known| is_kept(known, kind, now));
        let held = leases.iter_mut().find(|known| known.kind == kind && known.secret == secret);
        match (held, change) {
            (Some(lease), _) => lease.expires_at = ends,
            (None, ChangeLease::Hold(_)) => leases.push(Lease { kind, secret, expires_at: ends }),
            (None, ChangeLease::Renew(_) | ChangeLease::Release) => return None,
        }
        leases.retain(|known| is_kept(known, kind, now));
        Some(ends)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Period;

    fn lease(secret: u128, seconds: i64) -> Lease {
        Lease { kind: LeaseKind::Request, secret, expires_at: Timestamp::from_seconds(seconds) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_slot_is_free_when_the_first_of_enough_leases_has_expired() {
        let mut state = SubjectState::default();
        for (secret, ends) in [(1, 30), (2, 10), (3, 20)] {
            take(&mut state, lease(secret, ends), at(0));
        }
        let in_use = |limit, now| in_use(&state, LeaseKind::Request, limit, at(now));
        assert_eq!(in_use(4, 0), InUse { held: 3, free_at: None });
        assert_eq!(in_use(3, 0), InUse { held: 3, free_at: Some(at(10)) });
        assert_eq!(in_use(1, 0), InUse { held: 3, free_at: Some(at(30)) });
        assert_eq!(in_use(0, 0), InUse { held: 3, free_at: None });
        assert_eq!(in_use(2, 10), InUse { held: 2, free_at: Some(at(20)) });
        assert_eq!(super::in_use(&state, LeaseKind::Websocket, 1, at(0)).held, 0);
    }

    #[test]
    fn leases_are_listed_by_when_they_end_and_page_by_page() {
        let mut state = SubjectState::default();
        for (secret, ends) in [(4, 20), (1, 30), (2, 10), (3, 20), (5, 20)] {
            take(&mut state, lease(secret, ends), at(0));
        }
        let page = |after: Option<LeasePlace>, limit| held(state.leases(), after, limit, at(10));
        let secrets = |leases: &[Lease]| leases.iter().map(|lease| lease.secret).collect::<Vec<_>>();
        let first = page(None, 2);
        assert_eq!(secrets(&first), [3, 4], "what has expired is not held");
        let rest = page(first.last().map(Lease::place), 10);
        assert_eq!(secrets(&rest), [5, 1], "of those that end together none is left out");
        assert_eq!(page(rest.last().map(Lease::place), 10), []);
    }

    #[test]
    fn a_lease_is_released_once_and_by_its_secret_alone() {
        let mut state = SubjectState::default();
        take(&mut state, lease(1, 30), at(0));
        take(&mut state, lease(2, 30), at(0));
        let mut release = |kind, secret| change(&mut state, kind, secret, ChangeLease::Release, at(1));
        assert_eq!(release(LeaseKind::Request, 3), None);
        assert_eq!(release(LeaseKind::Websocket, 1), None);
        assert_eq!(release(LeaseKind::Request, 1), Some(at(1)));
        assert_eq!(release(LeaseKind::Request, 1), None);
        let renew = ChangeLease::Renew(Period::from_seconds(31));
        assert_eq!(change(&mut state, LeaseKind::Request, 2, renew, at(29)), Some(at(60)));
        assert_eq!(change(&mut state, LeaseKind::Request, 2, renew, at(60)), None, "it has expired");
        assert!(state.is_empty());
    }
}
