//! The Cedar schema of one task, generated from the manifest; and the names of its entities.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use serde_json::{Map, Value, json};

use crate::tool::{Task, Tool};

/// Names of the attributes that the gateway itself gives a resource; no manifest can set them.
pub(super) const RESERVED: &[&str] = &["vo", "kind", "id", "owner", "home", "elsewhere"];

/// The parsed names of the entity types.
pub(super) struct Types {
    pub(super) gateway: EntityTypeName,
    pub(super) vo: EntityTypeName,
    pub(super) person: EntityTypeName,
    pub(super) service: EntityTypeName,
    pub(super) anonymous: EntityTypeName,
    pub(super) role: EntityTypeName,
    pub(super) grant: EntityTypeName,
    pub(super) resource: EntityTypeName,
    pub(super) action: EntityTypeName,
}

/// The entity types, parsed once.
pub(super) static TYPES: LazyLock<Types> = LazyLock::new(|| Types {
    gateway: type_name("Countersign::Gateway"),
    vo: type_name("Countersign::VO"),
    person: type_name("Countersign::Person"),
    service: type_name("Countersign::Service"),
    anonymous: type_name("Countersign::Anonymous"),
    role: type_name("Countersign::Role"),
    grant: type_name("Countersign::Grant"),
    resource: type_name("Resource"),
    action: type_name("Action"),
});

#[expect(
    clippy::expect_used,
    reason = "called with the constants above only, each parsed by a test"
)]
fn type_name(name: &str) -> EntityTypeName {
    name.parse().expect("a constant type name")
}

/// The entity `kind::"id"`.
pub(super) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// The attributes that the tool's manifest gives to resources; they alone stand in the schema and in a slice.
pub(super) fn declared(tool: &Tool) -> BTreeSet<&str> {
    tool.tasks
        .iter()
        .flat_map(|task| &task.creates)
        .flat_map(|creates| creates.attributes.keys())
        .map(String::as_str)
        .filter(|name| !RESERVED.contains(name))
        .collect()
}

/// The schema that the policies of one task, and the slices of requests for it, are checked against.
///
/// # Errors
/// A sentence when Cedar does not take it, which no manifest should be able to cause.
pub(super) fn schema(tool: &Tool, task: &Task) -> Result<Schema, String> {
    let mut actions = Map::new();
    actions.insert(
        task.name.clone(),
        json!({ "appliesTo": {
            "principalTypes": [
                "Countersign::Person", "Countersign::App", "Countersign::Provider",
                "Countersign::Service", "Countersign::Anonymous"
            ],
            "resourceTypes": resource_types(task),
            "context": { "type": "Countersign::Context" },
        }}),
    );
    let fragment = json!({
        "Countersign": { "entityTypes": people_and_places(), "actions": {}, "commonTypes": { "Context": context() } },
        "": { "entityTypes": { "Resource": resource(tool) }, "actions": actions },
    });
    Schema::from_json_value(fragment).map_err(|error| error.to_string())
}

/// A list is asked of the VO and decided item by item; any other task acts on its resource, or on the VO.
fn resource_types(task: &Task) -> Value {
    match (task.filter.is_some(), task.resource.is_some()) {
        (true, _) => json!(["Countersign::VO", "Resource"]),
        (false, true) => json!(["Resource"]),
        (false, false) => json!(["Countersign::VO"]),
    }
}

fn people_and_places() -> Value {
    let subject = json!({
        "memberOfTypes": ["Role"],
        "shape": { "type": "Record", "attributes": { "active": { "type": "Boolean" } } },
    });
    json!({
        "Gateway": {},
        "VO": {
            "memberOfTypes": ["Gateway"],
            "shape": { "type": "Record", "attributes": {
                "name": { "type": "String" },
                "active": { "type": "Boolean" },
            }},
        },
        "Grant": {},
        "Role": { "memberOfTypes": ["Role", "Grant"] },
        "Person": {
            "memberOfTypes": ["Role"],
            "shape": { "type": "Record", "attributes": {
                "active": { "type": "Boolean" },
                "home": { "type": "String" },
            }},
        },
        "App": subject,
        "Provider": subject,
        "Service": subject,
        "Anonymous": {},
    })
}

fn context() -> Value {
    json!({ "type": "Record", "attributes": {
        "now": { "type": "Extension", "name": "datetime" },
        "mfa": { "type": "Boolean" },
        "session": { "type": "Record", "attributes": {
            "acr": { "type": "String" },
            "amr": { "type": "Set", "element": { "type": "String" } },
        }},
        "source": { "type": "Extension", "name": "ipaddr" },
        "vo_active": { "type": "Boolean" },
        "within_ceiling": { "type": "Boolean" },
        "breakGlass": { "type": "Record", "required": false, "attributes": {
            "reason": { "type": "String" },
            "until": { "type": "Extension", "name": "datetime" },
        }},
    }})
}

fn resource(tool: &Tool) -> Value {
    let mut attributes = Map::new();
    for name in declared(tool) {
        attributes.insert(name.to_owned(), json!({ "type": "String", "required": false }));
    }
    attributes.insert(
        "vo".into(),
        json!({ "type": "Entity", "name": "Countersign::VO" }),
    );
    attributes.insert("kind".into(), json!({ "type": "String" }));
    attributes.insert("id".into(), json!({ "type": "String" }));
    attributes.insert(
        "owner".into(),
        json!({ "type": "Entity", "name": "Countersign::Person", "required": false }),
    );
    attributes.insert("home".into(), json!({ "type": "String", "required": false }));
    attributes.insert(
        "elsewhere".into(),
        json!({ "type": "Boolean", "required": false }),
    );
    json!({
        "memberOfTypes": ["Resource", "Countersign::VO"],
        "shape": { "type": "Record", "attributes": attributes },
    })
}
