//! The fan-out for Python: calls that don't wait, and events as objects. No Python runs on its threads.

use std::time::Duration;

use ::fanout::{Event, Part, Parts, Service, Standing, Status, Subject, Times};
use bytes::Bytes;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// A peer opened a stream.
#[pyclass(frozen, get_all, module = "policyd.engine")]
pub(crate) struct Opened {
    stream: u64,
    /// `policy` or `audit`.
    service: &'static str,
    leaf: Py<PyBytes>,
}

/// A proxy said its Hello.
#[pyclass(frozen, get_all, module = "policyd.engine")]
pub(crate) struct Greeted {
    stream: u64,
    message: Py<PyBytes>,
}

/// A proxy refused what it was assigned.
#[pyclass(frozen, get_all, module = "policyd.engine")]
pub(crate) struct Nacked {
    stream: u64,
    snapshot: Py<PyBytes>,
    reason: String,
}

/// A message of an audit stream; None at its end.
#[pyclass(frozen, get_all, module = "policyd.engine")]
pub(crate) struct Delivered {
    stream: u64,
    message: Option<Py<PyBytes>>,
}

/// A stream is over; `status` and `problem` where the fan-out ended it.
#[pyclass(frozen, get_all, module = "policyd.engine")]
pub(crate) struct Ended {
    stream: u64,
    status: Option<u32>,
    problem: String,
}

/// How a policy stream is.
#[pyclass(frozen, get_all, module = "policyd.engine")]
pub(crate) struct StreamView {
    state: &'static str,
    detail: String,
    enforced: Py<PyBytes>,
    told: (Py<PyBytes>, Py<PyBytes>, Py<PyBytes>),
}

#[derive(FromPyObject)]
struct GivenSubject {
    trust_domain: String,
    workload: String,
    pod_uid: String,
}

#[derive(FromPyObject)]
struct GivenHashes {
    snapshot: PyBackedBytes,
    facts: PyBackedBytes,
    discovery: PyBackedBytes,
}

/// `policyd.distribute.session.Contents`.
#[derive(FromPyObject)]
struct GivenContents {
    subject: GivenSubject,
    hashes: GivenHashes,
    snapshot: PyBackedBytes,
    facts: PyBackedBytes,
    discovery: PyBackedBytes,
}

/// `policyd.distribute.envelope.Standing`.
#[derive(FromPyObject)]
struct GivenStanding {
    epoch: u64,
    basis: Vec<(String, String, u64)>,
    at_millis: i64,
}

/// The streams of all proxies, and the threads that serve them.
#[pyclass(frozen, module = "policyd.engine")]
pub(crate) struct Fanout(::fanout::Fanout);

#[pymethods]
impl Fanout {
    /// Starts its threads. `times` replaces some of the default times, in seconds.
    #[new]
    #[pyo3(signature = (times=None))]
    fn new(times: Option<std::collections::HashMap<String, f64>>) -> PyResult<Self> {
        let mut used = Times::default();
        for (name, seconds) in times.unwrap_or_default() {
            let place = match name.as_str() {
                "handshake" => &mut used.handshake,
                "hello" => &mut used.hello,
                "slow" => &mut used.slow,
                "confirm" => &mut used.confirm,
                "idle" => &mut used.idle,
                _ => return Err(PyValueError::new_err(format!("{name}: no such time"))),
            };
            *place = Duration::try_from_secs_f64(seconds)
                .map_err(|error| PyValueError::new_err(format!("{name}: {error}")))?;
        }
        Ok(Self(::fanout::Fanout::new(used).map_err(|error| os_error(&error))?))
    }

