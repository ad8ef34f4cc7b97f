//! How names and values may be shown: secrets masked, in one line, and close names for a mistyped one.

use std::fmt::Write;

use super::names::{NAMES, Shown};

/// Longer values are cut in a refusal.
const SHOWN_MAX_CHARS: usize = 200;

/// A value as it may be shown. A name that is mistyped may be a secret's, as far as it looks like one.
pub fn masked(name: &str, value: &str) -> String {
    let shown = |name: &str| NAMES.iter().find(|known| known.name == name).map(|known| known.shown);
    match shown(name) {
        _ if value.is_empty() => String::new(),
        Some(Shown::Plainly) => value.to_owned(),
        Some(Shown::Url) => without_password(value),
        Some(Shown::Masked) => "***".to_owned(),
        None => match nearest(name).and_then(shown).filter(|_| !is_secret(name)) {
            Some(Shown::Plainly) if !value.contains("://") => value.to_owned(),
            Some(Shown::Plainly | Shown::Url) => without_password(value),
            Some(Shown::Masked) | None => "***".to_owned(),
        },
    }
}

/// A text in one line: what can't be printed is escaped, and a long one is cut.
pub fn in_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars().take(SHOWN_MAX_CHARS) {
        match char {
            '"' | '\'' => line.push(char),
            _ => line.extend(char.escape_debug()),
        }
    }
    let count = text.chars().count();
    if count > SHOWN_MAX_CHARS {
        // Writing to a string does not fail.
        write!(line, "... ({count} characters)").ok();
    }
    line
}

/// A URL with `***` in the place of its password, and of every parameter that may be a secret.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let login = match login.map(|login| login.split_once(':')) {
        None => String::new(),
        // A token may stand alone before the host.
        Some(None) => "***@".to_owned(),
        Some(Some((user, _))) => format!("{user}:***@"),
    };
    let place = if login.is_empty() && scheme != "sqlite" && !is_place(place) { "***" } else { place };
    let mut shown = format!("{scheme}://{login}{place}");
    for (number, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if number == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if is_secret(name) => shown.extend([name, "=***"]),
            _ => shown.push_str(parameter),
        }
    }
    shown
}

/// Hosts with ports; `user:password` without its host is none.
fn is_place(place: &str) -> bool {
    let authority = place.split('/').next().unwrap_or_default();
    authority.split(',').all(|host| {
        let port = host.rsplit(']').next().and_then(|rest| rest.split_once(':'));
        port.is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "secret", "token", "key", "sig"].iter().any(|part| name.contains(part))
}

/// The known name that a mistyped one is closest to, where one is close.
pub fn nearest(mistyped: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .map(|known| (distance(known.name, mistyped), known.name))
        .filter(|&(distance, name)| distance <= 3 && distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// Edit distance (Levenshtein), by one row of the table.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = left.min(*cell).saturating_add(1).min(diagonal.saturating_add(usize::from(from != to)));
            diagonal = *cell;
            *cell = best;
            left = best;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, expected) in [
            ("redis://ann:hunter2@h:1/0", "redis://ann:***@h:1/0"),
            ("https://ann:hunter@2/x@h/y", "https://ann:***@h/y"),
            ("https://hunter2@h/x", "https://***@h/x"),
            ("postgres://ann:hunter2/x", "postgres://***"),
            (
                "postgres://h/x?password=hunter2&sslmode=disable&PASSWORD=hunter2",
                "postgres://h/x?password=***&sslmode=disable&PASSWORD=***",
            ),
            ("https://h/x?token=hunter2", "https://h/x?token=***"),
            ("redis-sentinel://a:1,b:2/m/0", "redis-sentinel://a:1,b:2/m/0"),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
            ("sqlite://a:b/quotad.db", "sqlite://a:b/quotad.db"),
            ("hunter2", "***"),
        ] {
            assert_eq!(without_password(url), expected);
        }
    }

    #[test]
    fn what_a_mistyped_name_holds_is_shown_with_care() {
        assert_eq!(masked("SHARD", "2"), "2");
        // Close to REDIS_SSL, and to LISTEN.
        assert_eq!(masked("REDIS_PASS", "hunter2"), "***");
        assert_eq!(masked("LISTN", "http://hunter2@h"), "http://***@h");
        assert_eq!(masked("JWT_ISSUER", "https://h/?key=1"), "https://h/?key=1", "this one is known");
        assert_eq!(masked("NOTHING_LIKE_IT", "hunter2"), "***");
    }

    #[test]
    fn a_text_is_shown_in_one_line_and_cut() {
        assert_eq!(in_one_line("1\r\n2\u{1b}[31m\u{2028}\u{202e}"), r"1\r\n2\u{1b}[31m\u{2028}\u{202e}");
        assert_eq!(in_one_line("it's \"\u{e4}\""), "it's \"\u{e4}\"");
        let long = in_one_line(&"a".repeat(100_000));
        assert!(long.len() < 300 && long.ends_with("... (100000 characters)"), "{long}");
    }
}
