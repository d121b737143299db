//! What an ARC computing element answers (REST interface 1.0).
//!
//! SECURITY: nothing here gives anybody a right: a wrong answer leads to a renewal too many for the owner, or to none.

use std::collections::HashSet;

use serde_json::{Value, json};

/// States after which a job needs nothing any more.
const OVER: [&str; 5] = ["FINISHED", "FAILED", "KILLED", "WIPED", "None"];

/// The body that names jobs.
pub(super) fn jobs(ids: &[String]) -> String {
    let jobs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
    json!({ "job": jobs }).to_string()
}

/// Of the jobs in an answer to `action=status`, those that live; one whose state nobody knows lives. `None` where the answer
/// cannot be read.
pub(super) fn living(answer: &[u8]) -> Option<HashSet<String>> {
    let entries = entries(answer)?;
    let living = entries.iter().filter(|entry| {
        let known = entry.get("status-code").is_none_or(|code| code == "200");
        let over = entry
            .get("state")
            .and_then(Value::as_str)
            .is_some_and(|state| OVER.contains(&state));
        known && !over
    });
    Some(living.filter_map(id).collect())
}

/// Of the jobs in an answer to `action=delegations`, those that hold this one.
pub(super) fn holding(answer: &[u8], delegation: &str) -> Option<Vec<String>> {
    let entries = entries(answer)?;
    let holds = |entry: &&Value| match entry.get("delegation_id") {
        Some(Value::String(one)) => one == delegation,
        Some(Value::Array(several)) => several.iter().any(|one| one == delegation),
        _ => false,
    };
    Some(entries.iter().filter(holds).filter_map(id).collect())
}

/// The certificate request in an answer (PEM), as DER.
pub(super) fn request(answer: &[u8]) -> Option<Vec<u8>> {
    let (label, der) = der::pem::decode_vec(answer.trim_ascii()).ok()?;
    (label == "CERTIFICATE REQUEST").then_some(der)
}

/// `job` is one object where there is one, and a list otherwise.
fn entries(answer: &[u8]) -> Option<Vec<Value>> {
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    match answer.get_mut("job")?.take() {
        Value::Array(several) => Some(several),
        one @ Value::Object(_) => Some(vec![one]),
        _ => None,
    }
}

fn id(entry: &Value) -> Option<String> {
    Some(entry.get("id")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_job_is_an_object_and_several_are_a_list() {
        let one = br#"{"job":{"status-code":"200","reason":"OK","id":"a","state":"RUNNING"}}"#;
        assert_eq!(living(one), Some(HashSet::from(["a".to_owned()])));
        let several = br#"{"job":[{"status-code":"200","id":"a","state":"FINISHED"},{"status-code":"200","id":"b","state":"INLRMS"},
            {"status-code":"404","reason":"Job not found","id":"c","state":"None"},{"status-code":"200","id":"d"}]}"#;
        assert_eq!(
            living(several),
            Some(HashSet::from(["b".to_owned(), "d".to_owned()]))
        );
        let held = br#"{"job":[{"id":"a","delegation_id":"x"},{"id":"b","delegation_id":["y","x"]},{"id":"c"},{"id":"d","delegation_id":"xx"}]}"#;
        assert_eq!(holding(held, "x"), Some(vec!["a".to_owned(), "b".to_owned()]));
        for unread in [&b""[..], b"{}", b"{\"job\":7}", b"<jobs/>"] {
            assert_eq!((living(unread), holding(unread, "x")), (None, None));
        }
    }

    #[test]
    fn jobs_are_named_as_the_interface_reads_them() {
        let body: Value = serde_json::from_str(&jobs(&["a\"b".into(), "c".into()])).unwrap();
        assert_eq!(body, json!({"job": [{"id": "a\"b"}, {"id": "c"}]}));
    }

    proptest! {
        #[test]
        fn whatever_it_answers_is_read_or_not(answer in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (living(&answer), holding(&answer, "x"), request(&answer));
        }
    }
}
