//! An error with its causes, in one line.

use std::error::Error;
use std::fmt;

/// Shows an error and, behind colons, its causes, without those that it names itself. No control character stands in it.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        f.write_str(&line.replace(char::is_control, " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn causes_stand_once_and_in_one_line() {
        let inner = Link { text: "no\nroute", source: None };
        let same = Link { text: "it failed", source: Some(Box::new(inner)) };
        let outer = Link { text: "it failed", source: Some(Box::new(same)) };
        assert_eq!(Chain(&outer).to_string(), "it failed: no route");
    }
}
