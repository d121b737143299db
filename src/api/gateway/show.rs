//! `gateway.show`: how the gateway is: its log, its checkpoint, its sealing key, and certificates that are about to end.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::operation::{Call, Nothing, Operation, SYSTEM, task};
use crate::audit::Space;
use crate::clock::Timestamp;
use crate::problem::Problem;
use crate::tool::{self, Task};
use crate::trust::certificate::Use;

/// A certificate that ends within so many days is about to end.
const SOON: i64 = 30;
const DAY: i64 = 24 * 3600;

/// How the gateway is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayView {
    /// Version of the program.
    pub version: String,
    /// Whether the log takes records now; while it does not, nothing is permitted.
    pub accepting: bool,
    /// `ok`, `low`, `stopped` or `reserved`: how much room the log has.
    pub space: String,
    /// Whether the gateway started without its sealing key: what needs a sealed key is refused.
    pub sealed: bool,
    /// Durable records of this epoch.
    pub records: u64,
    /// Durable records that no checkpoint covers yet.
    pub unsigned: u64,
    /// Durable records that searches do not find yet.
    pub index_lag: u64,
    /// Permitted requests that have no outcome yet.
    pub open_requests: usize,
    /// The newest signed checkpoint, a C2SP note; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Seconds since it was signed.
    pub checkpoint_age: u64,
    /// The certificates of all virtual organisations, those that end first first.
    pub certificates: Vec<CertificateEnd>,
}

/// When a VO certificate ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateEnd {
    /// The VO.
    pub vo: String,
    /// Subject.
    pub subject: String,
    /// End of its validity (RFC 3339).
    pub not_after: String,
    /// `ended`, `soon` (within 30 days) or `valid`.
    pub state: String,
}

pub(in crate::api) struct Show;

impl Operation for Show {
    type Body = Nothing;
    type Answer = GatewayView;
    const SUMMARY: &'static str =
        "How the gateway is: its log and checkpoint, whether it is sealed, and when certificates end";

    fn task() -> Task {
        task("gateway.show", "GET /api/v1/gateway", tool::Kind::Read, SYSTEM)
    }

    async fn run(api: &Api, _: &Call, _: Nothing) -> Result<GatewayView, Problem> {
        let vitals = api.audit.vitals();
        Ok(GatewayView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            accepting: api.audit.accepting(),
            space: match api.audit.space() {
                Space::Ok => "ok",
                Space::Low => "low",
                Space::Stopped => "stopped",
                Space::Reserved => "reserved",
            }
            .to_owned(),
            sealed: api.delegate.is_sealed(),
            records: vitals.records,
            unsigned: vitals.unsigned,
            index_lag: vitals.index_lag,
            open_requests: vitals.open,
            checkpoint: api.audit.checkpoint().map(|newest| newest.note),
            checkpoint_age: vitals.checkpoint_age.as_secs(),
            certificates: certificates(api),
        })
    }
}

fn certificates(api: &Api) -> Vec<CertificateEnd> {
    let (directory, now) = (api.directory(), api.now());
    let mut ends = Vec::new();
    for vo in directory.all_vos() {
        for purpose in Use::ALL {
            if let Some(facts) = api.delegate.certificate(vo.id, purpose) {
                let end = CertificateEnd {
                    vo: vo.name.clone(),
                    subject: facts.subject_text.clone(),
                    not_after: facts.not_after.to_string(),
                    state: state(facts.not_after, now).to_owned(),
                };
                ends.push(end);
            }
        }
    }
    ends.sort_by(|a, b| (&a.not_after, &a.vo).cmp(&(&b.not_after, &b.vo)));
    ends
}

const fn state(end: Timestamp, now: Timestamp) -> &'static str {
    if end.secs() <= now.secs() {
        "ended"
    } else if end.secs() <= now.secs() + SOON * DAY {
        "soon"
    } else {
        "valid"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_about_to_end_thirty_days_before() {
        let now = Timestamp::from_secs(1_000 * DAY);
        let at = |days: i64| state(Timestamp::from_secs((1_000 + days) * DAY), now);
        assert_eq!((at(0), at(1), at(30), at(31)), ("ended", "soon", "soon", "valid"));
    }
}
