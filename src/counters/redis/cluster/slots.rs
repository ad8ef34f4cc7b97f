//! Slots: of a partition, and who serves them.

use std::collections::HashMap;

use redis::Value;

use crate::config::HostPort;

/// A key's slot is its hash tag's CRC-16 by this many (Redis Cluster specification, "Key distribution model").
const SLOTS: u16 = 16_384;

/// The slot of all keys of a partition: their hash tag is its number.
pub fn slot_of(partition: u64) -> u16 {
    crc16(partition.to_string().as_bytes()).checked_rem(SLOTS).unwrap_or(0)
}

/// CRC-16/XMODEM, as the specification names it: polynomial 0x1021, from 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(
            crc ^ (u16::from(byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// Which master serves which slots.
#[derive(Debug, Default)]
pub struct Owners {
    /// First and last slot, both of them included.
    ranges: Vec<(u16, u16, HostPort)>,
    /// What was learnt since.
    moved: HashMap<u16, HostPort>,
}

impl Owners {
    /// Reads the answer to `CLUSTER SLOTS`; `None` for what is none. A host that is left out is that of who answers.
    pub fn read(answer: &Value, said_by: &HostPort) -> Option<Self> {
        let Value::Array(entries) = answer else { return None };
        let range = |entry: &Value| {
            let Value::Array(parts) = entry else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            let host = match host {
                Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok()?,
                Value::SimpleString(text) => text.clone(),
                _ => String::new(),
            };
            let host = if host.is_empty() || host == "?" { said_by.host.clone() } else { host };
            let port = u16::try_from(*port).ok()?;
            Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, HostPort { host, port }))
        };
        let ranges = entries.iter().map(range).collect::<Option<Vec<_>>>()?;
        Some(Self { ranges, moved: HashMap::new() })
    }

    pub fn of(&self, slot: u16) -> Option<HostPort> {
        let within = |(first, last, _): &&(u16, u16, HostPort)| (*first..=*last).contains(&slot);
        let by_range = || self.ranges.iter().find(within).map(|(_, _, node)| node);
        self.moved.get(&slot).or_else(by_range).cloned()
    }

    pub fn moved(&mut self, slot: u16, to: HostPort) {
        self.moved.insert(slot, to);
    }

    pub fn has(&self, node: &HostPort) -> bool {
        self.ranges.iter().any(|(_, _, known)| known == node)
    }

    pub fn masters(&self) -> usize {
        let mut nodes: Vec<&HostPort> = self.ranges.iter().map(|(_, _, node)| node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // Its own example: the check value of CRC-16/XMODEM.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // CLUSTER KEYSLOT {0} and {127}.
        assert_eq!((slot_of(0), slot_of(127)), (13_907, 6_102));
    }

    #[test]
    fn partitions_are_spread_over_a_cluster() {
        for masters in [3_u16, 8, 16] {
            let mut counts = vec![0_u32; usize::from(masters)];
            for partition in 0..128 {
                counts[usize::from(slot_of(partition) / SLOTS.div_ceil(masters))] += 1;
            }
            let fair = 128 / u32::from(masters);
            assert!(counts.iter().all(|count| (fair / 2..=fair * 2).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn who_serves_a_slot_is_read_and_learnt() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: &str, port| Value::Array(vec![text(host), Value::Int(port), text("id")]);
        let range =
            |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let answer = Value::Array(vec![
            range(0, 99, vec![node("10.0.0.2", 1), node("10.0.0.9", 9)]),
            range(100, 16_383, vec![node("", 2)]),
        ]);
        let at = |host: &str, port| HostPort { host: host.to_owned(), port };
        let mut owners = Owners::read(&answer, &at("10.0.0.1", 7)).unwrap();
        assert_eq!((owners.of(99), owners.of(100)), (Some(at("10.0.0.2", 1)), Some(at("10.0.0.1", 2))));
        assert_eq!((owners.masters(), owners.has(&at("10.0.0.9", 9))), (2, false));
        owners.moved(99, at("10.0.0.1", 2));
        assert_eq!(owners.of(99), Some(at("10.0.0.1", 2)));
        assert!(Owners::read(&Value::Nil, &at("h", 1)).is_none());
    }
}
