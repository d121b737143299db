//! The gateway itself, for its system administrators: is the log well, is it sealed, which VOs are there, what ends soon.

use askama::Template;
use http::{Response, StatusCode};

use super::ask::{Ask, Refusal, Visit};
use super::frame::Page;
use super::pages::text;
use super::{Console, answer};
use crate::api::administrator::list::AdministratorList;
use crate::api::gateway::show::GatewayView;
use crate::api::state::list::Doubts;
use crate::api::vo::list::VoList;
use crate::body::Body;

#[derive(Template)]
#[template(path = "gateway.html")]
struct GatewayBody {
    view: GatewayView,
    vos: VoList,
    doubts: Doubts,
    administrators: AdministratorList,
}

impl Console {
    pub(super) async fn gateway(&self, visit: &Visit) -> Result<Response<Body>, Refusal> {
        let ask = Ask::of(visit)?;
        let all = [("limit", "1000")];
        let body = text(&GatewayBody {
            view: ask.read("gateway.show", &[], &[]).await?,
            vos: ask.read("vo.list", &[], &all).await?,
            doubts: ask.read("state.list", &[], &all).await?,
            administrators: ask.read("administrator.list", &[], &all).await?,
        });
        let shell = self.shell(visit).at("/console/gateway");
        let page = Page {
            shell: Some(&shell),
            ..Page::new("Gateway", "", &body)
        };
        Ok(answer::page(StatusCode::OK, page.show()))
    }
}
