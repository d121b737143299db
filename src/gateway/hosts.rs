//! The host table: from host and path to a [`Place`], before anyone is asked who they are.
//!
//! A browser reaches a tool only under the tool's own host; programs may use `/{vo}/{tool}/...` on the gateway's host.
//! `/.countersign/` is the gateway's own on every host. A place never answers by itself: what is not there is a place
//! without VO, tool or task, and whoever decides denies it.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::request::Parts;

use super::framing::{self, Asked, Authority, Limits};
use crate::problem::{AsProblem, Kind, Problem};
use crate::tool::{
    Address, Asked as Question, FindError, Lookup, Place, Target, TargetError, Tool, Tools, ToolsHandle,
    VoRef,
};
use crate::vo::{Directory, DirectoryHandle, is_name};

/// First path segment that is the gateway's own on every host.
pub const OWN_SEGMENT: &str = ".countersign";

/// The port that is meant where none is named (RFC 9110 section 4.2.2).
const HTTPS: u16 = 443;

/// Knows which hosts there are, and what is where on them.
#[derive(Clone, Debug)]
pub struct Hosts {
    gateway: BTreeSet<String>,
    ports: BTreeSet<u16>,
    own_segments: BTreeSet<String>,
    directory: DirectoryHandle,
    tools: ToolsHandle,
    limits: Limits,
}

/// Which of the address forms a request has.
enum Site<'a> {
    /// The gateway's own: console, API, login, and `/.countersign/` on every host.
    Own(Address),
    /// A tool's own host.
    ToolHost { vo: &'a VoRef, tool: &'a Arc<Tool> },
    /// `/{vo}/{tool}/...`.
    Path { vo: &'a str, tool: &'a str },
}

impl Hosts {
    /// A table for the gateway's own host names (without port) and the ports under which clients reach all its hosts.
    #[must_use]
    pub fn new(
        gateway: impl IntoIterator<Item = String>,
        ports: impl IntoIterator<Item = u16>,
        directory: DirectoryHandle,
        tools: ToolsHandle,
        limits: Limits,
    ) -> Self {
        let own_segments = own_segments(tools.load().own());
        Self {
            gateway: gateway
                .into_iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            ports: ports.into_iter().collect(),
            own_segments,
            directory,
            tools,
            limits,
        }
    }

    /// Where a request was made: framing, canonical target, address form, VO, tool and, if one matches, the task.
    ///
    /// # Errors
    /// The [`Problem`] of what is not well framed, or of a host that is not served here.
    pub fn place(&self, head: &Parts) -> Result<Place, Problem> {
        let asked = framing::check(head, &self.limits)?;
        self.check_port(&asked.authority)?;
        let tools = self.tools.load();
        let parameter = asked.target.path_parameter();
        let (mut vo, mut unknown_vo, mut shorter) = (None, None, None);
        let (address, tool) = match self.site(&asked, &tools)? {
            Site::Own(address) => (address, Some(tools.own().clone())),
            Site::ToolHost { vo: of, tool } => {
                vo = Some(of.clone());
                (Address::ToolHost, Some(tool.clone()))
            }
            Site::Path { vo: name, tool } => {
                let target = asked.target.without_prefix(2);
                shorter = Some(target.ok_or_else(|| flawless("the path has no tool"))?);
                (vo, unknown_vo) = self.vo_named(name);
                let tool = vo.as_ref().and_then(|vo| tools.get(vo.id, tool));
                (Address::Path, tool.cloned())
            }
        };
        let mut place = Place {
            address,
            vo,
            unknown_vo,
            tool,
            found: None,
            method: head.method.clone(),
            target: shorter.unwrap_or(asked.target),
            host: asked.authority.into_host(),
        };
        // SECURITY: where no template writes out path parameters, none pass: tools take them off the path, or do not.
        let parameters = place
            .tool
            .as_ref()
            .is_some_and(|tool| tool.takes_path_parameters());
        if let Some(at) = parameter.filter(|_| !parameters) {
            return Err(TargetError::PathParameter { at }.as_problem());
        }
        self.find(&mut place, head);
        Ok(place)
    }

