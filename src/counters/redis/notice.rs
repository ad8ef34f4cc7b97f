//! What instances tell each other through Redis' channels. Nothing depends on it: who does not hear is told by time.

use std::fmt;

use crate::domain::subject::Subject;

/// Something that other instances should know at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Somebody is kept waiting by what is reserved of this subject: it is wanted back.
    Wanted(Subject),
    /// The subject's counters were reset: what is remembered of them is void.
    Reset(Subject),
    /// Something was changed in the database.
    Changed,
}

/// `<prefix>:notices`
pub fn channel(prefix: &str) -> String {
    format!("{prefix}:notices")
}

impl Notice {
    /// `None` for what another version may say.
    pub fn parse(text: &str) -> Option<Self> {
        let subject = |text: &str| Subject::parse(text).ok();
        match text.split_once(' ').unwrap_or((text, "")) {
            ("wanted", rest) => subject(rest).map(Self::Wanted),
            ("reset", rest) => subject(rest).map(Self::Reset),
            ("changed", "") => Some(Self::Changed),
            _ => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted(subject) => write!(f, "wanted {subject}"),
            Self::Reset(subject) => write!(f, "reset {subject}"),
            Self::Changed => f.write_str("changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::UserId;

    #[test]
    fn what_is_told_is_understood() {
        let subject = Subject::User(UserId::parse("a b wanted user:x").unwrap());
        for notice in [Notice::Wanted(subject.clone()), Notice::Reset(subject), Notice::Changed] {
            assert_eq!(Notice::parse(&notice.to_string()), Some(notice));
        }
        for other in ["", "wanted", "wanted nobody", "changed x", "news"] {
            assert_eq!(Notice::parse(other), None, "{other}");
        }
    }
}
