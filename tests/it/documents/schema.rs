//! `docs/reference/record.schema.json`: the JSON Schema of a record, made from the types of `src/record.rs`.

use std::fs;

use serde_json::{Map, Value, json};

use super::generated::{Field, Type, bare, keep, snake, types};
use super::root;

#[test]
fn the_schema_of_a_record_is_what_the_types_say() {
    let source = fs::read_to_string(root().join("src/record.rs")).unwrap();
    let types = types(&source);
    let find = |name: &str| types.iter().find(|known| known.name == name).expect(name);
    let mut schema = object(find("Record"), &types);
    let head = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("A record of Countersign's audit log")),
        (
            "$comment",
            json!("Generated from src/record.rs. Times are microseconds since 1970-01-01 UTC."),
        ),
    ];
    for (name, value) in head {
        schema.insert(name.into(), value);
    }
    // Those that stand in a record; the others are how a hash is read.
    let parts = types
        .iter()
        .filter(|part| !["Record", "Hash", "TraceId", "NotTraceId"].contains(&part.name.as_str()));
    let mut defined: Map<String, Value> = parts
        .map(|part| (part.name.clone(), part_of(part, &types)))
        .collect();
    defined.insert(
        "Id".into(),
        json!({
            "description": "A UUID",
            "type": "string",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        }),
    );
    schema.insert("$defs".into(), defined.into());
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    keep("record.schema.json", &text);
}

fn part_of(part: &Type, types: &[Type]) -> Value {
    if part.name == "Event" {
        return event(part, types);
    }
    if !part.is_enum {
        return object(part, types).into();
    }
    let values: Vec<String> = part.fields.iter().map(|variant| snake(&variant.name)).collect();
    json!({ "description": part.docs, "enum": values })
}

/// One member, named by the event.
fn event(event: &Type, types: &[Type]) -> Value {
    let one = |variant: &Field| {
        let name = snake(&variant.name);
        let body = if variant.inner.is_empty() {
            form(&variant.kind)
        } else {
            let inner = Type {
                name: variant.name.clone(),
                docs: String::new(),
                fields: variant.inner.clone(),
                is_enum: false,
            };
            object(&inner, types).into()
        };
        json!({
            "title": name,
            "description": variant.docs,
            "type": "object",
            "properties": { &name: body },
            "required": [name],
            "additionalProperties": false,
        })
    };
    let each: Vec<Value> = event.fields.iter().map(one).collect();
    json!({ "description": event.docs, "oneOf": each })
}

/// An object that has its fields and no others.
fn object(of: &Type, types: &[Type]) -> Map<String, Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields(of, types) {
        let mut form = form(&field.kind);
        if form.get("$ref").is_none() {
            form["description"] = field.docs.clone().into();
        }
        if of.name == "Record" && field.name == "salt" {
            form["pattern"] = "^[0-9a-f]{32}$".into();
        }
        properties.insert(field.name.clone(), form);
        if !field.optional {
            required.push(field.name);
        }
    }
    let mut object = Map::new();
    object.insert("description".into(), of.docs.clone().into());
    object.insert("type".into(), "object".into());
    object.insert("properties".into(), properties.into());
    object.insert("required".into(), required.into());
    object.insert("additionalProperties".into(), false.into());
    object
}

/// Its fields, with those of a flattened part in place of that part.
fn fields(of: &Type, types: &[Type]) -> Vec<Field> {
    let mut all = Vec::new();
    for field in &of.fields {
        if field.flattened {
            let part = types.iter().find(|part| part.name == bare(&field.kind)).unwrap();
            all.extend(fields(part, types));
        } else {
            all.push(field.clone());
        }
    }
    all
}

/// The form of a Rust type.
fn form(kind: &str) -> Value {
    let inside = |outer: &str| kind.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inside("Option<") {
        return form(inner);
    }
    if let Some(inner) = inside("Vec<") {
        return json!({ "type": "array", "items": form(inner) });
    }
    match bare(kind) {
        "u8" | "u16" | "u32" | "u64" => json!({ "type": "integer", "minimum": 0 }),
        "i64" | "Timestamp" => json!({ "type": "integer" }),
        "bool" => json!({ "type": "boolean" }),
        "String" => json!({ "type": "string" }),
        "Hash" => json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }),
        "TraceId" => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        "serde_json::Value" => json!({}),
        "BTreeMap<String, String>" => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        "(String, String)" => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 })
        }
        id if id.ends_with("Id") => json!({ "$ref": "#/$defs/Id" }),
        part => json!({ "$ref": format!("#/$defs/{part}") }),
    }
}
