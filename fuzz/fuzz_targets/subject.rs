//! Subjects: whoever is charged has one text, and two of them never share one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quotad::domain::subject::{Subject, UserId};

/// The same subject is the same text and the same hash, and another is another.
fn agree(a: &Subject, b: &Subject) {
    assert_eq!(a == b, a.to_string() == b.to_string(), "{a:?} {b:?}");
    assert!(a != b || a.stable_hash() == b.stable_hash());
}

fuzz_target!(|text: &str| {
    let (one, other) = text.split_once('|').unwrap_or((text, text));
    let read = |text: &str| {
        let user = UserId::parse(text).ok().map(Subject::User);
        let address = Subject::parse(&format!("ip:{text}")).ok();
        [user, address, Subject::parse(text).ok()]
    };
    let subjects: Vec<Subject> = [read(one), read(other)].into_iter().flatten().flatten().collect();
    for subject in &subjects {
        assert_eq!(Subject::parse(&subject.to_string()).as_ref(), Ok(subject));
        subjects.iter().for_each(|known| agree(subject, known));
    }
    if let Ok(id) = UserId::parse(one) {
        assert_eq!(id.as_str(), one, "an id is taken as it is");
        assert!((1..=128).contains(&one.chars().count()) && !one.chars().any(char::is_control));
    }
});
