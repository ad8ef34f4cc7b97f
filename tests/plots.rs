//! The plots in docs/algorithms: the same traffic through each algorithm, drawn by the rule itself. `UPDATE_DOCS=1` writes them.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::fmt::Write;
use std::path::Path;

use quotad::domain::cost::{Items, Multiplier};
use quotad::domain::decide;
use quotad::domain::limit::{Algorithm, Limit, LimitName};
use quotad::domain::plan::Plan;
use quotad::domain::state::SubjectState;
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::{Period, Timestamp};

const LIMIT: u64 = 60;
const SPAN_SECONDS: usize = 60;
const SECONDS: usize = 240;

/// Requests in each second: little, then six a second around the turn of the first minute, then half as many again as the
/// limit allows, then little.
fn asked(second: usize) -> usize {
    match second {
        45..75 => 6,
        75..180 => 1 + second % 2,
        _ => second % 2,
    }
}

/// What is admitted in each second.
fn admitted(algorithm: Algorithm) -> Vec<usize> {
    let limit = Limit { name: LimitName::hour(), algorithm, requests: LIMIT, enforce: true };
    let plan = Plan::of_tier(&Tier { limits: vec![limit], ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) });
    let one = Multiplier::ONE.times(Items::ONE);
    let mut state = SubjectState::default();
    let mut admit = |second: usize, request: usize, of: usize| {
        // A minute's window begins with the plot.
        let micros = 1_795_766_400_000_000 + second * 1_000_000 + request * 1_000_000 / of;
        let now = Timestamp::from_micros(i64::try_from(micros).unwrap());
        let passes = decide::violations(&state, &plan, one, now).is_empty();
        if passes {
            decide::charge(&mut state, &plan, one, now);
        }
        passes
    };
    (0..SECONDS)
        .map(|second| (0..asked(second)).filter(|&request| admit(second, request, asked(second))).count())
        .collect()
}

/// The sum of the last minute, at the end of each second.
fn rolling(counts: &[usize]) -> Vec<usize> {
    (0..counts.len()).map(|end| counts[(end + 1).saturating_sub(SPAN_SECONDS)..=end].iter().sum()).collect()
}

fn plot(title: &str, algorithm: Algorithm) -> String {
    let counts = admitted(algorithm);
    let sums = rolling(&counts);
    let (left, width, bars, lines) = (46, 3, 120, 290);
    let mut svg = String::new();
    let text = |x: usize, y: usize, anchor: &str, what: &str| {
        format!(
            r##"<text x="{x}" y="{y}" text-anchor="{anchor}" font-family="sans-serif" font-size="12" fill="#333">{what}</text>"##
        )
    };
    let mut parts = vec![text(left, 18, "start", title)];
    let total: usize = (0..SECONDS).map(asked).sum();
    let summary = format!(
        "asked {total}, admitted {}, most in any minute {}",
        counts.iter().sum::<usize>(),
        sums.iter().max().unwrap()
    );
    parts.push(text(left + width * SECONDS, 18, "end", &summary));
    parts.push(text(left - 6, bars - 6 * 14 + 4, "end", "6/s"));
    parts.push(text(left - 6, bars + 4, "end", "0"));
    for (name, units) in [("L", LIMIT), ("2L", 2 * LIMIT), ("0", 0)] {
        let y = lines - usize::try_from(units).unwrap();
        parts.push(text(left - 6, y + 4, "end", name));
        let right = left + width * SECONDS;
        parts.push(format!(
            r##"<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="#999" stroke-dasharray="3 3"/>"##
        ));
    }
    for minute in 0..=SECONDS / SPAN_SECONDS {
        let x = left + width * minute * SPAN_SECONDS;
        parts.push(format!(r##"<line x1="{x}" y1="30" x2="{x}" y2="{lines}" stroke="#ddd"/>"##));
        parts.push(text(x, lines + 16, "middle", &format!("{minute} min")));
    }
    for (second, &passed) in counts.iter().enumerate() {
        for (count, colour) in [(asked(second), "#d9d9d9"), (passed, "#2b6cb0")] {
            if count > 0 {
                let (x, y, height) = (left + width * second, bars - 14 * count, 14 * count);
                parts.push(format!(r##"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"/>"##));
            }
        }
    }
    let points: Vec<String> =
        sums.iter().enumerate().map(|(second, sum)| format!("{},{}", left + width * second, lines - sum)).collect();
    parts.push(format!(r##"<polyline points="{}" fill="none" stroke="#c05621" stroke-width="2"/>"##, points.join(" ")));
    writeln!(svg, r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 320" role="img">"##).unwrap();
    writeln!(svg, "<title>{title}: {summary}</title>").unwrap();
    writeln!(svg, r##"<rect width="780" height="320" fill="#fff"/>"##).unwrap();
    parts.iter().for_each(|part| writeln!(svg, "{part}").unwrap());
    svg.push_str("</svg>\n");
    svg
}

#[test]
fn the_plots_show_what_the_rule_does() {
    let period = Period::from_seconds(60);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/algorithms");
    for (name, title, algorithm) in [
        ("fixed_window", "Fixed window, 60 a minute", Algorithm::FixedWindow { period }),
        ("sliding_window_log", "Sliding window log, 60 a minute", Algorithm::SlidingWindowLog { period }),
        ("sliding_window_counter", "Sliding window counter, 60 a minute", Algorithm::SlidingWindowCounter { period }),
        ("token_bucket", "Token bucket, 60 a minute, burst 20", Algorithm::TokenBucket { period, burst: Some(20) }),
    ] {
        let (file, drawn) = (folder.join(format!("{name}.svg")), plot(title, algorithm));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, &drawn).expect("the plot is written");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == drawn, "{} is not what the rule does: UPDATE_DOCS=1 draws it anew", file.display());
    }
}

/// The worst cases that the pages tell of.
#[test]
fn the_worst_cases_are_as_bad_as_the_pages_say() {
    let period = Period::from_seconds(60);
    let one = Multiplier::ONE.times(Items::ONE);
    let most = |algorithm: Algorithm, bursts: &[i64]| {
        let limit = Limit { name: LimitName::hour(), algorithm, requests: LIMIT, enforce: true };
        let plan = Plan::of_tier(&Tier { limits: vec![limit], ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) });
        let mut state = SubjectState::default();
        let mut passed = Vec::new();
        for &at in bursts {
            let now = Timestamp::from_micros(1_795_766_400_000_000 + at);
            while decide::violations(&state, &plan, one, now).is_empty() {
                decide::charge(&mut state, &plan, one, now);
                passed.push(at);
            }
        }
        passed.iter().map(|&end| passed.iter().filter(|&&at| at > end - 60_000_000 && at <= end).count()).max().unwrap()
    };
    let limit = usize::try_from(LIMIT).unwrap();
    let around_the_turn = [59_999_999, 60_000_000];
    assert_eq!(most(Algorithm::FixedWindow { period }, &around_the_turn), 2 * limit);
    assert_eq!(most(Algorithm::SlidingWindowLog { period }, &around_the_turn), limit);
    // The last of a window, and the next as the window before goes out of view.
    let steps: Vec<i64> = std::iter::once(59_999_999).chain((60_000_000..119_999_999).step_by(100_000)).collect();
    let counter = most(Algorithm::SlidingWindowCounter { period }, &steps);
    assert!(counter < 2 * limit && counter > 2 * limit - 3, "{counter}");
    let full = [0, 59_999_999];
    assert_eq!(most(Algorithm::TokenBucket { period, burst: None }, &full), 2 * limit - 1);
}
