//! Which state of an entry somebody has seen, so that two who change it don't overwrite each other unknowingly.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// A fingerprint of an entry as the API shows it: the same for the same content. That there is none has one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    pub fn of(entry: Option<&Value>) -> Self {
        let text = entry.unwrap_or(&Value::Null).to_string();
        let digest = Sha256::digest(text.as_bytes());
        Self(digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect())
    }

    /// What [`Revision::as_str`] gave, or what never was one.
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What must be there for a change to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expectation {
    #[default]
    Anything,
    /// There is an entry, whichever.
    Something,
    /// There is no entry.
    Nothing,
    /// It is as one of these says.
    OneOf(Vec<Revision>),
}

impl Expectation {
    pub fn is_met_by(&self, entry: Option<&Value>) -> bool {
        match self {
            Expectation::Anything => true,
            Expectation::Something => entry.is_some(),
            Expectation::Nothing => entry.is_none(),
            Expectation::OneOf(seen) => seen.contains(&Revision::of(entry)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_is_known_by_its_content() {
        let (one, other) = (json!({"tier": "pro"}), json!({"tier": "free"}));
        assert_eq!(Revision::of(Some(&one)), Revision::of(Some(&one.clone())));
        assert_ne!(Revision::of(Some(&one)), Revision::of(Some(&other)));
        assert_ne!(Revision::of(Some(&one)), Revision::of(None));
        assert_eq!(Revision::from_text(Revision::of(None).as_str()), Revision::of(None));
    }

    #[test]
    fn what_is_expected_is_compared_with_what_is_there() {
        let (one, other) = (json!(1), json!(2));
        let seen = Expectation::OneOf(vec![Revision::of(Some(&one))]);
        assert!(seen.is_met_by(Some(&one)) && !seen.is_met_by(Some(&other)) && !seen.is_met_by(None));
        assert!(Expectation::Something.is_met_by(Some(&one)) && !Expectation::Something.is_met_by(None));
        assert!(Expectation::Nothing.is_met_by(None) && !Expectation::Nothing.is_met_by(Some(&one)));
        assert!(Expectation::Anything.is_met_by(None) && Expectation::Anything.is_met_by(Some(&one)));
    }
}
