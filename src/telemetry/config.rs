//! The `[telemetry]` section, and the start of logging.

use std::path::{Path, PathBuf};

use http::Uri;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::network::Networks;
use crate::settings::Table;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

/// The `[telemetry]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is logged: a level, or directives such as `info,sqlx=warn`.
    pub filter: String,
    /// How it looks.
    pub format: Format,
    /// `[telemetry.traces]`.
    pub traces: Traces,
}

/// The `[telemetry.traces]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Where a collector takes OTLP over HTTP; `None` tells nobody.
    pub endpoint: Option<Uri>,
    /// Authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// One in so many of the traces that begin here is told.
    pub one_in: u64,
    /// Networks whose trace context is continued, with the caller's word on whether it is told.
    pub trust: Networks,
    /// Requests that may wait to be told.
    pub queue: usize,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            ca_file: None,
            one_in: 1,
            trust: Networks::default(),
            queue: 2048,
        }
    }
}

impl Traces {
    fn read(mut section: Table<'_>) -> Self {
        let default = Self::default();
        let endpoint = section.parsed(
            "endpoint",
            "the URL of an OTLP/HTTP receiver, e.g. http://127.0.0.1:4318/v1/traces",
            |text| {
                let uri: Uri = text.parse().ok()?;
                let known = matches!(uri.scheme_str(), Some("http" | "https"));
                (known && uri.host().is_some()).then_some(uri)
            },
        );
        let trust = Networks::read(&mut section, "trust");
        let traces = Self {
            endpoint,
            ca_file: section.text("ca_file").map(PathBuf::from),
            one_in: u64::try_from(section.integer("one_in", 1..=1_000_000, Some(1))).unwrap_or(1),
            trust,
            queue: usize::try_from(section.integer("queue", 1..=1_000_000, Some(2048)))
                .unwrap_or(default.queue),
        };
        section.end();
        traces
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: Format::Text,
            traces: Traces::default(),
        }
    }
}

impl Config {
    /// The same, with relative paths below `folder`.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        self.traces.ca_file = self.traces.ca_file.map(|file| folder.join(file));
        self
    }

    /// Reads the section from the root table; defaults where it is absent, flaws go to the document.
    pub fn read(root: &mut Table<'_>) -> Self {
        let mut config = Self::default();
        let Some(mut section) = root.table("telemetry") else {
            return config;
        };
        let accepted =
            "a level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as `info,sqlx=warn`";
        let filter = section.parsed("filter", accepted, |text| {
            EnvFilter::try_new(text).ok().map(|_| text.to_owned())
        });
        if let Some(filter) = filter {
            config.filter = filter;
        }
        let format = section.parsed("format", "text, json", |text| match text {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            _ => None,
        });
        config.format = format.unwrap_or_default();
        if let Some(traces) = section.table("traces") {
            config.traces = Traces::read(traces);
        }
        section.end();
        config
    }
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("`{0}` is not a log filter")]
    Filter(String),
    /// Something else writes the program's log lines already.
    #[error("logging was started before")]
    Started,
}

/// Starts logging to standard error, once in the life of the program.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(config: &Config) -> Result<(), TelemetryError> {
    let filter =
        EnvFilter::try_new(&config.filter).map_err(|_| TelemetryError::Filter(config.filter.clone()))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        // A log line that cannot be written (a full disk) is lost; complaining of it on the same stream would panic,
        // in the middle of whatever request was to be refused.
        .log_internal_errors(false)
        .with_target(true);
    match config.format {
        Format::Text => lines.finish().try_init(),
        Format::Json => lines.json().finish().try_init(),
    }
    .map_err(|_| TelemetryError::Started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::testing;

    fn read(text: &str) -> (Config, Vec<String>) {
        testing::read(text, Config::read)
    }

    #[test]
    fn an_absent_section_means_the_defaults() {
        assert_eq!(read(""), (Config::default(), Vec::new()));
    }

    #[test]
    fn each_flaw_of_the_section_is_told() {
        let (_, flaws) = read("[telemetry]\nfilter = \"a=b=c\"\nformat = \"xml\"\nlevel = 1\n");
        assert_eq!(flaws.len(), 3, "{flaws:?}");
        assert!(flaws[1].contains("accepted: text, json"));
        let traces = "[telemetry.traces]\nendpoint = \"collector:4318\"\ntrust = [\"10.0.0.0/33\", \"::/0\"]\none_in = 0\n";
        let (_, flaws) = read(traces);
        assert_eq!(flaws.len(), 3, "{flaws:?}");
    }
}