    /// SECURITY: another port is another origin; a request that was meant for it is answered by nobody here (RFC 9110
    /// section 7.4).
    fn check_port(&self, authority: &Authority) -> Result<(), Problem> {
        if self.ports.contains(&authority.port().unwrap_or(HTTPS)) {
            return Ok(());
        }
        let shown = authority.to_string();
        Err(Problem::new(
            Kind::UnknownHost,
            format!(
                "`{}` names a port under which this gateway is not reached",
                framing::shown(&shown)
            ),
        ))
    }

    /// The same place as it is now: a tool or task that is gone meanwhile is not there.
    pub(super) fn again(&self, place: &Place) -> Place {
        let tools = self.tools.load();
        let mut now = place.clone();
        if let (Some(vo), Some(tool)) = (&place.vo, &place.tool) {
            now.tool = tools.get(vo.id, &tool.name).cloned();
        }
        // The head and the body are not there to be judged again, so the task must be the one that they were judged by.
        now.found = place.found.as_ref().and_then(|found| {
            let task = now.tool.as_ref()?.task(&found.task.name)?;
            (task == &found.task).then(|| crate::tool::Found {
                task: task.clone(),
                ..found.clone()
            })
        });
        now
    }

    /// The tools of this moment.
    pub(super) fn tools(&self) -> Arc<Tools> {
        self.tools.load()
    }

    fn site<'a>(&self, asked: &'a Asked, tools: &'a Tools) -> Result<Site<'a>, Problem> {
        let host = asked.authority.host();
        // SECURITY: the gateway's own names win over a manifest's.
        if self.gateway.contains(host) {
            return Ok(self.on_gateway(&asked.target));
        }
        let reserved = asked
            .target
            .segments()
            .first()
            .is_some_and(|first| first == OWN_SEGMENT);
        match tools.by_host(host) {
            Some(_) if reserved => Ok(Site::Own(Address::ToolHost)),
            Some((vo, tool)) => Ok(Site::ToolHost { vo, tool }),
            None => Err(Problem::new(
                Kind::UnknownHost,
                format!("`{}` is not a host of this gateway", framing::shown(host)),
            )),
        }
    }

    fn on_gateway<'a>(&self, target: &'a Target) -> Site<'a> {
        match target.segments() {
            [vo, tool, ..] if is_name(vo) && is_name(tool) && !self.own_segments.contains(vo) => {
                Site::Path { vo, tool }
            }
            _ => Site::Own(Address::Gateway),
        }
    }

    /// The task, and for the gateway's own tasks the VO that they name.
    fn find(&self, place: &mut Place, head: &Parts) {
        // A query that the task does not take is a denial for a stranger; `flaw` tells those who may know.
        if let Some(Ok(Lookup::Task(found))) = ask(place, head, None) {
            place.found = Some(*found);
        }
        let vo = place
            .found
            .as_ref()
            .filter(|_| place.vo.is_none())
            .and_then(|found| found.parameters.get("vo"))
            .cloned();
        if let Some(vo) = vo {
            (place.vo, place.unknown_vo) = self.vo_named(&vo);
        }
    }

    /// The VO of this name, or the name where there is none.
    fn vo_named(&self, name: &str) -> (Option<VoRef>, Option<String>) {
        let directory: Arc<Directory> = self.directory.load();
        match directory.vo_named(name) {
            Some(vo) => {
                let vo = VoRef {
                    id: vo.id,
                    name: vo.name.clone(),
                };
                (Some(vo), None)
            }
            None => (None, Some(name.to_owned())),
        }
    }
}

/// Asks the tool of a place which task the request is.
fn ask(place: &Place, head: &Parts, body: Option<&[u8]>) -> Option<Result<Lookup, FindError>> {
    let tool = place.tool.as_ref()?;
    Some(tool.find(&Question {
        method: &place.method,
        target: &place.target,
        host: (place.address == Address::ToolHost).then_some(place.host.as_str()),
        headers: &head.headers,
        body,
    }))
}

/// How many bytes of the body are to be read before anyone can say which task it is; `None` where the head says it.
#[must_use]
pub(super) fn judged_body(place: &Place, head: &Parts) -> Option<u64> {
    let lookup = place.found.is_none().then(|| ask(place, head, None)).flatten();
    match lookup {
        Some(Ok(Lookup::Body(limit))) => Some(limit),
        _ => None,
    }
}