    /// Uses another SVID and other roots from now on. Raises `ValueError`.
    fn adopt(
        &self,
        py: Python<'_>,
        key: &[u8],
        chain: Vec<Vec<u8>>,
        roots: Vec<Vec<u8>>,
    ) -> PyResult<()> {
        py.detach(|| self.0.adopt(key, chain, roots))
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Listens; host and port as bound. Raises `OSError`.
    fn listen(
        &self,
        py: Python<'_>,
        host: &str,
        port: u16,
        connections: usize,
    ) -> PyResult<(String, u16)> {
        let bound = py.detach(|| self.0.listen(host, port, connections));
        let address = bound.map_err(|error| os_error(&error))?;
        Ok((address.ip().to_string(), address.port()))
    }

    /// A descriptor that is readable while there are events.
    fn fileno(&self) -> i32 {
        self.0.descriptor()
    }

    /// Takes the oldest events.
    fn events(&self, py: Python<'_>, most: usize) -> PyResult<Vec<Py<PyAny>>> {
        self.0.events(most).into_iter().map(|event| object(py, event)).collect()
    }

    /// Listens to a stream, until the peer's certificate ends.
    #[pyo3(signature = (stream, until_millis=None))]
    fn admit(&self, stream: u64, until_millis: Option<i64>) {
        self.0.admit(stream, until_millis);
    }

    /// Says as of when what is told from now on is true.
    fn stand(&self, standing: GivenStanding, settled: bool) {
        let GivenStanding { epoch, basis, at_millis } = standing;
        self.0.stand(Standing { epoch, basis, at_millis }, settled);
    }

    /// Says what a proxy is to know.
    fn tell(&self, stream: u64, contents: GivenContents) {
        let GivenSubject { trust_domain, workload, pod_uid } = contents.subject;
        let hashes = &contents.hashes;
        let parts = Parts {
            snapshot: Part { sha256: &hashes.snapshot, bytes: &contents.snapshot },
            facts: Part { sha256: &hashes.facts, bytes: &contents.facts },
            discovery: Part { sha256: &hashes.discovery, bytes: &contents.discovery },
        };
        self.0.tell(stream, Subject { trust_domain, workload, pod_uid }, parts);
    }

    /// Says and confirms nothing to a proxy, until it is told again.
    fn withhold(&self, stream: u64, why: String) {
        self.0.withhold(stream, why);
    }

    /// Ends a stream with a gRPC status; 0: OK.
    #[pyo3(signature = (stream, status=0, message=String::new()))]
    fn end(&self, stream: u64, status: u32, message: String) {
        self.0.end(stream, Status { code: status, message });
    }

    /// Asks for the next message of an audit stream.
    fn take(&self, stream: u64) {
        self.0.take(stream);
    }

    /// Answers a message of an audit stream.
    fn reply(&self, stream: u64, message: &[u8]) {
        self.0.reply(stream, Bytes::copy_from_slice(message));
    }

    /// How a policy stream is; None where it is over.
    fn view(&self, py: Python<'_>, stream: u64) -> Option<StreamView> {
        let view = self.0.view(stream)?;
        let [snapshot, facts, discovery] = view.told.map(|hash| bytes(py, &hash));
        Some(StreamView {
            state: view.state.name(),
            detail: view.detail,
            enforced: bytes(py, &view.enforced),
            told: (snapshot, facts, discovery),
        })
    }

    /// Numbers for metrics, by name.
    fn figures(&self) -> std::collections::HashMap<&'static str, u64> {
        let figures = self.0.figures();
        [
            ("streams", figures.streams),
            ("acks", figures.acks),
            ("nacks", figures.nacks),
            ("handshakes_failed", figures.handshakes_failed),
            ("connections_refused", figures.connections_refused),
            ("connections_failed", figures.connections_failed),
        ]
        .into()
    }

    /// Stops listening, ends all streams and threads; what takes longer than `drain` seconds is cut.
    fn close(&self, py: Python<'_>, drain: f64) {
        py.detach(|| self.0.close(Duration::try_from_secs_f64(drain).unwrap_or_default()));
    }
}

fn bytes(py: Python<'_>, content: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, content).unbind()
}

fn object(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    Ok(match event {
        Event::Opened { stream, service, leaf } => {
            let service = match service {
                Service::Policy => "policy",
                Service::Audit => "audit",
            };
            Py::new(py, Opened { stream, service, leaf: bytes(py, &leaf) })?.into_any()
        }
        Event::Hello { stream, message } => {
            Py::new(py, Greeted { stream, message: bytes(py, &message) })?.into_any()
        }
        Event::Nack { stream, snapshot, reason } => {
            Py::new(py, Nacked { stream, snapshot: bytes(py, &snapshot), reason })?.into_any()
        }
        Event::Message { stream, message } => {
            let message = message.map(|message| bytes(py, &message));
            Py::new(py, Delivered { stream, message })?.into_any()
        }
        Event::Ended { stream, status } => {
            let (status, problem) =
                status.map_or((None, String::new()), |status| (Some(status.code), status.message));
            Py::new(py, Ended { stream, status, problem })?.into_any()
        }
    })
}

/// With its number, where the system gave one.
fn os_error(error: &std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}
