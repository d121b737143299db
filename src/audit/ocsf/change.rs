//! Changes of state in words of OCSF: of accounts, of who belongs to a VO, of who holds a role, of all else.

use serde_json::{Value, json};

use super::{
    ACCOUNT_CHANGE, Activity, Class, ENTITY_MANAGEMENT, GROUP_MANAGEMENT, OTHER, SUCCESS, Said, USER_ACCESS,
    user,
};
use crate::record::{Change, ChangeEvent};

pub(super) fn said(event: &ChangeEvent) -> Said {
    let change = &event.change;
    let (class, activity) = class_of(change);
    let body = match class {
        ACCOUNT_CHANGE => json!({ "user": user(change.person, "person") }),
        USER_ACCESS => json!({
            "user": user(change.person, "person"),
            "privileges": [role(change)],
        }),
        GROUP_MANAGEMENT => group(change),
        _ => entity(change),
    };
    Said::new(class, activity, SUCCESS, body).unmapped(json!({
        "action": change.action, "kind": change.kind, "target": change.target, "person": change.person,
        "reason": event.reason,
        "before": change.before, "after": change.after,
    }))
}

fn class_of(change: &Change) -> (Class, Activity) {
    let of_person = change.person.is_some();
    match change.action.as_str() {
        "user.create" => (ACCOUNT_CHANGE, (1, "Create")),
        "user.resume" => (ACCOUNT_CHANGE, (2, "Enable")),
        "user.change_own_password" => (ACCOUNT_CHANGE, (3, "Password Change")),
        "user.reset_password" => (ACCOUNT_CHANGE, (4, "Password Reset")),
        "user.suspend" => (ACCOUNT_CHANGE, (5, "Disable")),
        "user.end" => (ACCOUNT_CHANGE, (6, "Delete")),
        "user.edit" => (ACCOUNT_CHANGE, (OTHER, "Edit")),
        "role.assign" if of_person => (USER_ACCESS, (1, "Assign Privileges")),
        "role.unassign" if of_person => (USER_ACCESS, (2, "Revoke Privileges")),
        "user.add" => (GROUP_MANAGEMENT, (3, "Add User")),
        "user.remove" => (GROUP_MANAGEMENT, (4, "Remove User")),
        "grant.add" => (GROUP_MANAGEMENT, (1, "Assign Privileges")),
        "grant.remove" => (GROUP_MANAGEMENT, (2, "Revoke Privileges")),
        "vo.suspend" => (ENTITY_MANAGEMENT, (12, "Suspend")),
        "vo.resume" => (ENTITY_MANAGEMENT, (13, "Resume")),
        _ => (ENTITY_MANAGEMENT, by_state(change)),
    }
}

/// What was not there before was made, what is not there after was removed.
fn by_state(change: &Change) -> Activity {
    match (&change.before, &change.after) {
        (None, Some(_)) => (1, "Create"),
        (Some(_), None) => (4, "Delete"),
        (Some(_), Some(_)) => (3, "Update"),
        (None, None) => (0, "Unknown"),
    }
}

fn state(change: &Change) -> &Value {
    change
        .after
        .as_ref()
        .or(change.before.as_ref())
        .unwrap_or(&Value::Null)
}

fn text<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Value::as_str)
}

/// A role by its name, where the change says it.
fn role(change: &Change) -> &str {
    text(state(change), "name").unwrap_or(&change.target)
}

/// The VO whose members change, or the role whose grants do.
fn group(change: &Change) -> Value {
    if change.person.is_some() {
        return json!({
            "group": { "type": "vo", "uid": change.vo },
            "user": user(change.person, "person"),
        });
    }
    let state = state(change);
    let uid = (change.kind == "role").then_some(&change.target);
    let name = text(state, "role").unwrap_or(&change.target);
    let tasks = state.get("tasks").and_then(Value::as_array);
    let tasks = tasks.map(|tasks| tasks.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    let tasks = tasks.or_else(|| text(state, "task").map(|task| vec![task]));
    let tool = text(state, "tool").unwrap_or_default();
    let privileges: Vec<String> = tasks
        .unwrap_or_default()
        .iter()
        .map(|task| format!("{tool}/{task}"))
        .collect();
    json!({ "group": { "type": "role", "uid": uid, "name": name }, "privileges": privileges })
}

fn entity(change: &Change) -> Value {
    let one = |data: &Option<Value>| {
        let version = data
            .as_ref()
            .and_then(|data| data.get("version"))
            .map(Value::to_string);
        json!({ "type": change.kind, "uid": change.target, "version": version, "data": data })
    };
    let result = change.after.as_ref().map(|_| one(&change.after));
    json!({ "entity": one(&change.before), "entity_result": result })
}
