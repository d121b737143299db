//! What the site's monitoring sees: log lines, metrics, traces, and whether the gateway is alive and ready.
//!
//! All of it is for operating the gateway; what happened to whom stands in the audit log alone. So **no label, no span and
//! no log line of this module carries a person, a resource or a request's content**: labels are names of VOs, tools and
//! tasks, problem types and other words of the program. The one bridge is the request id (and the trace id): with it, who
//! may read the audit log finds the record there.
//!
//! ```
//! use countersign::telemetry::{Health, Metrics, operations};
//! let (metrics, health) = (Metrics::new(), Health::new(&["store"]));
//! assert_eq!(operations("/readyz", "", &metrics, &health).status, 503);
//! health.up("store");
//! assert_eq!(operations("/readyz", "", &metrics, &health).status, 200);
//! ```

mod config;
mod export;
mod exposition;
pub mod family;
mod health;
mod metrics;
mod otlp;
mod requests;
mod timing;
mod trace;

pub use config::{Config, Format, TelemetryError, Traces, start};
pub use export::Exporter;
pub use exposition::{Page, operations};
pub use health::Health;
pub use metrics::{Gauges, Metrics, Number, whole};
pub use requests::{Decision, Where};
pub use timing::{Histogram, Lap, Stage};
pub use trace::{Trace, Tracing};
