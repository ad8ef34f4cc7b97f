//! Pages that are made of the code: what they say is what it has. To make them anew:
//!
//!     UPDATE_DOCS=1 cargo test --locked --test it references

mod api;
mod metrics;
mod settings;

/// A page is that which was made of the code; with `UPDATE_DOCS` set it becomes so.
pub fn hold(page: &str, made: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).expect("the page is written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let first = written.lines().zip(made.lines()).find(|(written, made)| written != made);
    assert!(
        written == made,
        "{page} is not what the code says, at {first:?}: run UPDATE_DOCS=1 cargo test --locked --test it references"
    );
}
