//! stub
#![allow(missing_docs)]
use crate::clock::Timestamp;
use crate::id::*;
use crate::record::AlertEvent;
#[derive(Clone, Debug, Default)]
pub struct Config;
impl Config {
    pub fn read(r: &mut crate::settings::Table<'_>) -> Self {
        if let Some(_t) = r.table("alert") {}
        Self
    }
}
#[derive(Clone, Debug)]
pub struct Alert;
pub struct Denied {
    pub vo: VoId,
    pub vo_name: String,
    pub person: PersonId,
    pub tool: Option<String>,
    pub task: String,
    pub request: RequestId,
    pub at: Timestamp,
}
impl Alert {
    pub async fn denied(&self, _d: Denied) -> Result<Option<AlertEvent>, crate::store::StoreError> {
        Ok(None)
    }
    pub fn new(
        _c: Config,
        _db: crate::store::Db,
        _v: crate::vo::Vos,
        _i: Ids,
        _m: crate::telemetry::Metrics,
        _d: &std::path::Path,
    ) -> anyhow::Result<Self> {
        Ok(Self)
    }
    pub async fn run_once(&self, _c: &str) -> Result<(), crate::store::StoreError> {
        Ok(())
    }
}
