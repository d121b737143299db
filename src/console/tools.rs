//! The tools of a VO, their tasks and who may do them.

use askama::Template;
use http::{Response, StatusCode};

use super::Console;
use super::answer;
use super::ask::{Ask, Refusal, Visit};
use super::frame::{Page, address};
use super::pages::text;
use crate::api::grant::list::{GrantList, GrantView};
use crate::api::tool::list::ToolList;
use crate::api::tool::show::ToolShown;
use crate::body::Body;

#[derive(Template)]
#[template(path = "tools.html")]
struct ToolsBody<'a> {
    vo: &'a str,
    list: ToolList,
}

#[derive(Template)]
#[template(path = "tool.html")]
struct ToolBody<'a> {
    vo: &'a str,
    shown: &'a ToolShown,
    grants: GrantList,
}

impl ToolBody<'_> {
    fn of(&self, task: &str) -> Vec<&GrantView> {
        let grants = self.grants.grants.iter();
        grants.filter(|grant| grant.task == task).collect()
    }
}

impl Console {
    pub(super) async fn tools(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let vo = request.parameter("vo");
        let list = Ask::of(request)?.read("tool.list", &[("vo", vo)], &[]).await?;
        let body = text(&ToolsBody { vo, list });
        let shell = self.shell_in(request, vo).at(&address(vo, "tools"));
        let page = Page {
            shell: Some(&shell),
            ..Page::new("Tools", "", &body)
        };
        Ok(answer::page(StatusCode::OK, page.show()))
    }

    pub(super) async fn tool(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let (vo, tool) = (request.parameter("vo"), request.parameter("tool"));
        let ask = Ask::of(request)?;
        let shown: ToolShown = ask.read("tool.show", &[("vo", vo), ("tool", tool)], &[]).await?;
        let of_tool = [("tool", tool), ("limit", "1000")];
        let body = text(&ToolBody {
            vo,
            shown: &shown,
            grants: ask.read("grant.list", &[("vo", vo)], &of_tool).await?,
        });
        let above = address(vo, "tools");
        let shell = self.shell_in(request, vo).at(&above);
        let page = Page {
            shell: Some(&shell),
            crumbs: &[(above, "Tools".to_owned())],
            ..Page::new(tool, "", &body)
        };
        Ok(answer::page(StatusCode::OK, page.show()))
    }
}
