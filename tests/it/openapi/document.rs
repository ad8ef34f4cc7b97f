//! The document, and what is held against it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::answer::Answer;

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

pub struct Document(pub Value);

/// One method of one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    pub path: String,
    pub method: String,
}

impl Document {
    pub fn read() -> Self {
        Self(serde_json::from_str(include_str!("../../../src/http/openapi.json")).expect("JSON"))
    }

    pub fn operations(&self) -> BTreeSet<Operation> {
        let paths = self.0["paths"].as_object().expect("paths");
        let of_path = |(path, item): (&String, &Value)| {
            let methods = METHODS.iter().filter(|method| item.get(**method).is_some());
            methods.map(|method| Operation { path: path.clone(), method: (*method).to_owned() }).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    pub fn of(&self, operation: &Operation) -> &Value {
        &self.0["paths"][&operation.path][&operation.method]
    }

    pub fn statuses(&self, operation: &Operation) -> Vec<u16> {
        let responses = self.of(operation)["responses"].as_object().expect("responses");
        responses.keys().map(|status| status.parse().expect("a status")).collect()
    }

    /// One answer of an operation, also where the document has it once for many.
    fn response(&self, operation: &Operation, status: u16) -> &Value {
        let response = &self.of(operation)["responses"][status.to_string()];
        let shared = response["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
        shared.and_then(|path| self.0.pointer(path)).unwrap_or(response)
    }

    /// Whether an instance is what a schema of this document says, and has no field that it does not name.
    pub fn assert_valid(&self, schema: &Value, instance: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        close(&mut schema);
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
        let errors: Vec<String> =
            validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{what}: {errors:#?} in {instance:#}");
    }

    /// The answer is one of those that the document has for this operation, with its headers and its body.
    pub fn assert_answer(&self, operation: &Operation, answer: &Answer) {
        let what = format!("{operation:?} {}", answer.status);
        let response = self.response(operation, answer.status);
        assert!(response.is_object(), "{what} is not in the document: {}", answer.text);
        // What every answer has stands once in the document.
        let named = response["headers"].as_object().into_iter().flat_map(|headers| headers.keys().map(String::as_str));
        for name in named.chain(["X-Request-Id"]) {
            let value = answer.header(name).unwrap_or_else(|| panic!("{what}: no {name} in {:?}", answer.headers));
            let schema = &self.0["components"]["headers"][name]["schema"];
            let value = if schema["type"] == "integer" { json!(answer.number(name)) } else { json!(value) };
            self.assert_valid(schema, &value, &format!("{what}, {name}"));
        }
        let Some(content) = response.get("content") else {
            assert!(answer.text.is_empty(), "{what}: {}", answer.text);
            return;
        };
        let kind = answer.header("content-type").and_then(|kind| kind.split(';').next()).expect("a content type");
        let schema = content[kind].get("schema").unwrap_or_else(|| panic!("{what}: no {kind}"));
        let body = if kind.ends_with("json") { answer.json.clone() } else { json!(answer.text) };
        self.assert_valid(schema, &body, &what);
    }
}

/// Makes every object of a schema refuse fields that it does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.iter_mut().filter(|(name, _)| *name != "examples").for_each(|(_, inner)| close(inner));
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The paths and methods in the list of routes.
pub fn routes() -> BTreeSet<Operation> {
    let source = include_str!("../../../src/http.rs");
    let mut found = BTreeSet::new();
    for resource in source.split(".service(resource(").skip(1) {
        let (path, rest) = resource.trim_start().trim_start_matches('"').split_once('"').expect("a path");
        let (routes, _) = rest.split_once(']').expect("its routes");
        for method in METHODS.iter().filter(|method| routes.contains(&format!("{method}("))) {
            found.insert(Operation { path: path.to_owned(), method: (*method).to_owned() });
        }
    }
    // Those that take any method stand in the document by one.
    for resource in source.split(".service(any(").skip(1) {
        let path = resource.trim_start_matches('"').split('"').next().expect("a path").replace(":.*}", "}");
        found.insert(Operation { path, method: "get".to_owned() });
    }
    found
}
