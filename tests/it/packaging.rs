//! The files that a container is made of: what they set exists, and what they need is said.

use std::collections::BTreeSet;

use quotad::config::{NAMES, Settings};
use serde_json::{Value, json};

const COMPOSE: &str = include_str!("../../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../../Dockerfile");
const EXAMPLE: &str = include_str!("../../.env.example");

fn compose() -> Value {
    serde_saphyr::from_str(COMPOSE).expect("YAML")
}

fn is_setting(variable: &str) -> bool {
    let name = variable.strip_prefix("QUOTAD_");
    name.is_some_and(|name| NAMES.iter().any(|known| known.name == name && known.supported))
}

/// The variables that compose takes from outside, as `${NAME:?set it}`.
fn taken() -> BTreeSet<&'static str> {
    let name = |rest: &'static str| rest.split([':', '}', '-', '?']).next().expect("a name");
    COMPOSE.split("${").skip(1).map(name).collect()
}

/// The instructions of the last stage, which is the image.
fn image() -> Vec<&'static str> {
    let last = DOCKERFILE.rfind("\nFROM ").expect("a second stage");
    DOCKERFILE[last..].lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn position(instructions: &[&str], start: &str) -> usize {
    instructions
        .iter()
        .position(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("{start} in {instructions:?}"))
}

#[test]
fn compose_starts_the_service_with_settings_that_it_knows() {
    let compose = compose();
    let service = &compose["services"]["quotad"];
    let environment = service["environment"].as_object().expect("its environment");
    for variable in environment.keys() {
        assert!(is_setting(variable), "{variable} is no setting");
    }
    // The values are those that compose makes of them, with `x`es for what comes from outside.
    let filled = |text: &str| {
        let mut parts = text.split("${");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + "x".repeat(40).as_str() + part.split_once('}').expect("an end").1)
    };
    let vars = environment.iter().map(|(name, value)| (name.clone(), filled(value.as_str().expect("a text"))));
    let settings = Settings::from_vars(vars).expect("settings that hold");
    assert!(settings.redis.is_some() && settings.identity.jwt_secret.is_some());
}

#[test]
fn compose_asks_every_part_how_it_is_and_keeps_what_it_writes() {
    let compose = compose();
    assert_eq!(compose["services"]["quotad"]["healthcheck"]["test"], json!(["CMD", "quotad", "healthcheck"]));
    let kept = compose["volumes"].as_object().expect("volumes");
    for (name, service) in compose["services"].as_object().expect("services") {
        assert!(service["healthcheck"]["test"].is_array(), "{name} is asked nothing");
        let volume = service["volumes"][0].as_str().and_then(|volume| volume.split_once(':')).expect("a volume");
        assert!(kept.contains_key(volume.0), "{name} writes to {volume:?}");
        let ports = service["ports"].as_array().map_or(&[][..], Vec::as_slice);
        let is_of_this_machine = |port: &Value| port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:"));
        assert!(ports.iter().all(is_of_this_machine), "{name} can be reached from outside");
        assert!(ports.is_empty() || ["quotad", "grafana"].contains(&name.as_str()), "{name} needs no port");
        for place in service["volumes"].as_array().expect("volumes").iter().filter_map(Value::as_str) {
            let file = place.strip_prefix("./").and_then(|place| place.split(':').next());
            assert!(file.is_none_or(|file| std::path::Path::new(file).exists()), "{name} mounts {place}");
        }
    }
    let folder = image().iter().find_map(|line| line.strip_prefix("VOLUME ")).expect("a volume of the image");
    assert!(COMPOSE.contains(&format!("quotad:{folder}")));
}

#[test]
fn the_example_names_what_compose_takes_and_sets_nothing() {
    let lines = EXAMPLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let named: Vec<(&str, &str)> = lines.map(|line| line.split_once('=').expect("NAME=value")).collect();
    assert_eq!(named.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), taken());
    assert!(named.iter().all(|(_, value)| value.is_empty()), "a secret that everybody knows is none");
}

#[test]
fn the_image_runs_as_nobody_and_says_how_it_is() {
    let image = image();
    assert!(image.contains(&"USER quotad") && image.iter().any(|line| line.contains("useradd")));
    let healthcheck = image[position(&image, "HEALTHCHECK")];
    assert!(healthcheck.ends_with(r#"CMD ["quotad", "healthcheck"]"#), "{healthcheck}");
    assert!(position(&image, "USER") < position(&image, "ENTRYPOINT"));
    for variable in DOCKERFILE.split([' ', '\n']).filter_map(|word| word.split_once('=')).map(|(name, _)| name) {
        assert!(!variable.starts_with("QUOTAD_") || is_setting(variable), "{variable} is no setting");
    }
}

/// Dependencies are built before any source is there, so that a change of it does not build them again.
#[test]
fn the_image_builds_dependencies_apart() {
    let lines: Vec<&str> = DOCKERFILE.lines().collect();
    let manifest = position(&lines, "COPY Cargo.toml Cargo.lock");
    let source = position(&lines, "COPY src");
    assert!(lines[manifest..source].iter().any(|line| line.contains("cargo build --release --locked")));
    assert!(!DOCKERFILE.contains("COPY . "), "what is not needed would make the layer anew");
    // The empty crate has src/lib.rs, src/main.rs and the benches, and nothing else that the manifest may name.
    let manifest = include_str!("../../Cargo.toml");
    for more in ["[workspace", "build =", "[[example", "[[test", "[[bin"] {
        assert!(!manifest.lines().any(|line| line.starts_with(more)), "{more} needs a file in the empty crate");
    }
    let benches = manifest.split("[[bench]]").skip(1).filter_map(|rest| rest.split('"').nth(1));
    for bench in benches {
        assert!(DOCKERFILE.contains(&format!("benches/{bench}.rs")), "{bench} is not in the empty crate");
    }
}