/// Names the task by the body that was read.
///
/// # Errors
/// The [`Problem`] of a body that cannot be read in one way. A body that is of no task is no error: then there is none.
pub(super) fn judge_body(place: &mut Place, head: &Parts, body: &[u8]) -> Result<(), Problem> {
    match ask(place, head, Some(body)) {
        Some(Ok(Lookup::Task(found))) => place.found = Some(*found),
        Some(Err(error @ FindError::Content(_))) => return Err(error.as_problem()),
        _ => {}
    }
    Ok(())
}

/// Why a path that a task names has no task here: its query, a header, its body. For people who are known; a stranger must
/// not learn which tasks exist, so [`Hosts::place`] does not say it.
#[must_use]
pub fn flaw(place: &Place, head: &Parts) -> Option<Problem> {
    match place.found.is_none().then(|| ask(place, head, None)).flatten()? {
        Err(error) => Some(error.as_problem()),
        Ok(Lookup::Body(_)) => Some(Problem::new(
            Kind::Malformed,
            "the body decides which task this is, and it is of none of them, or a parameter of its task is missing",
        )),
        Ok(_) => None,
    }
}

fn flawless(detail: &str) -> Problem {
    Problem::new(Kind::Internal, detail)
}

/// First literal segments of the gateway's own tasks: no VO is reached under them.
fn own_segments(own: &Tool) -> BTreeSet<String> {
    own.tasks
        .iter()
        .flat_map(|task| &task.matches)
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(_, path)| path.trim().strip_prefix('/'))
        .filter_map(|path| path.split(['/', '?']).next())
        .filter(|segment| !segment.is_empty() && !segment.starts_with('{'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::{Audience, Kind as TaskKind, Task};
    use crate::vo::{Rows, Vo, VoState};

    fn task(name: &str, matches: &str) -> Task {
        Task {
            query: Some(vec!["full".into()]),
            ..Task::plain(name, &[matches], TaskKind::Read, Audience::Granted(&[]))
        }
    }

    fn hosts() -> Hosts {
        let vo = Vo {
            id: crate::id::VoId::from(uuid::Uuid::from_u128(1)),
            name: "imense".into(),
            state: VoState::Active,
            version: 1,
        };
        let vo_ref = VoRef {
            id: vo.id,
            name: vo.name.clone(),
        };
        let directory = DirectoryHandle::new(Directory::build(Rows {
            vos: vec![vo],
            ..Rows::default()
        }));
        let own = vec![
            task("session.list", "GET /api/v1/sessions"),
            task("role.list", "GET /api/v1/vos/{vo:slug}/roles"),
            task("home", "GET /"),
            task("password", "GET /password/change"),
            task("enter", "GET /.countersign/enter"),
        ];
        let mut tools = Tools::new(Arc::new(Tool::own(own).unwrap()));
        let mut jobs = Tool::own(vec![
            task("monitor job", "GET /jobs/{job:int}"),
            task("sneaky", "GET /.countersign/enter"),
        ])
        .unwrap();
        jobs.name = "jobs".into();
        jobs.hosts = vec!["jobs.gw.example.org".into(), "gw.example.org".into()];
        tools.insert(&vo_ref, Arc::new(jobs));
        Hosts::new(
            ["GW.example.org".to_owned()],
            [8_443, 443],
            directory,
            ToolsHandle::new(tools),
            Limits::default(),
        )
    }

    fn place(host: &str, path: &str) -> Result<Place, Problem> {
        let request = http::Request::get(path).header("host", host).body(()).unwrap();
        hosts().place(&request.into_parts().0)
    }

    /// Address, VO, unknown VO, tool, task, target.
    fn told(host: &str, path: &str) -> String {
        let place = place(host, path).unwrap();
        let name = |name: Option<String>| name.unwrap_or_else(|| "-".into());
        [
            place.address.as_str().to_owned(),
            name(place.vo.map(|vo| vo.name)),
            name(place.unknown_vo),
            name(place.tool.map(|tool| tool.name.clone())),
            name(place.found.map(|found| found.task.name.clone())),
            place.target.as_str().to_owned(),
        ]
        .join(" ")
    }

    #[test]
    fn every_address_form_has_its_place() {
        for (host, path, expected) in [
            ("gw.example.org", "/", "gateway - - countersign home /"),
            (
                "gw.example.org:8443",
                "/api/v1/sessions",
                "gateway - - countersign session.list /api/v1/sessions",
            ),
            (
                "gw.example.org",
                "/api/v1/vos/imense/roles",
                "gateway imense - countersign role.list /api/v1/vos/imense/roles",
            ),
            (
                "gw.example.org",
                "/api/v1/vos/nobody/roles",
                "gateway - nobody countersign role.list /api/v1/vos/nobody/roles",
            ),
            (
                "gw.example.org",
                "/password/change",
                "gateway - - countersign password /password/change",
            ),
            (
                "gw.example.org",
                "/password/other",
                "gateway - - countersign - /password/other",
            ),
            (
                "gw.example.org",
                "/imense/jobs/jobs/7?full=1",
                "path imense - jobs monitor job /jobs/7?full=1",
            ),
            ("gw.example.org", "/imense/jobs", "path imense - jobs - /"),
            ("gw.example.org", "/imense/none/x", "path imense - - - /x"),
            ("gw.example.org", "/nobody/jobs/x", "path - nobody - - /x"),
            (
                "gw.example.org",
                "/imense/countersign/x",
                "gateway - - countersign - /imense/countersign/x",
            ),
            ("gw.example.org", "/imense", "gateway - - countersign - /imense"),
            (
                "gw.example.org",
                "/.countersign/enter",
                "gateway - - countersign enter /.countersign/enter",
            ),
            (
                "JOBS.gw.example.org",
                "/jobs/7",
                "host imense - jobs monitor job /jobs/7",
            ),
            (
                "jobs.gw.example.org",
                "/api/v1/sessions",
                "host imense - jobs - /api/v1/sessions",
            ),
            (
                "jobs.gw.example.org",
                "/imense/jobs/jobs/7",
                "host imense - jobs - /imense/jobs/jobs/7",
            ),
            (
                "jobs.gw.example.org",
                "/.countersign/enter",
                "host - - countersign enter /.countersign/enter",
            ),
            (
                "jobs.gw.example.org",
                "/.countersign/none",
                "host - - countersign - /.countersign/none",
            ),
        ] {
            assert_eq!(told(host, path), expected, "{host} {path}");
        }
    }

    #[test]
    fn an_unknown_host_is_refused() {
        for host in ["other.example.org", "127.0.0.1", "xjobs.gw.example.org"] {
            assert_eq!(place(host, "/").unwrap_err().kind, Kind::UnknownHost);
        }
    }

    #[test]
    fn a_port_under_which_nobody_reaches_the_gateway_is_refused() {
        for host in [
            "gw.example.org:80",
            "gw.example.org:8444",
            "jobs.gw.example.org:1",
            "[::1]:99",
        ] {
            assert_eq!(place(host, "/").unwrap_err().kind, Kind::UnknownHost, "{host}");
            let request = http::Request::get(format!("https://{host}/"))
                .version(http::Version::HTTP_2)
                .body(())
                .unwrap();
            let refused = hosts().place(&request.into_parts().0).unwrap_err();
            assert_eq!(refused.kind, Kind::UnknownHost, "{host}");
        }
        for host in ["gw.example.org", "gw.example.org:443", "jobs.gw.example.org:8443"] {
            assert!(place(host, "/").is_ok(), "{host}");
        }
    }

    #[test]
    fn a_query_that_the_task_does_not_take_is_told_only_to_those_who_may_know() {
        let path = "/imense/jobs/jobs/7?secret=1";
        let place = place("gw.example.org", path).unwrap();
        assert!(place.found.is_none());
        let (head, ()) = http::Request::get(path).body(()).unwrap().into_parts();
        assert_eq!(flaw(&place, &head).unwrap().kind, Kind::Malformed);
    }

    #[test]
    fn path_parameters_pass_only_where_a_template_writes_them_out() {
        for (host, path) in [
            ("jobs.gw.example.org", "/jobs/7;v=1"),
            ("gw.example.org", "/imense/jobs/jobs/7;v=1"),
            ("gw.example.org", "/imense;v=1/jobs/jobs/7"),
            ("gw.example.org", "/;v=1"),
        ] {
            assert_eq!(place(host, path).unwrap_err().kind, Kind::BadTarget, "{path}");
        }
    }
}
