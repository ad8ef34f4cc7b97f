//! Endpoint paths and what a call to each costs: the longest path prefix wins, on whole segments.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::cost::Multiplier;

/// Longest endpoint path, in bytes, before normalisation.
pub const ENDPOINT_MAX_BYTES: usize = 8192;

/// A normalised absolute path: no query or fragment, no empty and no dot segments, no slash at the end. Case counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EndpointPath(CompactString);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a path that starts with '/', of at most 8192 bytes, without control characters")]
pub struct InvalidEndpoint;

impl EndpointPath {
    /// Cuts query and fragment off and removes empty and dot segments (RFC 3986, section 5.2.4); `..` never climbs above the root.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        if !text.starts_with('/') || text.len() > ENDPOINT_MAX_BYTES || text.chars().any(char::is_control) {
            return Err(InvalidEndpoint);
        }
        let path = text.split(['?', '#']).next().unwrap_or_default();
        let mut segments: Vec<&str> = Vec::new();
        for segment in path.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                name => segments.push(name),
            }
        }
        let mut normal = CompactString::with_capacity(path.len());
        for segment in &segments {
            normal.push('/');
            normal.push_str(segment);
        }
        if normal.is_empty() {
            normal.push('/');
        }
        Ok(Self(normal))
    }

    /// `/`
    pub const fn root() -> Self {
        Self(CompactString::const_new("/"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` is `other` or stands above it, on whole segments: `/ws` covers `/ws/1`, not `/wsx`.
    fn covers(&self, other: &EndpointPath) -> bool {
        self.0 == "/"
            || other.0.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl<'de> Deserialize<'de> for EndpointPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        EndpointPath::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What one item costs at a path and below it; no methods means every method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointCost {
    pub path: EndpointPath,
    #[serde(default)]
    pub methods: Vec<String>,
    pub cost: u64,
}

/// All endpoint costs in force. Any path that no rule covers costs 1.
#[derive(Debug, Clone, Default)]
pub struct EndpointCosts {
    /// Longest path first; of equal paths, those that name methods first.
    rules: Vec<(EndpointCost, Multiplier)>,
}

/// The most rules there may be: each check without a shorter way reads them all.
pub const RULES_MAX: usize = 1000;

/// The longest method name.
pub const METHOD_MAX_BYTES: usize = 32;

/// The most methods that a rule may name.
const METHODS_MAX: usize = 32;

/// Why endpoint costs can't be as they are: the field, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidEndpointCost {
    pub field: String,
    pub message: String,
}

/// 1 to 32 of the characters that a method may have (RFC 9110, section 5.6.2).
fn is_method(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=METHOD_MAX_BYTES).contains(&text.len()) && text.bytes().all(is_token)
}

impl EndpointCost {
    /// Whether the same call would be decided by both.
    fn collides_with(&self, other: &EndpointCost) -> bool {
        let shared = |method: &String| other.methods.iter().any(|known| known.eq_ignore_ascii_case(method));
        self.path == other.path
            && (self.methods.iter().any(shared) || (self.methods.is_empty() && other.methods.is_empty()))
    }
}

impl EndpointCosts {
    pub fn new(costs: Vec<EndpointCost>) -> Result<Self, InvalidEndpointCost> {
        let invalid = |field: String, message: &str| Err(InvalidEndpointCost { field, message: message.to_owned() });
        if costs.len() > RULES_MAX {
            return invalid("costs".to_owned(), "must be at most 1000");
        }
        let mut rules: Vec<(EndpointCost, Multiplier)> = Vec::with_capacity(costs.len());
        for (number, rule) in costs.into_iter().enumerate() {
            if rule.methods.len() > METHODS_MAX || !rule.methods.iter().all(|method| is_method(method)) {
                return invalid(
                    format!("costs[{number}].methods"),
                    "must be at most 32 methods, each of 1 to 32 characters",
                );
            }
            if rules.iter().any(|(known, _)| known.collides_with(&rule)) {
                return invalid(format!("costs[{number}].path"), "another rule decides the same calls");
            }
            match Multiplier::new(rule.cost) {
                Ok(multiplier) => rules.push((rule, multiplier)),
                Err(error) => return invalid(format!("costs[{number}].cost"), &error.to_string()),
            }
        }
        rules.sort_by_key(|(rule, _)| (std::cmp::Reverse(rule.path.0.len()), rule.methods.is_empty()));
        Ok(Self { rules })
    }

    /// The rule that decides the cost of a call, or none where the call costs 1. A check that names no endpoint costs 1.
    pub fn find(&self, path: &EndpointPath, method: Option<&str>) -> Option<(&EndpointCost, Multiplier)> {
        self.rules
            .iter()
            .find(|(rule, _)| {
                rule.path.covers(path)
                    && (rule.methods.is_empty()
                        || method.is_some_and(|m| rule.methods.iter().any(|known| known.eq_ignore_ascii_case(m))))
            })
            .map(|(rule, multiplier)| (rule, *multiplier))
    }

    pub fn rules(&self) -> impl Iterator<Item = &EndpointCost> {
        self.rules.iter().map(|(rule, _)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(rules: &[(&str, &[&str], u64)]) -> EndpointCosts {
        let rule = |&(path, methods, cost): &(&str, &[&str], u64)| EndpointCost {
            path: EndpointPath::parse(path).unwrap(),
            methods: methods.iter().map(|m| m.to_string()).collect(),
            cost,
        };
        EndpointCosts::new(rules.iter().map(rule).collect()).unwrap()
    }

    fn cost(costs: &EndpointCosts, path: &str, method: Option<&str>) -> u64 {
        costs.find(&EndpointPath::parse(path).unwrap(), method).map_or(1, |(_, multiplier)| multiplier.units())
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let costs = costs(&[("/ws", &[], 0), ("/api/v1/agents", &[], 2), ("/api/v1", &[], 3)]);
        for (path, expected) in [
            ("/ws", 0),
            ("/ws/", 0),
            ("/ws/1", 0),
            ("/wsx", 1),
            ("/WS", 1),
            ("/api/v1/agents/7?x=/ws", 2),
            ("/api/v1/agentsX", 3),
            ("/api//v1/./agents", 2),
            ("/api/v1/agents/../jobs#x", 3),
            ("/../../ws", 0),
            ("/", 1),
        ] {
            assert_eq!(cost(&costs, path, None), expected, "{path}");
        }
    }

    #[test]
    fn a_rule_for_the_method_goes_before_the_rule_for_all() {
        let costs = costs(&[("/jobs", &[], 1), ("/jobs", &["POST"], 5)]);
        assert_eq!(cost(&costs, "/jobs", Some("post")), 5);
        assert_eq!(cost(&costs, "/jobs", Some("GET")), 1);
        assert_eq!(cost(&costs, "/jobs", None), 1);
    }

    #[test]
    fn a_path_is_absolute_bounded_and_printable() {
        assert!(EndpointPath::parse("agents").is_err());
        assert!(EndpointPath::parse("/a\nb").is_err());
        assert!(EndpointPath::parse(&"/a".repeat(5000)).is_err());
    }
}
