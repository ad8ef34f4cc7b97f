//! Whether an answer is as a page shows it: the same fields, the same lines but for numbers.

use std::collections::BTreeSet;

use serde_json::Value;

/// `json`: the fields and kinds of values agree. `text`: each line shown is a line of the answer, with any number for a number, but
/// that the status of HTTP is itself. `Err` says what does not agree.
pub fn agree(language: &str, shown: &str, answer: &str) -> Result<(), String> {
    match language {
        "json" => {
            let [shown, answer] = [shown, answer].map(|text| {
                let values =
                    serde_json::Deserializer::from_str(text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
                values.map(Value::from).map_err(|error| format!("no JSON: {error}"))
            });
            same_fields(&shown?, &answer?, "the answer")
        }
        "text" => {
            let lines: BTreeSet<String> = answer.lines().map(without_numbers).collect();
            let missing = shown.lines().find(|line| !line.is_empty() && !lines.contains(&without_numbers(line)));
            missing.map_or(Ok(()), |line| Err(format!("no line `{line}`")))
        }
        _ => Ok(()),
    }
}

fn same_fields(shown: &Value, answer: &Value, place: &str) -> Result<(), String> {
    match (shown, answer) {
        (Value::Object(shown), Value::Object(answer)) => {
            let names = |of: &serde_json::Map<String, Value>| of.keys().cloned().collect::<BTreeSet<_>>();
            if names(shown) != names(answer) {
                return Err(format!("{place} has {:?}, not {:?}", names(answer), names(shown)));
            }
            shown.iter().try_for_each(|(name, value)| same_fields(value, &answer[name], &format!("{place}.{name}")))
        }
        (Value::Array(shown), Value::Array(answer)) => {
            if shown.is_empty() != answer.is_empty() {
                return Err(format!("{place} has {} items, not {}", answer.len(), shown.len()));
            }
            shown.iter().zip(answer).try_for_each(|(shown, answer)| same_fields(shown, answer, place))
        }
        (Value::Bool(shown), Value::Bool(answer)) if shown != answer => Err(format!("{place} is {answer}")),
        (shown, answer) if std::mem::discriminant(shown) != std::mem::discriminant(answer) => {
            Err(format!("{place} is {answer}, not {shown}"))
        }
        _ => Ok(()),
    }
}

fn without_numbers(line: &str) -> String {
    if line.starts_with("HTTP/") {
        return line.trim().to_owned();
    }
    let mut masked = String::new();
    for kind in line.trim().chars() {
        match kind {
            '0'..='9' if masked.ends_with('#') => {}
            '0'..='9' => masked.push('#'),
            kind => masked.push(kind),
        }
    }
    masked
}

#[test]
fn what_differs_is_found() {
    let json = r#"{"a": [{"b": 1}], "c": null}"#;
    assert_eq!(agree("json", json, r#"{"c": null, "a": [{"b": 2}, {"b": 3}]}"#), Ok(()));
    for other in [r#"{"a": [{"b": 1}]}"#, r#"{"a": [], "c": null}"#, r#"{"a": [{"b": "1"}], "c": null}"#, "no"] {
        assert!(agree("json", json, other).is_err(), "{other}");
    }
    assert_eq!(agree("text", "HTTP/1.1 200 OK\nx: 12\n", "HTTP/1.1 200 OK\r\ny: 1\r\nx: 3456\r\n"), Ok(()));
    assert!(agree("text", "HTTP/1.1 429 Too Many Requests", "HTTP/1.1 200 OK").is_err());
    assert!(agree("text", "x: one", "x: 1").is_err());
}
