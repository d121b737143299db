//! What `renew = "arc"` is about: the task that makes delegations and the one that makes jobs, of one REST interface.

use super::task::Written;
use crate::settings::Document;
use crate::tool::{Creates, Renew, Whose};

/// Finds both, or says what is missing.
pub(super) fn fill(document: &Document<'_>, written: &[Written], renew: &mut Renew) {
    let delegations = making(written, "/delegations");
    let jobs = making(written, "/jobs");
    match (delegations.as_slice(), jobs.as_slice()) {
        (&[(base, delegation, _)], &[(same, job, task)]) if base == same && delegation.kind != job.kind => {
            *renew = Renew {
                base: base.to_owned(),
                delegation: delegation.kind.clone(),
                job: job.kind.clone(),
                task: task.to_owned(),
            };
        }
        _ => {
            let message = "`tool.renew` is `arc`, which needs one task that makes delegations and one that makes jobs, of two types that \
                           belong to who asks: `match = [\"POST /arex/rest/1.0/delegations\"]` with `query = [\"action=new\"]` and \
                           `creates = { type = \"delegation\", id = \"header:Location#after-last-slash\", status = [201], owner = \"subject\" }`, \
                           and `match = [\"POST /arex/rest/1.0/jobs\"]` with the same `query` and `creates` for the job";
            document.flaw(0, message.to_owned());
        }
    }
}

/// The tasks that make one kind of thing at `POST BASE{end}?action=new`: BASE, what is made, and the task's name.
fn making<'w>(written: &'w [Written], end: &str) -> Vec<(&'w str, &'w Creates, &'w str)> {
    let new = |(name, value): &(String, String)| name == "action" && value == "new";
    let made = written.iter().filter_map(|one| {
        let task = &one.task;
        let ([only], [made]) = (task.matches.as_slice(), task.creates.as_slice()) else {
            return None;
        };
        let base = only.strip_prefix("POST ")?.strip_suffix(end)?;
        let fixed = base.starts_with('/') && !base.contains('{');
        let fits = fixed && task.demands.query.iter().any(new) && made.owner == Whose::Subject;
        fits.then_some((base, made, task.name.as_str()))
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use crate::tool::{Manifest, Renew};

    const TOOL: &str =
        "[tool]\nname = \"ce\"\nupstream = \"ce\"\ndelegation = \"client-certificate\"\nrenew = \"arc\"\n";

    fn task(name: &str, path: &str, query: &str, creates: &str) -> String {
        format!(
            "[[task]]\nname = \"{name}\"\nmatch = [\"POST {path}\"]\nkind = \"create\"\nquery = [{query}]\ncreates = {{ {creates} }}\n"
        )
    }

    #[test]
    fn the_task_that_makes_jobs_and_the_one_that_makes_delegations_are_found() {
        let delegation = "type = \"delegation\", id = \"header:Location#after-last-slash\", status = [201]";
        let job = "type = \"job\", id = \"/job/id\", status = [201]";
        let new = "\"action=new\"";
        let whole = |delegations: String, jobs: String| format!("{TOOL}{delegations}{jobs}");
        let good = |base: &str| {
            let path = format!("{base}/delegations");
            task("delegate", &path, new, delegation)
        };
        let text = whole(
            good("/arex/rest/1.0"),
            task("prepare", "/arex/rest/1.0/jobs", new, job),
        );
        let manifest = Manifest::parse("ce", &text).unwrap();
        let renew = Renew {
            base: "/arex/rest/1.0".into(),
            delegation: "delegation".into(),
            job: "job".into(),
            task: "prepare".into(),
        };
        assert_eq!(manifest.tool.renew, Some(renew));
        for bad in [
            whole(String::new(), task("prepare", "/arex/rest/1.0/jobs", new, job)),
            whole(good("/arex/rest/1.0"), String::new())
                + "[[task]]\nname = \"a\"\nmatch = [\"GET /\"]\nkind = \"read\"\n",
            whole(good("/other"), task("prepare", "/arex/rest/1.0/jobs", new, job)),
            whole(
                good("/arex/rest/1.0"),
                task("prepare", "/arex/rest/1.0/jobs", "\"action\"", job),
            ),
            whole(
                good("/arex/rest/1.0"),
                task("prepare", "/arex/rest/1.0/jobs", new, delegation),
            ),
            whole(
                good("/arex/rest/1.0"),
                task(
                    "prepare",
                    "/arex/rest/1.0/jobs",
                    new,
                    &format!("{job}, owner = \"nobody\""),
                ),
            ),
        ] {
            let flaws = Manifest::parse("ce", &bad).unwrap_err().to_string();
            assert!(
                flaws.contains("`tool.renew` is `arc`, which needs"),
                "{bad}\n{flaws}"
            );
        }
        let otherwise = text.replace("client-certificate", "pem");
        let flaws = Manifest::parse("ce", &otherwise).unwrap_err().to_string();
        assert!(flaws.contains("`tool.renew` is only for"), "{flaws}");
    }
}
