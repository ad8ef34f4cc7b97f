//! Paths as costs know them: one text for all ways to write a path, and nothing above the root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quotad::domain::endpoint::EndpointPath;

fuzz_target!(|text: &str| {
    let Ok(path) = EndpointPath::parse(text) else {
        assert!(!text.starts_with('/') || text.len() > 8192 || text.chars().any(char::is_control), "{text:?}");
        return;
    };
    let normal = path.as_str();
    assert!(normal.starts_with('/') && !normal.contains(['?', '#']) && normal.len() <= text.len(), "{normal:?}");
    assert!(normal == "/" || normal[1..].split('/').all(|segment| !["", ".", ".."].contains(&segment)), "{normal:?}");
    assert_eq!(EndpointPath::parse(normal).as_ref(), Ok(&path));
    for same in [format!("/.{text}"), format!("/{text}"), format!("/x/..{text}"), format!("{normal}/?{text}")] {
        if let Ok(other) = EndpointPath::parse(&same) {
            assert_eq!(other, path, "{same:?}");
        }
    }
});
