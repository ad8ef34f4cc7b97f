//! Saying which field of something that was written can't be taken.

/// The field that a refusal is about, and why: a message that itself names a field (`requests: must be ...`) is about that
/// field of what stands at `path`. At the root the path is empty or `.`.
pub fn at_field(path: &str, message: &str) -> (String, String) {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let path = if path == "." { "" } else { path };
    match message.split_once(": ").filter(|(name, _)| is_name(name)) {
        Some((name, message)) if path.is_empty() => (name.to_owned(), message.to_owned()),
        Some((name, message)) => (format!("{path}.{name}"), message.to_owned()),
        None => (path.to_owned(), message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_name_a_field_of_what_it_is_about() {
        let field = |path, message| at_field(path, message);
        let pair = |field: &str, message: &str| (field.to_owned(), message.to_owned());
        assert_eq!(field("limits[1]", "requests: must be"), pair("limits[1].requests", "must be"));
        assert_eq!(field(".", "burst: belongs"), pair("burst", "belongs"));
        assert_eq!(field("name", "must be 1 to 64"), pair("name", "must be 1 to 64"));
        assert_eq!(field("at", "invalid type: string"), pair("at", "invalid type: string"));
    }
}
