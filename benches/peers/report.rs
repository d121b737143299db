//! What was measured, as a table and as JSON, and the targets.

use std::fmt::Write;

use serde_json::{Value, json};

use super::lab::Which;
use crate::path::round::Figures;

/// Everything so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    facts: Vec<Fact>,
}

struct Row {
    case: String,
    who: String,
    figures: Figures,
}

/// A figure that is no row of the main table.
struct Fact {
    name: &'static str,
    who: String,
    value: f64,
    unit: &'static str,
}

/// A target: lower is better, but where `more` says otherwise.
struct Target {
    id: &'static str,
    what: &'static str,
    least: f64,
    aim: f64,
    more: bool,
    measured: Option<f64>,
}

impl Report {
    pub(crate) fn row(&mut self, case: &str, who: &str, figures: Figures) {
        self.rows.push(Row {
            case: case.to_owned(),
            who: who.to_owned(),
            figures,
        });
    }

    pub(crate) fn fact(&mut self, name: &'static str, who: &str, value: f64, unit: &'static str) {
        self.facts.push(Fact {
            name,
            who: who.to_owned(),
            value,
            unit,
        });
    }

    fn figures(&self, case: &str, which: Which) -> Option<Figures> {
        let row = self
            .rows
            .iter()
            .find(|row| row.case == case && row.who == which.name());
        row.map(|row| row.figures)
    }

    fn value(&self, name: &str, who: &str) -> Option<f64> {
        let fact = self
            .facts
            .iter()
            .find(|fact| fact.name == name && fact.who == who);
        fact.map(|fact| fact.value)
    }

    /// Processor time of the gateway in times of another one's.
    fn cpu(&self, case: &str, than: Which) -> Option<f64> {
        let own = self.figures(case, Which::Countersign)?;
        Some(own.cpu_us / self.figures(case, than)?.cpu_us)
    }

    fn rate(&self, case: &str, than: Which) -> Option<f64> {
        let own = self.figures(case, Which::Countersign)?;
        Some(own.rate / self.figures(case, than)?.rate)
    }

    fn idle(&self, which: Which) -> Option<f64> {
        self.value(IDLE, which.name())
    }

    #[rustfmt::skip]
    fn targets(&self) -> Vec<Target> {
        let target = |id, what, (least, aim), measured| Target { id, what, least, aim, more: false, measured };
        let rate = |id, what, measured| Target { id, what, least: 1.2, aim: 1.6, more: true, measured };
        let own = Which::Countersign;
        let against = |which| Some(self.idle(own)? / self.idle(which)?);
        vec![
            target("P0", "CPU, h1 32, x bare hyper proxy", (2.2, 2.2), self.cpu("h1 32", Which::Bare)),
            target("P0", "CPU, h2 32, x bare hyper proxy", (2.2, 2.2), self.cpu("h2 32", Which::Bare)),
            target("P1", "CPU, h1 32, x nginx auth_request + log", (0.80, 0.60), self.cpu("h1 32", Which::NginxAuth)),
            target("P1", "CPU, h2 32, x nginx auth_request + log", (0.80, 0.60), self.cpu("h2 32", Which::NginxAuth)),
            target("P1", "CPU, h1 32, x nginx auth_request (kept) + log", (0.80, 0.60), self.cpu("h1 32", Which::NginxAuthKept)),
            target("P1", "CPU, h2 32, x nginx auth_request (kept) + log", (0.80, 0.60), self.cpu("h2 32", Which::NginxAuthKept)),
            rate("P2", "requests/s, h1 32, x nginx auth_request + log", self.rate("h1 32", Which::NginxAuth)),
            rate("P2", "requests/s, h2 32, x nginx auth_request + log", self.rate("h2 32", Which::NginxAuth)),
            rate("P2", "requests/s, h1 256, x nginx auth_request + log", self.rate("h1 256", Which::NginxAuth)),
            rate("P2", "requests/s, h1 32, x nginx auth_request (kept) + log", self.rate("h1 32", Which::NginxAuthKept)),
            rate("P2", "requests/s, h2 32, x nginx auth_request (kept) + log", self.rate("h2 32", Which::NginxAuthKept)),
            rate("P2", "requests/s, h1 256, x nginx auth_request (kept) + log", self.rate("h1 256", Which::NginxAuthKept)),
            target("P3", "CPU, h1 32, x nginx", (2.5, 1.8), self.cpu("h1 32", Which::Nginx)),
            target("P3", "CPU, h2 32, x nginx", (3.0, 2.2), self.cpu("h2 32", Which::Nginx)),
            target("P4", "CPU, h1 32, x Caddy forward_auth + log", (0.30, 0.15), self.cpu("h1 32", Which::Caddy)),
            target("P4", "CPU, h2 32, x Caddy forward_auth + log", (0.30, 0.15), self.cpu("h2 32", Which::Caddy)),
            target("P5", "CPU, h1 32, x Apache mod_auth_openidc + log", (0.50, 0.30), self.cpu("h1 32", Which::Apache)),
            target("P5", "CPU, h2 32, x Apache mod_auth_openidc + log", (0.50, 0.30), self.cpu("h2 32", Which::Apache)),
            target("P6", "CPU, new connection and one request, x nginx", (0.70, 0.50), self.cpu("h1 new", Which::Nginx)),
            target("P7", "latency added at one client, in fdatasync p50", (3.0, 2.0), self.value(ADDED, own.name())),
            target("P8", "CPU, h1 download, x nginx", (0.9, 0.7), self.cpu("h1 down", Which::Nginx)),
            target("P8", "CPU, h2 download, x nginx", (0.9, 0.7), self.cpu("h2 down", Which::Nginx)),
            target("P8", "CPU, h1 upload, x nginx", (1.1, 0.9), self.cpu("h1 up", Which::Nginx)),
            target("P8", "CPU, h2 upload, x nginx", (1.1, 0.9), self.cpu("h2 up", Which::Nginx)),
            target("P9", "MiB above idle while 1 GiB streams each way", (32.0, 16.0), self.value(STREAM, own.name())),
            target("P10", "memory of an idle connection, x nginx", (3.0, 1.8), against(Which::Nginx)),
            target("P10", "memory of an idle connection, x Caddy", (1.0, 1.0), against(Which::Caddy)),
            target("P11", "CPU, h1 32, grown, x empty", (1.3, 1.1), self.value(GROWN, own.name())),
            target("R1", "p99 of other tools while one is down, x both up", (2.0, 2.0), self.value(DOWN, own.name())),
            target("R2", "ms until a tool that is back is answered from", (1000.0, 1000.0), self.value(BACK, own.name())),
        ]
    }

