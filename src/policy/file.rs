//! The policy file: TOML, `[[tiers]]` as the API writes them and `[[costs]]` of endpoints.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::domain::invalid::at_field;
use crate::domain::policy::{InvalidPolicy, Layer, Policy};
use crate::domain::tier::{Tier, TierName};

/// Larger files are refused.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Why the file can't be taken over, without its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("it can't be read: {0}")]
    Unreadable(io::ErrorKind),
    #[error("it has more than 1 MiB")]
    TooLarge,
    #[error("it is not UTF-8")]
    NotText,
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("{field}: {message}")]
    Field { field: String, message: String },
}

/// The file as it was found: its bytes, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(Result<Vec<u8>, FileError>);

impl Seen {
    pub fn read(path: &Path) -> Self {
        let read = || {
            let mut bytes = Vec::new();
            File::open(path)?.take(FILE_MAX_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Self(match read() {
            Ok(bytes) if bytes.len() as u64 > FILE_MAX_BYTES => Err(FileError::TooLarge),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(FileError::Unreadable(io::Error::kind(&error))),
        })
    }

    /// What it says.
    pub fn layer(&self) -> Result<Layer, FileError> {
        let bytes = self.0.as_ref().map_err(Clone::clone)?;
        parse(std::str::from_utf8(bytes).map_err(|_| FileError::NotText)?)
    }
}

fn parse(text: &str) -> Result<Layer, FileError> {
    let in_words = |error: &toml::de::Error| error.message().replace('\n', " ");
    let document = toml::Deserializer::parse(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        FileError::Syntax { line: before.lines().count().max(1), message: in_words(&error) }
    })?;
    let layer: Layer = serde_path_to_error::deserialize(document).map_err(|error| {
        let (field, message) = at_field(&error.path().to_string(), &in_words(error.inner()));
        FileError::Field { field, message }
    })?;
    for (number, tier) in layer.tiers.iter().enumerate() {
        let at = |field: &str, message: &str| {
            Err(FileError::Field { field: format!("tiers[{number}].{field}"), message: message.to_owned() })
        };
        if let Err(error) = tier.check() {
            return at(&error.field, error.message);
        }
        if layer.tiers.iter().take(number).any(|known| known.name == tier.name) {
            return at("name", "another tier has this name");
        }
    }
    // What the tiers that must be there say is no matter here.
    let built_in = [TierName::free(), TierName::anonymous()].map(|name| Tier::hourly_and_daily(name, 0, 0, 0));
    let below = Layer { tiers: built_in.into(), costs: None };
    match Policy::of_layers(&[&below, &layer]) {
        Err(InvalidPolicy::Costs(error)) => Err(FileError::Field { field: error.field, message: error.message }),
        _ => Ok(layer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_by_line_or_by_field() {
        let limit = "name = \"gold\"\nconcurrent_requests = 1\nconcurrent_websockets = 1\nlimits = [";
        for (text, refusal) in [
            ("tiers = [", "line 1: "),
            ("\n\n[[tiers]\n", "line 3: "),
            ("x = 1", "x: unknown field `x`"),
            ("[[tiers]]\nname = \"Gold\"", "tiers[0].name: must be 1 to 64"),
            ("[[tiers]]\nname = \"gold\"", "tiers[0]: missing field `limits`"),
            (
                &format!("[[tiers]]\n{limit}{{name = \"a\", algorithm = \"token_bucket\", requests = 1}}]"),
                "tiers[0].limits[0].period_seconds: is required",
            ),
            (&format!("[[tiers]]\n{limit}]\n[[tiers]]\n{limit}]"), "tiers[1].name: another tier has this name"),
            ("[[costs]]\npath = \"/a\"\ncost = 1000001", "costs[0].cost: must be a whole number from 0 to 1000000"),
            ("[[costs]]\npath = \"/a\"\ncost = 1\n[[costs]]\npath = \"/a/\"\ncost = 2", "costs[1].path: another rule"),
        ] {
            let refused = parse(text).expect_err(text).to_string();
            assert!(refused.starts_with(refusal), "{refused}");
            assert!(!refused.contains('\n'));
        }
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(parse(""), Ok(Layer::default()));
        assert_eq!(parse("costs = []").map(|layer| layer.costs), Ok(Some(Vec::new())));
    }
}
