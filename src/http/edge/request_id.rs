//! `X-Request-Id`: what a caller and the log both name a request by.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_BYTES: usize = 128;

/// So many requests a worker may number before it reaches the numbers of the next.
const A_WORKER: u64 = 1 << 48;

/// Gives the numbers of an instance out to its workers.
#[derive(Debug, Clone)]
pub struct Ranges(Arc<AtomicU64>);

/// A worker's numbers, each given once. No two workers of an instance share any; instances begin at random places of 2^64.
#[derive(Debug)]
pub struct Numbers(Cell<u64>);

impl Ranges {
    /// `instance` is random.
    pub fn new(instance: u64) -> Self {
        Self(Arc::new(AtomicU64::new(instance)))
    }

    pub fn next(&self) -> Numbers {
        Numbers(Cell::new(self.0.fetch_add(A_WORKER, Ordering::Relaxed)))
    }
}

impl Numbers {
    /// The next number, spread evenly over all that there are: it tells nobody how many requests there were.
    pub fn next(&self) -> u64 {
        let number = self.0.get();
        self.0.set(number.wrapping_add(1));
        scattered(number)
    }
}

/// The caller's own id, where it sent one that can stand in a line of a log: 1 to 128 visible ASCII characters.
pub fn of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut given = headers.get_all(X_REQUEST_ID);
    match (given.next(), given.next()) {
        (Some(id), None) if (1..=MAX_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic) => {
            Some(id.clone())
        }
        _ => None,
    }
}

/// An id of 16 hexadecimal digits.
pub fn made(number: u64) -> HeaderValue {
    let mut digits = [0; 16];
    // The digits of eight bytes are sixteen, and may stand in a header.
    hex::encode_to_slice(number.to_be_bytes(), &mut digits).ok();
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): no two numbers become the same.
const fn scattered(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn taken(values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        }
        of(&headers).map(|id| id.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_id_is_taken_where_it_can_stand_in_a_line() {
        for good in ["a", "~!", "0af7651916cd43dd8448eb211c80319c", &"x".repeat(128)] {
            assert_eq!(taken(&[good.as_bytes()]).as_deref(), Some(good));
        }
        for bad in [&b""[..], b"a b", b"\xc3\xa4", b"a\tb", &[b'x'; 129]] {
            assert_eq!(taken(&[bad]), None, "{bad:?}");
        }
        assert_eq!(taken(&[b"a", b"a"]), None, "which of two is meant can't be told");
        assert_eq!(taken(&[]), None);
    }

    #[test]
    fn ids_are_made_once() {
        let ranges = Ranges::new(u64::MAX);
        let workers = [ranges.next(), ranges.next(), ranges.next()];
        let ids: HashSet<_> =
            workers.iter().flat_map(|numbers| (0..1000).map(|_| made(numbers.next()).as_bytes().to_vec())).collect();
        assert_eq!(ids.len(), 3000);
        assert!(ids.iter().all(|id| id.len() == 16 && id.iter().all(u8::is_ascii_hexdigit)));
    }
}
