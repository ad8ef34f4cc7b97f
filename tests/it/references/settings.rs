//! docs/settings.md: every setting, from the table that reads them.

use quotad::config::{Audience, NAMES, Name};

use super::hold;

fn page() -> String {
    let row = |known: &Name| {
        let also = if known.audience == Audience::Both { "yes" } else { "no" };
        // A value stands as it would be set; words stand as words.
        let default = match known.default {
            "" => "(unset)".to_owned(),
            text if text.contains(' ') => text.to_owned(),
            text => format!("`{text}`"),
        };
        format!("| `{}` | {also} | {default} | {} |\n", known.name, known.meaning)
    };
    let later: Vec<String> =
        NAMES.iter().filter(|known| !known.supported).map(|known| format!("`{}`", known.name)).collect();
    format!(
        "# Settings\n\n\
         Environment variables, each with the prefix `QUOTAD_`, as `QUOTAD_LISTEN`. Those with a yes are also read with `OMICS_`;\n\
         where both are set, `QUOTAD_` wins. An empty value counts as unset.\n\n\
         A `QUOTAD_` name that is not here, a value that is not allowed, or a setting that would be passed over stops the start with\n\
         one line. `quotad config` prints the settings in force, secrets masked.\n\n\
         | name | `OMICS_` | default | meaning |\n|---|---|---|---|\n{}\n\
         Refused by this version: {}.\n\n\
         This page is made of the table in `src/config/names.rs`:\n\n    UPDATE_DOCS=1 cargo test --locked --test it references\n",
        NAMES.iter().filter(|known| known.supported).map(row).collect::<String>(),
        later.join(", "),
    )
}

#[test]
fn the_page_of_settings_is_that_of_the_table() {
    hold("docs/settings.md", &page());
}
