//! "Who am I, what may I do": the same answer for the page and for programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;

use super::Console;
use crate::authenticate::Subject;
use crate::authorize::Allowed;
use crate::forward::LocalRequest;
use crate::tool::{Address, Place, Task, Tool};
use crate::vo::{Directory, Vo};

/// What a person is and may do, as far as her roles say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Access {
    /// Opaque id, as tools see it.
    pub(super) person: String,
    /// User name.
    pub(super) username: String,
    /// The session that asks.
    pub(super) session: SessionAccess,
    /// Roles at the gateway's level.
    pub(super) roles: Vec<String>,
    /// Her VOs; on a tool's own host only the one of that tool.
    pub(super) vos: Vec<VoAccess>,
}

/// The session that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct SessionAccess {
    /// `browser`, `child`, `token` or `basic`.
    pub(super) kind: String,
    /// When it ends (RFC 3339).
    pub(super) expires: String,
    /// Methods (RFC 8176).
    pub(super) methods: Vec<String>,
    /// Level of assurance.
    pub(super) acr: String,
}

/// What somebody is in a VO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct VoAccess {
    /// Name.
    pub(super) name: String,
    /// Her roles in it.
    pub(super) roles: Vec<String>,
    /// The tools of which she may do something.
    pub(super) tools: Vec<ToolAccess>,
}

/// What somebody may do with a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ToolAccess {
    /// Name.
    pub(super) name: String,
    /// Where a browser opens it: hosts on which she may do `GET /`.
    pub(super) pages: Vec<String>,
    /// Where programs reach it.
    pub(super) path: String,
    /// The tasks that her roles allow.
    pub(super) tasks: Vec<TaskAccess>,
}

/// A task that somebody may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct TaskAccess {
    /// Name.
    pub(super) name: String,
    /// Kind.
    pub(super) kind: &'static str,
    /// One of these must hold: `always`, `own`, or an expression.
    pub(super) conditions: Vec<String>,
    /// Through which roles.
    pub(super) roles: Vec<String>,
    /// How to do it with curl, a line for each address.
    pub(super) calls: Vec<String>,
}

impl Access {
    /// Whether there is anything to call.
    pub(super) fn calls(&self) -> bool {
        self.vos.iter().any(|vo| !vo.tools.is_empty())
    }
}

impl Console {
    /// What the person of `request` may do; `None` when nobody is signed in.
    pub(super) fn access(&self, request: &LocalRequest) -> Option<Access> {
        let (subject, place) = (request.permit.subject(), request.permit.place());
        let (person, session) = (subject.as_person()?, subject.session()?);
        let directory = self.0.vos.handle().load();
        let mut vos: Vec<VoAccess> = directory
            .vos_of(person.id)
            .filter_map(|vo| directory.vo(vo))
            .filter_map(|vo| self.in_vo(&directory, vo, subject, (place, &request.base)))
            .collect();
        vos.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Access {
            person: person.id.to_string(),
            username: person.username.clone(),
            session: SessionAccess {
                kind: session.kind.as_str().into(),
                expires: session.expires.to_string(),
                methods: session.methods.clone(),
                acr: session.acr.clone(),
            },
            roles: self.roles(&directory, subject, Directory::gateway()),
            vos,
        })
    }

    fn in_vo(
        &self,
        directory: &Directory,
        vo: &Vo,
        subject: &Subject,
        seen: (&Place, &str),
    ) -> Option<VoAccess> {
        let (place, base) = seen;
        let tools = self.0.tools.load();
        let mut tools: Vec<Arc<Tool>> = tools.all(vo.id).cloned().collect();
        if place.address == Address::ToolHost {
            // SECURITY: a tool's page learns what its visitor may do with this tool, not with others.
            tools.retain(|tool| tool.hosts.contains(&place.host));
            if tools.is_empty() {
                return None;
            }
        }
        let mut allowed: BTreeMap<String, Vec<Allowed>> = BTreeMap::new();
        for task in self.0.authorize.may(subject, Some(vo.id), &tools) {
            allowed.entry(task.tool.clone()).or_default().push(task);
        }
        let tools = tools.iter().filter_map(|tool| {
            let tasks = allowed.remove(&tool.name)?;
            Some(tool_access(vo, tool, tasks, base))
        });
        Some(VoAccess {
            name: vo.name.clone(),
            roles: self.roles(directory, subject, vo.id),
            tools: tools.collect(),
        })
    }

    fn roles(&self, directory: &Directory, subject: &Subject, vo: crate::id::VoId) -> Vec<String> {
        let Some(person) = subject.as_person() else {
            return Vec::new();
        };
        let mut roles: Vec<String> = directory
            .assignments(vo, person.id, self.0.ids.clock().now())
            .filter_map(|held| directory.role(held.role))
            .map(|role| role.name.clone())
            .collect();
        roles.sort();
        roles.dedup();
        roles
    }
}

