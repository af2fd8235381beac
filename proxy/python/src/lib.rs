//! `policyd._engine`: the engine, the snapshot codec and the fan-out for Python. Bytes in, bytes out; no meaning of its own.

mod fanout;

use std::sync::Arc;

use engine::{
    gate::{self, GateProfile, PathMode},
    identity::IdentityForm,
    pattern::Pattern,
};
use pyo3::{import_exception, prelude::*, types::PyBytes};
use snapshot::Question;

import_exception!(policyd.errors, EngineError);
import_exception!(policyd.errors, SnapshotError);
import_exception!(policyd.errors, RequestRefused);
import_exception!(policyd.errors, PatternError);
import_exception!(policyd.errors, IdentityFormError);

/// Rule tables, decisions and canonical requests.
#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use super::{
        Table, assemble, canonicalize, check_identity, check_regex, encode_cluster,
        encode_workload, normal_host, normal_path, version,
    };

    #[pymodule_export]
    use super::fanout::{Delivered, Ended, Fanout, Greeted, Nacked, Opened, StreamView};

    #[pymodule_export]
    const READER_VERSION: u32 = snapshot::READER_VERSION;
}

fn refused(error: &snapshot::SnapshotError) -> PyErr {
    SnapshotError::new_err(error.to_string())
}

/// A rule table, loaded from a snapshot's bytes after every check.
#[pyclass(frozen, module = "policyd.engine")]
struct Table {
    table: Arc<engine::Table>,
    bytes: Vec<u8>,
    version: String,
}

#[pymethods]
impl Table {
    #[new]
    fn new(py: Python<'_>, snapshot: &[u8]) -> PyResult<Self> {
        let bytes = snapshot.to_vec();
        let loaded = py.detach(|| snapshot::load(&bytes)).map_err(|error| refused(&error))?;
        Ok(Self {
            table: Arc::new(loaded.table),
            version: snapshot::version_text(&loaded.version),
            bytes,
        })
    }

    /// `sha256:…` of the snapshot.
    #[getter]
    fn version(&self) -> &str {
        &self.version
    }

    /// A decision: question as JSON in, answer as JSON out.
    fn decide<'p>(&self, py: Python<'p>, question: &[u8]) -> PyResult<Bound<'p, PyBytes>> {
        self.ask(py, question, |asked| {
            let mut answer = snapshot::answer(asked);
            answer.table = Some(self.version.clone());
            serde_json::to_vec(&answer)
        })
    }

    /// A decision with the request as decided on, the peer and the near misses.
    fn explain<'p>(&self, py: Python<'p>, question: &[u8]) -> PyResult<Bound<'p, PyBytes>> {
        self.ask(py, question, |asked| {
            let mut explanation = snapshot::explain(asked);
            explanation.answer.table = Some(self.version.clone());
            serde_json::to_vec(&explanation)
        })
    }

    /// The rows of both parts as JSON.
    fn rows<'p>(&self, py: Python<'p>) -> PyResult<Bound<'p, PyBytes>> {
        let rows = snapshot::rows(&self.bytes).map_err(|error| refused(&error))?;
        Ok(PyBytes::new(py, &rows))
    }
}

impl Table {
    fn ask<'p>(
        &self,
        py: Python<'p>,
        question: &[u8],
        tell: impl Fn(&snapshot::Asked) -> serde_json::Result<Vec<u8>>,
    ) -> PyResult<Bound<'p, PyBytes>> {
        let invalid = |error: &dyn std::fmt::Display| EngineError::new_err(error.to_string());
        let question = Question::parse(question).map_err(|error| invalid(&error))?;
        let asked = question.put(&self.table).map_err(|error| invalid(&error))?;
        let answer = tell(&asked).map_err(|error| invalid(&error))?;
        Ok(PyBytes::new(py, &answer))
    }
}

/// The cluster's part in canonical bytes, from rows as JSON, for a reader of a version. `trial` is for tests of skew.
#[pyfunction]
#[pyo3(signature = (rows, reader_version=snapshot::READER_VERSION, trial=false))]
fn encode_cluster<'p>(
    py: Python<'p>,
    rows: &[u8],
    reader_version: u32,
    trial: bool,
) -> PyResult<Bound<'p, PyBytes>> {
    let part = snapshot::encode_cluster_for(rows, reader(reader_version, trial))
        .map_err(|error| refused(&error))?;
    Ok(PyBytes::new(py, &part))
}

