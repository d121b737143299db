//! Switching to another protocol: both connections, bytes both ways, the end.

use std::pin::pin;
use std::time::Duration;

use http::StatusCode;
use hyper::upgrade::Upgraded;

use super::end::{End, cut};
use super::{Act, Answer};
use crate::audit::Receipt;
use crate::body::Body;
use crate::delegate::Plan;
use crate::forward::Switched;
use crate::gateway::lease::Why;
use crate::gateway::listener::Seat;
use crate::gateway::tunnel::{Closed, Tunnel};
use crate::record::Ending;
use crate::tool::{Task, Upgrade};

/// How long a client's connection may take to be switched.
const SWITCH: Duration = Duration::from_secs(10);

impl Act {
    /// Switches the connections to tool and client to another protocol, and passes what flows there.
    pub(super) async fn switch(
        mut self,
        upgrade: Upgrade,
        mut request: http::Request<Body>,
        plan: Plan,
        receipt: Receipt,
        answer: Answer,
    ) {
        let (client, seat) = (
            hyper::upgrade::on(&mut request),
            request.extensions_mut().remove::<Seat>(),
        );
        let task = self.permit.found().task.clone();
        let switched = match self.outgoing(request, plan, &receipt).await {
            Ok(outgoing) => {
                self.busy = Some(self.pipeline.forward.busy(&outgoing.upstream));
                let pipeline = self.pipeline.clone();
                self.told(pin!(pipeline.forward.switch(outgoing, upgrade))).await
            }
            Err(failure) => Err(failure),
        };
        match switched {
            Ok(Switched::Over(head, tool)) => {
                // INVARIANT: the client is switched only after the tool was.
                let told = answer.send(Ok(*head)).is_ok();
                let end = self.tunnel(told, client, tool).await;
                drop(seat);
                self.settle(end, &task, receipt).await;
            }
            Ok(Switched::Not(response)) => self.answered(*response, &task, receipt, answer).await,
            Err(failure) => self.fail(failure, receipt, answer).await,
        }
    }

    /// Passes bytes both ways for as long as the lease holds and the gateway runs.
    async fn tunnel(
        &mut self,
        told: bool,
        client: hyper::upgrade::OnUpgrade,
        tool: Upgraded,
    ) -> (End, Option<Tunnel>) {
        let ended = |error: Option<&str>| End {
            error: error.map(str::to_owned),
            ..End::answered(StatusCode::SWITCHING_PROTOCOLS)
        };
        let client = tokio::time::timeout(SWITCH, client);
        let client = match self.lease.during(client).await {
            Ok(Ok(Ok(client))) if told => client,
            Ok(_) => return (ended(Some("client_gone")), None),
            Err(why) => return (cut(&why, StatusCode::SWITCHING_PROTOCOLS), None),
        };
        let counts = (self.sent.clone(), self.received.clone());
        let idle = self.pipeline.forward.upgrade_idle_timeout();
        let mut tunnel = Tunnel::new(client, tool, counts, idle);
        let stopping = self.pipeline.acts.stopping();
        let passed = async {
            tokio::select! {
                closed = tunnel.run() => Ok(closed),
                () = stopping.cancelled() => Err(Why::Stopped),
            }
        };
        let closed = match self.lease.during(passed).await {
            Ok(passed) => passed,
            Err(why) => Err(why),
        };
        match closed {
            Ok(Closed::Ended) => (ended(None), Some(tunnel)),
            Ok(Closed::ClientBroke) => (ended(Some("client_gone")), None),
            Ok(Closed::Idle) => (ended(Some("idle")), Some(tunnel)),
            Ok(Closed::ToolBroke) => {
                let end = End {
                    ending: Ending::ToolFailed,
                    ..ended(Some("broke_off"))
                };
                (end, None)
            }
            // Both connections are dropped where they stand.
            Err(why) => (cut(&why, StatusCode::SWITCHING_PROTOCOLS), None),
        }
    }

    /// Writes down how a tunnel ended; where that is awaited, before the client sees its end.
    async fn settle(self, (end, tunnel): (End, Option<Tunnel>), task: &Task, receipt: Receipt) {
        let outcome = self.outcome(end);
        if self.awaited(task) {
            // Where the log fails the connection is dropped, never ended in order.
            if receipt.outcome(outcome).await.is_err() {
                return;
            }
        } else {
            receipt.outcome_soon(outcome);
        }
        if let Some(tunnel) = tunnel {
            tunnel.close().await;
        }
    }
}
