//! Whether the time that a wrong API key takes tells how near it is: near and far ones are timed in turn, and their times held
//! against each other by Welch's t on the quicker part of the samples, as in Reparaz, Balasch and Verbauwhede, "Dude, is my
//! code constant time?" (2017). A |t| below 4.5 tells nothing of a difference.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, reason = "it prints a table")]
#![allow(clippy::arithmetic_side_effects, reason = "a bench may overflow")]

use std::hint::black_box;

use quotad::clock::Stopwatch;
use quotad::config::{Secret, Settings};
use quotad::domain::credential::{ApiKeyRecord, Role};
use quotad::domain::time::Timestamp;
use quotad::identity::api_key::{self, NewKey};
use quotad::identity::{CredentialHeaders, Identity};

const NOW: Timestamp = Timestamp::from_seconds(1_795_766_400);
const KEYS: usize = 1000;
/// Of each kind so many different texts are asked with.
const TEXTS: usize = 4096;
const ROUNDS: usize = 1_000_000;
/// Slower samples than this part of all were disturbed.
const QUICKER: f64 = 0.9;

/// Kinds of wrong keys; all others are held against the first. The last is a control: what has not the form of a key, as its sender
/// knows, goes another way, and shows how small a difference is seen here.
const KINDS: [&str; 4] =
    ["unknown id", "right id, wrong first character", "right id, wrong last character", "same length, another form"];
const CONTROL: usize = 3;

fn main() {
    let made: Vec<NewKey> = (0..KEYS).map(|_| api_key::make().expect("random bytes")).collect();
    let identity = identity(&made);
    let texts: [Vec<String>; 4] =
        std::array::from_fn(|kind| (0..TEXTS).map(|number| wrong(kind, number, &made)).collect());
    let ask = |text: &str| {
        let headers = CredentialHeaders { authorization: None, api_key: Some(text.as_bytes()) };
        identity.authenticate(black_box(headers), NOW)
    };
    assert!(ask(&made[0].text).is_ok());
    assert!(texts.iter().flatten().all(|text| ask(text).is_err()));

    // Which kind is next is drawn: one that always came after another would be timed with what that left behind.
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    // All are asked with from one place: where a text lies in memory would be timed, too.
    let mut asked = String::with_capacity(256);
    let mut samples: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS * KINDS.len() {
        let (kind, number) = (dice.below(KINDS.len()), dice.below(TEXTS));
        asked.clear();
        asked.push_str(&texts[kind][number]);
        let watch = Stopwatch::start();
        let _ = black_box(ask(&asked));
        samples[kind].push(watch.elapsed().as_nanos() as f64);
    }
    let mut all: Vec<f64> = samples.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let bound = all[(all.len() as f64 * QUICKER) as usize];
    let moments = samples.map(|samples| Moments::of(samples.into_iter().filter(|sample| *sample <= bound)));
    println!("{:34} {:>9} {:>9} {:>9} {:>7}", "a wrong key", "samples", "mean ns", "sd ns", "t");
    for (kind, moments_of_kind) in KINDS.iter().zip(&moments) {
        let t = moments_of_kind.welch(&moments[0]);
        let Moments { count, mean, variance } = moments_of_kind;
        println!("{kind:34} {count:>9} {mean:>9.2} {:>9.2} {t:>7.2}", variance.sqrt());
    }
    let largest = moments
        .iter()
        .take(CONTROL)
        .map(|moments_of_kind| moments_of_kind.welch(&moments[0]).abs())
        .fold(0.0, f64::max);
    let verdict = if largest < 4.5 { "they can't be told apart" } else { "they differ, or the machine was busy" };
    println!("largest |t| without the last {largest:.2}: {verdict}");
}

fn identity(made: &[NewKey]) -> Identity {
    let settings = Settings::from_vars(Vec::new()).expect("settings");
    let identity =
        Identity::new(&settings.identity, &Secret::new("an admin key of enough characters")).expect("an identity");
    let records = made.iter().map(|key| ApiKeyRecord {
        id: key.id.clone(),
        name: "key".to_owned(),
        role: Role::Service,
        user_id: None,
        secret_sha256: key.secret_sha256,
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        successor: None,
    });
    let records: Vec<ApiKeyRecord> = records.collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime
        .block_on(identity.key_ring().reload(async { Ok::<_, std::convert::Infallible>(records) }))
        .expect("no error");
    identity
}

fn wrong(kind: usize, number: usize, made: &[NewKey]) -> String {
    let key = &made[number % made.len()].text;
    let start = key.len() - 64;
    match kind {
        0 => api_key::make().expect("random bytes").text,
        1 => changed(key, start, number),
        2 => changed(key, key.len() - 1, number),
        _ => api_key::make().expect("random bytes").text.replace('_', "x"),
    }
}

/// With another hexadecimal digit at this place.
fn changed(key: &str, at: usize, number: usize) -> String {
    let digits: Vec<char> = "0123456789abcdef".chars().filter(|digit| !key[at..].starts_with(*digit)).collect();
    format!("{}{}{}", &key[..at], digits[number / KEYS % digits.len()], &key[at + 1..])
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    /// In one pass, as Welford has it.
    fn of(samples: impl Iterator<Item = f64>) -> Self {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for sample in samples {
            count += 1.0;
            let distance = sample - mean;
            mean += distance / count;
            squares += distance * (sample - mean);
        }
        Self { count, mean, variance: squares / (count - 1.0) }
    }

    fn welch(&self, other: &Self) -> f64 {
        (self.mean - other.mean) / (self.variance / self.count + other.variance / other.count).sqrt()
    }
}

/// xorshift64*, which is as good as this needs.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}