/// The workload's part, likewise.
#[pyfunction]
#[pyo3(signature = (rows, reader_version=snapshot::READER_VERSION, trial=false))]
fn encode_workload<'p>(
    py: Python<'p>,
    rows: &[u8],
    reader_version: u32,
    trial: bool,
) -> PyResult<Bound<'p, PyBytes>> {
    let part = snapshot::encode_workload_for(rows, reader(reader_version, trial))
        .map_err(|error| refused(&error))?;
    Ok(PyBytes::new(py, &part))
}

fn reader(version: u32, trial: bool) -> snapshot::Reader {
    let history = if trial { snapshot::History::Trial } else { snapshot::History::Real };
    snapshot::Reader { version, history }
}

/// Both parts as one snapshot.
#[pyfunction]
fn assemble<'p>(py: Python<'p>, cluster: &[u8], workload: &[u8]) -> PyResult<Bound<'p, PyBytes>> {
    let snapshot = snapshot::assemble(cluster, workload).map_err(|error| refused(&error))?;
    Ok(PyBytes::new(py, &snapshot))
}

/// The snapshot's version, `sha256:…`.
#[pyfunction]
fn version(snapshot: &[u8]) -> PyResult<String> {
    let version = snapshot::version(snapshot).map_err(|error| refused(&error))?;
    Ok(snapshot::version_text(&version))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct Profile {
    path_mode: Option<String>,
    websocket: bool,
    lenient: bool,
    policy_headers: Vec<String>,
}

/// An HTTP/1 head as the gate reads it: JSON, or `RequestRefused(rule, offset, field)`.
#[pyfunction]
#[pyo3(signature = (head, profile=None))]
fn canonicalize<'p>(
    py: Python<'p>,
    head: &[u8],
    profile: Option<&[u8]>,
) -> PyResult<Bound<'p, PyBytes>> {
    let invalid = |error: String| EngineError::new_err(error);
    let given: Profile = match profile {
        Some(json) => serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?,
        None => Profile::default(),
    };
    let mut policy_headers = given.policy_headers;
    policy_headers.sort_unstable();
    let profile = GateProfile {
        path_mode: match given.path_mode.as_deref() {
            None | Some("strict") => PathMode::Strict,
            Some("merge") => PathMode::Merge,
            Some("opaque") => PathMode::Opaque,
            Some(other) => {
                return Err(invalid(format!("pathMode: `{other}` is not strict, merge or opaque")));
            }
        },
        websocket: given.websocket,
        lenient: given.lenient,
        policy_headers,
    };
    let request = gate::http1(head, &profile).map_err(|refusal| {
        RequestRefused::new_err((refusal.rule.as_str(), refusal.offset, refusal.field))
    })?;
    let json = serde_json::to_vec(&snapshot::Request::of(&request))
        .map_err(|error| invalid(error.to_string()))?;
    Ok(PyBytes::new(py, &json))
}

/// A path in the gate's normal form; `ValueError` where it has none.
#[pyfunction]
fn normal_path(path: &str) -> PyResult<String> {
    let normal = gate::normal_path(path)
        .map_err(|flaw| pyo3::exceptions::PyValueError::new_err(flaw.to_string()))?;
    Ok(normal.into_owned())
}

/// A host in the gate's normal form; `ValueError` where it has none.
#[pyfunction]
fn normal_host(host: &str) -> PyResult<String> {
    let normal = gate::normal_host(host)
        .map_err(|flaw| pyo3::exceptions::PyValueError::new_err(flaw.to_string()))?;
    Ok(normal.to_string())
}

/// Refuses a regular expression that policies may not use.
#[pyfunction]
fn check_regex(pattern: &str) -> PyResult<()> {
    Pattern::parse(pattern).map(drop).map_err(|error| PatternError::new_err(error.to_string()))
}

/// Refuses what is no form of an identity.
#[pyfunction]
fn check_identity(form: &str) -> PyResult<()> {
    IdentityForm::parse(form)
        .map(drop)
        .map_err(|error| IdentityFormError::new_err(error.to_string()))
}
