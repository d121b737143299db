//! Who made what: owners, parents and generations of the things that tasks make.

use std::collections::BTreeMap;

use crate::id::{PersonId, VoId};

/// Something that tasks act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// VO.
    pub vo: VoId,
    /// Tool.
    pub tool: String,
    /// Type, as the manifest names it.
    pub kind: String,
    /// The tool's own id.
    pub id: String,
    /// Which use of that id; 0 when nothing is known of it.
    pub generation: i64,
    /// Owner; `None` when unknown (made before wrapping) or nobody's.
    pub owner: Option<PersonId>,
    /// Nearest parent as (type, id).
    pub parent: Option<(String, String)>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}
