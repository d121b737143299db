//! The frame around every page: who is signed in, where she can go, and where she is.
//!
//! A page is a body in this frame. Whoever adds one writes the body (a template in `templates/`, with the parts of
//! `parts.html`), asks [`Console::shell`](super::Console) for the frame's navigation, and calls [`Page::show`].

use askama::Template;

use super::Console;
use super::ask::Visit;
use super::pages::text;
use crate::authorize::Permit;
use crate::tool::{Task, Tool};
use crate::vo::Directory;

/// A link of a navigation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) href: String,
    pub(super) label: String,
    /// Whether it leads to where one is.
    pub(super) here: bool,
}

/// What surrounds the page of somebody who is signed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shell {
    pub(super) username: String,
    pub(super) links: Vec<Link>,
    /// Name and pages of the VO that the page is about.
    pub(super) vo: Option<(String, Vec<Link>)>,
}

/// Everybody's own pages.
const OWN: [(&str, &str); 4] = [
    ("/", "My access"),
    ("/console/requests", "Requests"),
    ("/console/sessions", "Sessions"),
    ("/factors", "Second factors"),
];

/// A page of a VO, for whoever may do the operation that it shows.
struct Section {
    path: &'static str,
    label: &'static str,
    task: &'static str,
}

const fn section(path: &'static str, label: &'static str, task: &'static str) -> Section {
    Section { path, label, task }
}

const SECTIONS: [Section; 6] = [
    section("members", "Members", "user.list"),
    section("roles", "Roles and grants", "grant.list"),
    section("tools", "Tools", "tool.list"),
    section("denials", "Denials", "audit.search"),
    section("audit", "Audit log", "audit.search"),
    section("trace", "Trace", "proxy.trace"),
];

/// The operation of the page of the gateway itself.
const GATEWAY_TASK: &str = "gateway.show";

impl Shell {
    /// The navigation that everybody has.
    pub(super) fn of(username: &str) -> Self {
        let link = |(href, label): (&str, &str)| Link {
            href: href.to_owned(),
            label: label.to_owned(),
            here: false,
        };
        Self {
            username: username.to_owned(),
            links: OWN.into_iter().map(link).collect(),
            vo: None,
        }
    }

    /// The same on the page with this address; a page of a VO lies under the VO's own link.
    pub(super) fn at(mut self, href: &str) -> Self {
        if let Some((name, links)) = &mut self.vo {
            links.iter_mut().for_each(|link| link.here = link.href == href);
            let name = name.clone();
            self.links
                .iter_mut()
                .for_each(|link| link.here = link.label == name);
        } else {
            self.links
                .iter_mut()
                .for_each(|link| link.here = link.href == href);
        }
        self
    }

    fn add(&mut self, href: String, label: &str) {
        self.links.push(Link {
            href,
            label: label.to_owned(),
            here: false,
        });
    }
}

/// A body in its frame.
#[derive(Template)]
#[template(path = "frame.html")]
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) shell: Option<&'a Shell>,
    /// The pages above this one: address and name.
    pub(super) crumbs: &'a [(String, String)],
    pub(super) refresh: Option<&'a str>,
    /// `narrow`, `text`, or nothing for a wide one.
    pub(super) width: &'static str,
    pub(super) body: &'a str,
}

impl<'a> Page<'a> {
    /// A page without navigation.
    pub(super) const fn new(title: &'a str, width: &'static str, body: &'a str) -> Self {
        Self {
            title,
            shell: None,
            crumbs: &[],
            refresh: None,
            width,
            body,
        }
    }

    /// The page as text.
    pub(super) fn show(&self) -> String {
        text(self)
    }
}

impl Console {
    /// The navigation of whoever asks: her own pages, and those of the VOs and of the gateway that she may do something on.
    pub(super) fn shell(&self, visit: &Visit) -> Shell {
        self.shell_of(&visit.permit, None)
    }

    /// The same on a page of a VO.
    pub(super) fn shell_in(&self, visit: &Visit, vo: &str) -> Shell {
        self.shell_of(&visit.permit, Some(vo))
    }

    pub(super) fn shell_of(&self, permit: &Permit, vo: Option<&str>) -> Shell {
        let subject = permit.subject();
        let Some(person) = subject.as_person() else {
            return Shell::default();
        };
        let mut shell = Shell::of(&person.username);
        let (directory, now) = (self.0.vos.handle().load(), self.0.ids.clock().now());
        let own = self.0.tools.load().own().clone();
        let shown = |task: &Task| {
            task.name == GATEWAY_TASK || SECTIONS.iter().any(|section| section.task == task.name)
        };
        let few = Tool {
            tasks: own.tasks.iter().filter(|task| shown(task)).cloned().collect(),
            ..Tool::clone(&own)
        };
        let few = [std::sync::Arc::new(few)];
        // Only where she holds a role can she hold one that administers.
        let holds = |vo| directory.assignments(vo, person.id, now).next().is_some();
        let mut vos: Vec<_> = directory.all_vos().filter(|of| holds(of.id)).collect();
        vos.sort_by(|a, b| a.name.cmp(&b.name));
        for of in vos {
            let allowed = self.0.authorize.may(subject, Some(of.id), &few);
            let may = |task: &str| allowed.iter().any(|allowed| allowed.task == task);
            let sections: Vec<Link> = SECTIONS
                .iter()
                .filter(|section| may(section.task))
                .map(|section| Link {
                    href: address(&of.name, section.path),
                    label: section.label.to_owned(),
                    here: false,
                })
                .collect();
            if let Some(first) = sections.first() {
                shell.add(first.href.clone(), &of.name);
                if vo == Some(of.name.as_str()) {
                    shell.vo = Some((of.name.clone(), sections));
                }
            }
        }
        if holds(Directory::gateway()) {
            let allowed = self.0.authorize.may(subject, None, &few);
            if allowed.iter().any(|allowed| allowed.task == GATEWAY_TASK) {
                shell.add("/console/gateway".to_owned(), "Gateway");
            }
        }
        shell
    }
}

/// The address of a page of a VO.
pub(super) fn address(vo: &str, path: &str) -> String {
    match path {
        "trace" => format!("/trace/{vo}"),
        path => format!("/console/vos/{vo}/{path}"),
    }
}
