//! Tracing proxies.

pub mod download;
pub mod list;
pub mod revoke;
pub mod trace;
pub mod trace_many;

use crate::tool::Audience;
use crate::vo::{SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR};

/// Who traces all proxies of a VO.
pub const TRACERS: Audience = Audience::Granted(&[SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR]);
