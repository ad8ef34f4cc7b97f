//! docs/api.md: every route, parameter, body and answer, from the OpenAPI document.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::hold;

const DOCUMENT: &str = include_str!("../../../src/http/openapi.json");

/// The parts of the interface, and who may use them.
const PARTS: [(&str, &str); 5] = [
    ("check", "For the roles service and admin; forward-auth reads the credential of the caller that the proxy holds."),
    ("leases", "For the roles service and admin."),
    ("quotas", "For users, by a credential of their own."),
    ("admin", "For the role admin."),
    ("operating", "For everybody who reaches the address."),
];

const HEAD: &str = "\
# API

A credential is `Authorization: Bearer <JWT>` or `X-API-Key: qd_<id>_<secret>`, which may stand after `Bearer` too. Bodies are JSON with
`Content-Type: application/json`; an unknown field is refused. Errors are problems as RFC 9457 has them ([Problem](#problem)).

Answers about one subject carry these headers, and a 429 also `Retry-After` and `X-RateLimit-Retry-After`, where waiting helps:

";

const FOOT: &str = "
This page is made of `src/http/openapi.json`, which the service answers at `/openapi.json` and shows at `/docs`:

    UPDATE_DOCS=1 cargo test --locked --test it references
";

#[test]
fn the_page_of_the_api_is_that_of_the_document() {
    hold("docs/api.md", &page(&serde_json::from_str(DOCUMENT).expect("JSON")));
}

fn page(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    for (name, header) in object(&document["components"]["headers"]) {
        page += &format!("- `{name}`: {}\n", text(header, "description"));
    }
    let routes = object(&document["paths"]).values().flat_map(|routes| object(routes).values());
    for tag in routes.filter_map(|route| route["tags"][0].as_str()) {
        assert!(PARTS.iter().any(|(part, _)| *part == tag), "{tag} has no part of the page");
    }
    let mut errors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (part, who) in PARTS {
        page += &format!(
            "\n## Routes: {part}\n{who}\n\n| route | | parameters | body | answers | errors |\n|---|---|---|---|---|---|\n"
        );
        for (path, routes) in object(&document["paths"]) {
            for (method, route) in object(routes).iter().filter(|(_, route)| route["tags"][0] == part) {
                page += &route_row(document, method, path, route, &mut errors);
            }
        }
    }
    page += "\n## Errors\n| status | |\n|---|---|\n";
    for (status, reasons) in errors {
        page += &format!("| {status} | {} |\n", reasons.join("; "));
    }
    page += "\n## Bodies\nA field that is not marked *always* may be left out, or is not there.\n";
    let mut schemas: Vec<(&String, &Value)> = object(&document["components"]["schemas"]).iter().collect();
    schemas.sort_by_key(|(name, _)| *name);
    for (name, schema) in schemas {
        page += &format!("\n### {name}\n{}", body(schema));
    }
    page + FOOT
}

fn route_row(
    document: &Value,
    method: &str,
    path: &str,
    route: &Value,
    errors: &mut BTreeMap<String, Vec<String>>,
) -> String {
    let parameters: Vec<String> = list(&route["parameters"])
        .iter()
        .map(|parameter| parameter["$ref"].as_str().map_or(parameter, |place| at(document, place)))
        .filter(|parameter| parameter["in"] != "path")
        .map(|parameter| match (parameter["in"].as_str(), typed(&parameter["schema"])) {
            (Some("header"), _) => format!("header `{}`", text(parameter, "name")),
            (_, kind) => format!("`{}`: {kind}", text(parameter, "name")),
        })
        .collect();
    let content = |of: &Value| -> Vec<String> {
        let kind = |(kind, content): (&String, &Value)| match kind.as_str() {
            "application/json" | "application/problem+json" => typed(&content["schema"]),
            other => format!("`{other}`"),
        };
        of["content"].as_object().into_iter().flatten().map(kind).collect()
    };
    let (mut answers, mut refusals) = (Vec::new(), Vec::new());
    for (status, answer) in object(&route["responses"]) {
        if status.as_str() < "400" {
            answers.push(format!("{status} {}", content(answer).join(" or ")).trim_end().to_owned());
            continue;
        }
        refusals.push(status.clone());
        let known = errors.entry(status.clone()).or_default();
        // What makes a request unreadable is told of in several, by what the route takes.
        let separator = if status == "400" { ", or " } else { "\n" };
        for reason in cell(text(answer, "description")).split(separator) {
            let reason = reason.strip_prefix("A path").map_or(reason.to_owned(), |rest| format!("a path{rest}"));
            if !known.iter().any(|told| told.eq_ignore_ascii_case(&reason)) {
                known.push(reason);
            }
        }
    }
    format!(
        "| `{} {path}` | {} | {} | {} | {} | {} |\n",
        method.to_uppercase(),
        text(route, "summary"),
        parameters.join("; "),
        content(&route["requestBody"]).join(" or "),
        answers.join(", "),
        refusals.join(" ")
    )
}

/// What a body may be: a table of its fields, or one for each of its forms.
fn body(schema: &Value) -> String {
    let about = schema["description"].as_str().map(|about| format!("{about}.\n")).unwrap_or_default();
    if schema["properties"].is_null() {
        let forms: Vec<String> = list(&schema["oneOf"]).iter().map(body).collect();
        return if forms.is_empty() {
            format!("{about}{}.\n", typed(schema))
        } else {
            about + forms.join("\n").as_str()
        };
    }
    let mut rows = String::new();
    fields(schema, "", &mut rows);
    format!("{about}\n| field | type | |\n|---|---|---|\n{rows}")
}

fn fields(schema: &Value, before: &str, rows: &mut String) {
    let required = list(&schema["required"]);
    for (name, field) in object(&schema["properties"]) {
        let always = if required.contains(&Value::from(name.as_str())) { "*always*; " } else { "" };
        *rows += &format!("| `{before}{name}` | {always}{} | {} |\n", typed(field), cell(text(field, "description")));
        let (inner, mark) = if field["items"].is_object() { (&field["items"], "[].") } else { (field, ".") };
        if inner["properties"].is_object() {
            fields(inner, &format!("{before}{name}{mark}"), rows);
        }
    }
}

/// The type of a value and its bounds, in a few words.
fn typed(schema: &Value) -> String {
    if let Some(place) = schema["$ref"].as_str() {
        let name = place.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(forms) = schema["oneOf"].as_array() {
        return forms.iter().map(typed).collect::<Vec<_>>().join(" or ");
    }
    let shown = |value: &Value| format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    if !schema["const"].is_null() {
        return shown(&schema["const"]);
    }
    let mut words = match (schema["enum"].as_array(), &schema["type"]) {
        (Some(values), _) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        (None, Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        (None, Value::String(kind)) if kind == "array" => format!("list of {}", typed(&schema["items"])),
        (None, Value::String(kind)) => kind.clone(),
        (None, _) => "anything".to_owned(),
    };
    for (least, most, unit) in
        [("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " of them")]
    {
        words += &match (&schema[least], &schema[most]) {
            (Value::Null, Value::Null) => String::new(),
            (least, Value::Null) => format!(", {least} or more{unit}"),
            (Value::Null, most) => format!(", at most {most}{unit}"),
            (least, most) => format!(", {least} to {most}{unit}"),
        };
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        words += &format!(", `{}`", printable(pattern).replace('|', "\\|"));
    }
    if schema["format"] == "date-time" {
        words += ", RFC 3339";
    }
    if schema["default"].is_null() { words } else { format!("{words} (default {})", shown(&schema["default"])) }
}

/// A text in a table: a bar would end its cell, and what stands in angle brackets would not be seen.
/// Control characters as a pattern may have them written.
fn printable(pattern: &str) -> String {
    let written = |c: char| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    pattern.chars().map(written).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

fn at<'a>(document: &'a Value, place: &str) -> &'a Value {
    document.pointer(place.trim_start_matches('#')).unwrap_or_else(|| panic!("no {place}"))
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