    /// The tables, in Markdown.
    pub(crate) fn text(&self, head: &str) -> String {
        let mut text = format!("{head}\n");
        let (mut case, mut first) = ("", 0.0);
        for row in &self.rows {
            if row.case != case {
                (case, first) = (&row.case, row.figures.cpu_us);
                let _ = write!(
                    text,
                    "\n| {case} | CPU us | x the first | /s | p50 us | p99 us |\n"
                );
                let _ = writeln!(text, "| --- | ---: | ---: | ---: | ---: | ---: |");
            }
            let Figures {
                cpu_us,
                rate,
                p50_us,
                p99_us,
            } = row.figures;
            let times = cpu_us / first;
            let precise = usize::from(rate < 100.0);
            let _ = writeln!(
                text,
                "| {} | {cpu_us:.1} | {times:.2} | {rate:.precise$} | {p50_us:.0} | {p99_us:.0} |",
                row.who
            );
        }
        if !self.facts.is_empty() {
            let _ = write!(text, "\n| measure | of | value |\n| --- | --- | ---: |\n");
        }
        for Fact {
            name,
            who,
            value,
            unit,
        } in &self.facts
        {
            let _ = writeln!(text, "| {name} | {who} | {value:.2} {unit} |");
        }
        let _ = write!(text, "\n| target | measure | at least | aim | measured | |\n");
        let _ = writeln!(text, "| --- | --- | ---: | ---: | ---: | --- |");
        for target in self.targets() {
            let Target {
                id, what, least, aim, ..
            } = target;
            let measured = target
                .measured
                .map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            let _ = writeln!(
                text,
                "| {id} | {what} | {least:.2} | {aim:.2} | {measured} | {} |",
                target.verdict()
            );
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self, run: &Value) -> Value {
        let rows = self.rows.iter().map(|row| {
            let Figures {
                cpu_us,
                rate,
                p50_us,
                p99_us,
            } = row.figures;
            json!({
                "case": row.case, "proxy": row.who,
                "cpu_us": cpu_us, "per_second": rate, "p50_us": p50_us, "p99_us": p99_us,
            })
        });
        let facts = self.facts.iter().map(
            |fact| json!({ "measure": fact.name, "of": fact.who, "value": fact.value, "unit": fact.unit }),
        );
        let targets = self.targets().into_iter().map(|target| {
            json!({
                "target": target.id, "measure": target.what, "at_least": target.least, "aim": target.aim,
                "higher_is_better": target.more, "measured": target.measured, "verdict": target.verdict(),
            })
        });
        json!({
            "run": run,
            "rows": rows.collect::<Vec<_>>(),
            "facts": facts.collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

impl Target {
    fn verdict(&self) -> &'static str {
        let Some(measured) = self.measured else {
            return "not measured";
        };
        let reaches = |bound: f64| {
            if self.more {
                measured >= bound
            } else {
                measured <= bound
            }
        };
        match (reaches(self.least), reaches(self.aim)) {
            (true, true) => "aim met",
            (true, false) => "met",
            (false, _) => "missed",
        }
    }
}

/// Names of facts that targets look at.
pub(crate) const IDLE: &str = "memory of an idle connection";
/// P7.
pub(crate) const ADDED: &str = "latency added at one client, in fdatasync p50";
/// P9.
pub(crate) const STREAM: &str = "memory while 1 GiB streams each way, above idle";
/// P11.
pub(crate) const GROWN: &str = "CPU of a read, grown, x empty";
/// R1.
pub(crate) const DOWN: &str = "p99 of other tools while one is down, x both up";
/// R2.
pub(crate) const BACK: &str = "time until a tool that is back is answered from";
