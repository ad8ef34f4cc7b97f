//! quotad: a rate-limiting and quota service. See `docs/architecture.md` for the rooms and floors.

pub mod domain;