fn tool_access(vo: &Vo, tool: &Tool, allowed: Vec<Allowed>, base: &str) -> ToolAccess {
    let path = format!("{base}/{}/{}", vo.name, tool.name);
    let opens = |host: &&String| {
        front(tool, host).is_some_and(|front| allowed.iter().any(|allowed| allowed.task == front))
    };
    let pages = tool.hosts.iter().filter(opens);
    let pages = pages.map(|host| format!("{}/", origin_of(host, base))).collect();
    let tasks = allowed.into_iter().filter_map(|allowed| {
        let task = tool.task(&allowed.task)?;
        Some(TaskAccess {
            name: task.name.clone(),
            kind: task.kind.as_str(),
            conditions: allowed.conditions.iter().map(|c| c.as_str().to_owned()).collect(),
            roles: allowed.roles,
            calls: calls(task, &path),
        })
    });
    ToolAccess {
        name: tool.name.clone(),
        pages,
        tasks: tasks.collect(),
        path,
    }
}

/// The task that a browser does which opens the tool under this host.
fn front(tool: &Tool, host: &str) -> Option<String> {
    let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).ok()?)]);
    let found = tool.try_whole("GET /", &headers, &[]).ok()??;
    Some(found.task.name.clone())
}

/// The origin of a tool's host: the gateway's, with its port.
pub(super) fn origin_of(host: &str, base: &str) -> String {
    let authority = base.strip_prefix("https://").unwrap_or(base);
    match authority
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
    {
        Some((_, port)) => format!("https://{host}:{port}"),
        None => format!("https://{host}"),
    }
}

/// A curl line for each address of a task; `{job:int}` stands there as `JOB`.
fn calls(task: &Task, path: &str) -> Vec<String> {
    let line = |template: &String| {
        let (method, target) = template.split_once(' ')?;
        let mut url = path.to_owned();
        for part in target.split('/').skip(1) {
            url.push('/');
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(variable) => url.push_str(&variable.split(':').next()?.to_uppercase()),
                None => url.push_str(part),
            }
        }
        let method = match method {
            "GET" => String::new(),
            "HEAD" => " --head".into(),
            "POST" | "PUT" | "PATCH" => format!(" -X {method} --data-binary @FILE"),
            other => format!(" -X {other}"),
        };
        Some(format!(
            "curl --cacert ca.pem -H \"Authorization: Bearer $TOKEN\"{method} '{}'",
            url.replace('\'', "%27")
        ))
    };
    task.matches.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tools_origin_has_the_gateways_port() {
        assert_eq!(
            origin_of("a.gw.localhost", "https://gw.localhost:8443"),
            "https://a.gw.localhost:8443"
        );
        assert_eq!(
            origin_of("a.gw.example.org", "https://gw.example.org"),
            "https://a.gw.example.org"
        );
    }

    #[test]
    fn a_page_is_offered_only_where_its_visitor_may_open_it() {
        let public = crate::tool::Audience::Granted(&[]);
        let task =
            |name: &str, matches: &str| super::super::task(name, matches, crate::tool::Kind::Read, public);
        let mut tool = Tool::own(vec![
            task("view page", "GET /"),
            task("show job", "GET /jobs/{job:int}"),
        ])
        .unwrap();
        tool.name = "seg".into();
        tool.hosts = vec!["seg.gw.localhost".into()];
        let vo = Vo {
            id: crate::id::VoId::from(uuid::Uuid::nil()),
            name: "imense".into(),
            state: crate::vo::VoState::Active,
            version: 1,
        };
        let allowed = |task: &str| Allowed {
            tool: "seg".into(),
            task: task.into(),
            conditions: Vec::new(),
            roles: Vec::new(),
        };
        let pages = |tasks: &[&str]| {
            let allowed = tasks.iter().map(|task| allowed(task)).collect();
            tool_access(&vo, &tool, allowed, "https://gw.localhost:8443").pages
        };
        assert_eq!(
            pages(&["view page", "show job"]),
            ["https://seg.gw.localhost:8443/"]
        );
        assert!(pages(&["show job"]).is_empty());
    }

    #[test]
    fn a_call_can_be_copied() {
        let mut task = super::super::task(
            "x",
            "POST /jobs/{job:int}/end",
            crate::tool::Kind::Execute,
            crate::tool::Audience::Everyone,
        );
        task.matches.push("GET /jobs".into());
        assert_eq!(
            calls(&task, "https://gw.localhost/imense/seg"),
            [
                "curl --cacert ca.pem -H \"Authorization: Bearer $TOKEN\" -X POST --data-binary @FILE 'https://gw.localhost/imense/seg/jobs/JOB/end'",
                "curl --cacert ca.pem -H \"Authorization: Bearer $TOKEN\" 'https://gw.localhost/imense/seg/jobs'",
            ]
        );
    }
}
